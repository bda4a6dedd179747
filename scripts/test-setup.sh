#!/bin/sh
# What the tests need beside Node and npm's packages: QEMU, the judges of our bytes (binutils, gcc, cpio, make, patch), the compressors whose
# output our decoders must read, and the programs that read what is packaged (mandoc, fish, zsh, shellcheck). Kernels are fetched by the tests
# themselves, into ~/.cache/kslide.
set -eu
. "$(dirname "$0")/apt.sh"
need qemu-system-x86_64 qemu-system-x86
need objdump binutils
need gcc gcc
need cpio cpio
need make make
need patch patch
need gzip gzip
need bzip2 bzip2
need xz xz-utils
need lzop lzop
need lz4 lz4
need zstd zstd
need mandoc mandoc
need fish fish
need zsh zsh
need shellcheck shellcheck
# Not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin
need depmod kmod
need mke2fs e2fsprogs
# For guests of docs/vmm: the static one. The package busybox has a program of the same name.
[ -e /usr/share/doc/busybox-static ] || missing="$missing busybox-static"
# Firmware, not a program: what boots bzImages by UEFI.
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing="$missing ovmf"
install_missing
# For the pages of the reports. Where it is no package (Ubuntu has a snap), the tests that look at pages say that they are skipped.
missing=''
need chromium chromium
(install_missing) || echo "no chromium: tests of HTML reports in a browser will be skipped" >&2
