/** Real kernels, both entries: do they slide, does all of the kernel go along, and do they stay where they are told to? */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  basesOf,
  bootInTurn,
  checkRandom,
  checkSlide,
  ENTRIES,
  findKernels,
  FIXED,
  PARALLEL,
  prepare,
  run,
} from './lane.ts';

const BOOTS = 4;
const found = await findKernels();

for (const reason of found.lacking) test(reason, { skip: 'this release of the distribution does not have it' });

for (const item of found.packages) {
  const kernel = await prepare(item);

  describe(kernel.name, { concurrency: PARALLEL }, () => {
    for (const entry of ENTRIES) {
      test(`${entry}: every boot has a slide of its own, modules load, memory regions are randomized`, async () => {
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
        checkRandom(
          'module',
          boots.map(({ guest }) => [...guest.moduleAddresses.values()][0]!),
        );
      });

      test(`${entry}: nokaslr leaves everything where it is linked`, async () => {
        const { moved, guest } = await run(kernel, { entry, append: 'quiet nokaslr' });
        assert.equal(moved, 0);
        assert.deepEqual(basesOf(guest), FIXED);
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
