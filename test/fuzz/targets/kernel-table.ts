/** The kernel's relocation table: three readers, which must agree, and the check of its sites. */
import assert from 'node:assert/strict';
import { START_KERNEL_MAP } from '../../../src/base/addresses.ts';
import type { Segment } from '../../../src/elf/read.ts';
import { KernelImageError } from '../../../src/base/errors.ts';
import { checkSites, encodeRelocationTable, readRelocationTable } from '../../../src/relocs/tables/kernel-table.ts';
import { decodeKernelTable } from '../../../src/verify/table/kernel.ts';
import { LINK, TABLE, entryAt } from '../../make-vmlinux.ts';
import { wordFields } from '../fields.ts';
import type { Target } from '../target.ts';

const SIZE = 0x100_0000;
const load: Segment = {
  index: 0,
  type: 1,
  flags: 7,
  offset: 0x1000,
  vaddr: START_KERNEL_MAP + BigInt(LINK),
  paddr: LINK,
  filesz: SIZE,
  memsz: SIZE,
  align: 0x20_0000,
};

const target: Target = {
  seeds: () => {
    const dense = Uint32Array.from({ length: 300 }, (_, index) => entryAt(LINK + 0x8000 + index * 8));
    const sparse = Uint32Array.from({ length: 100 }, (_, index) => entryAt(LINK + 0x20_0000 + index * 0x111));
    const two = { abs64: dense, inverse32: new Uint32Array(), abs32: sparse, lists: 2 } as const;
    return [TABLE, two, { ...two, lists: 3 as const }].map((table) => encodeRelocationTable(table));
  },
  run(input) {
    const table = readRelocationTable(input);
    const other = decodeKernelTable(input, 0, table.lists);
    for (const name of ['abs64', 'inverse32', 'abs32'] as const) assert.deepEqual(other[name], table[name], name);
    assert.ok(Buffer.from(encodeRelocationTable(table)).equals(input), 'read and written again, it is another table');
    try {
      checkSites(table, [load]);
    } catch (error) {
      if (error instanceof KernelImageError) return `${table.lists} lists, outside`;
      throw error;
    }
    return `${table.lists} lists`;
  },
  fields: wordFields,
  longest: 8192,
  executions: 10_000,
};
export default target;
