/** Real kernels: the judge of a recovered table finds the right one consistent, and refutes one that lacks a site of any kind or has a number of any kind. Nothing boots here. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { physToVirt } from '../../src/base/addresses.ts';
import { hex } from '../../src/base/errors.ts';
import { convertKernel } from '../../src/convert.ts';
import { extract } from '../../src/extract.ts';
import { openKernel } from '../../src/kernel/open.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { recoverRelocations } from '../../src/recover/recover.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { loadOperandDisassembler } from '../../src/shuffle/verify/operand-disassembler.ts';
import { verify } from '../../src/verify/verify.ts';
import { contradictionsOf, forgeAdded, forgeLeftOut, readFields, sitesByKind } from '../verify/forge-tables.ts';
import { findKernel } from './lane.ts';

const codecs = nodeCodecs;
const FORGERIES = 300;
const open = await loadOperandDisassembler();

for (const series of ['6.1', '6.12'] as const) {
  const { name, image } = await findKernel({ series, flavour: 'cloud' });
  const { vmlinux, relocs } = await extract(await readFile(image), { codecs });
  const opened = await openKernel(vmlinux, 'rewrite', { codecs });
  const { kernel } = opened;
  const { table } = recoverRelocations(kernel);
  const converted = (claimed: RelocationTable): Uint8Array =>
    convertKernel(opened, vmlinux.length, { relocations: claimed }).bytes();

  test(`${name}: consistent by its recovered table; proved with the true one`, async () => {
    const result = await verify(vmlinux, converted(table), { codecs, loadDisassembler: loadOperandDisassembler });
    assert.equal(result.offence, undefined);
    assert.equal(result.verdict, 'consistent');
    const whole = await verify(vmlinux, converted(table), { codecs, relocs: relocs() });
    // Zeros of ftrace's table need no relocation; if the recovered table lacks them, it is not the true one.
    assert.ok(whole.verdict === 'proved' || whole.offence?.check === 'table');
  });

  const fields = readFields(kernel, table, open);

  test(`${name}: the first of two sites that were left out is named`, async () => {
    const kinds = sitesByKind(table, fields);
    const gone = [kinds[0]![0]!, kinds[1]![0]!];
    const places = new Set(gone.map(({ place }) => place));
    const without = (list: Uint32Array): Uint32Array => list.filter((entry) => !places.has(entry - 0x8000_0000));
    const { abs64, inverse32, abs32 } = table;
    const wrong = { ...table, abs64: without(abs64), inverse32: without(inverse32), abs32: without(abs32) };
    const { verdict, offence } = await verify(vmlinux, converted(wrong), {
      codecs,
      loadDisassembler: loadOperandDisassembler,
    });
    assert.equal(verdict, 'refuted');
    assert.equal(offence?.check, 'recovered');
    const first = hex(physToVirt(Math.min(...places)));
    assert.match(offence!.what, new RegExp(`field at ${first} \\(the first of 2 contradictions\\)$`));
  });

  test(`${name}: sites of every kind left out, numbers of every kind added`, () => {
    for (const { table: wrong, forged } of [
      forgeLeftOut(table, fields, FORGERIES),
      forgeAdded(kernel, table, fields, FORGERIES),
    ]) {
      assert.equal(forged.length, FORGERIES);
      const found = new Set(contradictionsOf(kernel, wrong, open).map(({ list, place }) => `${list} ${place}`));
      const wanted = forged.filter(({ kind }) => kind !== 'zero-word');
      assert.deepEqual(
        wanted.filter(({ list, place }) => !found.has(`${list} ${place}`)),
        [],
      );
      const places = new Set(forged.map(({ list, place }) => `${list} ${place}`));
      assert.deepEqual(
        [...found].filter((each) => !places.has(each)),
        [],
      );
    }
  });
}
