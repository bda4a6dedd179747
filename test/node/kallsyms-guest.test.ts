/** Which kernels get the /init that reads /proc/kallsyms, and what it is. That it reads them is test/boot/kallsyms.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { coreCodecs as codecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { isElf, readElf } from '../../src/elf/read.ts';
import { kallsymsInitramfs, packKallsymsGuest } from '../../src/node/qemu/kallsyms-guest.ts';
import { randomize } from '../../src/randomize.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { pageTables } from '../page-tables.ts';

const gets = async (image: Uint8Array): Promise<boolean> => (await kallsymsInitramfs(image)) !== undefined;

test('kernels whose files do not tell where they run', async () => {
  const converted = async (mapped: number): Promise<Uint8Array> =>
    (await convert(makeVmlinux(pageTables({ mapped })), { codecs })).bytes();
  assert.equal(await gets(await converted(256)), true);
  assert.equal(await gets(await converted(512)), false);
  for (const mapped of [256, 512]) {
    const image = makeVmlinux(pageTables({ mapped }));
    assert.equal(await gets(image), false);
    assert.equal(await gets((await randomize(image, { codecs, virt: 0x20_0000, entry: 'linux64' })).bytes()), false);
  }
  // Without page tables nobody knows, and a file that kslide cannot describe may boot.
  assert.equal(await gets(makeVmlinux()), true);
  assert.equal(await gets(new Uint8Array(64)), true);
});

test('a bzImage is judged by the kernel in it', async () => {
  for (const [mapped, expected] of [
    [256, true],
    [512, false],
  ] as const) {
    const inside = (await convert(makeVmlinux(pageTables({ mapped })), { codecs })).bytes();
    assert.equal(await gets(makeBzImage({ payload: gzipSync(inside) })), expected);
  }
});

test('an archive with /init, which is one static program', () => {
  const archive = Buffer.from(packKallsymsGuest());
  assert.equal(archive.toString('latin1', 0, 6), '070701');
  const at = archive.indexOf('\x7fELF', 0, 'latin1');
  const init = archive.subarray(at, archive.indexOf('070701', at, 'latin1'));
  assert.ok(isElf(init));
  assert.deepEqual(
    readElf(init).segments.map(({ type, vaddr }) => [type, vaddr]),
    [
      [4, 0n],
      [1, 0x40_0000n],
    ],
  );
  assert.deepEqual(packKallsymsGuest(), packKallsymsGuest());
});
