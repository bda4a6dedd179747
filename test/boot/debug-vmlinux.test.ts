/**
 * A whole kernel's relocations: what is collected from Debian's debug vmlinux against the table that Debian's own build made of it, at the end of
 * the bzImage's payload. Nothing is booted; it stands in this lane because of what there is to fetch.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { readInput } from '../../src/kernel/input.ts';
import { openByteSource } from '../../src/node/files/byte-source.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { fetchDebugKernel } from '../debug-kernel.ts';

const fetched = await fetchDebugKernel();

if (typeof fetched === 'string') test('debug vmlinux', { skip: fetched }, () => {});
else {
  test('the debug vmlinux gives the table that the bzImage of the same build carries', async () => {
    const { kernel, vmlinux } = fetched;
    const source = await openByteSource(vmlinux);
    const table = encodeRelocationTable(collectRelocations(source));
    source.close();
    const input = await readInput(new Uint8Array(await readFile(kernel.image)), { codecs: nodeCodecs });
    assert.deepEqual(Buffer.from(table), Buffer.from(readVmlinux(input.vmlinux).trailer), kernel.release);
  });
}
