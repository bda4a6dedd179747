/**
 * The converted file while it is examined. Checks state what its bytes must be. A statement that is false is refuted at once; one that is true
 * accounts for its bytes, and Evidence records which. In the end the record must cover the whole file, each byte once.
 */
import type { FileOffset } from '../base/addresses.ts';
import { firstDifference, Reader } from '../base/bytes.ts';
import type { Layout, FieldValues } from '../elf/fields.ts';
import { hex } from '../base/errors.ts';

/** What is wrong, and where. Numbers are in hex, as text: they may be 64 bits wide. */
export interface Finding {
  /** The structure or field, by its name in the specification or in segment/layout.ts. */
  readonly what: string;
  /** Offset in the converted file. */
  readonly offset: FileOffset;
  readonly found: string;
  readonly expected: string;
}

/** Thrown to end a check; `verify` catches it and never throws it on. */
export class Refutation extends Error {
  override readonly name = 'Refutation';
  readonly finding: Finding;

  constructor(finding: Finding) {
    super(finding.what);
    this.finding = finding;
  }
}

type Value = number | bigint | string;

/** Numbers in hex; text as it is. */
export function shown(value: Value): string {
  return typeof value === 'string' ? value : hex(value);
}

export function refute(
  what: string,
  offset: FileOffset,
  { found, expected }: { readonly found: Value; readonly expected: Value },
): never {
  throw new Refutation({ what, offset, found: shown(found), expected: shown(expected) });
}

/** Compared with one stretch after the other, so that no field of a file decides how much memory zeros take. */
const ZEROS = new Uint8Array(0x1_0000);

export class Evidence {
  readonly bytes: Uint8Array;
  readonly #reader: Reader;
  /** Start and end of each stretch that is accounted for, in the order of the checks. */
  readonly #proved: [start: FileOffset, end: FileOffset][] = [];

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#reader = new Reader(bytes);
  }

  /** Reads a field, whatever its value. Does not account for it. */
  read<L extends Layout>(what: string, at: FileOffset, layout: L, name: keyof L & string): bigint {
    const [offset, width] = layout[name]!;
    this.#need(`${what}: ${name}`, at + offset, width);
    return this.#reader.uint(at + offset, width, name);
  }

  /** Whether the bytes at `at` are these. Does not account for them. */
  holds(at: FileOffset, expected: Uint8Array): boolean {
    const end = at + expected.length;
    return end <= this.bytes.length && firstDifference(this.bytes.subarray(at, end), expected) < 0;
  }

  expectFields<L extends Layout>(what: string, at: FileOffset, layout: L, values: FieldValues<L>): void {
    for (const [name, value] of Object.entries(values) as [keyof L & string, number | bigint][]) {
      const [offset, width] = layout[name]!;
      const found = this.read(what, at, layout, name);
      if (found !== BigInt(value)) refute(`${what}: ${name}`, at + offset, { found, expected: value });
      this.accept(at + offset, at + offset + width);
    }
  }

  expectBytes(what: string, at: FileOffset, expected: Uint8Array): void {
    this.#need(what, at, expected.length);
    const difference = firstDifference(this.bytes.subarray(at, at + expected.length), expected);
    if (difference >= 0) {
      const offset = at + difference;
      refute(what, offset, { found: this.bytes[offset]!, expected: expected[difference]! });
    }
    this.accept(at, at + expected.length);
  }

  expectZeros(what: string, start: FileOffset, end: FileOffset): void {
    if (end <= start) return;
    this.#need(what, start, end - start);
    for (let at = start; at < end; at += ZEROS.length)
      this.expectBytes(what, at, ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
  }

  /** Accounts for bytes that a check has examined by itself. */
  accept(start: FileOffset, end: FileOffset): void {
    const last = this.#proved.at(-1);
    if (last !== undefined && last[1] === start) last[1] = end;
    else if (end > start) this.#proved.push([start, end]);
  }

  /** Refutes the first byte that no check has accounted for, or that two have. */
  expectAllProved(): void {
    let end = 0;
    for (const [start, next] of this.#proved.toSorted((a, b) => a[0] - b[0])) {
      if (start < end) refute('byte', start, { found: 'in two structures', expected: 'to be in one' });
      if (start > end) this.#refuteUnknown(end, start);
      end = next;
    }
    if (end < this.bytes.length) this.#refuteUnknown(end, this.bytes.length);
  }

  #refuteUnknown(start: FileOffset, end: FileOffset): never {
    const expected = end === this.bytes.length ? 'the end of the file' : 'a part of the conversion';
    return refute('data', start, { found: `${hex(end - start)} bytes that nothing accounts for`, expected });
  }

  #need(what: string, offset: FileOffset, length: number): void {
    if (offset >= 0 && offset + length <= this.bytes.length) return;
    refute(what, offset, {
      found: `past the end of the file at ${hex(this.bytes.length)}`,
      expected: `${hex(length)} bytes`,
    });
  }
}
