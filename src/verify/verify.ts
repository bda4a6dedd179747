/**
 * Is this file the given kernel, made self-relocating, and nothing else?
 *
 * Nobody should have to boot a rewritten kernel on trust, so this does not trust `convert`. It reads both files by itself. From the writer's side it
 * uses only the description in segment/layout.ts and the assembled program, and no code that decides anything (test/imports.test.ts enforces this).
 * Readers (ELF, bzImage, the kernel's own table) are shared.
 *
 * The original determines the converted file: except in the relocation table, each byte has one right value. So the proof covers every byte. Each
 * check accounts for the bytes that it examined, Evidence records them, and `nothing-else` demands that together they cover the whole file, and no
 * byte twice. So a change of any byte is refuted. A structure that the checks had forgotten would show as bytes that nothing accounts for. The table
 * is decoded instead of compared: it must name the same sites as the original's, and each format has only one way to write them. What is converted for
 * another use (original.ts, FORMS) or has its table in another format has other bytes: the verdict names the form.
 *
 * Each check may rely on those before it, and the first that is refuted ends the proof: after a wrong header, everything else would be wrong as well.
 * When two fields contradict each other, the one that disagrees with the rest of the file is reported; this is a guess.
 *
 * A file that is as intended might still not do what it should. So `dry-run` lets a model of the program apply slides in memory, and compares the
 * image with what the original's own table makes of the original.
 *
 * Not shown: that the program's machine code does what the model does (its tests and real boots show that), and that the slides are random
 * (`kslide audit`).
 */
import { PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset, Slide } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { EHDR } from '../elf/fields.ts';
import type { Codecs, Compression } from '../codecs/formats.ts';
import { isBzImage } from '../bzimage/header.ts';
import { readPayload } from '../bzimage/payload.ts';
import { ELFCLASS64, ELFDATA2LSB, EM_X86_64 } from '../elf/constants.ts';
import { isElf, readElf } from '../elf/read.ts';
import type { Segment } from '../elf/read.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { readInput } from '../kernel/input.ts';
import type { KernelInput } from '../kernel/input.ts';
import { TABLE_FORMAT } from '../segment/layout.ts';
import { assembleStub } from '../stub/program.ts';
import { checkDecompressor, openContainer, readKernel } from './container.ts';
import type { Container, Shell } from './container.ts';
import { isContainerCheck, Proof } from './proof.ts';
import type { CheckName, CheckResult, Offence } from './proof.ts';
import { dryRun } from './dry-run.ts';
import { Evidence } from './evidence.ts';
import { checkElfHeader, checkPlacement, checkProgramHeaders } from './headers.ts';
import { checkHook, checkOriginalBytes } from './hook.ts';
import { checkSegmentLoader } from './segment-loader.ts';
import { expectStep, FORMS, readOriginal } from './original.ts';
import type { Form, FormName, Original } from './original.ts';
import { premisesOf } from './premises.ts';
import type { OpenDisassembler } from './recovered/disassembler.ts';
import { judgeTable } from './recovered/judge.ts';
import type { JudgedFields } from './recovered/judgement.ts';
import type { Premise } from './premises.ts';
import { checkPadding, checkSectionHeaders, checkSectionNames } from './sections.ts';
import { checkParameters, checkProgram, checkSlots, countSlots } from './segment.ts';
import { checkTable } from './table.ts';

export type { CheckName, CheckResult, Offence };

export interface VerifyOptions {
  readonly codecs: Codecs;
  /** The original's relocation table in the kernel's format, for a vmlinux that does not carry one. */
  readonly relocs?: Uint8Array | undefined;
  /** `converted` is a vmlinux that was taken out of a bzImage of `rebuildBzImage`. */
  readonly extracted?: boolean | undefined;
  /** What `convert` was given as `align`. Undefined: it was given nothing. */
  readonly align?: number | undefined;
  /**
   * For an original without a relocation table: then the one in `converted` is judged, which needs a disassembler (`loadOperandDisassembler` of kslide/shuffle). Undefined: such an
   * original is refused.
   */
  readonly loadDisassembler?: (() => Promise<OpenDisassembler>) | undefined;
  /** Called as each check begins. */
  readonly onCheck?: ((name: CheckName) => void) | undefined;
}

