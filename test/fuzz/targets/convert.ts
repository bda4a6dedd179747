/** `convert`, `verify` and `inspect` of a small kernel: what converts is proved, and a flipped bit of it is refuted. */
import assert from 'node:assert/strict';
import { convert } from '../../../src/convert.ts';
import { inspect } from '../../../src/inspect.ts';
import { verify } from '../../../src/verify/verify.ts';
import { Random } from '../../codecs/tools.ts';
import { elfFields } from '../fields.ts';
import { codecs, vmlinuxes } from '../make/kernels.ts';
import { isProved } from '../make/proof.ts';
import type { Target } from '../target.ts';

const FLIPS = 2;

const target: Target = {
  seeds: vmlinuxes,
  async run(input) {
    await inspect(input, { codecs });
    const bytes = (await convert(input, { codecs })).bytes();
    const { offence } = await verify(input, bytes, { codecs });
    assert.equal(offence, undefined, 'what converts is proved');
    await inspect(bytes, { codecs });
    const random = new Random(input.length + bytes[bytes.length >> 1]!);
    for (let flip = 0; flip < FLIPS; flip++) {
      const at = random.below(bytes.length);
      const bit = 1 << random.below(8);
      bytes[at]! ^= bit;
      assert.ok(!(await isProved(input, bytes)), `bit ${bit} of the byte at ${at} is flipped, and it is proved`);
      bytes[at]! ^= bit;
    }
    return 'proved';
  },
  fields: elfFields,
  executions: 300,
};
export default target;
