/**
 * Finds out all that a shuffle of this kernel has to know, from its debug vmlinux and from its code. A page of passes: what each needs is what
 * those before it have made.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { SHF_ALLOC, SHT_NOBITS } from '../../elf/constants.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import { readAbsolute } from './absolute-references.ts';
import { buildIdOf } from '../read/identity.ts';
import { holdBefore, readCode, STAY } from './pieces.ts';
import { openDebugKernel } from '../read/debug-kernel.ts';
import type { DebugKernel, TextSections } from '../read/debug-kernel.ts';
import { loadDisassembler } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import { FIXED, FieldList, pieceBefore } from './fields.ts';
import { fingerprint } from '../fingerprint.ts';
import { ImageBytes, placeOfLow } from '../read/kernel-image.ts';
import { readLinkMap } from '../read/link-map.ts';
import type { InputSections } from '../read/link-map.ts';
import { ownersOf } from '../owners.ts';
import { trimPadding } from './padding.ts';
import type { FieldColumns, Plan } from '../plan/plan.ts';
import { holdAtLabels, recoverCodeRelocations, recoverDataReferences } from './recover/recover.ts';
import { readCodeRelocations, readDataReferences } from './relocated-references.ts';
import type { SortedRange } from './relocated-references.ts';
import { sweepCode } from './linear-sweep.ts';
import { extablePlaces, readExtable } from '../tables/extable.ts';
import { readKallsyms } from '../tables/kallsyms.ts';
import { readMcount } from '../tables/mcount.ts';
import { readOrc } from '../tables/orc.ts';
import { findRuns, joinUnits } from './units.ts';
import type { Units } from './units.ts';

export interface AnalyseInput {
  readonly kernel: Vmlinux;
  /** Checked against the kernel's segments. */
  readonly table: RelocationTable;
  readonly debug: ByteSource;
  /** The link map of the debug vmlinux. */
  readonly map?: Uint8Array | undefined;
  readonly kernelVersion: string | undefined;
  /** Find references without the relocations of the debug vmlinux. */
  readonly recover?: boolean | undefined;
  readonly onPass?: ((pass: AnalysePass) => void) | undefined;
}

export type AnalysePass = 'compare' | 'disassemble' | 'references' | 'tables';

export async function analyse({
  kernel,
  table,
  debug: source,
  map,
  kernelVersion,
  recover = false,
  onPass,
}: AnalyseInput): Promise<Plan> {
  const makeDisassembler = await loadDisassembler();
  const hint = '--recover does without, experimentally';
  const debug = openDebugKernel(source, { needsRelocations: !recover, hint });
  const image = new ImageBytes(kernel);
  onPass?.('compare');
  const buildId = compareBuilds(kernel, debug);
  compareContents(image, debug);

  // Pieces of code, and what ties them. From here nothing new is found out about where pieces begin and end, only that one has to stay.
  onPass?.('disassemble');
  const { text } = debug;
  const code = image.range(text.start, text.end, '.text');
  const disassembler = makeDisassembler(code);
  const sections = map === undefined ? undefined : readLinkMap(map, text);
  const { pieces, functions, whole } = readCode(debug, sections, (start, end) =>
    codeBetween({ text, sections }, code, disassembler, start, end),
  );
  if (recover) holdAtLabels(debug, pieces);
  const relocations = recover ? recoverCodeRelocations(debug, table) : readCodeRelocations(debug, image);
  const sweep = sweepCode(code, text.start, pieces, relocations, disassembler);
  disassembler.free();
  for (const [first, last] of whole) sweep.tied.fill(1, first, last);

  onPass?.('references');
  const sorted = sortedRanges(debug);
  const data = recover
    ? recoverDataReferences({ debug, image, table, sorted, makeDisassembler }, pieces)
    : readDataReferences(debug, image, pieces, sorted);
  const aims = recover ? undefined : data.absoluteAims;
  const absolute = readAbsolute(table, image, pieces, debug, sorted, aims);
  for (const place of [...sweep.strays, ...absolute.strays, ...data.strays, ...extablePlaces(debug, image)])
    holdBefore(pieces, place, STAY['tied to fixed code']);

  // Units and runs: from here it is known what moves.
  const units = joinUnits(pieces, sweep.tied);
  const runs = findRuns(units, text.end);

  onPass?.('tables');
  const ownerOf = ownersOf(units);
  const relative = (list: FieldList, width: number): FieldColumns => ownedColumns(list, units, image, width, isChanged);
  const absolutes = (list: FieldList, width: number): FieldColumns => ownedColumns(list, units, image, width, isMoved);
  return {
    kernel: { buildId, size: kernel.elf.bytes.length, checksum: fingerprint(kernel.elf.bytes) },
    text: { start: text.start, end: text.end, offset: image.at(text.start, text.end - text.start, '.text') },
    starts: units.starts,
    ends: units.ends,
    functions: units.functions,
    runs,
    relative32: joinColumns(relative(sweep.fields, 4), relative(data.relative32, 4)),
    relative64: relative(data.relative64, 8),
    absolute32: absolutes(absolute.abs32, 4),
    absolute64: absolutes(absolute.abs64, 8),
    table,
    tableOwners: {
      abs64: siteOwners(table.abs64, ownerOf),
      inverse32: siteOwners(table.inverse32, ownerOf),
      abs32: siteOwners(table.abs32, ownerOf),
    },
    extable: readExtable(debug, image, ownerOf),
    mcount: readMcount(debug, image, ownerOf),
    kallsyms: readKallsyms(debug, image, ownerOf),
    orc: readOrc(debug, image, units),
    facts: {
      kernelVersion,
      functions,
      staying: countStaying(units, functions),
      instructions: sweep.counts.instructions,
      relocations: relocations.places.length,
      branches: {
        resolved: sweep.counts.resolvedBranches,
        crossing: sweep.counts.crossing,
        short: sweep.counts.short,
      },
    },
  };
}

