/** `bzimage`, in all three forms: what is rebuilt is proved, and a flipped bit of it outside of the compressed payload is refuted. */
import assert from 'node:assert/strict';
import { readSetupHeader } from '../../../src/bzimage/header.ts';
import { readPayload } from '../../../src/bzimage/payload.ts';
import { rebuildBzImage } from '../../../src/rebuild.ts';
import type { RebuildOptions } from '../../../src/rebuild.ts';
import { makeVmlinux } from '../../make-vmlinux.ts';
import { Random } from '../../codecs/tools.ts';
import { isRefusal } from '../execute.ts';
import { peFields, setupFields } from '../fields.ts';
import { addPe } from '../make/images.ts';
import { bzImageOf, codecs, encoders } from '../make/kernels.ts';
import { isProved } from '../make/proof.ts';
import type { Target } from '../target.ts';

const FORMS: readonly Partial<RebuildOptions>[] = [{}, { tableAtEnd: true }, { uncompressed: true }];

async function rebuild(input: Uint8Array, form: Partial<RebuildOptions>): Promise<string> {
  let bytes: Uint8Array;
  try {
    ({ bytes } = await rebuildBzImage(input, { codecs, encoders, ...form }));
  } catch (error) {
    if (isRefusal(error)) return error.message.split(':')[0]!;
    throw error;
  }
  assert.ok(await isProved(input, bytes), 'what is rebuilt is proved');
  const { compression, offset, length } = readPayload(bytes, readSetupHeader(bytes));
  const random = new Random(bytes.length + input[input.length >> 1]!);
  const at = random.below(bytes.length);
  // Compressed bytes may be any that decode to the same.
  if (compression !== undefined && at >= offset && at < offset + length) return 'proved';
  bytes[at]! ^= 1 << random.below(8);
  assert.ok(!(await isProved(input, bytes)), `a bit of the byte at ${at} is flipped, and it is proved`);
  return 'proved';
}

const target: Target = {
  seeds: () => {
    const image = bzImageOf(makeVmlinux());
    return [image, addPe(image, 0), addPe(image, 0x200)];
  },
  async run(input) {
    const outcomes: string[] = [];
    for (const form of FORMS) outcomes.push(await rebuild(input, form));
    return outcomes.join(', ');
  },
  fields: (input) => [...setupFields(input), ...setupFields(input), ...peFields(input)],
  executions: 100,
};
export default target;