export interface Examination {
  /** `consistent`: the original has no relocation table. Given the one in the converted file every byte is right, and a second reading of the image does not contradict that table. */
  readonly verdict: 'proved' | 'consistent' | 'refuted';
  /** All checks, in the order in which they run. */
  readonly checks: readonly CheckResult[];
  /** What the first refuted check found. Undefined if everything is proved. */
  readonly offence: Offence | undefined;
  /** The slides that the dry run applied. */
  readonly slides: readonly Slide[];
  /** What exactly is proved: in this form every byte has one right value, except those of `compressed`. Undefined if refuted. */
  readonly form: ProvedForm | undefined;
  /** Of a table that was recovered: what the second reading of the image found. Undefined if refuted, or if the original has its table. */
  readonly judged?: JudgedFields | undefined;
}

export interface ProvedForm {
  readonly name: FormName;
  readonly table: keyof typeof TABLE_FORMAT;
  /** A bzImage's compressed bytes. They are proved by what they decode to, and other bytes may decode to the same. */
  readonly compressed?: { readonly offset: FileOffset; readonly length: number };
}

/** The shape of `kslide verify --json`. All numbers here are the original's own, not read from the converted file, but for `relocations` of an original without a table. */
export interface Verification extends Examination {
  /** What the verdict takes as given. */
  readonly premises: readonly Premise[];
  readonly input: KernelInput['kind'];
  readonly compression: Compression | undefined;
  readonly kernelVersion: string | undefined;
  readonly relocations: { readonly abs64: number; readonly inverse32: number; readonly abs32: number };
  readonly slots: {
    readonly count: number;
    readonly align: number;
    /** `least`: 2 MiB, what every kernel allows; `option`: the caller said it. */
    readonly alignSource: 'least' | 'option';
    readonly largest: Slide;
    readonly bits: number;
  };
}

/**
 * Proves or refutes that `converted` is what `convert` makes of `original`. The original is a bzImage, a UKI, or a vmlinux with its table after it or
 * in `relocs`. If the original has no table, nothing is proved: the table in `converted` is judged by what the image shows, and the best verdict is `consistent`. Throws KernelImageError if there is nothing to examine: the original is not a kernel that can be converted, or `converted` is neither
 * an ELF file for x86-64 nor, for an original bzImage, a bzImage. For all other bytes the result is a verdict.
 */
export async function verify(
  original: Uint8Array,
  converted: Uint8Array,
  { codecs, relocs, extracted, align, loadDisassembler, onCheck }: VerifyOptions,
): Promise<Verification> {
  expectStep(align);
  // A bzImage is made from a kernel with its own table.
  const claims = isBzImage(converted) || loadDisassembler === undefined ? undefined : converted;
  const kernel = await about('original', () => readOriginal(original, { codecs, relocs, align }, claims));
  await about('converted', () => refuseForeign(converted, kernel, codecs));
  const { input, table, slotAlign } = kernel;
  const count = countSlots(kernel);
  const options = {
    program: stubProgram(),
    onCheck,
    openDisassembler: kernel.claim === undefined ? undefined : await loadDisassembler?.(),
  };
  const shell = shellOf(input);
  const container = shell && isBzImage(converted) ? { shell, opened: await tryOpen(converted) } : undefined;
  return {
    ...(container === undefined
      ? examine({ ...kernel, form: formOf(converted, kernel, extracted) }, converted, options)
      : examineBzImage(kernel, converted, container, options)),
    premises: premisesOf(
      kernel.claim !== undefined ? 'recovered' : relocs === undefined ? 'original' : 'given',
      container !== undefined,
    ),
    input: input.kind,
    compression: input.compression,
    kernelVersion: input.kernelVersion,
    relocations: { abs64: table.abs64.length, inverse32: table.inverse32.length, abs32: table.abs32.length },
    slots: {
      count,
      align: slotAlign,
      alignSource: align === undefined ? 'least' : 'option',
      largest: (count - 1) * slotAlign,
      bits: Math.log2(count),
    },
  };
}

