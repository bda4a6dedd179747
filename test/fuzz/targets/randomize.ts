/** `randomize`: the same seed gives the same file, and it does not change the kernel that it was given. */
import assert from 'node:assert/strict';
import { openRandomizer } from '../../../src/randomize.ts';
import type { RandomizeOptions } from '../../../src/randomize.ts';
import { isRefusal } from '../execute.ts';
import { elfFields } from '../fields.ts';
import { codecs, vmlinuxes } from '../make/kernels.ts';
import type { Target } from '../target.ts';

const seed = new Uint8Array(16).fill(7);
const WAYS: readonly RandomizeOptions[] = [
  { virt: 'random', seed },
  { virt: 'random', phys: 'random', seed, memory: 2 ** 32 },
  { virt: 0x20_0000, phys: 0x40_0000, entry: 'linux64', flag: false },
  { virt: 0x600_0000, entry: 'pvh', force: true },
];

const target: Target = {
  seeds: vmlinuxes,
  async run(input) {
    const before = input.slice();
    const randomizer = await openRandomizer(input, { codecs });
    const made = (options: RandomizeOptions): Uint8Array | undefined => {
      try {
        return randomizer.randomize(options).bytes();
      } catch (error) {
        if (isRefusal(error)) return undefined;
        throw error;
      }
    };
    const first = WAYS.map(made);
    const again = WAYS.map(made);
    for (const [index, bytes] of first.entries())
      assert.ok(Buffer.from(bytes ?? []).equals(again[index] ?? new Uint8Array()), 'another file');
    assert.ok(Buffer.from(before).equals(input), 'the input was changed');
    return first.map((bytes) => (bytes === undefined ? 'refused' : 'made')).join(' ');
  },
  fields: elfFields,
  executions: 800,
};
export default target;
