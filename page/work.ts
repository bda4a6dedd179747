/**
 * What the page does with a file, in two workers, one after the other (worker.ts). The first reads, describes and converts it, and makes a Blob of the result. The
 * second reads the file and the Blob again, and proves that the one was made of the other: so what is proved is what is saved.
 *
 * Memory, for a kernel of S bytes unpacked in a file of C: C and S for the first, 2 S for the Blob and its way out of the thread, C and 2 S for the second.
 */
import { coreCodecs, forEachFormat, tellingCodecs } from '../src/codecs/formats.ts';
import type { Codecs, Compression } from '../src/codecs/formats.ts';
import { KERNEL_IMAGE_SIZE, MIB } from '../src/base/addresses.ts';
import { hex, KernelImageError } from '../src/base/errors.ts';
import { count, short } from '../src/base/text.ts';
import { convertRows } from '../src/cli/reports/convert.ts';
import { describeBug, outOfMemory } from '../src/cli/reports/failure.ts';
import { describeOffence, kernelAndFile, release } from '../src/cli/reports/facts.ts';
import { describeInspection } from '../src/cli/reports/inspect.ts';
import { DIRECT_VERDICTS } from '../src/cli/reports/verify.ts';
import { size } from '../src/cli/text.ts';
import { convert } from '../src/convert.ts';
import type { ConvertSummary } from '../src/convert.ts';
import { inspect } from '../src/inspect.ts';
import type { Inspection } from '../src/inspect.ts';
import { readInput } from '../src/kernel/input.ts';
import { readVmlinux, withoutSegment } from '../src/kernel/vmlinux.ts';
import { DoubtsError } from '../src/recover/choose.ts';
import { describeDoubt } from '../src/recover/describe.ts';
import { readSegment } from '../src/segment/read.ts';
import { verify } from '../src/verify/verify.ts';
import type { Verification } from '../src/verify/verify.ts';
import { mapImage } from './image-map.ts';
import type { Facts, Order, Report, Result, Step, Verdict } from './messages.ts';

/** As at the command line. */
const MAX_INPUT = 2 ** 31;
/** Bytes read at a time: progress is told after each. */
const PART = 4 << 20;
/** A kernel of which everything is in doubt has no more to say. */
const MOST_DOUBTS = 200;

/** Never rejects: what goes wrong is a report too. */
export async function work(order: Order, report: (message: Report) => void): Promise<void> {
  try {
    await (order.kind === 'convert' ? convertFile(order, report) : proveFile(order, report));
  } catch (error) {
    report(describeEnd(error));
  }
}

function describeEnd(error: unknown): Report {
  if (error instanceof DoubtsError)
    return { kind: 'doubts', message: error.message, doubts: error.doubts.slice(0, MOST_DOUBTS).map(describeDoubt) };
  const recoverable = error instanceof KernelImageError && error.code === 'no-relocations';
  return { kind: 'failure', message: wordsOf(error), recoverable };
}

function wordsOf(error: unknown): string {
  if (error instanceof KernelImageError || error instanceof FileError) return error.message;
  return outOfMemory(error) ?? describeBug(error);
}

/** The browser cannot read the file, or it is too large. The message is one line. */
class FileError extends Error {
  override readonly name = 'FileError';
}

type Work<K extends Order['kind']> = Extract<Order, { kind: K }>;

async function convertFile({ file, recover }: Work<'convert'>, report: (message: Report) => void): Promise<void> {
  const progress = (step: Step, done?: number): void => report({ kind: 'progress', step, done });
  const bytes = await readFile(file, (done) => progress('read', done));
  progress('decode', 0);
  const codecs = decodingOnce((done) => progress('decode', done));
  const facts = await tryDescribe(bytes, codecs, () => progress('look'));
  if (!(facts instanceof Error)) report({ kind: 'facts', facts });
  // What `convert` says of a bad file is what the command line says.
  const choice = recover === undefined ? undefined : { acceptDoubts: recover === 'accept' };
  const converted = await convert(bytes, {
    codecs,
    recover: choice,
    // Relocations are found after the first pass, and that takes most of the time.
    onPass: (pass) => progress(recover !== undefined && pass === 'read' ? 'find' : 'convert'),
  });
  const { parts, summary } = converted;
  // Neither kind of memory here is shared between threads.
  const vmlinux = new Blob(parts as Uint8Array<ArrayBuffer>[], { type: 'application/octet-stream' });
  const relocs = summary.recovered === undefined ? undefined : converted.relocs();
  report({ kind: 'made', made: { vmlinux, summary, relocs } });
}

async function proveFile({ file, made }: Work<'prove'>, report: (message: Report) => void): Promise<void> {
  const progress = (step: Step, done?: number): void => report({ kind: 'progress', step, done });
  const { vmlinux, summary, relocs } = made;
  const original = await readFile(file, () => progress('reread', 0));
  const written = new Uint8Array(await vmlinux.arrayBuffer());
  const codecs = tellingCodecs(coreCodecs, (done) => progress('reread', done));
  const verification = await verify(original, written, { codecs, relocs, onCheck: () => progress('prove') });
  if (verification.verdict === 'refuted') throw new Error(describeOffence(verification.offence!));
  const result = describeResult(vmlinux, summary, verification);
  report({ kind: 'result', result: { ...result, sha256: await sha256(written) } });
}

