/**
 * Finds out everything that shuffling a kernel needs to know, from its debug vmlinux and from its code: what can be placed elsewhere, and all references
 * to it. A page of passes, each of which uses what those before it made. The result is a plan (plan/plan.ts).
 */
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { confirmDebugKernel } from '../confirm/confirm.ts';
import { loadDisassembler } from '../disassembler.ts';
import type { Plan } from '../plan/plan.ts';
import type { Range } from '../ranges.ts';
import { openDebugKernel } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { fingerprint } from '../read/identity.ts';
import { ImageBytes } from '../read/kernel-image.ts';
import { readLinkMap } from '../read/link-map.ts';
import { extablePlaces, readExtable } from '../tables/extable.ts';
import { readKallsyms } from '../tables/kallsyms.ts';
import { readMcount } from '../tables/mcount.ts';
import { readOrc } from '../tables/orc.ts';
import { readAbsolute } from './absolute-references.ts';
import { cutIntoPieces } from './cut.ts';
import { sweepText } from './linear-sweep.ts';
import { ownedAbsolute, ownedRelative, ownersOfSites } from './owned-fields.ts';
import { codeBetween } from './padding.ts';
import { pinBeforePadding, STAY } from './pieces.ts';
import { pinAtLabels, recoverCodeRelocations, recoverDataReferences } from './recover/recover.ts';
import { readCodeRelocations, readDataReferences } from './relocated-references.ts';
import { findRuns, joinUnits, ownersOf } from './units.ts';
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

  // Is this the debug vmlinux of this kernel? From here its symbols, sections and relocations are believed.
  onPass?.('compare');
  confirmDebugKernel({ kernel, image, debug, table, recover, makeDisassembler });
  const { buildId } = debug;

  // Cut the code into pieces, and find what ties them together. From here the pieces are fixed; later passes only pin some.
  onPass?.('disassemble');
  const { text } = debug;
  const code = image.range(text.start, text.end, '.text');
  const disassembler = makeDisassembler(code);
  const inputSections = map === undefined ? undefined : readLinkMap(map, text);
  const textCode = { text, map: inputSections, code };
  const { pieces, functions, wholeSections } = cutIntoPieces(debug, inputSections, (start, end) =>
    codeBetween(textCode, disassembler, start, end),
  );
  if (recover) pinAtLabels(debug, pieces);
  const relocations = recover ? recoverCodeRelocations(debug, table) : readCodeRelocations(debug, image);
  const sweep = sweepText(code, text.start, pieces, relocations, disassembler);
  disassembler.free();
  for (const [first, last] of wholeSections) sweep.tied.fill(1, first, last);

  // Collect the references from elsewhere. From here every field that refers to a piece is known.
  onPass?.('references');
  const sorted = sortedTables(debug);
  const data = recover
    ? recoverDataReferences({ debug, image, table, sorted, makeDisassembler }, pieces)
    : readDataReferences(debug, image, pieces, sorted);
  const symbolTargets = recover ? undefined : data.absoluteTargets;
  const absolute = readAbsolute(table, image, pieces, debug, sorted, symbolTargets);
  const inPadding = [sweep.paddingTargets, absolute.paddingTargets, data.paddingTargets, extablePlaces(debug, image)];
  for (const places of inPadding)
    for (const place of places) pinBeforePadding(pieces, place, STAY['tied to fixed code']);

  // Join tied pieces to units, and units to runs. From here it is known what is movable, and where it may go.
  const units = joinUnits(pieces, sweep.tied);
  const runs = findRuns(units, text.end);

  // Read what is sorted by address, and write all of it down by owners.
  onPass?.('tables');
  const ownerOf = ownersOf(units);
  return {
    kernel: { buildId, size: kernel.elf.bytes.length, checksum: fingerprint(kernel.elf.bytes) },
    text: { start: text.start, end: text.end, offset: image.at(text.start, text.end - text.start, '.text') },
    starts: units.starts,
    ends: units.ends,
    functions: units.functions,
    runs,
    relative32: ownedRelative([sweep.fields, data.relative32], units, image, 4),
    relative64: ownedRelative([data.relative64], units, image, 8),
    absolute32: ownedAbsolute(absolute.abs32, units, image, 4),
    absolute64: ownedAbsolute(absolute.abs64, units, image, 8),
    table,
    tableOwners: ownersOfSites(table, ownerOf),
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

/** Tables that sorttable sorts after the link: their relocations belong to other entries now. */
function sortedTables(debug: DebugKernel): Range[] {
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

function countStaying({ stay, functions }: Units, all: number): Record<string, number> {
  const names = Object.keys(STAY);
  const counts: Record<string, number> = {};
  let counted = 0;
  for (let unit = 0; unit < stay.length; unit++) {
    counted += functions[unit]!;
    const reason = names[stay[unit]!]!;
    if (stay[unit] !== STAY.none && functions[unit]! > 0) counts[reason] = (counts[reason] ?? 0) + functions[unit]!;
  }
  // Functions that are no piece of their own: of unknown size, or inside another's overlap.
  if (all > counted) counts['unknown size'] = all - counted;
  return counts;
}
