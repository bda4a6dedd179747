/** A plan file, and the kernel that is made by it. */
import { joinParts, Writer } from '../../../src/base/bytes.ts';
import { memorySource } from '../../../src/relocs/tool/byte-source.ts';
import { decodePlan, encodePlan } from '../../../src/shuffle/plan/plan-file.ts';
import { fingerprint } from '../../../src/shuffle/read/identity.ts';
import { openShuffler, planShuffle } from '../../../src/shuffle/shuffle.ts';
import { makeKernel } from '../../shuffle/make-kernel.ts';
import { wordFields } from '../fields.ts';
import { codecs } from '../make/kernels.ts';
import type { Target } from '../target.ts';

const { unstripped } = makeKernel();
const HEADER = 16;

const target: Target = {
  seeds: async () => [
    joinParts(encodePlan(await planShuffle(unstripped, { codecs, debug: memorySource(unstripped) }))),
  ],
  async run(input) {
    const plan = decodePlan(input);
    const shuffler = await openShuffler(unstripped, { codecs, plan });
    const { symbols } = shuffler.shuffle({ seed: Uint8Array.of(1, 2, 3) });
    symbols();
    return 'shuffled';
  },
  fields: wordFields,
  repair(input) {
    if (input.length >= HEADER) new Writer(input).u32(12, fingerprint(input.subarray(HEADER)));
    return input;
  },
  words: [
    '"$words":',
    '"$bytes":',
    '1',
    '-1',
    '1e300',
    '4294967296',
    '0.5',
    'null',
    '{}',
    '[]',
    '""',
    '"count":',
    '"starts"',
  ],
  executions: 3000,
};
export default target;
