/** The compact table: the reader of `inspect` and that of `verify` accept the same bytes, and read the same sites in them. */
import assert from 'node:assert/strict';
import { KernelImageError } from '../../../src/base/errors.ts';
import type { Sites } from '../../../src/relocs/tables/apply.ts';
import { encodeCompactTable, readCompactTable } from '../../../src/relocs/tables/compact.ts';
import { decodeCompactTable } from '../../../src/verify/table/compact.ts';
import { LINK, TABLE, entryAt } from '../../make-vmlinux.ts';
import type { FieldAt } from '../fields.ts';
import type { Target } from '../target.ts';

/** Runs, bitmaps, all lengths of chains, sites that are not aligned. */
function makeSites(step: number): Sites {
  const run = Array.from({ length: 150 }, (_, index) => LINK + 0x4000 + index * 8);
  const bits = Array.from({ length: 40 }, (_, index) => LINK + 0x8000 + index * 24 * step);
  const odd = Array.from({ length: 9 }, (_, index) => LINK + 0x10_0003 + index * 9 * step);
  const chains = Array.from({ length: 200 }, (_, index) => LINK + 0x20_0000 + index * 5 + (index >> 3) * 0x300 * step);
  const list = (places: readonly number[]): Uint32Array => Uint32Array.from(places, entryAt);
  return { abs64: list([...run, ...bits, ...odd]), abs32: list(chains), inverse32: list([LINK + 4, LINK + 0x600]) };
}

const attempt = (read: () => Sites): Sites | KernelImageError => {
  try {
    return read();
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
};

const target: Target = {
  seeds: () => [TABLE, makeSites(1), makeSites(7)].map((sites) => encodeCompactTable(sites)),
  run(input) {
    const ours = attempt(() => readCompactTable(input));
    const theirs = attempt(() => decodeCompactTable(input, 0));
    if (ours instanceof KernelImageError) {
      assert.ok(theirs instanceof KernelImageError, `verify accepts what inspect refuses: ${ours.message}`);
      throw theirs;
    }
    if (theirs instanceof KernelImageError)
      throw new assert.AssertionError({ message: `verify refuses: ${theirs.message}` });
    for (const name of ['abs64', 'inverse32', 'abs32'] as const) assert.deepEqual(theirs[name], ours[name], name);
    return 'read';
  },
  fields: (input): FieldAt[] =>
    input.length < 4
      ? []
      : Array.from({ length: Math.min(64, input.length - 3) }, (_, offset) => ({
          offset,
          width: offset % 3 === 0 ? 4 : 1,
        })),
  longest: 2048,
  executions: 1000,
};
export default target;
