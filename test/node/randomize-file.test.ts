/** A file that is moved piece by piece is the one that is moved whole, wherever the pieces end, and whatever is in it. */
import { joinParts } from '../../src/base/bytes.ts';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { InPlace } from '../../src/node/files/output-file.ts';
import { openMovedFile } from '../../src/node/files/randomize-file.ts';
import type { MovedFile } from '../../src/node/files/randomize-file.ts';
import { randomize } from '../../src/randomize.ts';
import type { RandomizeOptions } from '../../src/randomize.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { DATA, ENTRY, entryAt, LINK, makeVmlinux, TABLE } from '../make-vmlinux.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-pieces-'));
after(() => rmSync(directory, { recursive: true }));
const codecs = coreCodecs;
const path = join(directory, 'vmlinux');
const SEED = new Uint8Array(16);

/** Sites everywhere: on both sides of the hook and in it, in the notes, and so that they lie across pieces of any size. */
const DENSE: RelocationTable = {
  abs64: Uint32Array.from([
    ENTRY - 7,
    ENTRY + 1,
    ENTRY + 9,
    LINK + 0x810,
    ...Array.from({ length: 100 }, (_, index) => DATA.paddr + 8 + index * 13),
  ]).map(entryAt),
  inverse32: Uint32Array.of(entryAt(LINK + 0x700), entryAt(LINK + 0x7ff)),
  abs32: Uint32Array.from({ length: 60 }, (_, index) => entryAt(LINK + 0x1000 + index * 5)),
  lists: 3,
};

/** The file that becomes of a copy of the original. */
function overCopy(moved: MovedFile): Uint8Array {
  const original = readFileSync(path);
  let at = 0;
  const parts = Array.from(moved.overCopy(), (part) => {
    at += part.length;
    return part instanceof InPlace ? new Uint8Array(original.subarray(at - part.length, at)) : part.slice();
  });
  return joinParts(parts);
}

async function pieceByPiece(
  options: RandomizeOptions & { relocs?: Uint8Array },
  chunk?: number,
): Promise<Uint8Array | undefined> {
  const moved = await openMovedFile(path, { codecs, ...options }, { chunk });
  if (moved === undefined) return undefined;
  const collect = (): Uint8Array => joinParts(Array.from(moved, (part) => part.slice()));
  const first = collect();
  assert.deepEqual(collect(), first, 'a second time');
  assert.deepEqual(overCopy(moved), first, 'over a copy');
  moved.close();
  return first;
}

test('the same bytes as moved whole, for pieces of any size', async () => {
  for (const table of [TABLE, DENSE]) {
    const vmlinux = makeVmlinux({ table });
    writeFileSync(path, vmlinux);
    for (const options of [
      { virt: 0x1240_0000 },
      { virt: 0x20_0000, phys: 0x60_0000, entry: 'linux64' },
      { virt: 0x20_0000, phys: 0x60_0000, force: true },
      { virt: 0x20_0000, phys: 0x60_0000, force: true, flag: false },
      { virt: 'random', phys: 'random', seed: SEED, flag: false },
    ] as const) {
      const expected = (await randomize(vmlinux, { codecs, ...options })).bytes();
      for (const chunk of [8, 9, 13, 64, 1000, undefined])
        assert.deepEqual(await pieceByPiece(options, chunk), expected, `${JSON.stringify(options)}, ${chunk}`);
    }
  }
});

test('what has to be read whole is left to who does that', async () => {
  const vmlinux = makeVmlinux();
  const bare = vmlinux.subarray(0, endOfElf(readElf(vmlinux)));
  for (const bytes of [
    makeBzImage({ payload: gzipSync(vmlinux) }),
    bare,
    new Uint8Array(0),
    vmlinux.subarray(0, 100),
  ]) {
    writeFileSync(path, bytes);
    assert.equal(await openMovedFile(path, { codecs, virt: 0 }), undefined);
  }
  assert.equal(await openMovedFile(join(directory, 'missing'), { codecs, virt: 0 }), undefined);
  assert.equal(await openMovedFile(directory, { codecs, virt: 0 }), undefined);
  writeFileSync(path, bare);
  assert.deepEqual(
    await pieceByPiece({ virt: 0x20_0000, relocs: encodeRelocationTable(TABLE) }),
    (await randomize(vmlinux, { codecs, virt: 0x20_0000 })).bytes(),
  );
});

test('whatever is changed, both ways give the same file or the same error', async () => {
  const vmlinux = makeVmlinux({ table: DENSE });
  const places = fc.oneof(
    fc.nat(64 + 5 * 56),
    fc.nat(vmlinux.length - 1),
    fc.integer({ min: 0x6f00, max: vmlinux.length - 1 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(places, fc.nat(255)), { minLength: 1, maxLength: 3 }), async (changes) => {
      const image = vmlinux.slice();
      for (const [at, value] of changes) image[at] = value;
      writeFileSync(path, image);
      const options = { virt: 0x40_0000, phys: 0x40_0000 };
      const attempt = (work: Promise<Uint8Array | undefined>): Promise<Uint8Array | string | undefined> =>
        work.catch((error: unknown) => {
          assert.ok(error instanceof KernelImageError, String(error));
          return error.message;
        });
      const pieces = await attempt(pieceByPiece(options, 100));
      if (pieces === undefined) return;
      assert.deepEqual(pieces, await attempt(randomize(image, { codecs, ...options }).then(({ bytes }) => bytes())));
    }),
    { numRuns: 300 },
  );
});

test('a file that becomes shorter while it is moved is an unusable input, at any time', async () => {
  const vmlinux = makeVmlinux({ table: DENSE });
  const shorter = { name: 'InputFileError', message: `${path}: became shorter while it was read` };
  const cut = (): void => truncateSync(path, 0x2000);
  const options = { codecs, virt: 0x20_0000 };
  writeFileSync(path, vmlinux);
  await assert.rejects(openMovedFile(path, options, { onOpen: cut }), shorter);
  writeFileSync(path, vmlinux);
  const moved = (await openMovedFile(path, options))!;
  cut();
  assert.throws(() => [...moved], shorter);
  assert.throws(() => [...moved.overCopy()], shorter);
  moved.close();
});
