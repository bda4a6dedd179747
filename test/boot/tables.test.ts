/**
 * Tables of real kernels that are not whole, or of another build. Nothing is booted; it stands in this lane because of what there is to fetch: two flavours of
 * one version, and a kernel whose per-cpu data is not linked at 0 where there is one.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, test } from 'node:test';
import { joinParts } from '../../src/base/bytes.ts';
import { convert } from '../../src/convert.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { openKernel } from '../../src/kernel/open.ts';
import type { OpenedKernel } from '../../src/kernel/open.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { checkTable, findRelocations } from '../../src/relocs/find.ts';
import { encodeRelocationTable, LISTS } from '../../src/relocs/tables/kernel-table.ts';
import type { ListName, RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { findKernels } from './lane.ts';

const codecs = nodeCodecs;

interface Subject {
  readonly name: string;
  readonly opened: OpenedKernel;
  readonly table: RelocationTable;
}

const subjects: Subject[] = [];
before(async () => {
  const { own } = await findKernels();
  assert.ok(own.length >= 2, `two kernels are needed, ${own.length} found`);
  for (const { image, release } of own) {
    const opened = await openKernel(new Uint8Array(await readFile(image)), 'rewrite', { codecs });
    subjects.push({ name: release, opened, table: findRelocations(opened.kernel, opened.input) });
  }
});

const without = (list: Uint32Array, from: number, count: number): Uint32Array =>
  list.filter((_, index) => index < from || index >= from + count);

function refusal(table: RelocationTable, { opened }: Subject, thoroughness: 'samples' | 'all'): string | undefined {
  try {
    checkTable(table, opened.kernel, { thoroughness });
    return undefined;
  } catch (error) {
    assert.ok(error instanceof KernelImageError, String(error));
    return error.message;
  }
}

test("each kernel's own table fits, by samples and by every byte", () => {
  for (const subject of subjects)
    for (const thoroughness of ['samples', 'all'] as const)
      assert.equal(refusal(subject.table, subject, thoroughness), undefined, `${subject.name}, ${thoroughness}`);
});

test('the table of every other kernel is refused, with a count and three sites', async () => {
  for (const subject of subjects)
    for (const other of subjects) {
      if (other === subject) continue;
      const relocs = encodeRelocationTable(other.table);
      await assert.rejects(convert(subject.opened.kernel.elf.bytes, { codecs, relocs }), (error) => {
        assert.ok(error instanceof KernelImageError, String(error));
        assert.equal(error.code, 'bad-value');
        assert.match(
          error.message,
          /\((0x\w+ holds 0x\w+, ){2}0x\w+ holds 0x\w+\)|inside|lists/,
          `${other.name} on ${subject.name}`,
        );
        return true;
      });
    }
});

test('a list that was cut at its end, or has a hole of 4,000 bytes, is refused', () => {
  for (const subject of subjects)
    for (const { name } of LISTS) {
      const list = subject.table[name];
      if (list.length === 0) continue;
      for (const from of [0, 0.31, 0.5, 0.77, 1]) {
        const hole = without(list, Math.floor(from * (list.length - 1000)), 1000);
        const cut: RelocationTable = { ...subject.table, [name as ListName]: hole };
        // In the inverse list, samples find 17 to 20 of 20 such holes (docs/security.md).
        for (const thoroughness of name === 'inverse32' ? (['all'] as const) : (['samples', 'all'] as const))
          assert.match(
            refusal(cut, subject, thoroughness) ?? 'taken',
            /^invalid value: count of .* not in the relocation table, is \d+ \((0x\w+ holds 0x\w+, ){2}0x\w+ holds 0x\w+\)/,
            `${subject.name}, ${name} from ${from}, ${thoroughness}`,
          );
      }
    }
});

test('every byte read, a hole of 300 sites is found in the 64-bit list, and in both lists sites lost here and there', () => {
  for (const subject of subjects)
    for (const name of ['abs64', 'abs32'] as const) {
      const list = subject.table[name];
      for (const from of name === 'abs64' ? [0, 0.2, 0.4, 0.6, 0.8] : []) {
        const hole = without(list, Math.floor(from * (list.length - 300)), 300);
        assert.ok(
          refusal({ ...subject.table, [name]: hole }, subject, 'all') !== undefined,
          `${subject.name}, ${name} ${from}`,
        );
      }
      const sparse = list.filter((_, index) => index % 997 !== 5);
      assert.ok(
        refusal({ ...subject.table, [name]: sparse }, subject, 'all') !== undefined,
        `${subject.name}, ${name}`,
      );
    }
});

test('four zero bytes after a table change nothing; two lists for a kernel of three are refused', async () => {
  for (const { opened, table } of subjects) {
    const vmlinux = opened.kernel.elf.bytes;
    const right = (await convert(joinParts([vmlinux, encodeRelocationTable(table)]), { codecs })).bytes();
    const relocs = joinParts([encodeRelocationTable(table), new Uint8Array(4)]);
    assert.deepEqual(Buffer.compare((await convert(vmlinux, { codecs, relocs })).bytes(), right), 0);
    if (table.inverse32.length === 0) continue;
    const two = encodeRelocationTable({ ...table, inverse32: new Uint32Array(), lists: 2 });
    await assert.rejects(convert(vmlinux, { codecs, relocs: two }), /is two lists, expected three/);
  }
});
