#!/bin/sh
# Fetches the newest debug vmlinux of Debian's 6.1 cloud kernel, which has all its .rela sections, and the bzImage of the same build, which ends in
# the table that the kernel's own build made of them. 310 MB to fetch, 620 MB on disk, into ${KSLIDE_CACHE:-~/.cache/kslide}: too much for
# every run of the unit tests; the boot lane (test/debug-kernel.ts) and the scripts under bench/ run this. Prints the vmlinux's path.
#
# With the argument 6.12: the files of that kernel, 330 MB to fetch, 360 MB on disk. They have symbols, but no .rela sections.
set -eu
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
case ${1:-6.1} in
  6.1) version='6\.1\.0-[0-9]+' ;;
  6.12) version='6\.12\.[0-9]+\+deb[0-9]+' ;;
  *) exit 2 ;;
esac
. "$(dirname "$0")/apt.sh"

# The newest version of which apt has both: signed images come days after their debug packages.
find_image() {
  image=$(apt-cache search --names-only "^linux-image-$version-cloud-amd64(-dbg)?\$" | sed 's/ - .*//; s/-dbg$//' | sort | uniq -d | sort -V | tail -n 1)
  [ -n "$image" ]
}
if ! with_new_lists find_image; then
  echo "apt knows no linux-image-${1:-6.1}*-cloud-amd64-dbg, which is a package of Debian 12" >&2
  exit 3
fi

# unpack PACKAGE MARK FOLDER: only that folder of the package, unless there is a MARK already.
unpack() {
  [ ! -d "$cache/$1/$2" ] || return 0
  fetch_package "$1" "$cache/dl"
  rm -rf "$cache/$1.tmp"
  mkdir "$cache/$1.tmp"
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$cache/$1.tmp" "./$3"
  mkdir -p "$cache/$1"
  cp -a "$cache/$1.tmp/." "$cache/$1/"
  rm -rf "$cache/$1.tmp"
}
# With its modules: scripts/kernels/debian.ts takes a folder in the cache for the whole package.
unpack "$image" lib/modules ''
unpack "$image-dbg" usr/lib/debug/boot usr/lib/debug/boot
find "$cache/$image-dbg/usr/lib/debug/boot" -name 'vmlinux-*'
