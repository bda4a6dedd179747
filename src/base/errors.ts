/**
 * What can be wrong with a kernel image, as data.
 *
 * Every reader throws `KernelImageError` and nothing else on bad bytes. It carries a stable code for programs, and for people:
 * which structure or field (by its name in the specification), where (file offset), what was found and what would have been right.
 * Only this file turns those into text. No code matches on the text.
 */
import { short } from './text.ts';

/** Stable names: a program may switch on them, so they are never renamed. */
export type ErrorCode =
  /** The file is not a kind that kslide reads. */
  | 'not-a-kernel'
  /** A kernel for another architecture, word size or byte order. */
  | 'wrong-architecture'
  /** The file ends before something that its headers say it has. */
  | 'truncated'
  /** A field has a value that its specification does not allow, or that contradicts another field. */
  | 'bad-value'
  /** Compressed data that does not decode, or fails its checksum. */
  | 'corrupt-data'
  /** Allowed by the specification, but not something that kslide does. */
  | 'unsupported'
  /** A compressed payload that kslide decodes, but that the decompressors in kernels refuse, or decode to other bytes. */
  | 'read-differently'
  /** The kernel has no relocation table: it was built without CONFIG_RANDOMIZE_BASE, or the table was dropped later. */
  | 'no-relocations'
  /** The kernel has been through `kslide convert` before. */
  | 'already-converted'
  /** Larger than a kernel image can be. Refused before any memory is allocated for it. */
  | 'too-large'
  /** A choice of slide, entry or memory that would not boot. */
  | 'would-not-boot';

export interface ErrorData {
  readonly code: ErrorCode;
  /** The structure or field, by its name in the specification: `e_phoff`, `setup_sects`, `relocation table`. */
  readonly what: string;
  /** Offset in the file, or in the part of it that `what` names. */
  readonly offset?: number | undefined;
  /** What is there. Numbers are shown in hex. */
  readonly found?: number | bigint | string | undefined;
  /** What would have been right, as a phrase that follows "expected". Numbers are shown in hex. */
  readonly expected?: number | bigint | string | undefined;
  /** What the user can do about it, as a separate phrase. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

const PROBLEM: Record<ErrorCode, string> = {
  'not-a-kernel': 'not a kernel image',
  'wrong-architecture': 'not an x86-64 kernel',
  truncated: 'file is truncated',
  'bad-value': 'invalid value',
  'corrupt-data': 'corrupt data',
  unsupported: 'not supported',
  'read-differently': "the kernel's own decompressor would not read this the same",
  'no-relocations': 'kernel has no relocation table',
  'already-converted': 'kernel is already converted',
  'too-large': 'too large',
  'would-not-boot': 'would not boot',
};

/** Hex, as kslide prints it: `0x1f6`, `-0x10`. */
export function hex(value: number | bigint): string {
  return value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

/** Longer than every phrase of ours, so only text from a file is cut. Names are cut where they enter a phrase, by `short`. */
const LONGEST_PHRASE = 500;

function shown(value: number | bigint | string): string {
  return typeof value === 'string' ? short(value, LONGEST_PHRASE) : hex(value);
}

function words(data: ErrorData): string {
  let text = `${PROBLEM[data.code]}: ${shown(data.what)}`;
  if (data.offset !== undefined) text += ` at offset ${hex(data.offset)}`;
  if (data.found !== undefined) text += ` is ${shown(data.found)}`;
  if (data.expected !== undefined) text += `${data.found === undefined ? ':' : ','} expected ${shown(data.expected)}`;
  if (data.hint !== undefined) text += `; ${shown(data.hint)}`;
  return text;
}

/** The one error that reading or rewriting a kernel image throws on bad input. */
export class KernelImageError extends Error {
  readonly code: ErrorCode;
  readonly data: ErrorData;

  constructor(data: ErrorData) {
    super(words(data), data.cause === undefined ? undefined : { cause: data.cause });
    this.name = 'KernelImageError';
    this.code = data.code;
    this.data = data;
  }
}
