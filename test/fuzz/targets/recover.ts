/** Relocations from the image alone: a small vmlinux with a field of each kind. */
import { ascii } from '../../../src/base/bytes.ts';
import { readVmlinux } from '../../../src/kernel/vmlinux.ts';
import { recoverRelocations } from '../../../src/recover/recover.ts';
import { checkSites } from '../../../src/relocs/tables/kernel-table.ts';
import { LAYOUTS, makeKallsyms } from '../../kernel/make-kallsyms.ts';
import type { TestSymbol } from '../../kernel/make-kallsyms.ts';
import { DATA, DATA_AT, fromHex, link, makeRecoverKernel, pointer, RODATA, TEXT } from '../../recover/make-kernel.ts';
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

const RODATA_TEXT = ascii('\0KERNELOFFSET=%lx\n\0');
const KALLSYMS_AT = 0x18;
const SYMBOLS: readonly TestSymbol[] = [
  { place: TEXT, type: 'T', name: '_text' },
  ...Array.from({ length: 300 }, (_, index) => ({ place: TEXT + 0x1000 + index, type: 't', name: `func${index}` })),
  { place: DATA, type: 'D', name: 'phys_base' },
];

const target: Target = {
  seeds: () =>
    ([undefined, LAYOUTS['5.10'], LAYOUTS['6.12'], LAYOUTS['7.3']] as const).map((layout) => {
      const made = layout === undefined ? [] : makeKallsyms(SYMBOLS, layout, RODATA + KALLSYMS_AT).bytes;
      const rodata = new Uint8Array(KALLSYMS_AT + made.length);
      rodata.set(RODATA_TEXT);
      rodata.set(made, KALLSYMS_AT);
      return makeRecoverKernel({
        code: CODE,
        perCpu: layout !== LAYOUTS['7.3'],
        rodata,
        data: fromHex(pointer(DATA_AT + 0x40) + pointer(RODATA + 1)),
      });
    }),
  run(input) {
    const kernel = readVmlinux(input);
    const { table, doubts, evidence } = recoverRelocations(kernel);
    checkSites(table, kernel.loads);
    return `${Math.min(table.abs32.length, 8)} 32-bit, ${Math.min(doubts.length, 4)} doubts, ${evidence.symbols.join() || 'no symbols'}`;
  },
  fields: elfFields,
  longest: 0x10000,
  executions: 2000,
};
export default target;
