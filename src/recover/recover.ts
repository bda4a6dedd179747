/**
 * Recovers a kernel's relocation table from its image alone, for a vmlinux without a table and without `.rela` sections.
 *
 * Every field that could hold an address ends as a site, a number or a doubt, by one of the rules in rules.ts. All code is disassembled once (sweep.ts), all data is read once; what only
 * the neighbours of an instruction can tell is judged after that. A recovered table is not proved: docs/recover.md says what it stands on.
 *
 *     image.ts      which bytes are code, data, or tables of a known format: from the section headers
 *     sweep.ts      disassembles the code; each field goes to its rule
 *     rules/        a rule, or a few of one kind, a file
 *     target.ts     what an address leads to
 *     symbols.ts    what .symtab and kallsyms say
 *     anchors.ts    whether the sweep met the instructions that are executed
 *     ledger.ts     what became of each field
 */
import type { PhysAddr } from '../base/addresses.ts';
import { physToVirt } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { perCpuSegment } from '../relocs/plausible.ts';
import { checkSites } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { checkAnchors } from './anchors.ts';
import type { Anchors } from './anchors.ts';
import { judgeCodeInData } from './code-in-data.ts';
import { partAt, readRecoverImage } from './image.ts';
import type { RecoverImage } from './image.ts';
import { Ledger } from './ledger.ts';
import type { Doubt, RuleCount } from './ledger.ts';
import type { RuleName } from './rules.ts';
import { judgeFactors, judgeMasks } from './rules/operands.ts';
import type { Later } from './rules/operands.ts';
import { judgePageTables } from './rules/page-tables.ts';
import { judgeExported, judgeTemplates } from './rules/per-cpu.ts';
import { findPhysBase, judgePhysical, judgeSums } from './rules/physical.ts';
import { judgePointers } from './rules/pointers.ts';
import { judgePvh } from './rules/pvh.ts';
import { judgeZeros } from './rules/zeros.ts';
import { sweep } from './sweep.ts';
import { readSymbols } from './symbols.ts';
import type { Symbols, SymbolSource } from './symbols.ts';
import { readBuild } from './tested.ts';
import type { Build } from './tested.ts';

export interface RecoverOptions {
  /** Doubts that the caller decides: places of fields that are sites, and of fields that are numbers. */
  readonly sites?: readonly PhysAddr[] | undefined;
  readonly numbers?: readonly PhysAddr[] | undefined;
}

/** What a recovered table stands on. */
export interface RecoverEvidence {
  readonly build: Build;
  readonly instructions: number;
  /** Places in code at which no instruction begins. */
  readonly undecodable: number;
  /** How many places that the kernel's tables of its own code name were compared with the sweep, and which tables they are. */
  readonly anchors: Pick<Anchors, 'count' | 'tables' | 'strays'>;
  /** The tables of symbols that the file has. */
  readonly symbols: readonly SymbolSource[];
  readonly physBase: PhysAddr;
  /** Whether a symbol says where phys_base is. Otherwise only its use does. */
  readonly physBaseNamed: boolean;
  readonly pageTableEntries: number;
  /** Rules that found nothing although most kernels have such fields. */
  readonly absent: readonly RuleName[];
}

export interface Recovery {
  readonly table: RelocationTable;
  readonly rules: readonly RuleCount[];
  /** Fields that no rule decides; they are not in the table. */
  readonly doubts: readonly Doubt[];
  readonly evidence: RecoverEvidence;
}

/** Throws KernelImageError for a kernel that lacks what the rules stand on. */
export function recoverRelocations(kernel: Vmlinux, options: RecoverOptions = {}): Recovery {
  const image = readRecoverImage(kernel);
  const ledger = new Ledger();
  const pvh = judgePvh(image, ledger);
  const { instructions, later, undecodable } = sweep(image, ledger, pvh);
  const symbols = readSymbols(kernel);
  const anchors = expectAnchors(checkAnchors(image, symbols, pvh));
  const inData = judgeCodeInData(image, anchors.inData, ledger, later);
  ledger.doubtAfter('undecodable', undecodable, UNSURE, valueOf32(image));
  const before = anchors.strays.map((place) => place - UNSURE);
  ledger.doubtAfter('stray', before, 2 * UNSURE, valueOf32(image));
  expectFew(later);
  const named = symbols.find((each) => each.physBase !== undefined);
  const physBase = findPhysBase(image, later, named?.physBase);
  if (physBase === undefined)
    throw missing(
      'phys_base',
      'a variable that is added to physical addresses',
      'its code is not of a kind that was tried',
    );
  if (named?.physBase !== undefined && named.physBase !== physBase)
    throw new KernelImageError({
      code: 'unsupported',
      what: 'recovering relocations: phys_base, as its use shows,',
      found: physToVirt(physBase),
      expected: `${hex(physToVirt(named.physBase))}, as ${named.source} says`,
    });
  judgePhysical(image, later.physical, physBase, ledger);
  judgeSums(image, later.sums, physBase, ledger);
  judgeFactors(image, later.factors, ledger);
  judgeMasks(image, later.masks, ledger);
  judgeZeros(image, later, ledger);
  judgeExported(image, ledger);
  judgeTemplates(image, ledger);
  const descriptors = judgePointers(image, new Set(later.descriptors), symbols, ledger);
  if (descriptors === 0)
    throw missing('descriptor of the IDT', "a descriptor whose base is an address in the kernel's data", NOT_TRIED);
  const pageTableEntries = judgePageTables(image, ledger);
  if (pageTableEntries === 0) throw missing('page tables', 'page tables in the data, as CR3 is loaded with', NOT_TRIED);
  const doubts = decide(ledger, options).map(({ list, place, value, rule }) => ({
    list,
    place,
    value,
    rule,
    symbol: nameNear(symbols, place),
  }));
  const table = ledger.table(perCpuSegment(kernel) === undefined ? 2 : 3);
  checkSites(table, kernel.loads);
  return {
    table,
    rules: ledger.counts(),
    doubts,
    evidence: {
      build: readBuild(image),
      instructions: instructions + inData,
      undecodable: undecodable.length,
      anchors,
      symbols: symbols.map(({ source }) => source),
      physBase,
      physBaseNamed: named !== undefined,
      pageTableEntries,
      absent: EXPECTED.filter((rule) => ledger.sitesBy(rule) === 0),
    },
  };
}

