#!/bin/sh
# Builds the kernel's own decompressors (lib/decompress_*.c) from Debian's linux-source package for user space, to judge our decoders by, and prints
# the folder that holds them: `inflate`, `bunzip2`, `unlzma`, `unxz`, `unlzo`, `unlz4`, `unzstd`. decompressors-judge/judge.c says how they are spoken to.
# Fetched (153 MB) and built once, into ${KSLIDE_CACHE:-~/.cache/kslide}; nothing of it comes into this repository.
#
# build-decompressors-judge.sh [VERSION]: of another kernel than 6.12, where apt knows its linux-source package. The tests ask every one that was built.
set -eu
version=${1:-6.12}
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
out=$cache/decompressors-judge-$version
here=$(dirname "$0")
. "$here/apt.sh"
. "$here/kernel-source.sh"

# Headers of the kernel that come down to kernel.h. The others, of the compressions themselves, are the kernel's.
headers='linux/types linux/kernel linux/string linux/compiler linux/module linux/errno linux/swab linux/stddef linux/limits linux/slab linux/vmalloc
linux/math64 linux/byteorder linux/export linux/init linux/printk linux/bitops linux/overflow linux/build_bug linux/crc32 linux/crc32poly
linux/unaligned asm/unaligned asm/byteorder asm/bitsperlong'

build() {
  need cc gcc
  need xz xz-utils
  install_missing >&2
  tree=$cache/src/linux-source-$version
  [ -e "$tree/lib/decompress_unzstd.c" ] || unpack_kernel_source "$version" "$cache" "$cache/src" lib include/linux

  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/linux" "$work/asm" "$work/bin"
  { echo '#pragma once'; cat "$here/decompressors-judge/kernel.h"; } >"$work/judge-kernel.h"
  for header in $headers; do echo '#include <judge-kernel.h>' >"$work/$header.h"; done

  # Each with BOOT_HEAP_SIZE (arch/x86/include/asm/boot.h), and how much more than the output the buffer has (ZO_z_extra_bytes).
  for decompressor in inflate:0x10000:0x10000 bunzip2:0x400000:0x10000 unlzma:0x10000:0x10000 unxz:0x10000:0x10000 \
    unlzo:0x10000:0x10000 unlz4:0x10000:0x10000 unzstd:0x30000:0x20000; do
    name=${decompressor%%:*}
    sizes=${decompressor#*:}
    cc -O2 -w -fno-strict-aliasing -DDECOMPRESSOR="\"$tree/lib/decompress_$name.c\"" -DJUDGE_HEAP="${sizes%:*}" -DJUDGE_EXTRA="${sizes#*:}" \
      -I "$work" -I "$tree/lib" -idirafter "$tree/include" -o "$work/bin/$name" "$here/decompressors-judge/judge.c" >&2
  done
  mkdir -p "$out"
  mv "$work"/bin/* "$out"
}

is_built() { [ -x "$out/unzstd" ]; }

build_once decompressors-judge
echo "$out"