/** By parts, so that the page can say how far it is. */
async function readFile(file: File, onRead: (done: number) => void): Promise<Uint8Array> {
  if (file.size > MAX_INPUT)
    throw new FileError(
      `${short(file.name)} has ${(file.size / 1e9).toFixed(1)} GB, and kslide reads files of up to 2 GiB; in a vmlinux that is debug information: strip -g -o SMALL VMLINUX leaves it out`,
    );
  const bytes = new Uint8Array(file.size);
  onRead(0);
  for (let at = 0; at < bytes.length; at += PART) {
    let part: ArrayBuffer;
    try {
      part = await file.slice(at, at + PART).arrayBuffer();
    } catch (error) {
      throw new FileError(`${short(file.name)} cannot be read: ${short(error instanceof Error ? error.message : '')}`);
    }
    bytes.set(new Uint8Array(part), at);
    onRead(Math.min(1, (at + PART) / bytes.length));
  }
  return bytes;
}

/** Decoders that keep what they have decoded last: `inspect` and `convert` read the same file one after the other, and neither changes it. */
function decodingOnce(onDone: (done: number) => void): Codecs {
  const telling = tellingCodecs(coreCodecs, onDone);
  let last:
    | {
        readonly name: Compression;
        readonly data: Uint8Array;
        readonly decoded: Promise<Uint8Array>;
        readonly differences: readonly KernelImageError[];
      }
    | undefined;
  return forEachFormat((name) => async (data, claimed, _watch, differs) => {
    if (last?.name !== name || !isSame(last.data, data)) {
      const differences: KernelImageError[] = [];
      const decoded = Promise.resolve(telling[name](data, claimed, undefined, (found) => differences.push(found)));
      last = { name, data, decoded, differences };
    }
    const { decoded, differences } = last;
    const bytes = await decoded;
    differences.forEach((found) => differs?.(found));
    return bytes;
  });
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.buffer === other.buffer && one.byteOffset === other.byteOffset && one.length === other.length;
}

/** What is wrong with the file, `convert` says again. */
async function tryDescribe(bytes: Uint8Array, codecs: Codecs, onDecoded: () => void): Promise<Facts | Error> {
  try {
    const { vmlinux } = await readInput(bytes, { codecs });
    onDecoded();
    return describe(vmlinux, await inspect(bytes, { codecs }));
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
}

function describe(vmlinux: Uint8Array, inspection: Inspection): Facts {
  const { kernel, segments, relocations } = describeInspection(inspection);
  const whole = readVmlinux(vmlinux);
  const added = readSegment(whole.elf);
  const map = mapImage(added === undefined ? whole : withoutSegment(whole, added.segment), inspection);
  if (relocations === undefined) return { kernel, segments, map };
  const { sections, sites, forms } = relocations;
  return { kernel, segments, relocations: { sections, sites, forms }, map };
}

function describeResult(file: Blob, summary: ConvertSummary, verification: Verification): Omit<Result, 'sha256'> {
  const { slots, segment, sizes, warnings, kernelVersion } = summary;
  const name = release(kernelVersion);
  return {
    file,
    name: kernelVersion === undefined ? 'vmlinux' : `vmlinux-${name.replaceAll(/[^\w.+-]+/g, '_')}`,
    input: kernelAndFile(summary),
    rows: convertRows(summary),
    warnings,
    randomness: describeRandomness(slots),
    added: { start: segment.paddr, end: segment.paddr + segment.memory, text: size(sizes.added) },
    verdict: describeVerdict(verification, summary),
  };
}

function describeRandomness({ count: places, align, largest, bits, limit }: ConvertSummary['slots']): string[] {
  if (places === 1) return ['This kernel can never move: there is only one place for it.'];
  const chosen = `At each boot the kernel picks one of ${count(places)} places (slots), ${count(align / MIB)} MiB apart, up to ${count(largest / MIB)} MiB above its link address. That is ${bits.toFixed(2)} bits: an attacker who guesses the address once is right in one case of ${count(places)}.`;
  // Without CONFIG_RANDOMIZE_BASE the rest of the kernel's KASLR is not there either.
  if (limit.bytes !== KERNEL_IMAGE_SIZE) return [chosen];
  return [
    chosen,
    'This is what the same kernel has when it boots as a bzImage. As there, the kernel also randomizes its direct map, its vmalloc area and its modules.',
  ];
}

function describeVerdict({ checks, slides, premises }: Verification, { recovered }: ConvertSummary): Verdict {
  const tried = `It was tried in a model at the slides ${slides.map(hex).join(', ')}.`;
  return {
    text:
      recovered === undefined
        ? `Proved: ${DIRECT_VERDICTS.proved}. ${tried}`
        : `Every byte of the file follows from the original and the recovered relocations. ${tried} Whether the relocations are right is not judged here: that needs a disassembler. On the command line, kslide verify ORIGINAL CONVERTED judges them.`,
    whole: recovered === undefined,
    checks: checks.map(({ name, detail }) => ({ name, detail })),
    premises: premises.map(({ statement }) => statement),
  };
}

/** Undefined where the browser has none: it has it for pages from a file or by https. */
async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string | undefined> {
  const { subtle } = crypto as { readonly subtle?: SubtleCrypto };
  if (subtle === undefined) return undefined;
  const digest = new Uint8Array(await subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
