/**
 * The program inside the linux64 loader: from QEMU's PVH entry to the kernel's 64-bit entry.
 *
 * linux64-loader.ts says why there is one. QEMU enters the program in 32-bit protected mode with EBX = hvm_start_info
 * (xen/include/public/arch-x86/hvm/start_info.h). The program copies the command line's address, the ACPI root pointer, the initial RAM disk and the memory
 * map from there into boot_params, turns long mode on, and jumps to the kernel. If it cannot, it says so on the serial port and resets the machine.
 *
 * Everything that does not depend on the machine is data, written here at build time: most of boot_params, the descriptors, and the page tables. The program
 * is one block of memory, in this order: code, boot_params, descriptors and seed, page tables; each starts on a page of its own.
 */
import { GIB, PAGE_SIZE } from '../../base/addresses.ts';
import type { PhysAddr, Slide } from '../../base/addresses.ts';
import { Assembler, byte, dword, mem, qword } from '../../asm/assembler.ts';
import type { Label, Memory } from '../../asm/assembler.ts';
import {
  CODE64_DESCRIPTOR,
  CR4_LA57,
  CR4_PAE,
  DATA_DESCRIPTOR,
  emitEnableLongMode,
  emitEnablePaging,
  PAGE_2M,
} from '../../asm/machine-state.ts';
import {
  GPRS,
  al,
  cr3,
  cr4,
  dl,
  ds,
  dx,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esi,
  rdi,
  rsi,
  rsp,
  ss,
} from '../../asm/registers.ts';
import { BOOT_PARAMS, BOOT_PARAMS_SIZE, KASLR_FLAG, SETUP_DATA, SETUP_RNG_SEED } from '../../base/boot-params.ts';
import { ascii, Writer } from '../../base/bytes.ts';

export interface Linux64Options {
  /** Added to every p_paddr and to e_entry. The kernel requires a multiple of PMD_SIZE. */
  readonly physicalSlide?: Slide | undefined;
  /** How many GiB the page tables map one to one: 4 by default. Firecracker maps 1. */
  readonly identityGib?: number | undefined;
  /** Enter with 5-level page tables (CR4.LA57): the CPU must have la57, else the loader says so on the console and resets. */
  readonly fiveLevel?: boolean | undefined;
  /** Set KASLR_FLAG, as if the kernel had been randomized already. */
  readonly kaslrFlag?: boolean | undefined;
  /** Pass this seed as setup_data of type SETUP_RNG_SEED. */
  readonly rngSeed?: Uint8Array | undefined;
  /**
   * `none` leaves cmd_line_ptr 0. A copy must lie in memory. From 4 GiB on, its address needs ext_cmd_line_ptr, and the identity map must reach it. Below
   * 4 GiB the map need not, so that a test can give a kernel a command line that it cannot read.
   */
  readonly commandLine?: 'as-given' | 'none' | { readonly copiedTo: PhysAddr } | undefined;
  /**
   * Where the 4 GiB flat descriptors stand in the GDT: the protocol's __BOOT_CS and __BOOT_DS by default; Firecracker uses 0x8 and 0x10. `stack`: SS, if
   * it is not `data`; 0 is the null selector.
   */
  readonly selectors?: { readonly code: number; readonly data: number; readonly stack?: number } | undefined;
  /** Enter with a GDT that cannot be read any more. The protocol does not promise one. */
  readonly gdtGone?: boolean | undefined;
  /** Set in RFLAGS. */
  readonly flags?: number | undefined;
}

/** struct hvm_start_info, version 1. */
const START_INFO = {
  magic: 0,
  version: 4,
  nr_modules: 12,
  modlist_paddr: 16,
  cmdline_paddr: 24,
  rsdp_paddr: 32,
  memmap_paddr: 40,
  memmap_entries: 48,
} as const;
const START_INFO_MAGIC = 0x336e_c578;
/** struct hvm_modlist_entry. */
const MODULE = { paddr: 0, size: 8 } as const;
/** struct hvm_memmap_table_entry is a struct boot_e820_entry and 4 bytes after it. The types have the same numbers. */
const E820_ENTRY_SIZE = 20;
const E820_MAX_ENTRIES = 128;

