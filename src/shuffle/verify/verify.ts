/**
 * Is this file the given kernel with its functions in other places, and nothing else?
 *
 * Independent of the writer: of it nothing is used but the claim that the file carries, which ranges of .text went where. Against that, all of the
 * original's code and all of the result's is disassembled, every relative displacement is followed, every absolute site, every relative field that
 * the debug vmlinux's relocations name; the tables that are sorted by address are read as the kernel reads them, and what they say is compared. Every
 * other byte must be the one it was. A self-relocating file is taken apart first, and `verify` proves that it was made from the plain one by
 * `convert`.
 *
 * Without relocations less is shown: see shuffle/verify/unnamed.ts.
 *
 * What is not shown: that no reference is of a kind which neither a relocation nor an instruction tells of. Real boots are what there is against that.
 */
import type { Codecs } from '../../codecs/formats.ts';
import { readElf } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { readInput } from '../../kernel/open.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { findRelocations } from '../../relocs/find.ts';
import {
  checkSites as checkTableForm,
  encodeRelocationTable,
  readRelocationTable,
} from '../../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { buildIdOf } from '../read/identity.ts';
import { openDebugKernel } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { loadDisassembler } from '../disassembler.ts';
import { ImageBytes, placeOfLow } from '../read/kernel-image.ts';
import { withoutSymbols } from '../strip.ts';
import { examine } from '../../verify/verify.ts';
import { Refutation } from '../../verify/evidence.ts';
import type { Finding } from '../../verify/evidence.ts';
import { readOriginal } from '../../verify/original.ts';
import { readAims } from './aims.ts';
import { checkCode } from './text.ts';
import { checkOverwritten, readMoves } from './claimed-layout.ts';
import type { Moves } from './claimed-layout.ts';
import { checkRelative, checkSites, checkTable } from './references.ts';
import { checkRest } from './remaining-bytes.ts';
import { Sides } from './image-pair.ts';
import { checkExtable, checkKallsyms, checkMcount, checkOrc, sortedTables } from './tables.ts';
import { checkUnnamed } from './unrelocated-references.ts';
import { unconvert } from './plain-file.ts';
import { readVmlinux } from '../../kernel/vmlinux.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import { assembleStub } from '../../stub/program.ts';

export interface VerifyShuffledOptions {
  readonly codecs: Codecs;
  /** The unstripped vmlinux of the original's build. */
  readonly debug: ByteSource;
  readonly relocs?: Uint8Array | undefined;
  /** Do without the relocations of `debug`. What that shows is less: see shuffle/verify/unnamed.ts. */
  readonly recover?: boolean | undefined;
  readonly onCheck?: ((name: ShuffleCheck) => void) | undefined;
}

/** In the order in which they run, with what each shows. Names are stable: programs may switch on them. */
export const SHUFFLE_CHECKS = {
  moves: 'ranges of .text went to places of their own, over nothing but padding',
  conversion: 'the self-relocating file is what `convert` makes of the plain one',
  'relocation-table': "the original's sites, those in moved code with it",
  'absolute-fields': 'each holds the new place of its old target',
  code: 'instruction for instruction the same; each relative displacement leads to the new place of its old target',
  'relative-fields': 'those outside .text, by the relocations of the debug vmlinux: the same',
  kallsyms: 'sorted by address; the same symbols, moved; the same order of names',
  orc: 'sorted; says of each instruction what it said of it before',
  extable: 'sorted; the same entries, moved',
  mcount: 'sorted; the same call sites, moved',
  'nothing-else': 'every other byte is what it was, or as it has to be',
} as const;
/** What `relative-fields` shows then. */
const WITHOUT_RELOCATIONS =
  'those outside .text: each that changed leads to the new place of its old target, and nothing that was left looks like one';
export type ShuffleCheck = keyof typeof SHUFFLE_CHECKS;

export interface ShuffleCheckResult {
  readonly name: ShuffleCheck;
  /** null: not looked at, because a check before it was refuted, or because there is nothing to look at. */
  readonly ok: boolean | null;
  readonly detail: string;
  /** How many things it looked at. */
  readonly count: number;
}

