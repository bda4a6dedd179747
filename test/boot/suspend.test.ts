/**
 * Suspend to RAM: the way back runs code at physical addresses, on page tables of its own, and jumps to where the kernel was (arch/x86/kernel/acpi). The
 * kernel comes as a bzImage without a decompressor, so that the stub has moved it: QEMU's firmware does not come back to a kernel that was entered
 * by PVH, also not to the original one (measured).
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { nodeCodecs as codecs } from '../../src/node/codecs.ts';
import { systemEncoders } from '../../src/node/processes/compressors.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import { packSuspendGuest } from '../guest/suspend.ts';
import { bootInTurn, checkSlide, findKernels, oldestAndNewest, prepare } from './lane.ts';

for (const item of oldestAndNewest(await findKernels())) {
  const kernel = await prepare(item);
  const original = await readFile(item.image);

  test(`${kernel.name} suspends to RAM and comes back, moved by the stub`, async () => {
    const { bytes } = await rebuildBzImage(original, { codecs, encoders: systemEncoders, uncompressed: true });
    const { console, report } = await bootInTurn(kernel, {
      image: bytes,
      initrd: packSuspendGuest(),
      memoryMib: 512,
      append: 'no_console_suspend',
    });
    const { guest } = report;
    assert.ok(guest.text !== undefined, console.slice(-1500));
    checkSlide(kernel, Number(guest.text - kernel.text));
    assert.match(console, /ACPI: PM: Waking up from system sleep state S3/);
    // What write() returned, after the sleep: as many bytes as "mem" has.
    assert.match(console, /kslide-guest: suspend=0{15}3\b/);
    assert.ok(guest.done, console.slice(-1500));
  });
}