/** struct setup_header, the fields that only a boot loader writes. */
const SETUP_HEADER = {
  boot_flag: 0x1fe,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
} as const;
const BOOT_FLAG = 0xaa55;
/** Protocol 2.15, the first version with all the fields that are set here. */
const PROTOCOL_VERSION = 0x20f;
const LOADER_UNDEFINED = 0xff;
/** The kernel is loaded at 1 MiB or above. */
const LOADED_HIGH = 1;

const BOOT_PROTOCOL_SELECTORS = { code: 0x10, data: 0x18 };
const CPUID_LA57 = 16;
const COM1 = 0x3f8;

/** RFLAGS bit 1 is always set. */
const FLAGS_RESERVED = 2;

const FOUR_GIB = 2 ** 32;
const IDENTITY_GIB = 4;
/** Without the accessed and dirty bits: the processor has to set them, in memory that the loader gave. */
const PRESENT_WRITABLE = 3n;
const LARGE = 1n << 7n;

/** Byte offsets of the loader's parts from its address; the code is at 0. */
const BOOT_PARAMS_AT = PAGE_SIZE;
const GDT = BOOT_PARAMS_AT + BOOT_PARAMS_SIZE;
const GDT_ENTRIES = 64;
const GDT_POINTER = GDT + 8 * GDT_ENTRIES;
/** Zeros: a pseudo-descriptor of a table with room for no descriptor. */
const NO_TABLE = GDT_POINTER + 16;
const SEED_NODE = NO_TABLE + 16;
const TABLES = GDT + PAGE_SIZE;

/** In every register that the protocol leaves undefined: a non-canonical address, so that following it faults, and a different one in each, so that a dump shows which it was. */
const GARBAGE = 0xbad0_0000_0000_0000n;

/** The loader's size in memory, which does not depend on its address. */
export function loaderSize(options: Linux64Options): number {
  return TABLES + PAGE_SIZE * ((options.identityGib ?? IDENTITY_GIB) + (options.fiveLevel === true ? 3 : 2));
}

/** The whole loader, to be loaded at `address` and entered at its first byte. Throws RangeError for options that contradict each other. */
export function buildProgram(address: PhysAddr, kernelEntry: PhysAddr, options: Linux64Options): Uint8Array {
  checkOptions(options);
  const image = new Writer(new Uint8Array(loaderSize(options)));
  const code = assembleLoader(address, kernelEntry, options);
  if (code.length > BOOT_PARAMS_AT)
    throw new RangeError(`the loader's code takes ${code.length} bytes of ${BOOT_PARAMS_AT}`);
  image.copy(0, code);
  writeBootParams(image, address, options);
  writeDescriptors(image, address, options);
  writePageTables(image, address, options);
  return image.bytes;
}

function checkOptions({ identityGib = IDENTITY_GIB, commandLine }: Linux64Options): void {
  if (!Number.isInteger(identityGib) || identityGib < 1 || identityGib > 512) {
    throw new RangeError(`identityGib ${identityGib}: one page directory pointer table maps 1 to 512 GiB`);
  }
  const copiedTo = typeof commandLine === 'object' ? commandLine.copiedTo : 0;
  if (copiedTo >= FOUR_GIB && copiedTo + PAGE_SIZE > identityGib * GIB) {
    throw new RangeError(`command line at 0x${copiedTo.toString(16)}: identityGib does not reach it`);
  }
}

/** The part that does not depend on the machine. The program fills in the rest. */
function writeBootParams(image: Writer, address: PhysAddr, options: Linux64Options): void {
  const params = new Writer(image.bytes.subarray(BOOT_PARAMS_AT, BOOT_PARAMS_AT + BOOT_PARAMS_SIZE));
  params.u16(SETUP_HEADER.boot_flag, BOOT_FLAG);
  params.copy(SETUP_HEADER.header, ascii('HdrS'));
  params.u16(SETUP_HEADER.version, PROTOCOL_VERSION);
  params.u8(SETUP_HEADER.type_of_loader, LOADER_UNDEFINED);
  params.u8(BOOT_PARAMS.loadflags, LOADED_HIGH | (options.kaslrFlag === true ? KASLR_FLAG : 0));
  if (options.rngSeed === undefined) return;
  const room = TABLES - SEED_NODE - SETUP_DATA.data;
  if (options.rngSeed.length > room)
    throw new RangeError(`rngSeed of ${options.rngSeed.length} bytes: at most ${room}`);
  params.u64(BOOT_PARAMS.setup_data, address + SEED_NODE);
  image.u32(SEED_NODE + SETUP_DATA.type, SETUP_RNG_SEED);
  image.u32(SEED_NODE + SETUP_DATA.len, options.rngSeed.length);
  image.copy(SEED_NODE + SETUP_DATA.data, options.rngSeed);
}

