#!/bin/sh
# Tries docs/kernel-build.md on a small kernel: applies its patch to Debian's linux-source-VERSION (default: 6.12), builds it, and checks what comes
# out: the table against the kernel's own tool, the reserved section, and that the vmlinux converts and boots at a slide by both entries.
# About ten minutes and 2 GB, under ${KSLIDE_CACHE:-~/.cache/kslide}/build/try-VERSION; a second run builds only what changed. `npm run build` first.
# A package linux-source-VERSION_*.deb in ${KSLIDE_CACHE:-~/.cache/kslide}/dl is used before apt is asked.
set -eu
version=${1:-6.12}
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
# A tree of its own, because it is patched.
build=$cache/build/try-$version
tree=$build/linux-source-$version
out=$build/objects
kslide=$here/bin/kslide.js
case $version in
  6.[5-9] | 6.1[0-4]) patch=linux-6.5-to-6.14.patch ;;
  *) patch=linux-6.15.patch ;;
esac

. "$here/scripts/apt.sh"
. "$here/scripts/kernel-source.sh"
need qemu-system-x86_64 qemu-system-x86
need patch patch
install_for_kernel_build

step() { echo "== $*"; }

step "linux-source-$version"
if [ ! -e "$tree/.patched" ]; then
  rm -rf "$tree"
  unpack_kernel_source "$version" "$cache" "$build"
  step "$patch"
  (cd "$tree" && patch -p1 <"$here/docs/kernel-build/$patch")
  touch "$tree/.patched"
fi

# With a built-in nokaslr, which must turn nothing off.
step 'configuration'
mkdir -p "$out"
run_make() { nice -n 19 make -s -C "$tree" O="$out" "$@"; }
run_make tinyconfig
for option in 64BIT SMP RELOCATABLE RANDOMIZE_BASE HYPERVISOR_GUEST PARAVIRT PVH PRINTK EARLY_PRINTK TTY SERIAL_8250 \
  SERIAL_8250_CONSOLE BLK_DEV_INITRD RD_GZIP BINFMT_ELF KERNEL_GZIP CMDLINE_BOOL; do
  "$tree/scripts/config" --file "$out/.config" --enable "$option"
done
"$tree/scripts/config" --file "$out/.config" --disable KERNEL_XZ --set-val RELOCATION_TABLE_SIZE 0x20000 --set-str CMDLINE nokaslr
run_make olddefconfig
grep -q '^CONFIG_CMDLINE="nokaslr"$' "$out/.config"
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
