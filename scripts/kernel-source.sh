# To be sourced, after apt.sh: `unpack_kernel_source VERSION CACHE FOLDER` unpacks Debian's linux-source-VERSION into FOLDER, unless it is there already.

unpack_kernel_source() {
  [ ! -e "$3/linux-source-$1/Makefile" ] || return 0
  mkdir -p "$2/dl" "$3"
  deb=$(find "$2/dl" -name "linux-source-$1_*.deb" | sort | tail -n 1)
  if [ -z "$deb" ]; then
    (cd "$2/dl" && apt-get download -qq "linux-source-$1")
    deb=$(find "$2/dl" -name "linux-source-$1_*.deb")
  fi
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/linux-source-$1.tar.xz" | tar -xJ -C "$3"
}
