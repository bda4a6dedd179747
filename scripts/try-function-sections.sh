#!/bin/sh
# Tries `kslide shuffle` on a kernel of its own: Debian's linux-source-6.12, small, built with -ffunction-sections and with its link map. In two forms:
#
#   kept      the kernel's linker script knows nothing of .text.NAME: each stays a section of the vmlinux, behind .text. _etext, up to where the kernel
#             has its code and behind which it frees memory, has to come behind them, for which two lines of the script change places;
#   together  it gathers them in .text, as it does for CONFIG_LTO_CLANG, and where functions are is for symbols and map to say.
#
# Each form is shuffled from its bzImage and from its vmlinux, with the map and without, proved by `verify --shuffled`, and booted by both entries, with a
# guest program and up to the panic for want of an init, self-relocating and plain: SEEDS seeds of the first kind (default 10), 3 of each other; and 2 where
# the kernel accounts for calls before functions (retbleed=stuff).
#
#     scripts/try-function-sections.sh [--record] [SEEDS]
#
# Half an hour and 3 GB the first time, under ${KSLIDE_CACHE:-~/.cache/kslide}/build/function-sections. `npm run build` first.
set -eu
version=6.12
record=
[ "${1:-}" != --record ] || { record=--record; shift; }
seeds=${1:-10}
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}
folder=$cache/build/function-sections
tree=$folder/linux-source-$version
out=$folder/out
kslide="node $here/bin/kslide.js"

. "$here/scripts/apt.sh"
. "$here/scripts/kernel-source.sh"
need qemu-system-x86_64 qemu-system-x86
install_for_kernel_build

step() { echo "== $*"; }

step "linux-source-$version"
[ -e "$tree/Makefile" ] || unpack_kernel_source "$version" "$cache" "$folder"

step 'linker script: _etext behind the sections that it does not name, which ld puts before the next assignment to the location counter'
script=$tree/arch/x86/kernel/vmlinux.lds.S
[ -e "$script.orig" ] || cp "$script" "$script.orig"
awk '
  /^\t_etext = \.;$/ { held = $0; next }
  { print }
  held != "" && /^\t\. = ALIGN\(PAGE_SIZE\);$/ { print held; held = ""; done = 1 }
  END { exit !done }' "$script.orig" >"$folder/changed"
cmp -s "$folder/changed" "$script" || cp "$folder/changed" "$script"

step 'configuration'
mkdir -p "$out"
run_make() { nice -n 15 make -s -C "$tree" O="$out" "$@"; }
set_options() {
  how=$1
  shift
  for option in "$@"; do "$tree/scripts/config" --file "$out/.config" "$how" "$option"; done
}
run_make tinyconfig
set_options --disable KERNEL_XZ CC_OPTIMIZE_FOR_SIZE DEBUG_INFO PCI_QUIRKS VT INPUT HID_SUPPORT USB_SUPPORT CPU_FREQ SUSPEND
set_options --enable KERNEL_GZIP CC_OPTIMIZE_FOR_PERFORMANCE 64BIT SMP RELOCATABLE RANDOMIZE_BASE RANDOMIZE_MEMORY HYPERVISOR_GUEST PARAVIRT \
  PVH ACPI PCI PRINTK BUG EARLY_PRINTK TTY SERIAL_8250 SERIAL_8250_CONSOLE BLK_DEV_INITRD RD_GZIP BINFMT_ELF MULTIUSER POSIX_TIMERS \
  HIGH_RES_TIMERS FUTEX EPOLL BLOCK BLK_DEV PROC_FS PROC_SYSCTL SYSFS TMPFS SYSVIPC EXPERT JUMP_LABEL VMLINUX_MAP
