/**
 * A small vmlinux whose relocations can be recovered: with everything that the rules stand on, and besides it what a test puts in. It is never run.
 *
 *     .text             a prelude that names phys_base and the IDT's descriptor, instructions that .return_sites names, then the test's code
 *     .rodata           the test's data
 *     .data             phys_base, a descriptor, a page table, then the test's
 *     .return_sites     120 distances to instructions
 *     .data..percpu     linked at 0, if the kernel has it
 */
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { ascii, Writer } from '../../src/base/bytes.ts';

export const TEXT = 0x100_0000;
export const RODATA = TEXT + 0x2000;
export const DATA = TEXT + 0x4000;
const SITES = TEXT + 0x8000;
const PER_CPU = TEXT + 0x9000;
export const END = TEXT + 0xa000;
const PHYS_BASE = DATA;
const DESCRIPTOR = DATA + 0x10;
const PAGE_TABLE = DATA + 0x1000;
/** Where the test's own bytes begin. */
export const CODE_AT = TEXT + 0x100;
export const DATA_AT = DATA + 0x2000;
const ANCHORS = 120;

export interface RecoverKernel {
  /** Machine code as hex. `[` and `]` around 4 or 8 bytes mark a field. */
  readonly code?: string;
  readonly rodata?: Uint8Array;
  readonly data?: Uint8Array;
  readonly perCpu?: boolean;
  /** Changes the finished file. */
  readonly edit?: (writer: Writer, offsetOf: (place: number) => number) => void;
}

export const link = (place: number): string => bytesOf(place + 0x8000_0000, 4);
export const pointer = (place: number): string => `${link(place)}ffffffff`;

function bytesOf(value: number, width: number): string {
  let hex = '';
  for (let index = 0, left = value >>> 0; index < width; index++, left = Math.floor(left / 256))
    hex += (left % 256).toString(16).padStart(2, '0');
  return hex;
}

/** The places of the fields that are marked in `code`. */
export function markedFields(code: string): number[] {
  const clean = code.replaceAll(/\s/g, '');
  const fields: number[] = [];
  let bytes = 0;
  for (const character of clean) {
    if (character === '[') fields.push(CODE_AT + bytes / 2);
    else if (character !== ']') bytes++;
  }
  return fields;
}

export const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/[\s[\]]/g, ''), 'hex'));

const SECTIONS = [
  { name: '.text', flags: 6, place: TEXT, size: 0x2000 },
  { name: '.rodata', flags: 2, place: RODATA, size: 0x2000 },
  { name: '.data', flags: 3, place: DATA, size: 0x4000 },
  { name: '.return_sites', flags: 2, place: SITES, size: ANCHORS * 4 },
  { name: '.data..percpu', flags: 3, place: PER_CPU, size: 0x1000 },
] as const;

export function makeRecoverKernel({ code = '', rodata, data, perCpu = false, edit }: RecoverKernel): Uint8Array {
  const offsetOf = (place: number): number => 0x1000 + place - TEXT;
  const names = `\0${SECTIONS.map(({ name }) => name).join('\0')}\0.shstrtab\0`;
  const namesAt = offsetOf(END);
  const headersAt = namesAt + 0x100;
  const elf = new Writer(new Uint8Array(headersAt + (SECTIONS.length + 2) * 64));
  elf.copy(0, Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
  elf.u16(16, 2);
  elf.u16(18, 62);
  elf.u32(20, 1);
  elf.u64(24, TEXT + 0xc0);
  elf.u64(32, 64);
  elf.u64(40, headersAt);
  elf.u16(52, 64);
  elf.u16(54, 56);
  elf.u16(56, 2);
  elf.u16(58, 64);
  elf.u16(60, SECTIONS.length + 2);
  elf.u16(62, SECTIONS.length + 1);
  const loads = [
    { place: TEXT, vaddr: START_KERNEL_MAP + BigInt(TEXT), size: PER_CPU - TEXT },
    { place: PER_CPU, vaddr: perCpu ? 0n : START_KERNEL_MAP + BigInt(PER_CPU), size: END - PER_CPU },
  ];
  loads.forEach(({ place, vaddr, size }, index) => {
    const at = 64 + index * 56;
    elf.u32(at, 1);
    elf.u32(at + 4, 7);
    elf.u64(at + 8, offsetOf(place));
    elf.u64(at + 16, vaddr);
    elf.u64(at + 24, place);
    elf.u64(at + 32, size);
    elf.u64(at + 40, size);
    elf.u64(at + 48, 0x1000);
  });
  elf.copy(namesAt, ascii(names));
  let nameAt = 1;
  SECTIONS.forEach(({ name, flags, place, size }, index) => {
    const at = headersAt + (index + 1) * 64;
    elf.u32(at, nameAt);
    elf.u32(at + 4, 1);
    elf.u64(at + 8, flags);
    elf.u64(at + 16, place === PER_CPU && perCpu ? 0n : START_KERNEL_MAP + BigInt(place));
    elf.u64(at + 24, offsetOf(place));
    elf.u64(at + 32, size);
    nameAt += name.length + 1;
  });
  const last = headersAt + (SECTIONS.length + 1) * 64;
  elf.u32(last, nameAt);
  elf.u32(last + 4, 3);
  elf.u64(last + 24, namesAt);
  elf.u64(last + 32, names.length);

  for (let place = TEXT; place < RODATA; place++) elf.u8(offsetOf(place), 0x90);
  // movabs $phys, %rax; add phys_base(%rip), %rax; lidt descriptor(%rip)
  const prelude = `48b8${bytesOf(DATA_AT, 8)} 480305${bytesOf(PHYS_BASE - (TEXT + 17), 4)} 0f011d${bytesOf(DESCRIPTOR - (TEXT + 24), 4)}`;
  elf.copy(offsetOf(TEXT), fromHex(prelude));
  for (let index = 0; index < ANCHORS; index++) {
    const field = SITES + index * 4;
    elf.u32(offsetOf(field), (TEXT + 0x20 + index - field) >>> 0);
  }
  elf.copy(offsetOf(CODE_AT), fromHex(code));
  elf.u16(offsetOf(DESCRIPTOR), 0xfff);
  elf.copy(offsetOf(DESCRIPTOR + 2), fromHex(pointer(DATA_AT + 0x800)));
  elf.u64(offsetOf(PAGE_TABLE), PAGE_TABLE + 0x1000 + 0x63);
  if (rodata !== undefined) elf.copy(offsetOf(RODATA), rodata);
  if (data !== undefined) elf.copy(offsetOf(DATA_AT), data);
  edit?.(elf, offsetOf);
  return elf.bytes;
}

/** The sites that the kernel has without anything of the test's. */
export const OWN = {
  abs64: [TEXT + 2, DESCRIPTOR + 2, PAGE_TABLE],
} as const;
