/**
 * The original as the judge of a recovered table sees it: sections of code, of data, and of a format that has no addresses. This is the judge's own reading of the section headers: what
 * recovered the table has another (test/imports.test.ts).
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { lastAtOrBelow } from '../../base/search.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS } from '../../elf/constants.ts';
import { sectionName } from '../../elf/read.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

/** `formatted`: what its fields are is known, and none of them is an address. */
export type Content = 'code' | 'data' | 'formatted';

export interface Stretch {
  readonly name: string;
  readonly content: Content;
  readonly writable: boolean;
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A kernel's loaded sections, by rising place, none of which overlap. */
export interface JudgedImage {
  readonly kernel: Vmlinux;
  /** _text and _end: an address leads there, or to one of both. */
  readonly low: PhysAddr;
  readonly high: PhysAddr;
  /** Bytes of per-cpu data linked at virtual 0; 0 for a kernel without. */
  readonly perCpu: number;
  readonly stretches: readonly Stretch[];
  readonly starts: readonly PhysAddr[];
}

/** What each holds: distances (int32), hashes, text, type information, firmware, certificates' lengths. .notes: sites there are never in a table (notes.ts). */
const NO_ADDRESSES = new Set([
  '__ksymtab',
  '__ksymtab_gpl',
  '__ksymtab_strings',
  '__kcrctab',
  '__kcrctab_gpl',
  '__ex_table',
  '__bug_table',
  '.notes',
  '.BTF',
  '.BTF_ids',
  '.orc_header',
  '.orc_unwind',
  '.orc_unwind_ip',
  '.orc_lookup',
  '.retpoline_sites',
  '.return_sites',
  '.call_sites',
  '.mcount_sites',
  '.cfi_sites',
  '.ibt_endbr_seal',
  '.altinstructions',
  '.smp_locks',
  '.pci_fixup',
]);
const NO_ADDRESSES_BEGIN = ['.notes', '.BTF', '.parainstructions_', 'runtime_', '.builtin_fw', '__init_rodata_'];

/** Empty if no section is loaded: the file has no section headers. */
export function readJudgedImage(kernel: Vmlinux): JudgedImage {
  const { elf, loads, imageStart: low, imageEnd: high } = kernel;
  const stretches: Stretch[] = [];
  for (const section of elf.sections) {
    const { flags, type, offset, size } = section;
    if ((flags & SHF_ALLOC) === 0n || type === SHT_NOBITS || size === 0) continue;
    const load = loads.find((each) => offset >= each.offset && offset + size <= each.offset + each.filesz);
    if (load === undefined) continue;
    const start = load.paddr + (offset - load.offset);
    const bytes = elf.bytes.subarray(offset, offset + size);
    const name = sectionName(elf, section);
    const view = viewOf(bytes);
    stretches.push({
      name,
      content: contentOf(name, flags, { view, start, size }, low, high),
      writable: (flags & SHF_WRITE) !== 0n,
      start,
      end: start + size,
      bytes,
      view,
    });
  }
  stretches.sort((a, b) => a.start - b.start);
  const perCpu = loads.find(({ vaddr }) => vaddr === 0n)?.memsz ?? 0;
  return { kernel, low, high, perCpu, stretches, starts: stretches.map(({ start }) => start) };
}

function contentOf(
  name: string,
  flags: bigint,
  place: { readonly view: DataView; readonly start: PhysAddr; readonly size: number },
  low: PhysAddr,
  high: PhysAddr,
): Content {
  // Since 7.0 .data is executable by its flags; hand-written code may be writable.
  const isCode = (flags & SHF_EXECINSTR) !== 0n && ((flags & SHF_WRITE) === 0n || /text|altinstr/.test(name));
  if (isCode) return 'code';
  const known = NO_ADDRESSES.has(name) || NO_ADDRESSES_BEGIN.some((start) => name.startsWith(start));
  // Before 4.19 exported symbols and PCI fixups hold addresses, in every second or third word.
  return known && (name.startsWith('.notes') || !isFullOfAddresses(place, low, high)) ? 'formatted' : 'data';
}

function isFullOfAddresses(
  { view, start, size }: { readonly view: DataView; readonly start: PhysAddr; readonly size: number },
  low: PhysAddr,
  high: PhysAddr,
): boolean {
  let [words, addresses] = [0, 0];
  for (let at = -start & 7; at + 8 <= size; at += 8) {
    words++;
    const target = view.getInt32(at, true) + 0x8000_0000;
    if (view.getInt32(at + 4, true) === -1 && target >= low && target <= high) addresses++;
  }
  return addresses * 4 > words;
}

/** The stretch that holds `length` bytes at a place. */
export function stretchAt({ stretches, starts }: JudgedImage, place: PhysAddr, length = 1): Stretch | undefined {
  const stretch = stretches[lastAtOrBelow(starts, place)];
  return stretch !== undefined && place + length <= stretch.end ? stretch : undefined;
}
