/**
 * Collects the relocation table of a vmlinux from its relocation sections: the same as arch/x86/tools/relocs.c computes, entry for entry.
 *
 * Kernels up to 6.14 read three lists, newer ones two, and a kernel with the wrong number does not boot. The file tells which it is, because 6.15 moved
 * the per-cpu section away from 0, and removed the inverse list and the symbol `__per_cpu_load` with that:
 *
 *   - .data..percpu at 0, or a symbol __per_cpu_load (kernels without SMP have it too): three lists;
 *   - otherwise a .data..percpu section or a symbol __per_cpu_start, which every kernel has: two lists;
 *   - none of these: not a whole kernel; three lists, as the tool of 6.12 writes.
 */
import { viewOf, wordsIn } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import { REL, REL_SIZE } from '../../elf/fields.ts';
import { memorySource } from './byte-source.ts';
import type { ByteSource } from './byte-source.ts';
import { openRelocsImage } from './image.ts';
import type { RelocsImage } from './image.ts';
import { relocationError } from './relocation-error.ts';
import { ACTION, KINDS, LAST_TYPE, rules32, rules64, rulesRealMode } from './rules.ts';
import type { Rules, SiteList } from './rules.ts';
import { readSectionTable } from './sections.ts';
import type { SymbolTable } from './symbols.ts';
import type { RelocationTable } from '../tables/kernel-table.ts';
import { hasRelocationSections, PIECE, readPieces, relocationSections, symbolOf } from './relocation-entries.ts';

/** Sites by what is done with them. Each list ascends. On x86-64 a site is the low half of its link address, as in the table. */
export type CollectedSites = Readonly<Record<SiteList, Uint32Array>>;

export interface CollectOptions {
  /** Overrides the number of lists that the file implies. */
  readonly lists?: 2 | 3 | undefined;
}

/**
 * The relocation table of an x86-64 vmlinux that has its `.rela` sections. If it has none (see `hasRelocations`), the table
 * is empty. Throws KernelImageError for a file that is not x86-64 ELF, is malformed, or has a relocation that a kernel cannot have.
 */
export function collectRelocations(vmlinux: Uint8Array | ByteSource, options: CollectOptions = {}): RelocationTable {
  return collectTable(openRelocsImage(sourceOf(vmlinux)), options);
}

/** Whether the file has a relocation section that applies to a loaded section and is not empty. */
export function hasRelocations(vmlinux: Uint8Array | ByteSource): boolean {
  return hasRelocationSections(readSectionTable(sourceOf(vmlinux)));
}

function sourceOf(vmlinux: Uint8Array | ByteSource): ByteSource {
  return vmlinux instanceof Uint8Array ? memorySource(vmlinux) : vmlinux;
}

export function collectTable(image: RelocsImage, options: CollectOptions): RelocationTable {
  if (image.sections.bits === 32) {
    throw new KernelImageError({ code: 'wrong-architecture', what: 'EI_CLASS', offset: 4, found: 1, expected: 2 });
  }
  const lists = options.lists ?? decideLists(image);
  const { abs64, inverse32, abs32 } = collectSites(image, rules64(image.perCpu, lists));
  if (lists === 2) refuseInverse(inverse32);
  return { abs64, inverse32, abs32, lists };
}

/** How many lists the kernel reads; see the top of this file. */
export function decideLists(image: RelocsImage): 2 | 3 {
  if (image.perCpu !== undefined || image.hasSymbol('__per_cpu_load')) return 3;
  return image.findSection('.data..percpu') >= 0 || image.hasSymbol('__per_cpu_start') ? 2 : 3;
}

/** i386. A kernel has one list, of 32-bit sites; real-mode code also has one of 16-bit sites, which hold the segment. */
export function collectSites32(image: RelocsImage, code: 'kernel' | 'real-mode'): CollectedSites {
  return collectSites(image, code === 'kernel' ? rules32() : rulesRealMode());
}

function refuseInverse(inverse32: Uint32Array): void {
  const [first] = inverse32;
  if (first === undefined) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'relocations to subtract the slide from',
    found: `${inverse32.length}, the first at 0x${first.toString(16)}`,
    expected: 'none in a table of two lists',
    hint: 'this kernel reads three',
  });
}

