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

# build_once LOCK: calls `build` unless `is_built`. Several test files may start one script at the same time: one builds, the others wait for it.
build_once() {
  if is_built; then return; fi
  mkdir -p "$cache"
  exec 9>"$cache/$1.lock"
  flock 9
  # Not `is_built || build`: that would turn `set -e` off inside.
  if ! is_built; then build; fi
}