/** The shape of `kslide verify --shuffled --json`. */
export interface ShuffleVerification {
  /** `consistent`: all that was changed is right; without relocations it is not shown that all was changed that had to be. */
  readonly verdict: 'proved' | 'consistent' | 'refuted';
  readonly kernelVersion: string | undefined;
  readonly selfRelocating: boolean | undefined;
  readonly checks: readonly ShuffleCheckResult[];
  readonly offence: (Finding & { readonly check: ShuffleCheck }) | undefined;
}

/** Throws KernelImageError when the original or its debug vmlinux cannot be read; whatever is in `shuffled`, the answer is a verdict. */
export async function verifyShuffled(
  original: Uint8Array,
  shuffled: Uint8Array,
  options: VerifyShuffledOptions,
): Promise<ShuffleVerification> {
  const input = await readInput(original, options);
  const whole = readVmlinux(input.vmlinux);
  const table = findRelocations(whole, input);
  checkTableForm(table, whole.loads);
  const kernel = withoutSymbols(whole);
  const { recover = false } = options;
  const hint = '--recover does without, and shows less';
  const debug = openDebugKernel(options.debug, { needsRelocations: !recover, hint });
  refuseOtherBuild(kernel, debug);
  const makeDisassembler = await loadDisassembler();

  const describe = (name: ShuffleCheck): string =>
    recover && name === 'relative-fields' ? WITHOUT_RELOCATIONS : SHUFFLE_CHECKS[name];
  const results = new Map<ShuffleCheck, ShuffleCheckResult>();
  const check = async <T extends { readonly count: number | null }>(
    name: ShuffleCheck,
    run: () => T | Promise<T>,
  ): Promise<T> => {
    options.onCheck?.(name);
    const detail = describe(name);
    try {
      const learned = await run();
      results.set(name, { name, ok: learned.count === null ? null : true, detail, count: learned.count ?? 0 });
      return learned;
    } catch (error) {
      results.set(name, { name, ok: false, detail, count: 0 });
      throw error;
    }
  };
  let selfRelocating: boolean | undefined;
  let offence: ShuffleVerification['offence'];
  try {
    // What went where; and from here on the file is a plain one.
    const claimed = await check('moves', () => {
      const plain = unconvert(readElf(shuffled), kernel);
      ({ selfRelocating } = plain);
      const after = readVmlinux(plain.bytes);
      const moves = readMoves(after.elf, debug.text);
      const sides = new Sides(new ImageBytes(kernel), new ImageBytes(after));
      const { text } = debug;
      const before = sides.before.range(text.start, text.end, '.text');
      const symbols = textSymbols(debug);
      const offset = sides.before.at(text.start, text.end - text.start, '.text');
      const paddingEnds = checkOverwritten(
        moves,
        { code: before, symbols, extents: text.extents },
        makeDisassembler(before),
        offset,
      );
      return {
        count: moves.starts.length,
        moves,
        sides,
        after,
        plain: plain.bytes,
        before,
        symbols,
        offset,
        paddingEnds,
      };
    });
    const { moves, sides, after, plain, before, symbols, offset, paddingEnds } = claimed;
    const moved = moveTable(table, moves);
    await check('conversion', async () => {
      if (selfRelocating !== true) return { count: null };
      await proveConversion(plain, shuffled, {
        ...options,
        relocs: encodeRelocationTable(moved),
        align: input.header?.kernelAlignment,
      });
      return { count: 1 };
    });
    await check('relocation-table', () => {
      // The conversion was proved with the right table; a plain file carries its own.
      if (selfRelocating === true) return { count: moved.abs64.length + moved.abs32.length + moved.inverse32.length };
      return { count: checkTable(table, readRelocationTable(after.trailer, after.elf.bytes.length), moves) };
    });
    const sorted = sortedTables(debug);
    const aims = recover ? undefined : readAims(debug, moves);
    const named = new Set(symbols);
    const absolute = await check('absolute-fields', () => {
      const { sites, checked } = checkSites(sides, table, moves, aims, (place) => named.has(place), sorted);
      return { count: checked, sites };
    });
    await check('code', () => {
      const now = sides.after.range(debug.text.start, debug.text.end, '.text');
      const { start: origin, extents } = debug.text;
      const pair = { before, after: now, origin, offset, sites: absolute.sites, aims, extents };
      const disassemblers = { before: makeDisassembler(before), after: makeDisassembler(now) };
      const { instructions } = checkCode(pair, moves, symbols, paddingEnds, disassemblers);
      sides.acceptRange(debug.text.start, debug.text.end);
      return { count: instructions };
    });
    if (aims !== undefined)
      await check('relative-fields', () => ({ count: checkRelative(debug, sides, moves, aims, sorted) }));
    await check('kallsyms', () => ({ count: checkKallsyms(debug, sides, moves) || null }));
    await check('orc', () => ({ count: checkOrc(debug, sides, moves, paddingEnds) || null }));
    await check('extable', () => ({ count: checkExtable(debug, sides, moves) || null }));
    await check('mcount', () => ({ count: checkMcount(debug, sides, moves) || null }));
    // By what the tables before have left.
    if (aims === undefined)
      await check('relative-fields', () => ({
        count: checkUnnamed(debug, sides, moves, table, symbols, makeDisassembler),
      }));
    await check('nothing-else', () => ({ count: checkRest(sides, kernel.elf, after.elf) }));
  } catch (error) {
    const finding = findingOf(error);
    if (finding === undefined) throw error;
    const name = [...results.values()].find(({ ok }) => ok === false)!.name;
    offence = { ...finding, check: name };
  }
  const checks = (Object.keys(SHUFFLE_CHECKS) as ShuffleCheck[]).map(
    (name) => results.get(name) ?? { name, ok: null, detail: describe(name), count: 0 },
  );
  return {
    verdict: offence !== undefined ? 'refuted' : recover ? 'consistent' : 'proved',
    kernelVersion: input.kernelVersion,
    selfRelocating,
    checks,
    offence,
  };
}