function collectSites(image: RelocsImage, rules: Rules): CollectedSites {
  const buffers: Readonly<Record<SiteList, SiteBuffer>> = {
    abs64: new SiteBuffer(),
    inverse32: new SiteBuffer(),
    abs32: new SiteBuffer(),
    segment16: new SiteBuffer(),
  };
  const byAction: SiteBuffer[] = [];
  for (const list of Object.keys(buffers) as SiteList[]) byAction[ACTION[list]] = buffers[list];

  const { bits } = image.sections;
  const kindsOf = new Map<SymbolTable, Uint8Array>();
  const scratch = new Uint8Array(PIECE * REL_SIZE[bits]);
  for (const section of relocationSections(image)) {
    const { symbols } = section;
    const kinds = kindsOf.get(symbols) ?? symbols.classify(rules.kindByIndex);
    kindsOf.set(symbols, kinds);
    const shift = section.target === image.perCpu?.index ? image.perCpu.loadAddress : 0n;
    const loop: Loop = {
      actions: rules.actions,
      kinds,
      buffers: byAction,
      shiftLow: Number(shift & 0xffff_ffffn),
      shiftHigh: Number(shift >> 32n),
    };
    for (const piece of readPieces(image, section, scratch)) {
      for (const buffer of byAction) buffer?.reserve(piece.count);
      const words = wordsIn(piece.bytes);
      const take = bits === 64 ? take64 : take32;
      for (let entry = take(words, 0, piece.count, loop); entry < piece.count;) {
        const symbol = section.checkSymbol(symbolOf(viewOf(piece.bytes), entry * REL_SIZE[bits], bits));
        if (kinds[symbol] !== 0) throw relocationError(image, rules, section, piece.first + entry, kinds[symbol]!);
        kinds[symbol] = rules.kindByName(symbols, symbol);
        entry = take(words, entry, piece.count, loop);
      }
    }
  }
  return {
    abs64: buffers.abs64.sorted(),
    inverse32: buffers.inverse32.sorted(),
    abs32: buffers.abs32.sorted(),
    segment16: buffers.segment16.sorted(),
  };
}

class SiteBuffer {
  array = new Uint32Array(0);
  length = 0;

  /** Makes room for `more` sites, so that the loops can add them without a check. */
  reserve(more: number): void {
    if (this.length + more <= this.array.length) return;
    const larger = new Uint32Array(Math.max(this.length + more, this.array.length * 2));
    larger.set(this.array);
    this.array = larger;
  }

  sorted(): Uint32Array {
    return this.array.subarray(0, this.length).toSorted();
  }
}

interface Loop {
  readonly actions: Uint8Array;
  /** The SYMBOL_KIND of each symbol; 0 if its name decides and has not been read yet. Most symbols need no look at their names. */
  readonly kinds: Uint8Array;
  /** By action. Each has room for a whole piece. */
  readonly buffers: readonly SiteBuffer[];
  /** Added to r_offset: for the per-cpu section, the address at which it is loaded; otherwise 0. */
  readonly shiftLow: number;
  readonly shiftHigh: number;
}

// Copies for the loops: V8 reads an imported binding, and a property of it, again for each entry (measured: 20 ns an entry; with these copies 5).
const { ignore: IGNORE, refuse: REFUSE, inverse32: INVERSE } = ACTION;
const [RELA64, REL32] = [REL_SIZE[64] / 4, REL_SIZE[32] / 4];
// Words of an entry: r_offset, and r_info (in ELF64 the type, then the symbol).
const [OFFSET64, TYPE64, SYMBOL64] = [REL[64].r_offset[0] / 4, REL[64].r_info[0] / 4, REL[64].r_info[0] / 4 + 1];
const [OFFSET32, INFO32] = [REL[32].r_offset[0] / 4, REL[32].r_info[0] / 4];
const [LAST, STRIDE] = [LAST_TYPE, KINDS];

/**
 * Adds sites to the buffers, until an entry must be refused or its symbol's kind is not known yet. Returns the number of that entry, or `count` if all
 * were taken.
 */
function take64(words: Uint32Array, from: number, count: number, loop: Loop): number {
  const { actions, kinds, buffers, shiftLow, shiftHigh } = loop;
  for (let entry = from, at = from * RELA64; entry < count; entry++, at += RELA64) {
    const type = words[at + TYPE64]!;
    const symbol = words[at + SYMBOL64]!;
    const kind = symbol < kinds.length ? kinds[symbol]! : 0;
    const action = actions[(type < LAST ? type : LAST) * STRIDE + kind]!;
    if (action === IGNORE) continue;
    if (action === REFUSE) return entry;
    const offset = words[at + OFFSET64]!;
    const low = (offset + shiftLow) >>> 0;
    const high = (words[at + OFFSET64 + 1]! + shiftHigh + (low < offset ? 1 : 0)) | 0;
    // The kernel sign-extends table entries, so a site must be one that this restores. The kernel's tool does not check inverse ones.
    if (high !== low >> 31 && action !== INVERSE) return entry;
    const buffer = buffers[action]!;
    buffer.array[buffer.length++] = low;
  }
  return count;
}

function take32(words: Uint32Array, from: number, count: number, loop: Loop): number {
  const { actions, kinds, buffers } = loop;
  for (let entry = from, at = from * REL32; entry < count; entry++, at += REL32) {
    const info = words[at + INFO32]!;
    const type = info & 0xff;
    const symbol = info >>> 8;
    const kind = symbol < kinds.length ? kinds[symbol]! : 0;
    const action = actions[(type < LAST ? type : LAST) * STRIDE + kind]!;
    if (action === IGNORE) continue;
    if (action === REFUSE) return entry;
    const buffer = buffers[action]!;
    buffer.array[buffer.length++] = words[at + OFFSET32]!;
  }
  return count;
}
