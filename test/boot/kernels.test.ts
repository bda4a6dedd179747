/** Real kernels, both entries: do they slide, does all of the kernel go along, and do they stay where they are told to? */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { VirtAddr } from '../../src/base/addresses.ts';
import {
  basesOf,
  bootInTurn,
  checkRandom,
  checkSlide,
  ENTRIES,
  findKernels,
  FIXED,
  PARALLEL,
  PMD,
  prepare,
  run,
} from './lane.ts';
import type { GuestBoot } from './lane.ts';

const BOOTS = 3;
const found = await findKernels();

const firstModule = ({ guest }: GuestBoot): VirtAddr => [...guest.moduleAddresses.values()][0]!;

/** The kernel moves them by 1 to 1,024 pages. Where they lie in pages of 2 MiB (seen in 7.3), that leaves two places. */
function checkModules(moves: readonly bigint[]): void {
  assert.ok(!moves.includes(0n), 'a module lies where it lies without KASLR');
  if (moves.some((move) => move % BigInt(PMD) !== 0n)) checkRandom('module', moves);
}

for (const reason of found.lacking) test(reason, { skip: 'this release of the distribution does not have it' });

for (const item of found.packages) {
  const kernel = await prepare(item);

  describe(kernel.name, { concurrency: PARALLEL }, () => {
    for (const entry of ENTRIES) {
      test(`${entry}: every boot has its own slide, bases and module addresses, and nokaslr leaves all at its place`, async () => {
        const still = await run(kernel, { entry, append: 'quiet nokaslr' });
        assert.equal(still.moved, 0);
        assert.deepEqual(basesOf(still.guest), FIXED);

        const boots = await Promise.all(Array.from({ length: BOOTS }, () => run(kernel, { entry })));
        for (const { moved, end } of boots) {
          checkSlide(kernel, moved);
          assert.equal(end, 'poweroff');
        }
        const bases = boots.map(({ guest }) => basesOf(guest));
        checkRandom(
          'slide',
          boots.map(({ moved }) => moved),
        );
        checkRandom(
          'direct map',
          bases.map(({ directMap }) => directMap),
        );
        checkRandom(
          'vmalloc',
          bases.map(({ vmalloc }) => vmalloc),
        );
        checkRandom(
          'vmemmap',
          bases.map(({ vmemmap }) => vmemmap),
        );
        checkModules(boots.map((moving) => firstModule(moving) - firstModule(still)));
      });

      test(`${entry}: a panic prints the slide`, async () => {
        const { end, slide, console } = await bootInTurn(kernel, { entry });
        assert.equal(end, 'panic');
        checkSlide(kernel, slide);
        assert.match(console, /Kernel Offset: 0x/);
      });
    }

    test('linux64: KASLR_FLAG set by the loader leaves the image alone', async () => {
      const { moved, guest } = await run(kernel, { entry: 'linux64', linux64: { kaslrFlag: true } });
      assert.equal(moved, 0);
      // Whoever set it vouches for the slide; the kernel goes on to randomize the rest.
      assert.notDeepEqual(basesOf(guest), FIXED);
    });
  });
}
