# To be sourced, after apt.sh, by what builds kernels, or a part of one, from Debian's linux-source packages.

# What a kernel's build needs, and whatever `need` was called for before.
install_for_kernel_build() {
  need gcc gcc
  need make make
  need flex flex
  need bison bison
  need bc bc
  need xz xz-utils
  [ -e /usr/include/libelf.h ] || missing="$missing libelf-dev"
  install_missing
}

# unpack_kernel_source VERSION CACHE FOLDER [PATH …]: linux-source-VERSION into FOLDER, or only these paths of it. The package is fetched into CACHE, once.
unpack_kernel_source() {
  source=linux-source-$1
  downloads=$2/dl
  into=$3
  shift 3
  mkdir -p "$downloads" "$into"
  deb=$(find "$downloads" -name "${source}_*.deb" | sort | tail -n 1)
  if [ -z "$deb" ]; then
    (cd "$downloads" && apt-get download -qq "$source" >&2)
    deb=$(find "$downloads" -name "${source}_*.deb")
  fi
  # The package holds one tar in a tar. Without paths all of it is unpacked.
  for path; do
    set -- "$@" "$source/$path"
    shift
  done
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$source.tar.xz" | tar -xJ -C "$into" "$@"
}