/** The kernel's own note; the debug vmlinux must have the same. */
function compareBuilds({ elf }: Vmlinux, debug: DebugKernel): string {
  const id = buildIdOf({ elf });
  if (id === debug.buildId) return id;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'build-id of the debug vmlinux',
    found: debug.buildId,
    expected: `${id ?? 'none'}, that of the kernel`,
    hint: 'take the debug package of this very build',
  });
}

/** Between two pieces: what is in a section, and not padding. Where the map has a border between two sections, there is one. */
function codeBetween(
  { text, sections }: { readonly text: TextSections; readonly sections: InputSections | undefined },
  code: Uint8Array,
  disassembler: Disassembler,
  start: PhysAddr,
  end: PhysAddr,
): [PhysAddr, PhysAddr][] {
  const origin = text.start;
  const { extents } = text;
  const found: [PhysAddr, PhysAddr][] = [];
  const trim = (from: PhysAddr, to: PhysAddr, beginsSection: boolean): void => {
    const [one, other] = trimPadding(code, from - origin, to - origin, beginsSection, disassembler);
    if (one < other) found.push([one + origin, other + origin]);
  };
  const first = Math.max(0, pieceBefore(text.starts, start));
  for (let index = first; index < extents.length && extents[index]!.start < end; index++) {
    let from = Math.max(start, extents[index]!.start);
    const to = Math.min(end, extents[index]!.end);
    if (from >= to) continue;
    let begins = from === extents[index]!.start;
    if (sections !== undefined) {
      const { starts } = sections;
      let next = pieceBefore(starts, from);
      begins ||= next >= 0 && starts[next] === from;
      for (next++; next < starts.length && starts[next]! < to; next++) {
        trim(from, starts[next]!, begins);
        from = starts[next]!;
        begins = true;
      }
    }
    trim(from, to, begins);
  }
  return found;
}

const CHUNK = 1 << 20;

