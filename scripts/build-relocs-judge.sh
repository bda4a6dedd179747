#!/bin/sh
# Builds the kernel's own relocs tool out of Debian's linux-source package, to judge `kslide relocs` by, and prints the folder that it is in:
# `relocs`, as a kernel build makes it, and `relocs-asan`, which stops with status 99 where the first would read past a table.
# Fetched (153 MB) and built once, into ${KSLIDE_CACHE:-~/.cache/kslide}; nothing of it comes into this repository.
set -eu
version=${1:-6.12}
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
out=$cache/relocs-judge-$version
if [ -x "$out/relocs" ] && [ -x "$out/relocs-asan" ]; then
  echo "$out"
  exit 0
fi
. "$(dirname "$0")/apt.sh"
need cc gcc
need xz xz-utils
install_missing >&2

tree=$cache/src/linux-source-$version
if [ ! -e "$tree/arch/x86/tools/relocs.c" ]; then
  mkdir -p "$cache/dl" "$cache/src"
  deb=$(find "$cache/dl" -name "linux-source-${version}_*.deb" | sort | tail -n 1)
  if [ -z "$deb" ]; then
    (cd "$cache/dl" && apt-get download -qq "linux-source-$version" >&2)
    deb=$(find "$cache/dl" -name "linux-source-${version}_*.deb")
  fi
  # The package holds one tar in a tar; only these few folders of it are wanted.
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/linux-source-$version.tar.xz" |
    tar -xJ -C "$cache/src" "linux-source-$version/arch/x86/tools" "linux-source-$version/tools/include"
fi

mkdir -p "$out"
for variant in relocs relocs-asan; do
  flags='-O2'
  [ "$variant" = relocs ] || flags='-O1 -g -fsanitize=address'
  # shellcheck disable=SC2086 # one word a flag
  cc $flags -w -I"$tree/tools/include" -o "$out/$variant.$$" \
    "$tree/arch/x86/tools/relocs_32.c" "$tree/arch/x86/tools/relocs_64.c" "$tree/arch/x86/tools/relocs_common.c" >&2
  mv "$out/$variant.$$" "$out/$variant"
done
echo "$out"
