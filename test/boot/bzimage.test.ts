/**
 * bzImages around converted kernels, by the boot loaders that there are: QEMU's with SeaBIOS, OVMF, and kexec_file_load of a running kernel. One kernel
 * here, and of each form what the others do not show; scripts/try-bzimage.ts has the whole product.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { extract } from '../../src/extract.ts';
import { readInput } from '../../src/kernel/input.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { systemEncoders } from '../../src/node/processes/compressors.ts';
import type { KernelPackage } from '../../scripts/kernels/debian.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import type { RebuildOptions } from '../../src/rebuild.ts';
import { verify } from '../../src/verify/verify.ts';
import { packKexecGuest } from '../guest/kexec.ts';
import { UEFI } from './firmware.ts';
import { bootInTurn, checkSlide, findKernels, PMD, prepare, run } from './lane.ts';
import type { GuestBoot } from './lane.ts';

/** lz4 is compressed in seconds, zstd in most of a minute. */
async function choose(packages: readonly KernelPackage[]): Promise<KernelPackage> {
  for (const item of packages) {
    const { compression } = await readInput(await readFile(item.image), { codecs: nodeCodecs });
    if (compression === 'lz4') return item;
  }
  return packages[0]!;
}

const item = await choose((await findKernels()).packages);
const kernel = await prepare(item);
const original = await readFile(item.image);
const { header } = await readInput(original, { codecs: nodeCodecs });
const link = header?.prefAddress ?? 0;

async function rebuild(options: Partial<RebuildOptions> = {}): Promise<Uint8Array> {
  const { bytes } = await rebuildBzImage(original, { codecs: nodeCodecs, encoders: systemEncoders, ...options });
  const { offence } = await verify(original, bytes, { codecs: nodeCodecs });
  assert.equal(offence, undefined);
  return bytes;
}

const compressed = await rebuild();
const atEnd = await rebuild({ tableAtEnd: true });
const uncompressed = await rebuild({ uncompressed: true });

/** Where the image is, less where it is linked to be; the decompressor moves it by whole slots. */
function physicalSlide({ guest }: GuestBoot): number {
  assert.ok(guest.physicalText !== undefined, 'no kernel code in /proc/iomem');
  const slide = guest.physicalText - link;
  assert.equal(slide % PMD, 0);
  return slide;
}

/** By a decompressor that picks its own place: both slides are there, and neither is the other. With 120 places and 480 slides, twice equal is one in 10,000. */
function checkBoth(boots: readonly GuestBoot[]): void {
  for (const { moved } of boots) checkSlide(kernel, moved);
  const slides = boots.map((result) => `${result.moved} ${physicalSlide(result)}`);
  assert.equal(new Set(slides).size, boots.length, slides.join(', '));
  assert.ok(boots.some((result) => physicalSlide(result) !== result.moved));
}

test('compressed: SeaBIOS and OVMF, two slides each time', { concurrency: true }, async () => {
  const boots = await Promise.all([
    run(kernel, { image: compressed }),
    run(kernel, { image: compressed, memoryMib: 4096 }),
    run(kernel, { image: compressed, timeoutMs: 300_000, ...UEFI }),
  ]);
  checkBoth(boots);
});

test('compressed: nokaslr is obeyed by decompressor and program', async () => {
  const result = await run(kernel, { image: compressed, append: 'nokaslr' });
  assert.deepEqual([result.moved, physicalSlide(result)], [0, 0]);
});

test('compressed: the vmlinux that is extracted boots directly', async () => {
  const { vmlinux } = await extract(compressed, { codecs: nodeCodecs });
  const boots = await Promise.all((['pvh', 'linux64'] as const).map((entry) => run(kernel, { image: vmlinux, entry })));
  for (const { moved } of boots) checkSlide(kernel, moved);
});

test('table at the end: one table for the decompressor and for a direct boot', async () => {
  const { vmlinux } = await extract(atEnd, { codecs: nodeCodecs });
  const [whole, direct] = await Promise.all([run(kernel, { image: atEnd }), run(kernel, { image: vmlinux })]);
  checkSlide(kernel, whole.moved);
  checkSlide(kernel, direct.moved);
});

test('uncompressed: SeaBIOS, moved up to where it is linked', async () => {
  const boots = await Promise.all([
    run(kernel, { image: uncompressed }),
    run(kernel, { image: uncompressed, append: 'nokaslr' }),
  ]);
  checkSlide(kernel, boots[0]!.moved);
  assert.deepEqual(boots.map(physicalSlide), [0, 0]);
  assert.equal(boots[1]!.moved, 0);
});

test('kexec_file_load, out of a rebuilt kernel into an uncompressed one, which runs where it was loaded', async () => {
  const next = { image: uncompressed, initrd: kernel.initrd, commandLine: 'console=ttyS0 panic=-1 no_timer_check' };
  const { report, console } = await bootInTurn(kernel, {
    image: compressed,
    initrd: packKexecGuest(next),
    memoryMib: 1024,
    timeoutMs: 300_000,
  });
  const { guest } = report;
  assert.match(console, /kslide-guest: kexec=0{16}\b/);
  assert.ok(guest.done && guest.text !== undefined, console.slice(-1500));
  checkSlide(kernel, Number(guest.text - kernel.text));
  // By the protocol: at pref_address or above, and aligned.
  assert.ok(guest.physicalText !== undefined && guest.physicalText > link && guest.physicalText % PMD === 0);
});
