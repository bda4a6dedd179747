/**
 * Debian's 6.12 cloud kernel, whose debug vmlinux has no relocations, shuffled by what is recovered without them, on a machine. Whether that is all there is,
 * only the machine can tell here; on 6.1, where relocations tell, shuffle.test.ts compares. The debug package is a download of 318 MB.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { convert } from '../../src/convert.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import { readBacktrace, readShuffleGuest } from '../guest/shuffle.ts';
import { checkShuffledGuest, GUEST, prepareShuffle } from './shuffle-lane.ts';
import { inTurn } from './lane.ts';

const lane = await prepareShuffle('6.12');

if (typeof lane === 'string') test('shuffle --recover', { skip: lane }, () => {});
else {
  const { image, debug, plan, initrd } = lane;
  const run = (kernel: Uint8Array, options: Partial<BootOptions>): ReturnType<typeof boot> =>
    inTurn(() => boot({ image: kernel, initrd, ...GUEST, timeoutMs: 240_000, ...options }));

  test('most functions move', () => {
    const moved = plan.facts.functions - Object.values(plan.facts.staying).reduce((sum, some) => sum + some, 0);
    assert.ok(moved > plan.facts.functions * 0.9, JSON.stringify(plan.facts));
  });

  test('pvh and linux64, one CPU and two: all that finds code by address or by name', { concurrency: 2 }, async (t) => {
    const reference = await run((await convert(image, { codecs: nodeCodecs })).bytes(), { entry: 'pvh' });
    assert.ok(readShuffleGuest(reference.console).has('end'), reference.console.slice(-1500));
    const boots = [
      { seed: 1, entry: 'pvh' as const, cpus: 2 },
      { seed: 2, entry: 'linux64' as const, cpus: 1 },
    ].map(({ seed, ...options }) =>
      t.test(`seed ${seed}, ${options.entry}`, async () => {
        const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(seed) });
        const result = await run(shuffled.bytes(), options);
        checkShuffledGuest(result, shuffled, options.cpus);
        assert.deepEqual(readBacktrace(result.console), readBacktrace(reference.console));
        assert.ok(result.slide !== undefined, 'no slide');
      }),
    );
    await Promise.all(boots);
  });

  test('verify --shuffled finds it consistent', async () => {
    const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(3) });
    const options = { codecs: nodeCodecs, debug, recover: true };
    const { verdict, offence } = await verifyShuffled(image, shuffled.bytes(), options);
    assert.equal(verdict, 'consistent', JSON.stringify(offence));
  });
}
