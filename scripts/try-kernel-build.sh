#!/bin/sh
# Tries docs/kernel-build.md on a small kernel: takes the fragments out of that page, builds Debian's linux-source-6.12 with them, and checks what
# comes out: the table against the kernel's own tool, the reserved section, and that the vmlinux converts and boots at a slide by both entries.
# About ten minutes and 2 GB, under ${KSLIDE_CACHE:-~/.cache/kslide}/build; a second run builds only what changed. `npm run build` first.
set -eu
version=6.12
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
build=$cache/build
tree=$build/linux-source-$version
out=$build/try
kslide="node $here/bin/kslide.js"

. "$here/scripts/apt.sh"
. "$here/scripts/kernel-source.sh"
need qemu-system-x86_64 qemu-system-x86
install_for_kernel_build

step() { echo "== $*"; }

step "linux-source-$version"
[ -e "$tree/Makefile" ] || unpack_kernel_source "$version" "$cache" "$build"

# fragment FILE: the fenced block that follows the comment with this name in the page.
fragment() {
  awk -v mark="<!-- $1 -->" '
    $0 == mark { wanted = 1; next }
    wanted && /^```/ { if (inside) exit; inside = 1; next }
    inside' "$here/docs/kernel-build.md"
}

# insert FILE LINE: puts the fragment before that line, or renews it; the original stays beside it.
insert() {
  [ -e "$tree/$1.orig" ] || cp "$tree/$1" "$tree/$1.orig"
  fragment "$1" >"$build/fragment"
  awk -v line="$2" -v fragment="$build/fragment" '
    $0 == line && !done { while ((getline text < fragment) > 0) print text; print ""; done = 1 }
    { print }
    END { exit !done }' "$tree/$1.orig" >"$build/changed"
  cmp -s "$build/changed" "$tree/$1" || cp "$build/changed" "$tree/$1"
}

step 'fragments of docs/kernel-build.md'
insert arch/x86/kernel/vmlinux.lds.S "$(printf '\t.x86_cpu_dev.init : AT(ADDR(.x86_cpu_dev.init) - LOAD_OFFSET) {')"
insert arch/x86/Kconfig 'config PHYSICAL_ALIGN'
fragment arch/x86/Makefile.postlink >"$tree/arch/x86/Makefile.postlink"

step 'configuration'
mkdir -p "$out"
run_make() { nice -n 19 make -s -C "$tree" O="$out" "$@"; }
run_make tinyconfig
for option in 64BIT SMP RELOCATABLE RANDOMIZE_BASE HYPERVISOR_GUEST PARAVIRT PVH PRINTK EARLY_PRINTK TTY SERIAL_8250 \
  SERIAL_8250_CONSOLE BLK_DEV_INITRD RD_GZIP BINFMT_ELF KERNEL_GZIP; do
  "$tree/scripts/config" --file "$out/.config" --enable "$option"
done
"$tree/scripts/config" --file "$out/.config" --disable KERNEL_XZ --set-val RELOCATION_TABLE_SIZE 0x20000
run_make olddefconfig
for option in RANDOMIZE_BASE PVH SMP SERIAL_8250_CONSOLE; do grep -q "^CONFIG_$option=y" "$out/.config"; done

step 'build'
run_make -j2 KSLIDE="$kslide" vmlinux bzImage

step 'the table is the one of the kernel tool, and lies at the end of its section'
table=$out/arch/x86/boot/compressed/vmlinux.relocs
"$out/arch/x86/tools/relocs" "$out/vmlinux.unstripped" | cmp - "$table"
objcopy --dump-section .data.reloc="$build/section" "$out/vmlinux" /dev/null
tail -c "$(stat -c %s "$table")" "$build/section" | cmp - "$table"
echo "table $(stat -c %s "$table") bytes, section $(stat -c %s "$build/section"), vmlinux $(stat -c %s "$out/vmlinux")"

step 'without the section --keep fails, and leaves the file alone'
objcopy --rename-section .data.reloc=.no.reloc "$out/vmlinux.unstripped" "$build/unreserved" 2>/dev/null
cp "$build/unreserved" "$build/before"
if $kslide relocs --keep "$build/unreserved"; then exit 1; fi
cmp "$build/unreserved" "$build/before"

step 'conversion: from the relocations, from the table, from the section, from the bzImage'
$kslide convert "$out/vmlinux.unstripped" -o "$build/from-rela" --quiet
$kslide convert "$out/vmlinux" --relocs "$table" -o "$build/from-table" --quiet
$kslide convert "$out/vmlinux" -o "$build/from-section" --quiet
cmp "$build/from-table" "$build/from-section"
$kslide convert "$out/arch/x86/boot/bzImage" -o "$build/from-bzimage"

step 'boots'
for image in from-rela from-table from-bzimage; do
  for entry in pvh linux64; do
    # A boot that does not end in time says so in its JSON, and below.
    $kslide boot "$build/$image" --entry "$entry" --timeout 300 --json >"$build/boot.json" || [ -s "$build/boot.json" ]
    node -e '
      const { slide, end } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
      if (slide === undefined) throw new Error(`${process.argv[2]} no slide: ${end}`);
      console.log(process.argv[2], `slide 0x${slide.toString(16)}, ${end}`);' "$build/boot.json" "$image, $entry:"
  done
done
echo 'all as docs/kernel-build.md says'
