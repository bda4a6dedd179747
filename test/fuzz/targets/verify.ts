/** `verify` of a mutated file against the original: nothing but what `convert` writes is proved. */
import assert from 'node:assert/strict';
import { makeVmlinux } from '../../make-vmlinux.ts';
import { fieldsAt, elfFields } from '../fields.ts';
import { converted } from '../make/kernels.ts';
import { verdictOf } from '../make/proof.ts';
import { readElf } from '../../../src/elf/read.ts';
import { PARAMETERS } from '../../../src/segment/layout.ts';
import { findSegment } from '../../../src/segment/read.ts';
import type { Target } from '../target.ts';

const original = makeVmlinux();
const genuine = await Promise.all((['compact', 'kernel'] as const).map((table) => converted(original, table)));
const paramsAt = findSegment(readElf(genuine[0]!))!.offset;

const target: Target = {
  seeds: () => genuine,
  async run(input) {
    const isGenuine = genuine.some((bytes) => Buffer.from(bytes).equals(input));
    const verdict = await verdictOf(original, input);
    assert.equal(verdict === 'proved', isGenuine, isGenuine ? 'a genuine file is refuted' : 'a forged file is proved');
    return verdict;
  },
  fields: (input) => [...elfFields(input), ...fieldsAt(input, paramsAt, PARAMETERS)],
  executions: 700,
};
export default target;
