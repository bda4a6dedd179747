/** The harness itself, with kernels as they are in the package: what the other tests see is then the doing of `convert`. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { basesOf, bootInTurn, ENTRIES, findKernels, FIXED, oldestAndNewest, PARALLEL, prepare, run } from './lane.ts';

const packages = oldestAndNewest(await findKernels());

for (const item of packages) {
  const kernel = await prepare(item);
  const image = kernel.original;

  describe(`${kernel.name}, not converted`, { concurrency: PARALLEL }, () => {
    for (const entry of ENTRIES) {
      test(`${entry}: everything is where it is linked, and the guest says so`, async () => {
        const { moved, slide, guest, end, report } = await run(kernel, { image, entry });
        assert.deepEqual({ moved, slide, end }, { moved: 0, slide: 0, end: 'poweroff' });
        assert.ok(kernel.name.includes(report.release ?? '?'), `${report.release} of ${kernel.name}`);
        assert.deepEqual(basesOf(guest), FIXED);
        assert.equal(guest.physicalText, Number(kernel.text - START_KERNEL_MAP));
      });
    }

    test('linux64: a physical slide moves the kernel in memory, and nothing else', async () => {
      const physicalSlide = 13 * 0x20_0000;
      const { moved, guest } = await run(kernel, { image, entry: 'linux64', linux64: { physicalSlide } });
      assert.equal(moved, 0);
      assert.equal(guest.physicalText, Number(kernel.text - START_KERNEL_MAP) + physicalSlide);
    });

    test('a kernel without an initramfs panics, and says that KASLR is off', async () => {
      const { end, slide, report } = await bootInTurn(kernel, { image });
      assert.deepEqual({ end, slide }, { end: 'panic', slide: 0 });
      assert.match(report.panic ?? '', /Unable to mount root fs/);
    });
  });
}

describe('what goes wrong', { concurrency: PARALLEL }, async () => {
  const kernel = await prepare(packages[0]!);

  test('5 levels on a processor without la57: the loader says so', async () => {
    const { end, console } = await bootInTurn(kernel, {
      entry: 'linux64',
      cpu: 'max,-la57',
      linux64: { fiveLevel: true },
    });
    assert.equal(end, 'reset');
    assert.match(console, /kslide linux64 loader: this CPU has no la57\r\n/);
  });

  test('a kernel that is not all there resets, or runs out of time', async () => {
    const image = kernel.original.slice();
    image.fill(0x0f, 0x20_0000, 0x40_0000);
    const { end, slide } = await bootInTurn(kernel, { image, timeoutMs: 5_000 });
    assert.ok(end === 'reset' || end === 'timeout', end);
    assert.equal(slide, undefined);
  });

  test('a timeout and an abort end QEMU', async () => {
    const { end, milliseconds } = await bootInTurn(kernel, { timeoutMs: 300 });
    assert.equal(end, 'timeout');
    assert.ok(milliseconds < 10_000);
    assert.equal((await bootInTurn(kernel, { signal: AbortSignal.timeout(300) })).end, 'aborted');
  });

  test('arguments that QEMU refuses are its error, in its words', async () => {
    const { end, errors } = await bootInTurn(kernel, { cpu: 'z80' });
    assert.equal(end, 'qemu-error');
    assert.match(errors, /z80/);
  });

  test('accel auto boots, whatever /dev/kvm is', async () => {
    const { end, slide, accel } = await bootInTurn(kernel, { accel: 'auto' });
    assert.equal(end, 'panic');
    assert.notEqual(slide, undefined);
    assert.ok(accel === 'kvm' || accel === 'tcg');
  });
});