# What finds code by its address or its name, and the paddings that mitigations want before functions.
set_options --enable KALLSYMS KALLSYMS_ALL UNWINDER_ORC MODULES MODULE_UNLOAD FTRACE FUNCTION_TRACER DYNAMIC_FTRACE FUNCTION_GRAPH_TRACER KPROBES \
  KPROBE_EVENTS STACKTRACE DEBUG_KERNEL DEBUG_WX MAGIC_SYSRQ PERF_EVENTS SCHEDSTATS SCHED_DEBUG DEBUG_FS CPU_MITIGATIONS MITIGATION_RETPOLINE \
  MITIGATION_RETHUNK MITIGATION_CALL_DEPTH_TRACKING MITIGATION_PAGE_TABLE_ISOLATION
set_options --module BLK_DEV_LOOP
run_make olddefconfig
for option in RANDOMIZE_BASE PVH SMP ACPI SERIAL_8250_CONSOLE KALLSYMS_ALL UNWINDER_ORC DYNAMIC_FTRACE KPROBE_EVENTS DEBUG_WX SCHEDSTATS \
  CALL_PADDING VMLINUX_MAP; do
  grep -q "^CONFIG_$option=y" "$out/.config" || { echo "no $option" >&2; exit 1; }
done

# build FORM [MAKE-VARIABLE…]: its vmlinux with symbols and .rela sections, which the build strips off unless told not to, its map, its bzImage.
build() {
  form=$folder/$1
  shift
  # ld warns of each section that the script does not name.
  run_make -j2 KCFLAGS=-ffunction-sections cmd_strip_relocs=: "$@" bzImage modules >"$folder/build.log" 2>&1 ||
    { tail -n 20 "$folder/build.log" >&2; exit 1; }
  mkdir -p "$form"
  cp "$out/vmlinux" "$out/vmlinux.map" "$out/arch/x86/boot/bzImage" "$out/drivers/block/loop.ko" "$form"
}

step 'build: sections kept'
build kept
step 'build: sections together'
build together CPPFLAGS_vmlinux.lds='-Ux86 -DCONFIG_LTO_CLANG'

text_sections() { readelf -SW "$1" | grep -c ' \.text\.' || true; }
boot() { node --import "$here/node_modules/tsx/dist/esm/index.mjs" "$here/scripts/shuffle-seeds.ts" "$@"; }
for name in kept together; do
  form=$folder/$name
  step "$name: $(text_sections "$form/vmlinux") sections .text.NAME"
  for input in bzImage vmlinux; do
    for map in "" "--map $form/vmlinux.map"; do
      # shellcheck disable=SC2086 # two words, or none
      $kslide shuffle "$form/$input" --debug "$form/vmlinux" $map -o "$folder/shuffled"
      $kslide verify --shuffled "$form/$input" "$folder/shuffled" --debug "$form/vmlinux"
    done
  done
  $kslide shuffle "$form/bzImage" --debug "$form/vmlinux" --map "$form/vmlinux.map" --plan-out "$folder/plan" --quiet
  $kslide shuffle "$form/bzImage" --debug "$form/vmlinux" --map "$form/vmlinux.map" --seed 5a -o "$folder/direct" --quiet
  $kslide shuffle "$form/bzImage" --plan "$folder/plan" --seed 5a -o "$folder/planned" --quiet
  cmp "$folder/direct" "$folder/planned"
  set -- --kernel "$form/bzImage" --debug "$form/vmlinux" --map "$form/vmlinux.map" --module "$form/loop.ko"
  boot "$seeds" 1 "$@"
  boot 3 101 "$@" --plain
  boot 3 201 boot "$@"
  boot 3 301 boot "$@" --plain
  # There the kernel writes code into the room before each function, and calls that.
  boot 2 401 "$@" --cpu Skylake-Client,-cx16 --append 'retbleed=stuff spectre_v2=retpoline' --expect 'RETBleed: Mitigation: Stuffing'
done
# shellcheck disable=SC2086 # one word, or none
node --import "$here/node_modules/tsx/dist/esm/index.mjs" "$here/bench/function-sections.ts" $record
echo 'all shuffled, proved and booted'
