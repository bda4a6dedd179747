/** Relocations from the image alone: a small vmlinux with a field of each kind. */
import { ascii } from '../../../src/base/bytes.ts';
import { readVmlinux } from '../../../src/kernel/vmlinux.ts';
import { recoverRelocations } from '../../../src/recover/recover.ts';
import { checkSites } from '../../../src/relocs/tables/kernel-table.ts';
import { DATA_AT, fromHex, link, makeRecoverKernel, pointer, RODATA } from '../../recover/make-kernel.ts';
import { elfFields } from '../fields.ts';
import type { Target } from '../target.ts';

const CODE = [
  `48c7c7${link(DATA_AT)}`,
  `488b0cc5${link(DATA_AT)}`,
  `49bd${pointer(DATA_AT)}`,
  `48c7c7${link(RODATA + 1)} 48c7c600000000`,
  `4d69f6${link(RODATA + 1)}`,
  '480500600001',
  '65488b0500010000',
  '48b8edfead0b30000000 49c7460800000000',
].join('');

const target: Target = {
  seeds: () =>
    [true, false].map((perCpu) =>
      makeRecoverKernel({
        code: CODE,
        perCpu,
        rodata: ascii('\0KERNELOFFSET=%lx\n\0'),
        data: fromHex(pointer(DATA_AT + 0x40) + pointer(RODATA + 1)),
      }),
    ),
  run(input) {
    const kernel = readVmlinux(input);
    const { table, doubts } = recoverRelocations(kernel);
    checkSites(table, kernel.loads);
    return `${Math.min(table.abs32.length, 8)} 32-bit, ${Math.min(doubts.length, 4)} doubts`;
  },
  fields: elfFields,
  longest: 0x10000,
  executions: 2000,
};
export default target;
