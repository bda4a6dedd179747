/**
 * Converts kernels, proves each (src/verify/verify.ts), boots it by both entries, and prints a row of docs/kernels.md for it:
 *
 *     node --import tsx scripts/try-kernels.ts [--record] KERNEL …
 *
 * A kernel is booted without an initramfs: it panics, and its panic says the slide. Exit code 1 when one did not do as it should.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { convert } from '../src/convert.ts';
import { hex } from '../src/base/errors.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { verify } from '../src/verify/verify.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { extract } from '../src/extract.ts';
import { STUB } from './docs/program.ts';
import { takeRecordOption, tableOf, withEarlierRows } from './docs/record.ts';
import type { Cell } from './docs/results.ts';

const MEMORY_MIB = 512;
const TIMEOUT_MS = 300_000;

/** The slide that the kernel says, or how it ended without one. */
async function slideBy(entry: 'pvh' | 'linux64', image: Uint8Array): Promise<{ text: string; ok: boolean }> {
  const { slide, end, report } = await boot({ image, entry, memoryMib: MEMORY_MIB, timeoutMs: TIMEOUT_MS });
  if (slide !== undefined && report.kaslr === 'on') return { text: hex(slide), ok: true };
  return { text: `${end}: ${report.panic ?? 'no panic'}`, ok: false };
}

const rows: Cell[][] = [];

async function tryKernel(path: string): Promise<boolean> {
  const image = await readFile(path);
  const converted = await convert(image, { codecs: nodeCodecs });
  const bytes = converted.bytes();
  const { verdict } = await verify(image, bytes, { codecs: nodeCodecs });
  const { entry, imageStart } = readVmlinux((await extract(image, { codecs: nodeCodecs })).vmlinux);
  const [pvh, linux64] = await Promise.all([slideBy('pvh', bytes), slideBy('linux64', bytes)]);
  const { kernelVersion, compression, relocations, slots } = converted.summary;
  const cells: Cell[] = [
    kernelVersion?.split(' ')[0] ?? basename(path),
    compression ?? 'none',
    `${relocations.abs64} + ${relocations.inverse32} + ${relocations.abs32}`,
    `+${hex(entry - imageStart)}`,
    slots.count,
    verdict,
    pvh.text,
    linux64.text,
  ];
  rows.push(cells);
  console.log(`| ${cells.join(' | ')} |`);
  return verdict === 'proved' && pvh.ok && linux64.ok;
}

const COLUMNS = ['kernel', 'payload', 'relocations', 'startup_64', 'slots', 'verify', 'pvh', 'linux64'];
const { record, rest } = takeRecordOption();
console.log(`| ${COLUMNS.join(' | ')} |`);
console.log(`| ${COLUMNS.map(() => '---').join(' | ')} |`);
for (const path of rest) if (!(await tryKernel(path))) process.exitCode = 1;
record?.('try-kernels', {
  machine: `QEMU ${await qemuVersion()} (TCG), -cpu max, ${MEMORY_MIB} MiB`,
  parts: [STUB],
  args: 'KERNEL …',
  note: 'Kernels of Debian and Ubuntu.',
  tables: { kernels: tableOf(COLUMNS, withEarlierRows('try-kernels', 'kernels', rows)) },
});
