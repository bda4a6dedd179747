/** The /init that reads /proc/kallsyms, in real kernels: it finds a slide that the panic does not tell. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { nodeCodecs as codecs } from '../../src/node/codecs.ts';
import { packKallsymsGuest } from '../../src/node/qemu/kallsyms-guest.ts';
import { randomize } from '../../src/randomize.ts';
import { slideOfBoot } from '../../src/measure/audit/audit.ts';
import { bootInTurn, checkSlide, findKernels, oldestAndNewest, PARALLEL, PMD, prepare } from './lane.ts';

const initrd = packKallsymsGuest();

for (const item of oldestAndNewest(await findKernels())) {
  const kernel = await prepare(item);
  const image = await readFile(item.image);

  test(`${kernel.name}`, { concurrency: PARALLEL }, async (t) => {
    await Promise.all([
      t.test('moved by the host, without the flag: the panic says "disabled", kallsyms tell', async () => {
        // By this file alone, nothing tells its slide to parseConsole.
        const moved = await randomize(image, {
          codecs,
          virt: 6 * PMD,
          flag: false,
        });
        const { end, report, slide } = await bootInTurn(kernel, { image: moved.bytes(), initrd });
        assert.deepEqual(
          [end, report.kaslr, report.slide, report.guest.text, slide],
          ['panic', 'off', 6 * PMD, kernel.text + BigInt(6 * PMD), 6 * PMD],
        );
        assert.match(report.panic ?? '', /^Attempted to kill init!/);
        assert.equal(slideOfBoot({ report, slide }), 6 * PMD);
      }),
      t.test('moved by itself: panic and kallsyms agree', async () => {
        const { end, report, slide } = await bootInTurn(kernel, { initrd });
        checkSlide(kernel, slide);
        assert.deepEqual([end, report.kaslr, report.guest.text], ['panic', 'on', kernel.text + BigInt(slide)]);
      }),
      t.test('not moved', async () => {
        const { report, slide } = await bootInTurn(kernel, { initrd, append: 'nokaslr' });
        assert.deepEqual([report.kaslr, report.slide, slide], ['off', 0, 0]);
      }),
      t.test('a guest that reads nothing: the file is asked', async () => {
        const { report, slide } = await bootInTurn(kernel, { initrd, append: 'nokaslr rdinit=/nothing' });
        assert.deepEqual([report.kaslr, report.slide, report.guest.text, slide], ['off', undefined, undefined, 0]);
      }),
    ]);
  });
}
