/** One old and one new kernel on machines and from boot loaders of many kinds. Unless it says otherwise, a test boots by both entries. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { checkRandom, checkSlide, ENTRIES, findKernels, oldestAndNewest, PARALLEL, prepare, run } from './lane.ts';
import type { GuestBoot } from './lane.ts';

const GIB = 2 ** 30;

for (const item of oldestAndNewest(await findKernels())) {
  const kernel = await prepare(item);

  /** Boots that must slide. */
  const slide = async (options: Partial<BootOptions>): Promise<GuestBoot> => {
    const result = await run(kernel, options);
    checkSlide(kernel, result.moved);
    return result;
  };
  const byBoth = (options: Partial<BootOptions>): Promise<GuestBoot[]> =>
    Promise.all(ENTRIES.map((entry) => slide({ entry, ...options })));

  describe(kernel.name, { concurrency: PARALLEL }, () => {
    test('two processors', async () => {
      for (const { guest } of await byBoth({ cpus: 2 })) assert.equal(guest.cpus, 2);
    });

    test('a processor without RDRAND and RDSEED still gives slides', async () => {
      const cpu = 'max,-rdrand,-rdseed';
      const boots = [...(await byBoth({ cpu })), ...(await byBoth({ cpu }))];
      checkRandom(
        'slide',
        boots.map(({ moved }) => moved),
      );
    });

    test('the oldest x86-64 processor that QEMU has', async () => void (await byBoth({ cpu: 'qemu64' })));

    // Which loops the relocation step takes: by the vendor, and by POPCNT and BMI1. `max` is AMD's, with both.
    for (const cpu of ['Nehalem', 'Opteron_G1', 'max,-bmi1', 'max,-popcnt', 'max,vendor=GenuineIntel'])
      test(`${cpu}: another way through the table`, async () => void (await byBoth({ cpu })));

    test('a processor without la57', async () => void (await byBoth({ cpu: 'max,-la57' })));

    test('linux64: entered with 5-level page tables', async () => {
      const { guest } = await slide({ entry: 'linux64', linux64: { fiveLevel: true } });
      // Below the lowest address that 4 levels can have.
      assert.ok(
        guest.kcore.some(({ start }) => start < 0xffff_8000_0000_0000n),
        'the kernel uses 4 levels',
      );
    });

    test('linux64: physical slides, which are independent of the virtual one', async () => {
      const linked = Number(kernel.text - START_KERNEL_MAP);
      for (const physicalSlide of [0x20_0000, 0x340_0000, 0x800_0000]) {
        const { guest } = await slide({ entry: 'linux64', linux64: { physicalSlide } });
        assert.equal(guest.physicalText, linked + physicalSlide);
      }
    });

    test('128 MiB', async () => void (await byBoth({ memoryMib: 128 })));

    test('6 GiB', async () => void (await byBoth({ memoryMib: 6144 })));

    test('machine q35', async () => void (await byBoth({ machine: 'q35' })));

    test('machine microvm', async () => {
      // Its only clock for calibration is the PIT, which under TCG fails one boot in eight, converted or not, and the kernel hangs.
      // TCG's TSC runs at 1 GHz.
      await byBoth({ machine: 'microvm', append: 'tsc_early_khz=1000000' });
    });

    test('linux64: 1 GiB mapped, and the selectors of Firecracker', async () => {
      await slide({ entry: 'linux64', linux64: { identityGib: 1, selectors: { code: 0x08, data: 0x10 } } });
    });

    test('linux64: a seed from the boot loader', async () => {
      const rngSeed = Uint8Array.from({ length: 32 }, (_, i) => i);
      const boots = [1, 2, 3].map(() => slide({ entry: 'linux64', linux64: { rngSeed } }));
      checkRandom(
        'slide',
        (await Promise.all(boots)).map(({ moved }) => moved),
      );
    });

    test('linux64: no command line at all', async () => {
      const { console } = await slide({ entry: 'linux64', linux64: { commandLine: 'none' } });
      assert.doesNotMatch(console, /Linux version/);
    });

    test('linux64: a command line above 4 GiB is read', async () => {
      const linux64 = { commandLine: { copiedTo: 5 * GIB }, identityGib: 6 } as const;
      await slide({ entry: 'linux64', memoryMib: 6144, linux64 });
      assert.equal((await run(kernel, { entry: 'linux64', memoryMib: 6144, linux64, append: 'nokaslr' })).moved, 0);
    });
  });
}
