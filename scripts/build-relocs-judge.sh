#!/bin/sh
# Builds the kernel's own relocs tool from Debian's linux-source package, to judge `kslide relocs` by, and prints the folder that holds it:
# `relocs`, as a kernel build makes it, and `relocs-asan`, which stops with status 99 where the first would read past a table.
# Fetched (153 MB) and built once, into ${KSLIDE_CACHE:-~/.cache/kslide}; nothing of it comes into this repository.
set -eu
version=${1:-6.12}
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
out=$cache/relocs-judge-$version
. "$(dirname "$0")/apt.sh"
. "$(dirname "$0")/kernel-source.sh"

is_built() { [ -x "$out/relocs" ] && [ -x "$out/relocs-asan" ]; }

build() {
  need cc gcc
  need xz xz-utils
  install_missing >&2
  tree=$cache/src/linux-source-$version
  [ -e "$tree/arch/x86/tools/relocs.c" ] ||
    unpack_kernel_source "$version" "$cache" "$cache/src" arch/x86/tools tools/include

  mkdir -p "$out"
  for variant in relocs relocs-asan; do
    flags='-O2'
    [ "$variant" = relocs ] || flags='-O1 -g -fsanitize=address'
    # shellcheck disable=SC2086 # one word a flag
    cc $flags -w -I"$tree/tools/include" -o "$out/$variant.$$" \
      "$tree/arch/x86/tools/relocs_32.c" "$tree/arch/x86/tools/relocs_64.c" "$tree/arch/x86/tools/relocs_common.c" >&2
    mv "$out/$variant.$$" "$out/$variant"
  done
}

build_once relocs-judge
echo "$out"