function refuseOtherBuild(kernel: Vmlinux, debug: DebugKernel): void {
  const id = buildIdOf(kernel);
  if (id === debug.buildId) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'build-id of the debug vmlinux',
    found: debug.buildId,
    expected: `${id ?? 'none'}, that of the original`,
  });
}

function textSymbols({ symbols, places, text }: DebugKernel): number[] {
  const found = new Set<number>();
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place >= text.start && place < text.end && text.sections.has(symbols.sectionIndex(symbol))) found.add(place);
  }
  return [...found].toSorted((a, b) => a - b);
}

function moveTable(table: RelocationTable, moves: Moves): RelocationTable {
  const move = (list: Uint32Array): Uint32Array =>
    list.map((entry) => entry + moves.imageOf(placeOfLow(entry)) - placeOfLow(entry)).toSorted();
  return { lists: table.lists, abs64: move(table.abs64), inverse32: move(table.inverse32), abs32: move(table.abs32) };
}

/** By `verify`, with a table that was computed here. */
async function proveConversion(
  plain: Uint8Array,
  shuffled: Uint8Array,
  options: { readonly codecs: Codecs; readonly relocs: Uint8Array; readonly align: number | undefined },
): Promise<void> {
  const original = await readOriginal(plain, options);
  const slotAlign = options.align ?? original.slotAlign;
  const { offence } = examine({ ...original, slotAlign }, shuffled, { program: assembleStub().code });
  if (offence !== undefined) {
    const { what, offset, found, expected } = offence;
    throw new Refutation({ what: `${what} (${offence.check})`, offset, found, expected });
  }
}

function findingOf(error: unknown): Finding | undefined {
  if (error instanceof Refutation) return error.finding;
  if (!(error instanceof KernelImageError)) return undefined;
  const { code, what, offset = 0, found = code, expected = 'another value' } = error.data;
  return { what, offset, found: String(found), expected: String(expected) };
}