function writeDescriptors(
  image: Writer,
  address: PhysAddr,
  { selectors = BOOT_PROTOCOL_SELECTORS }: Linux64Options,
): void {
  image.u64(GDT + selectors.code, CODE64_DESCRIPTOR);
  image.u64(GDT + selectors.data, DATA_DESCRIPTOR);
  if (selectors.stack !== undefined && selectors.stack !== 0) image.u64(GDT + selectors.stack, DATA_DESCRIPTOR);
  image.u16(GDT_POINTER, 8 * GDT_ENTRIES - 1);
  image.u32(GDT_POINTER + 2, address + GDT);
}

/** One table of each upper level, then a page directory of 2 MiB pages for each GiB. */
function writePageTables(
  image: Writer,
  address: PhysAddr,
  { identityGib = IDENTITY_GIB, fiveLevel }: Linux64Options,
): void {
  let table = TABLES;
  const link = (entries: number): void => {
    for (let i = 0; i < entries; i++)
      image.u64(table + 8 * i, BigInt(address + table + PAGE_SIZE * (i + 1)) | PRESENT_WRITABLE);
    table += PAGE_SIZE;
  };
  if (fiveLevel === true) link(1);
  link(1);
  link(identityGib);
  for (let i = 0; i < 512 * identityGib; i++) image.u64(table + 8 * i, BigInt(i * PAGE_2M) | LARGE | PRESENT_WRITABLE);
}

/** The program: 32-bit from the PVH entry, EBX = hvm_start_info, to long mode; 64-bit from there to the kernel. */
function assembleLoader(address: PhysAddr, entry: PhysAddr, options: Linux64Options): Uint8Array {
  const a = new Assembler({ bits: 32, origin: address });
  const {
    code: codeSelector,
    data: dataSelector,
    stack = dataSelector,
  }: NonNullable<Linux64Options['selectors']> = options.selectors ?? BOOT_PROTOCOL_SELECTORS;
  const bootParams = address + BOOT_PARAMS_AT;
  const fail = a.label('fail');
  const failures: [label: Label, text: string][] = [];
  const failure = (text: string): Label => {
    const label = a.label(text);
    failures.push([label, text]);
    return label;
  };

  a.cld();
  a.cmp(dword(ebx, START_INFO.magic), START_INFO_MAGIC);
  a.jne(failure('EBX is not a hvm_start_info'));
  a.cmp(dword(ebx, START_INFO.version), 1);
  a.jb(failure('hvm_start_info has no memory map'));
  // CPUID overwrites EBX: keep the structure in EBP.
  a.mov(ebp, ebx);
  fillBootParams(a, bootParams, options);
  const copiedTo = typeof options.commandLine === 'object' ? options.commandLine.copiedTo : undefined;
  if (copiedTo !== undefined && copiedTo < FOUR_GIB) copyCommandLine(a, bootParams, copiedTo);

  if (options.fiveLevel === true) {
    a.mov(eax, 7);
    a.xor(ecx, ecx);
    a.cpuid();
    a.bt(ecx, CPUID_LA57);
    a.jnc(failure('this CPU has no la57'));
  }
  const longMode = a.label('long-mode');
  a.lgdt(mem(address + GDT_POINTER));
  a.mov(eax, (1 << CR4_PAE) | (options.fiveLevel === true ? 1 << CR4_LA57 : 0));
  a.mov(cr4, eax);
  a.mov(eax, address + TABLES);
  a.mov(cr3, eax);
  emitEnableLongMode(a);
  emitEnablePaging(a);
  a.ljmp(codeSelector, longMode);

  // Triple fault: no IDT and an invalid instruction. With -no-reboot it ends QEMU on every machine type.
  a.bind(fail);
  a.lodsb();
  a.test(al, al);
  const reset = a.label('reset');
  a.jz(reset);
  a.mov(dx, COM1);
  a.out(dx, al);
  a.jmp(fail);
  a.bind(reset);
  a.ud2();
  for (const [label, text] of failures) {
    const message = a.label(`"${text}"`);
    a.bind(label);
    a.mov(esi, message);
    a.jmp(fail);
    a.bind(message);
    a.db(ascii(`kslide linux64 loader: ${text}\r\n\0`));
  }

  a.bits(64);
  a.bind(longMode);
  a.mov(eax, dataSelector);
  for (const segment of [ds, es]) a.mov(segment, eax);
  a.mov(eax, stack);
  a.mov(ss, eax);
  if (copiedTo !== undefined && copiedTo >= FOUR_GIB) copyCommandLine(a, bootParams, copiedTo);
  if (options.gdtGone === true) a.lgdt(mem(address + NO_TABLE));
  if (options.flags !== undefined) {
    a.mov(rsp, address + PAGE_SIZE);
    a.push(options.flags | FLAGS_RESERVED);
    a.popfq();
  }
  for (const register of GPRS[64]) a.mov(register, GARBAGE | BigInt(register.number));
  a.mov(rsi, bootParams);
  const kernelEntry = a.label('kernel-entry');
  a.jmp(qword(kernelEntry));

  a.bind(kernelEntry);
  a.dq(entry);
  return a.assemble().code;
}

