#!/bin/sh
# Builds kernels as microVM projects build them, from Debian's linux-source packages and the fragments in scripts/kernels/configs/:
#
#     scripts/build-kernels.sh [NAME …]
#
# Without names all of them, in this order. Each takes ten minutes to half an hour on two cores and 2 GB; an interrupted build goes on where it was, and
# what is built is not built again. A kernel comes out in ${KSLIDE_CACHE:-~/.cache/kslide}/built/NAME/:
#
#   bzImage, vmlinux    as the tree's build makes them
#   vmlinux.rela        the vmlinux before the build removes its .rela sections, or a link with them where the build asks for none
#   vmlinux.relocs      the table that the tree's own tool made of it
#   relocs, .config     that tool, and the configuration
#   realmode.elf        the real-mode code, which the tool makes a table of as well
#   about               source, compiler, and the options of the fragments that this tree did not take
#
# Prints the folder of each.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
. "$here/scripts/apt.sh"
. "$here/scripts/kernel-source.sh"

# NAME SERIES COMPILER FRAGMENT …
kernels='
firecracker-6.1 6.1 gcc firecracker
clang-6.12 6.12 clang firecracker clang
clang-tiny newest clang tiny cfi
clang-newest newest clang cfi
firecracker-fixed-6.1 6.1 gcc firecracker fixed
firecracker-newest newest gcc firecracker
kata-6.12 6.12 gcc kata
pvm-guest-6.12 6.12 gcc pvm-guest
'

step() { echo "== $*" >&2; }

is_built() { [ -e "$out/about" ]; }

# The newest clang that apt knows, or has installed. The tree finds its parts by the suffix.
find_clang() {
  clang=$(apt-cache search --names-only '^clang-[0-9]+$' | sed 's/^clang-\([0-9]*\).*/\1/' | sort -n | tail -n 1)
  [ -n "$clang" ]
}

build() {
  step "$name: source"
  install_for_kernel_build >&2
  [ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
  if [ "$compiler" = clang ]; then
    with_new_lists find_clang
    need "clang-$clang" "clang-$clang"
    need "ld.lld-$clang" "lld-$clang"
    need "llvm-ar-$clang" "llvm-$clang"
    llvm="LLVM=-$clang"
  else
    llvm=''
  fi
  install_missing >&2
  source_package=$(cd "$here" && node --import tsx scripts/kernels/fetch-source.ts "$series" "$cache/dl")
  source=$(basename "$source_package")
  source=${source%%_*}
  tree=$cache/build/$source
  # The whole tree, and no part of one: an interrupted unpacking has no such file.
  if [ ! -e "$tree/.unpacked" ]; then
    rm -rf "$tree"
    mkdir -p "$cache/build"
    dpkg-deb --fsys-tarfile "$source_package" | tar -xO "./usr/src/$source.tar.xz" | tar -xJ -C "$cache/build"
    touch "$tree/.unpacked"
  fi

  objects=$cache/build/$name
  mkdir -p "$objects" "$out"
  # Without a stamp of time, machine and number of the link the same source and compiler make the same kernel.
  # shellcheck disable=SC2086 # one word, or none
  run_make() {
    nice -n 19 make -s -C "$tree" O="$objects" $llvm KBUILD_BUILD_VERSION=1 \
      KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=kslide KBUILD_BUILD_HOST=kslide "$@" >&2
  }

  step "$name: configuration"
  # A tiny kernel is built up from nothing, the others from the defaults.
  case $fragments in
    tiny*) base=allnoconfig common='' ;;
    *) base=alldefconfig common='small guest' ;;
  esac
  for fragment in $common $fragments; do cat "$here/scripts/kernels/configs/$fragment.config"; done >"$objects/wanted"
  run_make KCONFIG_ALLCONFIG="$objects/wanted" "$base" 2>/dev/null
  # The last word on an option counts.
  sed -n 's/^CONFIG_\([A-Z0-9_]*\)=.*/\1 &/p; s/^# CONFIG_\([A-Z0-9_]*\) is not set$/\1 n/p' "$objects/wanted" |
    awk '{ wanted[$1] = $2 } END { for (option in wanted) print option, wanted[option] }' | sort |
    while read -r option line; do
      if [ "$line" = n ]; then
        ! grep -q "^CONFIG_$option=" "$objects/.config" || echo "not n: $option"
      else
        grep -qxF "$line" "$objects/.config" || echo "not taken: $line"
      fi
    done >"$objects/untaken"
  for option in RANDOMIZE_BASE PVH PHYSICAL_ALIGN SMP; do
    if grep -E "^(not n: |not taken: CONFIG_)$option\b" "$objects/untaken" >&2; then exit 1; fi
  done

  step "$name: build"
  table=arch/x86/boot/compressed/vmlinux.relocs
  # 6.5 to 6.14 remove the .rela sections from the vmlinux in place: here that is done after they were kept.
  keep=''
  if grep -qs strip_relocs "$tree/arch/x86/Makefile.postlink"; then keep=cmd_strip_relocs=:; fi
  # shellcheck disable=SC2086 # one word, or none
  run_make -j2 $keep bzImage
  cp "$objects/arch/x86/boot/bzImage" "$objects/.config" "$objects/arch/x86/tools/relocs" \
    "$objects/arch/x86/realmode/rm/realmode.elf" "$out/"
  cp "$objects/vmlinux" "$out/vmlinux"
  if ! grep -q '^CONFIG_X86_NEED_RELOCS=y' "$objects/.config"; then
    # This build asks for no relocations. Linked again with them the kernel must be the same.
    # shellcheck disable=SC2086 # one word, or none
    run_make CONFIG_X86_NEED_RELOCS=y $keep vmlinux
    for file in "$out/vmlinux" "$objects/vmlinux"; do objcopy -O binary -R .notes "$file" "$file.bin"; done
    cmp "$out/vmlinux.bin" "$objects/vmlinux.bin"
    rm "$out/vmlinux.bin" "$objects/vmlinux.bin"
  fi
  if [ -e "$objects/vmlinux.unstripped" ]; then
    cp "$objects/vmlinux.unstripped" "$out/vmlinux.rela"
  else
    cp "$objects/vmlinux" "$out/vmlinux.rela"
    if [ -n "$keep" ]; then
      objcopy --remove-section='.rel.*' --remove-section='.rel__*' --remove-section='.rela.*' --remove-section='.rela__*' "$out/vmlinux"
    fi
  fi
  "$out/relocs" "$out/vmlinux.rela" >"$out/vmlinux.relocs"
  [ ! -e "$objects/$table" ] || cmp "$objects/$table" "$out/vmlinux.relocs"
  {
    echo "source: $(basename "$source_package")"
    echo "compiler: $(sed -n 's/^CONFIG_CC_VERSION_TEXT="\(.*\)"/\1/p' "$objects/.config")"
    cat "$objects/untaken"
  } >"$out/about.new"
  mv "$out/about.new" "$out/about"
  rm -rf "$objects"
}

wanted=${*:-$(echo "$kernels" | awk 'NF { print $1 }')}
for name in $wanted; do
  line=$(echo "$kernels" | awk -v name="$name" '$1 == name')
  if [ -z "$line" ]; then
    echo "no kernel $name; there are:" $(echo "$kernels" | awk '{ print $1 }') >&2
    exit 2
  fi
  # shellcheck disable=SC2086 # its words
  set -- $line
  series=$2
  compiler=$3
  shift 3
  fragments=$*
  out=$cache/built/$name
  (build_once "built-$name")
  echo "$out"
done
