/**
 * A small ELF kernel for tests, every field settable: two PT_LOADs like a kernel's text and data, a per-cpu one linked at 0 between them, a PVH
 * note, section headers, and a relocation table behind. It does nothing when it runs; test/boot has one that does.
 */
import { START_KERNEL_MAP } from '../src/base/addresses.ts';
import { ascii, Writer } from '../src/base/bytes.ts';
import { encodeRelocationTable, LISTS } from '../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../src/relocs/tables/kernel-table.ts';

export const LINK = 0x100_0000;
export const TEXT = { offset: 0x1000, paddr: LINK, size: 0x3000 };
export const PERCPU = { offset: 0x4000, paddr: LINK + 0x3000, size: 0x1000 };
export const DATA = { offset: 0x5000, paddr: LINK + 0x4000, size: 0x2000, memsz: 0x5000 };
export const ENTRY = LINK + 0x230;
export const PVH_ENTRY = LINK + 0x900;
const NOTE = { offset: 0x1800, size: 24 };

export interface VmlinuxOptions {
  readonly table?: RelocationTable | undefined;
  /** Changes the finished bytes, before the table is put behind. */
  readonly edit?: ((writer: Writer) => unknown) | undefined;
  readonly sections?: boolean | undefined;
  /** File bytes between the program headers and the first segment that a section claims, so that no header fits in. */
  readonly crowded?: boolean | undefined;
}

/** Low half of the link address of a physical address: a table entry. */
export const entryAt = (paddr: number): number => paddr + 0x8000_0000;

export const TABLE: RelocationTable = {
  abs64: Uint32Array.from([entryAt(LINK + 0x2000), entryAt(DATA.paddr + 8), entryAt(DATA.paddr + 16)]),
  inverse32: Uint32Array.from([entryAt(LINK + 0x600)]),
  abs32: Uint32Array.from([entryAt(LINK + 0x400), entryAt(LINK + 0x407)]),
  lists: 3,
};

export function makeVmlinux({
  table = TABLE,
  edit,
  sections = true,
  crowded = false,
}: VmlinuxOptions = {}): Uint8Array {
  const names = '\0.text\0.data\0.bss\0.shstrtab\0';
  const namesAt = DATA.offset + DATA.size;
  const sectionsAt = namesAt + 32;
  const sectionCount = crowded ? 6 : 5;
  const elf = new Writer(new Uint8Array(sections ? sectionsAt + sectionCount * 64 : namesAt));
  elf.copy(0, Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
  elf.u16(16, 2); // ET_EXEC
  elf.u16(18, 62); // EM_X86_64
  elf.u32(20, 1);
  elf.u64(24, ENTRY);
  elf.u64(32, 64);
  elf.u64(40, sections ? sectionsAt : 0);
  elf.u16(52, 64);
  elf.u16(54, 56);
  elf.u16(56, 4);
  elf.u16(58, sections ? 64 : 0);
  elf.u16(60, sections ? sectionCount : 0);
  elf.u16(62, sections ? 4 : 0);
  const segments = [
    { type: 1, flags: 5, ...TEXT, vaddr: START_KERNEL_MAP + BigInt(TEXT.paddr), memsz: TEXT.size },
    // Kernels whose per-cpu data is not linked at 0 have tables of two lists.
    {
      type: 1,
      flags: 6,
      ...PERCPU,
      vaddr: table.lists === 3 ? 0n : START_KERNEL_MAP + BigInt(PERCPU.paddr),
      memsz: PERCPU.size,
    },
    { type: 1, flags: 7, ...DATA, vaddr: START_KERNEL_MAP + BigInt(DATA.paddr) },
    {
      type: 4,
      flags: 0,
      ...NOTE,
      paddr: LINK + 0x800,
      vaddr: START_KERNEL_MAP + BigInt(LINK + 0x800),
      memsz: NOTE.size,
    },
  ];
  segments.forEach((segment, index) => {
    const at = 64 + index * 56;
    elf.u32(at, segment.type);
    elf.u32(at + 4, segment.flags);
    elf.u64(at + 8, segment.offset);
    elf.u64(at + 16, segment.vaddr);
    elf.u64(at + 24, segment.paddr);
    elf.u64(at + 32, segment.size);
    elf.u64(at + 40, segment.memsz);
    elf.u64(at + 48, segment.type === 1 ? 0x20_0000 : 4);
  });
  for (let at = TEXT.offset; at < namesAt; at++) elf.u8(at, (at * 7) & 0xff);
  fillSites(elf, table);
  elf.u32(NOTE.offset, 4);
  elf.u32(NOTE.offset + 4, 8);
  elf.u32(NOTE.offset + 8, 18);
  elf.copy(NOTE.offset + 12, ascii('Xen\0'));
  elf.u64(NOTE.offset + 16, PVH_ENTRY);
  if (sections) {
    elf.copy(namesAt, ascii(names));
    const rows = [
      { name: 0, type: 0, addr: 0n, offset: 0, size: 0 },
      { name: 1, type: 1, addr: START_KERNEL_MAP + BigInt(LINK), offset: TEXT.offset, size: TEXT.size },
      { name: 7, type: 1, addr: START_KERNEL_MAP + BigInt(DATA.paddr), offset: DATA.offset, size: DATA.size },
      { name: 13, type: 8, addr: START_KERNEL_MAP + BigInt(DATA.paddr + DATA.size), offset: namesAt, size: 0x3000 },
      { name: 18, type: 3, addr: 0n, offset: namesAt, size: names.length },
      ...(crowded ? [{ name: 0, type: 1, addr: 0n, offset: 64 + 4 * 56, size: 8 }] : []),
    ];
    rows.forEach((row, index) => {
      const at = sectionsAt + index * 64;
      elf.u32(at, row.name);
      elf.u32(at + 4, row.type);
      elf.u64(at + 16, row.addr);
      elf.u64(at + 24, row.offset);
      elf.u64(at + 32, row.size);
    });
  }
  edit?.(elf);
  const behind = encodeRelocationTable(table);
  const bytes = new Uint8Array(elf.bytes.length + behind.length);
  bytes.set(elf.bytes);
  bytes.set(behind, elf.bytes.length);
  return bytes;
}

/** Puts at each site what the site of a kernel holds: an address in the image, or the distance to per-cpu data. Sites outside the segments are for tests of that. */
function fillSites(elf: Writer, table: RelocationTable): void {
  for (const { name, width } of LISTS)
    table[name].forEach((entry, index) => {
      const site = entry - 0x8000_0000;
      const load = [TEXT, PERCPU, DATA].find(({ paddr, size }) => site >= paddr && site + width <= paddr + size);
      if (load === undefined) return;
      const at = load.offset + site - load.paddr;
      const target = LINK + 0x10 + ((index * 0x48) % 0x2000);
      if (name === 'abs64') elf.u64(at, START_KERNEL_MAP + BigInt(target));
      else elf.u32(at, name === 'abs32' ? entryAt(target) : (0x10 - entry - 4) >>> 0);
    });
}