let stubCode: Uint8Array | undefined;

/** Assembled once: that takes longer than all checks of a small kernel. */
function stubProgram(): Uint8Array {
  return (stubCode ??= assembleStub().code);
}

export interface ExamineOptions {
  /** The program that every converted kernel must contain. */
  readonly program: Uint8Array;
  readonly onCheck?: ((name: CheckName) => void) | undefined;
  /** For an original whose table is claimed by the converted file. */
  readonly openDisassembler?: OpenDisassembler | undefined;
}

/** The part of `verify` that examines the converted file. It never throws, whatever the file holds; but a kernel whose recovered table cannot be judged is refused. */
export function examine(
  original: Original,
  converted: Uint8Array,
  { program, onCheck, openDisassembler }: ExamineOptions,
): Examination {
  const recovered = original.claim !== undefined;
  const proof = new Proof(onCheck, { recovered });
  const proved = proof.attempt(() => {
    const shown = prove(original, new Evidence(converted), program, proof);
    if (openDisassembler === undefined) return shown;
    const judged = proof.check('recovered', () => judge(original, openDisassembler));
    // That says nothing against the converted file.
    if (judged instanceof KernelImageError) throw judged;
    return { ...shown, judged };
  });
  const { checks, offence } = proof;
  const { slides = [], form, judged } = proved ?? {};
  const best = recovered ? 'consistent' : 'proved';
  return {
    verdict: offence === undefined ? best : 'refuted',
    checks,
    offence,
    slides,
    form,
    ...(recovered && { judged }),
  };
}

