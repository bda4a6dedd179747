# To be sourced after apt.sh, by scripts that build kernels, or parts of them, from Debian's linux-source packages.

# Installs what a kernel's build needs, and everything that `need` was called for before.
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

# unpack_kernel_source VERSION CACHE FOLDER [PATH …]: unpacks linux-source-VERSION into FOLDER, or only these paths of it. The package is fetched into
# CACHE once.
unpack_kernel_source() {
  source=linux-source-$1
  into=$3
  fetch_package "$source" "$2/dl"
  shift 3
  mkdir -p "$into"
  # The package holds one tar in a tar. Without paths all of it is unpacked.
  for path; do
    set -- "$@" "$source/$path"
    shift
  done
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$source.tar.xz" | tar -xJ -C "$into" "$@"
}