/** Every byte that the debug vmlinux has and the kernel loads. A build-id is a name; this is the thing. */
function compareContents(image: ImageBytes, debug: DebugKernel): void {
  const { sections, source } = debug.image;
  const scratch = new Uint8Array(CHUNK);
  for (let index = 0; index < sections.count; index++) {
    if ((sections.word(index, 'sh_flags') & Number(SHF_ALLOC)) === 0) continue;
    const place = debug.placeOfSection(index);
    const size = sections.address(index, 'sh_size');
    if (sections.word(index, 'sh_type') === SHT_NOBITS || size === 0) continue;
    const title = debug.image.sectionTitle(index);
    const offset = sections.address(index, 'sh_offset');
    const mine = image.range(place, place + size, `section ${title} of the debug vmlinux`);
    if (offset + size > source.size)
      throw new KernelImageError({ code: 'truncated', what: `section ${title} of the debug vmlinux`, offset });
    for (let at = 0; at < size; at += CHUNK) {
      const length = Math.min(CHUNK, size - at);
      const theirs = source.readAt(offset + at, length, scratch);
      for (let byte = 0; byte < length; byte++) {
        if (mine[at + byte] === theirs[byte]) continue;
        throw new KernelImageError({
          code: 'bad-value',
          what: `section ${title} of the debug vmlinux`,
          offset: offset + at + byte,
          found: theirs[byte],
          expected: `${hex(mine[at + byte]!)}, as in the kernel`,
        });
      }
    }
  }
}

/** Tables that sorttable sorts after the link: their relocations are those of other entries. */
function sortedRanges(debug: DebugKernel): SortedRange[] {
  const pairs = [
    ['__start___ex_table', '__stop___ex_table'],
    ['__start_orc_unwind_ip', '__stop_orc_unwind_ip'],
    ['__start_mcount_loc', '__stop_mcount_loc'],
  ] as const;
  return pairs.flatMap(([first, last]) => {
    const start = debug.find(first);
    const end = debug.find(last);
    return start === undefined || end === undefined ? [] : [{ start, end }];
  });
}

/** A PC-relative field changes when its ends may move apart, an absolute one when its target may move. */
const isChanged = (site: number, target: number): boolean => site !== target;
const isMoved = (_: number, target: number): boolean => target !== 0;

/** With file offsets for places and owners for pieces; fields that no layout changes are left out. */
function ownedColumns(
  list: FieldList,
  units: Units,
  image: ImageBytes,
  width: number,
  matters: (site: number, target: number) => boolean,
): FieldColumns {
  const { ofPiece, stay } = units;
  const owner = (piece: number): number => {
    if (piece === FIXED) return 0;
    const unit = ofPiece[piece]!;
    return stay[unit] === STAY.none ? unit + 1 : 0;
  };
  const offsets: number[] = [];
  const sites: number[] = [];
  const targets: number[] = [];
  for (let field = 0; field < list.places.length; field++) {
    const site = owner(list.sites[field]!);
    const target = owner(list.targets[field]!);
    if (!matters(site, target)) continue;
    offsets.push(image.at(list.places[field]!, width, 'field'));
    sites.push(site);
    targets.push(target);
  }
  return { offsets: new Uint32Array(offsets), sites: new Uint32Array(sites), targets: new Uint32Array(targets) };
}

function joinColumns(a: FieldColumns, b: FieldColumns): FieldColumns {
  const join = (name: keyof FieldColumns): Uint32Array => {
    const joined = new Uint32Array(a[name].length + b[name].length);
    joined.set(a[name]);
    joined.set(b[name], a[name].length);
    return joined;
  };
  return { offsets: join('offsets'), sites: join('sites'), targets: join('targets') };
}

function siteOwners(entries: Uint32Array, ownerOf: (place: number) => number): Uint32Array {
  return entries.map((entry) => ownerOf(placeOfLow(entry)));
}

function countStaying({ stay, functions }: Units, all: number): Record<string, number> {
  const names = Object.keys(STAY);
  const counts: Record<string, number> = {};
  let counted = 0;
  for (let unit = 0; unit < stay.length; unit++) {
    counted += functions[unit]!;
    const reason = names[stay[unit]!]!;
    if (stay[unit] !== STAY.none && functions[unit]! > 0) counts[reason] = (counts[reason] ?? 0) + functions[unit]!;
  }
  // Functions that are no piece: of unknown size, or inside another's overlap.
  if (all > counted) counts['unknown size'] = all - counted;
  return counts;
}
