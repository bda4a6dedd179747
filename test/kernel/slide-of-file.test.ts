/** What a kernel's file tells of its slide when the kernel says that its KASLR is disabled: moved by the host, as linked, self-relocating. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreCodecs as codecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readElf } from '../../src/elf/read.ts';
import { slideWithKaslrOff } from '../../src/kernel/slide-of-file.ts';
import { randomize } from '../../src/randomize.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { pageTables } from '../page-tables.ts';

const slideOf = (bytes: Uint8Array): number | undefined => slideWithKaslrOff(readElf(bytes));

test('as linked and moved by the host: the page tables or the parameters tell', async () => {
  for (const pvh of [{}, { pvh: 512 }]) {
    const image = makeVmlinux(pageTables({ mapped: 512, ...pvh }));
    assert.equal(slideOf(image), 0);
    for (const flag of [true, false])
      for (const [virt, phys] of [
        [0x1240_0000, 0x1240_0000],
        [0x1240_0000, 0],
        [0x3ee0_0000, 0x20_0000],
        [0, 0x20_0000],
      ] as const) {
        const moved = await randomize(image, { codecs, virt, phys, flag, entry: 'linux64', memory: 0x8000_0000 });
        assert.equal(slideOf(moved.bytes()), virt, `${virt} ${phys} ${flag}`);
      }
  }
});

test('self-relocating: where it is linked, unless the kernel never tells', async () => {
  const converted = async (mapped: number): Promise<Uint8Array> =>
    (await convert(makeVmlinux(pageTables({ mapped })), { codecs })).bytes();
  assert.equal(slideOf(await converted(512)), 0);
  assert.equal(slideOf(await converted(256)), undefined);
});

test('without page tables the file of a kernel tells nothing, but for kslide’s own parameters', async () => {
  assert.equal(slideOf(makeVmlinux()), undefined);
  const ask = { codecs, virt: 0x20_0000, entry: 'linux64' } as const;
  assert.equal(slideOf((await randomize(makeVmlinux(), ask)).bytes()), 0x20_0000);
  assert.equal(slideOf((await randomize(makeVmlinux(), { ...ask, flag: false })).bytes()), undefined);
});
