/**
 * Plan files save an analysis, so that layouts of the same kernel can be made without repeating it. The format:
 *
 *     "kslplan1"                 8 bytes
 *     u32 length of the head, u32 fingerprint of everything after these 16 bytes
 *     the head: JSON, everything that is not a column of numbers; padded with spaces to a multiple of 4
 *     the columns: u32 each, one column after the other; the head says how long they are
 *
 * A plan says where in a kernel to write what, so a plan that is read is checked as strictly as a kernel. The fingerprint guards against accidents. Then every
 * number is checked against the size of what it indexes (plan-check.ts), so that a wrong plan can give a wrong kernel, but nothing worse.
 */
import { ascii, bytesOfWords, Reader, wordsIn, wordsOfBytes, Writer } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { fingerprint } from '../read/identity.ts';
import { checkPlan } from './plan-check.ts';
import type { Plan } from './plan.ts';

const MAGIC = 'kslplan1';
const HEADER = 16;
const MAX_HEAD = 1 << 20;
/** Nothing in a plan is nested deeper: the runs are objects in a list in the plan. */
const DEPTH_AT_MOST = 3;

/** What the head has in place of a column: its length in words, and for a column of bytes its length in bytes. */
interface ColumnMark {
  readonly $words: number;
  readonly $bytes?: number;
}

export function encodePlan(plan: Plan): Uint8Array[] {
  const columns: Uint8Array[] = [];
  const mark = (words: Uint32Array): ColumnMark => {
    columns.push(bytesOfWords(words));
    return { $words: words.length };
  };
  const text = JSON.stringify(plan, (_, value: unknown) => {
    if (value instanceof Uint32Array) return mark(value);
    if (!(value instanceof Uint8Array)) return value;
    const padded = new Uint8Array(Math.ceil(value.length / 4) * 4);
    padded.set(value);
    return { ...mark(wordsOfBytes(padded)), $bytes: value.length };
  });
  const head = ascii(text.padEnd(Math.ceil(text.length / 4) * 4));
  const body = new Uint8Array(head.length + columns.reduce((sum, { length }) => sum + length, 0));
  body.set(head);
  let at = head.length;
  for (const column of columns) {
    body.set(column, at);
    at += column.length;
  }
  const header = new Writer(new Uint8Array(HEADER));
  header.copy(0, ascii(MAGIC));
  header.u32(8, head.length);
  header.u32(12, fingerprint(body));
  return [header.bytes, body];
}

/**
 * Where possible the columns are views of `bytes`, which must not change while the plan is used. Throws KernelImageError for anything that is not a plan
 * of this version, is damaged, or holds a number that is out of bounds.
 */
export function decodePlan(bytes: Uint8Array): Plan {
  const reader = new Reader(bytes);
  const magic = ascii(MAGIC);
  if (bytes.length < HEADER || !magic.every((byte, at) => bytes[at] === byte)) {
    const ours = ascii('kslplan').every((byte, at) => bytes[at] === byte);
    throw bad('plan', ours ? 'of another version' : 'no plan file', `one that this version of kslide wrote (${MAGIC})`);
  }
  const headLength = reader.u32(8, 'plan: length of its head');
  const body = bytes.subarray(HEADER);
  if (headLength > MAX_HEAD || headLength % 4 !== 0 || headLength > body.length)
    throw bad('plan: length of its head', headLength, 'a multiple of 4 inside the file', 8);
  if (fingerprint(body) !== reader.u32(12, 'plan: fingerprint'))
    throw bad('plan: fingerprint', 'not that of its contents', 'an undamaged file', 12);
  const head = parseHead(body.subarray(0, headLength));
  const offsets = new Map<Uint32Array | Uint8Array, number>();
  let at = headLength;
  const takeColumn = ({ $words, $bytes }: ColumnMark): Uint32Array | Uint8Array => {
    const left = (body.length - at) / 4;
    if (!Number.isInteger($words) || $words < 0 || $words > left)
      throw bad(
        'plan: length of a column',
        Number.isSafeInteger($words) ? $words : 'no whole number',
        `a number of words up to ${hex(Math.floor(left))}, the end of the file`,
        HEADER + at,
      );
    if ($bytes !== undefined && !(Number.isInteger($bytes) && $bytes > ($words - 1) * 4 && $bytes <= $words * 4))
      throw bad('plan: bytes of a column', 'another number', `those of ${hex($words)} words`, HEADER + at);
    const words = wordsIn(body.subarray(at, at + $words * 4));
    const column = $bytes === undefined ? words : bytesOfWords(words).subarray(0, $bytes);
    offsets.set(column, HEADER + at);
    at += $words * 4;
    return column;
  };
  const plan = replaceMarks(head, takeColumn, 0);
  if (at !== body.length) throw bad('plan: end of its columns', HEADER + at, 'the end of the file', HEADER + at);
  return checkPlan(plan, (column) => offsets.get(column));
}

function isMark(value: object): value is ColumnMark {
  return '$words' in value && typeof value.$words === 'number';
}

function parseHead(text: Uint8Array): unknown {
  try {
    let head = '';
    for (const byte of text) head += String.fromCharCode(byte);
    return JSON.parse(head);
  } catch (error) {
    throw bad('plan: its head', 'not JSON', 'what kslide writes', HEADER, error);
  }
}

/**
 * The same value with columns in place of marks. Object.entries, JSON.parse and JSON.stringify go through an object in the same order, so the marks come in the
 * order in which the columns were written.
 */
function replaceMarks(value: unknown, column: (mark: ColumnMark) => unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (isMark(value)) return column(value);
  if (depth === DEPTH_AT_MOST) throw bad('plan: its head', 'nested too deeply', 'what kslide writes', HEADER);
  if (Array.isArray(value)) return value.map((element) => replaceMarks(element, column, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, replaceMarks(field, column, depth + 1)]));
}

function bad(
  what: string,
  found: string | number,
  expected: string | number,
  offset?: number,
  cause?: unknown,
): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what, offset, found, expected, cause });
}
