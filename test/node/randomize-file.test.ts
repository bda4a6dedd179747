/** A file that is moved piece by piece is the one that is moved whole, wherever the pieces end, and whatever is in it. */
import { joinParts, Writer } from '../../src/base/bytes.ts';
import assert from 'node:assert/strict';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { convert } from '../../src/convert.ts';
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
import { DATA, ENTRY, entryAt, LINK, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';

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

test('a file that changes while it is moved is refused, at any time', async () => {
  const vmlinux = makeVmlinux({ table: DENSE });
  const changed = { name: 'DiskError', message: `${path}: changed while it was read` };
  const options = { codecs, virt: 0x20_0000 };
  const byte = (at: number): void => {
    const { atimeMs, mtimeMs } = statSync(path);
    const file = openSync(path, 'r+');
    writeSync(file, Uint8Array.of(0xcc), 0, 1, at);
    closeSync(file);
    utimesSync(path, atimeMs / 1000, mtimeMs / 1000); // which ctime tells
  };
  for (const change of [
    () => truncateSync(path, 0x2000),
    () => truncateSync(path, vmlinux.length + 1),
    () => byte(0),
    () => byte(TEXT.offset + 0x1000),
    () => byte(vmlinux.length - 1),
  ]) {
    const write = async (): Promise<void> => {
      writeFileSync(path, vmlinux);
      await wait(20); // more than a tick of the clock that files have
    };
    await write();
    await assert.rejects(
      openMovedFile(path, options, { onOpen: change }).then((moved) => [...moved!]),
      changed,
    );
    for (const way of ['whole', 'over a copy'] as const) {
      const iterate = (moved: MovedFile): Iterable<unknown> => (way === 'whole' ? moved : moved.overCopy());
      await write();
      const before = (await openMovedFile(path, options))!;
      change();
      assert.throws(() => [...iterate(before)], changed);
      before.close();
      await write();
      const amid = (await openMovedFile(path, options, { chunk: 1000 }))!;
      assert.throws(() => {
        let pieces = 0;
        for (const _ of iterate(amid)) if (++pieces === 9) change();
      }, changed);
      amid.close();
    }
  }
});

test('notes that lead loaders to what changes are refused as by convert, however far from their segment', async () => {
  const file = makeVmlinux({ table: DENSE });
  const elfEnd = endOfElf(readElf(file));
  const end = elfEnd + 0x3_0000;
  const hostile = joinParts([file.subarray(0, elfEnd), new Uint8Array(end - elfEnd), file.subarray(elfEnd)]);
  const writer = new Writer(hostile);
  const [data, notes] = [64 + 2 * 56, 64 + 3 * 56];
  for (const field of [32, 40]) {
    writer.u64(data + field, end - DATA.offset);
    writer.u64(notes + field, 0x2000);
  }
  // QEMU steps over one note in the segment and one after it. The third has the type, and its descriptor is what follows the ELF file.
  const first = end - 12 - 0x4000;
  writer.u64(notes + 8, first);
  for (const [at, descSize, type] of [
    [first, 0x2000 - 12, 5],
    [first + 0x2000, 0x2000 - 12, 5],
    [end - 12, 4, 18],
  ] as const) {
    writer.u32(at + 4, descSize);
    writer.u32(at + 8, type);
  }
  writeFileSync(path, hostile);
  const refused = {
    code: 'unsupported',
    message: `not supported: program header 3 (PT_NOTE) at offset 0x${end.toString(16)} is notes for which loaders read what follows the ELF file, expected notes that lead to none of the bytes that differ in a converted kernel`,
  };
  const options = { codecs, virt: 0x20_0000, entry: 'linux64' } as const;
  await assert.rejects(convert(hostile, { codecs }), refused);
  await assert.rejects(randomize(hostile, options), refused);
  assert.equal(await openMovedFile(path, options), undefined); // and so it is read whole
  // With a note that ends QEMU's search the same file is good, in both ways.
  writer.u32(first + 0x2000 + 4, 0x2001);
  writeFileSync(path, hostile);
  assert.deepEqual(await pieceByPiece(options), (await randomize(hostile, options)).bytes());
});