/** Returns why the kernel cannot be judged. */
function judge({ kernel, table }: Original, open: OpenDisassembler): JudgedFields | KernelImageError {
  try {
    return judgeTable(kernel, table, open);
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
}

interface BzImageParts {
  readonly shell: Shell;
  /** The error, if it cannot be read as a bzImage. */
  readonly opened: Container | KernelImageError;
}

/** The same for a bzImage: first the container, then the ELF file in it. The name of a finding says if its offset counts in the payload. */
export function examineBzImage(
  original: Original,
  converted: Uint8Array,
  { shell, opened }: BzImageParts,
  { program, onCheck }: ExamineOptions,
): Examination {
  const proof = new Proof(onCheck, { container: true });
  const proved = proof.attempt(() => {
    const container = proof.check('payload', () => {
      if (opened instanceof KernelImageError) throw opened;
      return opened;
    });
    const file = new Evidence(converted);
    const { elf, form } = proof.check('container', () => checkContainer(file, original, shell, container));
    const inside = prove({ ...original, form }, new Evidence(elf), program, proof);
    const { compression, offset, length } = container.payload;
    return compression === undefined ? inside : { ...inside, form: { ...inside.form, compressed: { offset, length } } };
  });
  const { checks, offence } = proof;
  const inside = offence !== undefined && !isContainerCheck(offence.check);
  const { slides = [], form } = proved ?? {};
  return {
    verdict: offence === undefined ? 'proved' : 'refuted',
    checks,
    offence: inside ? { ...offence, what: `payload: ${offence.what}` } : offence,
    slides,
    form,
  };
}

function checkContainer(
  file: Evidence,
  original: Original,
  shell: Shell,
  container: Container,
): { elf: Uint8Array; form: Form } {
  if (container.payload.compression === undefined && shell.payload.compression !== undefined) {
    checkSegmentLoader(file, original, shell, container);
    return { elf: container.unpacked, form: FORMS.uncompressed };
  }
  checkDecompressor(file, shell, container);
  file.expectAllProved();
  const { abs64, inverse32, abs32, lists } = original.table;
  const tableSize = 4 * (abs64.length + inverse32.length + abs32.length + lists);
  const { elf, atEnd } = readKernel(container, shell.header, tableSize);
  return { elf, form: atEnd ? FORMS['table-at-end'] : FORMS.compressed };
}

async function tryOpen(converted: Uint8Array): Promise<Container | KernelImageError> {
  try {
    return await openContainer(converted);
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
}

function shellOf({ bzImage: image, header }: KernelInput): Shell | undefined {
  return image && header ? { image, header, payload: readPayload(image, header) } : undefined;
}

/** A vmlinux that was taken out of a bzImage with its table at the end shows it: the added segment ends the file. */
function formOf(converted: Uint8Array, { kernel }: Original, extracted = false): Form {
  const last = lastSegment(converted);
  const afterOriginal = kernel.elf.bytes.length + PAGE_SIZE;
  const atEnd = last !== undefined && last.offset >= afterOriginal && last.offset + last.filesz === converted.length;
  if (atEnd) return FORMS['table-at-end'];
  return extracted ? FORMS.extracted : FORMS.direct;
}

/** Undefined if the headers cannot be read; then the checks will say why. */
function lastSegment(converted: Uint8Array): Segment | undefined {
  try {
    return readElf(converted).segments.at(-1);
  } catch (error) {
    if (error instanceof KernelImageError) return undefined;
    throw error;
  }
}

interface Proved {
  readonly slides: Slide[];
  readonly form: ProvedForm;
  readonly judged?: JudgedFields | undefined;
}

/** The proof, check by check. */
function prove(original: Original, file: Evidence, program: Uint8Array, proof: Proof): Proved {
  // Headers first: they say where everything else is.
  const phoff = proof.check('elf-header', () => checkElfHeader(file, original));
  const added = proof.check('program-headers', () => checkProgramHeaders(file, original, phoff, program));
  // From here it is known what a loader loads, and where each part of the added segment must be.
  const segment = proof.check('placement', () => checkPlacement(file, original, added, program));

  proof.check('original-bytes', () => checkOriginalBytes(file, original, phoff));
  proof.check('hook', () => checkHook(file, original, segment));
  proof.check('program', () => checkProgram(file, segment));
  const format = proof.check('parameters', () => checkParameters(file, original, segment));
  proof.check('slots', () => checkSlots(file, original, segment));
  proof.check('table', () => {
    if (original.claim?.error !== undefined) throw original.claim.error;
    checkTable(file, original, segment, format);
  });

  // What no loader looks at.
  const sections = proof.check('section-names', () => checkSectionNames(file, original, segment));
  proof.check('section-headers', () => checkSectionHeaders(file, original, segment, sections));
  proof.check('padding', () => checkPadding(file, original, segment, { sections, phoff }));
  proof.check('nothing-else', () => file.expectAllProved());

  // From here every byte is proved, so the model needs no checks of its own.
  const slides = proof.check('dry-run', () => dryRun(original, file.bytes));
  return { slides, form: { name: original.form.name, table: tableName(format) } };
}

function tableName(format: number): ProvedForm['table'] {
  const names = Object.keys(TABLE_FORMAT) as ProvedForm['table'][];
  return names.find((name) => TABLE_FORMAT[name] === format)!;
}

const CONVERTED = 'an ELF file for x86-64, as `kslide convert` writes it, or a bzImage made from a bzImage';

/** Refuses only files for which a verdict would be pointless. Every ELF file for x86-64 gets one. */
async function refuseForeign(bytes: Uint8Array, { input }: Original, codecs: Codecs): Promise<void> {
  if (isBzImage(bytes) && input.bzImage !== undefined) return;
  if (!isElf(bytes)) {
    // Throws the reader's own error, unless the file is a kernel in another container.
    const { kind } = await readInput(bytes, { codecs });
    throw new KernelImageError({ code: 'not-a-kernel', what: 'file', found: `a ${kind}`, expected: CONVERTED });
  }
  const reader = new Reader(bytes);
  for (const [name, expected] of [
    ['EI_CLASS', ELFCLASS64],
    ['EI_DATA', ELFDATA2LSB],
    ['e_machine', EM_X86_64],
  ] as const) {
    const [offset, width] = EHDR[64][name];
    const found = reader.uint(offset, width, name);
    if (found === BigInt(expected)) continue;
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: name,
      offset,
      found,
      expected: `${hex(expected)}: ${CONVERTED}`,
    });
  }
}

/** Adds to errors which of the two files they are about. */
async function about<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof KernelImageError)) throw error;
    throw new KernelImageError({ ...error.data, what: `${file}: ${error.data.what}` });
  }
}
