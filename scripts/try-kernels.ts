/**
 * Converts kernels, proves each (src/verify/verify.ts), boots it by both entries, and prints a row of docs/kernels.md for it:
 *
 *     node --import tsx scripts/try-kernels.ts VMLINUZ …
 *
 * A kernel is booted without an initramfs: it panics, and its panic says the slide. Exit code 1 when one did not do as it should.
 */
import { readFile } from 'node:fs/promises';
import { convert } from '../src/convert.ts';
import { hex } from '../src/base/errors.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import { verify } from '../src/verify/verify.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { extract } from '../src/extract.ts';

const MEMORY_MIB = 512;
const TIMEOUT_MS = 300_000;

/** The slide that the kernel says, or how it ended without one. */
async function slideBy(entry: 'pvh' | 'linux64', image: Uint8Array): Promise<{ text: string; ok: boolean }> {
  const { slide, end, report } = await boot({ image, entry, memoryMib: MEMORY_MIB, timeoutMs: TIMEOUT_MS });
  if (slide !== undefined && report.kaslr === 'on') return { text: hex(slide), ok: true };
  return { text: `${end}: ${report.panic ?? 'no panic'}`, ok: false };
}

async function tryKernel(path: string): Promise<boolean> {
  const image = await readFile(path);
  const converted = await convert(image, { codecs: nodeCodecs });
  const bytes = converted.bytes();
  const { verdict } = await verify(image, bytes, { codecs: nodeCodecs });
  const { entry, imageStart } = readVmlinux((await extract(image, { codecs: nodeCodecs })).vmlinux);
  const [pvh, linux64] = await Promise.all([slideBy('pvh', bytes), slideBy('linux64', bytes)]);
  const { kernelVersion, compression, relocations, slots } = converted.summary;
  const cells = [
    kernelVersion?.split(' ')[0],
    compression ?? 'none',
    `${relocations.abs64} + ${relocations.inverse32} + ${relocations.abs32}`,
    `+${hex(entry - imageStart)}`,
    slots.count,
    verdict,
    pvh.text,
    linux64.text,
  ];
  console.log(`| ${cells.join(' | ')} |`);
  return verdict === 'proved' && pvh.ok && linux64.ok;
}

console.log('| kernel | payload | relocations | startup_64 | slots | verify | pvh | linux64 |');
console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
for (const path of process.argv.slice(2)) {
  if (!(await tryKernel(path))) process.exitCode = 1;
}
