/**
 * Debian's 6.1 cloud kernel, shuffled, on a machine: does everything still work that finds code by its address or its name?
 *
 * Its debug package is a download of 310 MB; a release of the distribution that has no 6.1 skips this, by name. More seeds: scripts/shuffle-seeds.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { convert } from '../../src/convert.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import { readBacktrace, readShuffleGuest } from '../guest/shuffle.ts';
import { compareReferences } from '../shuffle/compare-plans.ts';
import { checkShuffledGuest, GUEST, prepareShuffle } from './shuffle-lane.ts';
import { inTurn } from './lane.ts';

const lane = await prepareShuffle();

if (typeof lane === 'string') test('shuffle', { skip: lane }, () => {});
else {
  const { image, debug, plan, initrd } = lane;
  const run = (kernel: Uint8Array, options: Partial<BootOptions>): ReturnType<typeof boot> =>
    inTurn(() => boot({ image: kernel, initrd, ...GUEST, timeoutMs: 240_000, ...options }));

  test('most functions move', () => {
    const moved = plan.runs.reduce((sum, { count }) => sum + count, 0);
    assert.ok(moved > plan.facts.functions * 0.9, `${moved} of ${plan.facts.functions}`);
  });

  test('pvh and linux64, one CPU and two: all that finds code by address or by name', { concurrency: 2 }, async (t) => {
    const reference = await run((await convert(image, { codecs: nodeCodecs })).bytes(), { entry: 'pvh' });
    assert.ok(readShuffleGuest(reference.console).has('end'), reference.console.slice(-1500));
    for (const { seed, ...options } of [
      { seed: 1, entry: 'pvh' as const, cpus: 2 },
      { seed: 2, entry: 'linux64' as const, cpus: 1 },
    ]) {
      await t.test(`seed ${seed}, ${options.entry}`, async () => {
        const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(seed) });
        const result = await run(shuffled.bytes(), options);
        checkShuffledGuest(result, shuffled, options.cpus);
        assert.deepEqual(readBacktrace(result.console), readBacktrace(reference.console));
        assert.ok(result.slide !== undefined, 'no slide');
      });
    }
  });

  test('a plain one boots as well, where it is linked', async () => {
    const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(3), plain: true });
    const { end, slide, console } = await inTurn(() =>
      boot({ image: shuffled.bytes(), cpu: GUEST.cpu, timeoutMs: 240_000 }),
    );
    assert.equal(end, 'panic'); // no initramfs
    assert.equal(slide, 0, console.slice(-1500));
  });

  test('references are found without relocations as well: none is missed, none invented', async () => {
    const recovered = await planShuffle(image, { codecs: nodeCodecs, debug, recover: true });
    const compared = compareReferences(plan, recovered);
    for (const [list, { missed, invented, other }] of Object.entries(compared))
      assert.deepEqual([missed, invented, other], [[], [], []], list);
    const same = Object.values(compared).reduce((sum, list) => sum + list.same, 0);
    assert.ok(same > 100_000, `${same} references`);
  });

  test('verify --shuffled proves it', async () => {
    const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(4) });
    const { verdict, offence } = await verifyShuffled(image, shuffled.bytes(), { codecs: nodeCodecs, debug });
    assert.equal(verdict, 'proved', JSON.stringify(offence));
  });
}
