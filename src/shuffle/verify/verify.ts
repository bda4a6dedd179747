/**
 * Is this file the given kernel with its functions in other places, and nothing else?
 *
 * Independent of the writer: nothing of it is used except the claim that the file carries, which ranges of .text went where. Against that claim, all code of
 * .text is disassembled before and after. Every relative displacement is followed, every absolute site, and every relative field that the debug vmlinux's
 * relocations name. The tables that are sorted by address are read as the kernel reads them, and their contents are compared. Every other byte must be
 * what it was. A self-relocating file is taken apart first, and `verify` proves that `convert` made it from the plain one.
 *
 * Without relocations less is shown: see unrelocated-references.ts.
 *
 * What the debug vmlinux says is held against the original first (confirm/). The rest of it is a premise of the verdict (premises.ts).
 *
 * What is not shown: that there is no reference of a kind which neither a relocation nor an instruction reveals. Only real boots speak against that.
 */
import { firstDifference } from '../../base/bytes.ts';
import { hex } from '../../base/errors.ts';
import type { Codecs } from '../../codecs/formats.ts';
import { PHDR_SIZE } from '../../elf/fields.ts';
import { readElf } from '../../elf/read.ts';
import { readInput } from '../../kernel/input.ts';
import { readVmlinux } from '../../kernel/vmlinux.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import { readRelocations } from '../../relocs/find.ts';
import { encodeRelocationTable, readRelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { assembleStub } from '../../stub/program.ts';
import { refute, Refutation } from '../../verify/evidence.ts';
import { readOriginal } from '../../verify/original.ts';
import { examine } from '../../verify/verify.ts';
import { confirmDebugKernel } from '../confirm/confirm.ts';
import { loadDisassembler } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import { openDebugKernel } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { ImageBytes, withoutSymbols } from '../read/kernel-image.ts';
import { CheckRecord } from './checks.ts';
import type { ShuffleCheck, ShuffleVerification } from './checks.ts';
import { checkOverwritten, readClaimedLayout } from './claimed-layout.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import { ImagePair } from './image-pair.ts';
import { extractPlain } from './plain-file.ts';
import { PremiseRecord } from './premises.ts';
import {
  checkAbsoluteFields,
  checkRelativeFields,
  checkShiftedSites,
  readTargetShifts,
  shiftSites,
} from './references.ts';
import { checkRemainingBytes } from './remaining-bytes.ts';
import { checkExtable, checkKallsyms, checkMcount, checkOrc, sortedTables } from './tables.ts';
import { checkText } from './text.ts';
import { checkUnrelocatedReferences } from './unrelocated-references.ts';

export interface VerifyShuffledOptions {
  readonly codecs: Codecs;
  /** The unstripped vmlinux of the original's build. */
  readonly debug: ByteSource;
  readonly relocs?: Uint8Array | undefined;
  /** Do without the relocations of `debug`. That shows less: see unrelocated-references.ts. */
  readonly recover?: boolean | undefined;
  readonly onCheck?: ((name: ShuffleCheck) => void) | undefined;
}

/** Throws KernelImageError when the original or its debug vmlinux cannot be read. Whatever `shuffled` contains, the answer is a verdict. */
export async function verifyShuffled(
  original: Uint8Array,
  shuffled: Uint8Array,
  options: VerifyShuffledOptions,
): Promise<ShuffleVerification> {
  // Read the original and its debug vmlinux. The original is believed, and so is whatever of the debug vmlinux it does not contradict.
  const input = await readInput(original, options);
  const whole = readVmlinux(input.vmlinux);
  const table = readRelocations({ input, kernel: whole }, { thoroughness: 'all' });
  const kernel = withoutSymbols(whole);
  const { recover = false } = options;
  const hint = '--recover does without, and shows less';
  const debug = openDebugKernel(options.debug, { needsRelocations: !recover, hint });
  const makeDisassembler = await loadDisassembler();
  const confirmed = confirmDebugKernel({
    kernel,
    image: new ImageBytes(kernel),
    debug,
    table,
    recover,
    makeDisassembler,
  });

  const record = new CheckRecord(recover, options.onCheck);
  const premises = new PremiseRecord();
  let selfRelocating: boolean | undefined;
  let offence: ShuffleVerification['offence'];
  try {
    // Read the claim: which ranges went where. From here on the file is a plain one.
    const claim = await record.run('moves', () => {
      const plain = extractPlain(readElf(shuffled), kernel);
      ({ selfRelocating } = plain);
      return readClaim(kernel, readVmlinux(plain.bytes), debug, makeDisassembler);
    });
    const { layout, images, plain, code, symbols, paddingEnds } = claim;

    // Prove the added program, if there is one, and the relocation table, against a table that is computed here.
    const expectedTable = shiftSites(table, layout);
    await record.run('conversion', async () => {
      if (selfRelocating !== true) return { count: null };
      const relocs = encodeRelocationTable(expectedTable);
      await proveConversion(plain.elf.bytes, shuffled, { ...options, relocs });
      return { count: 1 };
    });
    await record.run('relocation-table', () => {
      // A self-relocating file was proved with the right table; a plain file carries its own.
      if (selfRelocating === true) return { count: countSites(expectedTable) };
      return { count: checkShiftedSites(expectedTable, readRelocationTable(plain.trailer, plain.elf.bytes.length)) };
    });

    // Follow every reference to code. Each check marks the bytes that it has explained.
    const sorted = sortedTables(debug);
    const targetShifts = recover ? undefined : readTargetShifts(debug, layout);
    const named = new Set(symbols);
    const isSymbol = (place: number): boolean => named.has(place);
    const absolute = await record.run('absolute-fields', () =>
      checkAbsoluteFields(images, table, layout, targetShifts, isSymbol, sorted, premises),
    );
    await record.run('code', () => {
      const { start: origin, end, extents } = debug.text;
      const after = images.after.range(origin, end, '.text');
      const offset = images.before.at(origin, end - origin, '.text');
      const pair = { before: code, after, origin, offset, sites: absolute.sites, targetShifts, extents, premises };
      const disassemblers = { before: makeDisassembler(code), after: makeDisassembler(after) };
      const { instructions } = checkText(pair, layout, symbols, paddingEnds, disassemblers);
      images.markRange(origin, end);
      return { count: instructions };
    });
    if (targetShifts !== undefined)
      await record.run('relative-fields', () => ({
        count: checkRelativeFields(debug, images, layout, targetShifts, sorted, premises),
      }));

    // Compare what the sorted tables say.
    await record.run('kallsyms', () => ({ count: checkKallsyms(debug, images, layout) || null }));
    await record.run('orc', () => ({ count: checkOrc(debug, images, layout, paddingEnds) || null }));
    await record.run('extable', () => ({ count: checkExtable(debug, images, layout) || null }));
    await record.run('mcount', () => ({ count: checkMcount(debug, images, layout) || null }));

    // Without relocations: among the bytes that the tables have left.
    if (targetShifts === undefined)
      await record.run('relative-fields', () => ({
        count: checkUnrelocatedReferences(debug, images, layout, table, symbols, makeDisassembler),
      }));

    // All bytes that nothing has explained must be unchanged.
    await record.run('nothing-else', () => ({ count: checkRemainingBytes(images, kernel.elf, plain.elf) }));
  } catch (error) {
    offence = record.offenceOf(error);
  }
  return {
    verdict: offence !== undefined ? 'refuted' : recover ? 'consistent' : 'proved',
    kernelVersion: input.kernelVersion,
    selfRelocating,
    checks: record.results(),
    premises: premises.results(debug.buildId, confirmed),
    offence,
  };
}

interface Claim {
  /** How many ranges there are. */
  readonly count: number;
  readonly layout: ClaimedLayout;
  readonly images: ImagePair;
  /** The shuffled kernel, without the program that relocates. */
  readonly plain: Vmlinux;
  /** The original's .text. */
  readonly code: Uint8Array;
  readonly symbols: readonly number[];
  readonly paddingEnds: Uint32Array;
}

function readClaim(
  original: Vmlinux,
  plain: Vmlinux,
  debug: DebugKernel,
  makeDisassembler: (code: Uint8Array) => Disassembler,
): Claim {
  const { text } = debug;
  expectSameSegments(original, plain);
  const layout = readClaimedLayout(plain.elf, text);
  const images = new ImagePair(new ImageBytes(original), new ImageBytes(plain));
  const code = images.before.range(text.start, text.end, '.text');
  const offset = images.before.at(text.start, text.end - text.start, '.text');
  const symbols = textSymbols(debug);
  const originalText = { code, symbols, extents: text.extents };
  const paddingEnds = checkOverwritten(layout, originalText, makeDisassembler(code), offset);
  return { count: layout.starts.length, layout, images, plain, code, symbols, paddingEnds };
}

/** From here on a place lies at one offset of both files, inside both. */
function expectSameSegments(original: Vmlinux, plain: Vmlinux): void {
  const { phoff, phnum } = original.elf.header;
  const size = phnum * PHDR_SIZE[64];
  const before = original.elf.bytes.subarray(phoff, phoff + size);
  const after = plain.elf.bytes.subarray(phoff, phoff + size);
  const same = plain.elf.header.phoff === phoff && plain.elf.header.phnum === phnum && after.length === size;
  const at = same ? firstDifference(before, after) : 0;
  if (!same || at >= 0)
    refute('program headers', phoff + Math.max(at, 0), {
      found: same ? after[at]! : 'elsewhere, or another number of them',
      expected: same ? before[at]! : "the original's",
    });
  if (plain.elf.bytes.length < original.elf.bytes.length)
    refute('size of the file', plain.elf.bytes.length, {
      found: plain.elf.bytes.length,
      expected: `${hex(original.elf.bytes.length)} or more`,
    });
}

/** The places of all symbols in .text, rising. */
function textSymbols({ symbols, places, text }: DebugKernel): number[] {
  const found = new Set<number>();
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place >= text.start && place < text.end && text.sections.has(symbols.sectionIndex(symbol))) found.add(place);
  }
  return [...found].toSorted((a, b) => a - b);
}

function countSites({ abs64, abs32, inverse32 }: RelocationTable): number {
  return abs64.length + abs32.length + inverse32.length;
}

/** By `verify`, with a relocation table that was computed here. */
async function proveConversion(
  plain: Uint8Array,
  shuffled: Uint8Array,
  options: { readonly codecs: Codecs; readonly relocs: Uint8Array },
): Promise<void> {
  const original = await readOriginal(plain, options);
  const { offence } = examine(original, shuffled, { program: assembleStub().code });
  if (offence !== undefined) {
    const { what, offset, found, expected } = offence;
    throw new Refutation({ what: `${what} (${offence.check})`, offset, found, expected });
  }
}