/** EBP = hvm_start_info. */
function fillBootParams(a: Assembler, bootParams: PhysAddr, { commandLine }: Linux64Options): void {
  const field = (offset: number): Memory => dword(bootParams + offset);
  const copy = (to: number, from: number): void => {
    a.mov(eax, dword(ebp, from));
    a.mov(field(to), eax);
  };
  if (commandLine !== 'none') copy(BOOT_PARAMS.cmd_line_ptr, START_INFO.cmdline_paddr);
  copy(BOOT_PARAMS.acpi_rsdp_addr, START_INFO.rsdp_paddr);
  copy(BOOT_PARAMS.acpi_rsdp_addr + 4, START_INFO.rsdp_paddr + 4);

  const noRamdisk = a.label('no-ramdisk');
  a.cmp(dword(ebp, START_INFO.nr_modules), 0);
  a.je(noRamdisk);
  a.mov(esi, dword(ebp, START_INFO.modlist_paddr));
  a.mov(eax, dword(esi, MODULE.paddr));
  a.mov(field(SETUP_HEADER.ramdisk_image), eax);
  a.mov(eax, dword(esi, MODULE.size));
  a.mov(field(SETUP_HEADER.ramdisk_size), eax);
  a.bind(noRamdisk);

  const mapped = a.label('memory-map-done');
  a.mov(esi, dword(ebp, START_INFO.memmap_paddr));
  a.mov(edx, dword(ebp, START_INFO.memmap_entries));
  a.cmp(edx, E820_MAX_ENTRIES);
  const fits = a.label('memory-map-fits');
  a.jbe(fits);
  a.mov(edx, E820_MAX_ENTRIES);
  a.bind(fits);
  a.mov(byte(bootParams + BOOT_PARAMS.e820_entries), dl);
  a.mov(edi, bootParams + BOOT_PARAMS.e820_table);
  a.test(edx, edx);
  a.jz(mapped);
  const next = a.bind(a.label('memory-map-entry'));
  a.mov(ecx, E820_ENTRY_SIZE / 4);
  a.rep.movsd();
  a.add(esi, 4);
  a.dec(edx);
  a.jnz(next);
  a.bind(mapped);
}

/** For a copy below 4 GiB this runs before paging is on, so the identity map need not reach it. For one above, the map must. */
function copyCommandLine(a: Assembler, bootParams: PhysAddr, to: PhysAddr): void {
  a.mov(esi, dword(bootParams + BOOT_PARAMS.cmd_line_ptr));
  if (to < FOUR_GIB) a.mov(edi, to);
  else a.mov(rdi, to);
  a.mov(dword(bootParams + BOOT_PARAMS.cmd_line_ptr), to % FOUR_GIB);
  a.mov(dword(bootParams + BOOT_PARAMS.ext_cmd_line_ptr), Math.floor(to / FOUR_GIB));
  const next = a.bind(a.label('command-line-byte'));
  a.lodsb();
  a.stosb();
  a.test(al, al);
  a.jnz(next);
}