/** After bytes that are no instruction, the sweep may be off for so many bytes; and around a symbol at which none begins. */
const UNSURE = 64;
const NOT_TRIED = 'this kernel is not of a kind that was tried';
const EXPECTED = ['zero', 'pvh', 'wide-physical', 'physical'] as const satisfies readonly RuleName[];
/** Every kernel has more. */
const FEWEST_ANCHORS = 100;

function expectAnchors(anchors: Anchors): Anchors {
  const { count, off } = anchors;
  if (count < FEWEST_ANCHORS)
    throw missing(
      'tables of code (__ex_table, __bug_table, .altinstructions, .return_sites)',
      `at least ${FEWEST_ANCHORS} places of instructions to compare with, not ${count}`,
      NOT_TRIED,
    );
  if (off.length === 0) return anchors;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'recovering relocations: count of places that the kernel names as instructions, but where the disassembly has none,',
    found: `${off.length} of ${count} (${off
      .slice(0, 3)
      .map((place) => hex(physToVirt(place)))
      .join(', ')})`,
    expected: 'none',
  });
}

/**
 * Each of these is judged by what is around it, which takes a thousand times as long as others. Kernels that were tried have up to 25 zeros, 40 physical numbers and 4 factors.
 */
const MOST_LATER = 4096;
/** Each of these makes the code around it be searched. */
const MOST_RING_BUFFERS = 16;

function expectFew({ zeros, physical, sums, factors, linkStarts, ringBuffers }: Later): void {
  const kinds = [
    ['zeros', zeros, MOST_LATER],
    ['numbers in the range of physical addresses', physical, MOST_LATER],
    ['numbers with such a lower half', sums, MOST_LATER],
    ['factors', factors, MOST_LATER],
    ['addresses of _text', linkStarts, MOST_LATER],
    ["the ring buffer's magic numbers", ringBuffers, MOST_RING_BUFFERS],
  ] as const;
  for (const [kind, fields, most] of kinds)
    if (fields.length > most)
      throw new KernelImageError({
        code: 'unsupported',
        what: `recovering relocations: count of ${kind} in its code that the code around them must tell`,
        found: fields.length,
        expected: `at most ${most}, as in all kernels`,
      });
}

/** By the first table that has names. */
function nameNear(symbols: readonly Symbols[], place: PhysAddr): string | undefined {
  return symbols.map(({ describe }) => describe(place)).find((name) => name !== undefined);
}

function missing(what: string, expected: string, hint: string): KernelImageError {
  return new KernelImageError({
    code: 'unsupported',
    what: `recovering relocations: ${what}`,
    found: 'none',
    expected,
    hint,
  });
}

function valueOf32(image: RecoverImage): (place: PhysAddr) => bigint {
  return (place) => {
    const part = partAt(image, place, 4)!;
    return BigInt(part.view.getInt32(place - part.start, true));
  };
}

/** Applies the caller's decisions. Returns the doubts that are left. Throws for a decision on what is no doubt. */
function decide(ledger: Ledger, { sites = [], numbers = [] }: RecoverOptions): Doubt[] {
  const open = new Map<PhysAddr, Doubt>(ledger.doubts.map((doubt) => [doubt.place, doubt]));
  for (const [places, isSite] of [
    [sites, true],
    [numbers, false],
  ] as const)
    for (const place of places) {
      const doubt = open.get(place);
      if (doubt === undefined)
        throw new KernelImageError({
          code: 'bad-value',
          what: 'a field that was decided for',
          found: physToVirt(place),
          expected: 'one of the doubts, once',
        });
      if (isSite) ledger.site('decided', doubt.list, place);
      else ledger.number('decided');
      open.delete(place);
    }
  return [...open.values()];
}
