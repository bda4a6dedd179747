/**
 * `stockCodecs` must decode only what the decompressors in kernels decode to the same bytes. The judges are those decompressors themselves.
 *
 * Made payloads are tried without a judge as well: each says which are read, and which are refused with what words.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { constants, deflateRawSync, gzipSync } from 'node:zlib';
import { KernelImageError } from '../../src/base/errors.ts';
import { COMPRESSIONS, coreCodecs, stockCodecs, type Compression } from '../../src/codecs/formats.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { attempt, mutate, repair, type Made } from './mutations.ts';
import { Judges, skip } from './stock-judge.ts';
import { compress, machineCode, Random, run, type Tool } from './tools.ts';

const DATA = machineCode(60_000, 9);
const FEW = DATA.subarray(0, 3000);

const concat = (...parts: (Uint8Array | readonly number[])[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
const patched = (bytes: Uint8Array, offset: number, ...replacement: number[]): Uint8Array => {
  const copy = bytes.slice();
  copy.set(replacement, offset);
  return copy;
};
const u32le = (value: number): number[] => [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 0xff);
const u32be = (value: number): number[] => u32le(value).toReversed();
const times = (count: number, bytes: readonly number[]): Uint8Array =>
  concat(...Array.from({ length: count }, () => bytes));

/** Data that decodes to a megabyte of zeros, and then takes more input than it gives output: no kernel can decompress it in place. */
const ZEROS = new Uint8Array(1 << 20);

const gzipOf = (flags: number, fields: Uint8Array | readonly number[], data = DATA): Uint8Array => {
  const plain = new Uint8Array(gzipSync(data, { level: 9 }));
  return concat([...plain.subarray(0, 3), flags, ...plain.subarray(4, 10)], fields, plain.subarray(10));
};
const EMPTY_MEMBER = new Uint8Array(gzipSync(new Uint8Array(0)));

/** The blocks of a legacy frame, each from its own run of the tool. */
const lz4Blocks = (...parts: Uint8Array[]): Uint8Array =>
  concat(u32le(0x184c2102), ...parts.map((part) => run('lz4', '-l -9 - -', part).subarray(4)));

/** Zeros as literals: all decisions are 0, so all bytes after the header are. */
async function lzmaOfZeros(properties: number, size: number): Promise<Uint8Array> {
  for (let length = 5; ; length++) {
    const data = concat([properties, ...u32le(1 << 16), ...u32le(size), 0, 0, 0, 0], new Uint8Array(length));
    if ((await attempt(coreCodecs, 'lzma', { data, size })) instanceof Uint8Array) return data;
    assert.ok(length < 200);
  }
}

/** How many blocks of one byte there are in the case of lzo. */
const MORE = 20_000;

interface Case {
  readonly name: string;
  readonly data: () => Uint8Array | Promise<Uint8Array>;
  /** What it decodes to. */
  readonly to?: Uint8Array;
  /** The words of the refusal; undefined: it is read. */
  readonly refusal?: string | RegExp;
  /** Only kernels that are older than every judge there may be read it differently. */
  readonly oldOnly?: true;
}

const tool = (name: Tool, options: string, data = DATA): (() => Uint8Array) => {
  return () => run(name, options, data);
};
/** With checksums put right. */
const mended = async (compression: Compression, data: Uint8Array): Promise<Uint8Array> =>
  (await repair(compression, { data, size: DATA.length })).data;

const WOULD = "the kernel's own decompressor would not read this the same: ";
const inPlace = (compression: Compression): RegExp =>
  new RegExp(
    `^${WOULD}${compression} payload at offset 0x[0-9a-f]+ is overwritten by its own output, when it is decompressed in place, ` +
      'expected input that gives as much output from here on as it has bytes$',
  );

const CASES: Record<Compression, readonly Case[]> = {
  gzip: [
    { name: 'as the build makes it', data: tool('gzip', '-n -f -9') },
    { name: 'a name', data: () => gzipOf(8, [0x76, 0x6d, 0]) },
    { name: 'marked as text', data: () => gzipOf(1, []) },
    {
      name: 'an extra field',
      data: () => gzipOf(4, [3, 0, 1, 2, 3]),
      refusal: 'gzip flags at offset 0x3 is 0x4, expected 0, or 8 for a name',
    },
    {
      name: 'a comment',
      data: () => gzipOf(16, [0x76, 0]),
      refusal: 'gzip flags at offset 0x3 is 0x10, expected 0, or 8 for a name',
    },
    {
      name: 'an empty member before the one with the data',
      data: () => concat(EMPTY_MEMBER, gzipOf(0, [])),
      refusal: 'gzip data at offset 0x14 is a second member, expected one',
    },
    {
      name: 'empty blocks at the end',
      data: () => {
        const trailer = new Uint8Array(gzipSync(ZEROS)).subarray(-8);
        const blocks = new Uint8Array(deflateRawSync(ZEROS, { finishFlush: constants.Z_SYNC_FLUSH }));
        const empty = times(40_000, [0, 0, 0, 0xff, 0xff]);
        return concat([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], blocks, empty, [1, 0, 0, 0xff, 0xff], trailer);
      },
      to: ZEROS,
      refusal: inPlace('gzip'),
    },
  ],
  bzip2: [
    { name: 'as the build makes it', data: tool('bzip2', '-9') },
    { name: 'small blocks', data: tool('bzip2', '-1') },
  ],
  lzma: [
    { name: 'as the build makes it', data: tool('xz', '--format=lzma -9') },
    {
      name: 'a dictionary smaller than distances',
      data: () => patched(compress('lzma', DATA), 1, ...u32le(0x1000)),
      refusal: new RegExp(
        `^${WOULD}lzma dictionary size at offset 0x1 is 0x1000, expected 0x[0-9a-f]{4}, its longest distance$`,
      ),
    },
    { name: 'lc + lp of 4', data: () => lzmaOfZeros(4, 32), to: new Uint8Array(32) },
    { name: 'lc + lp of 5', data: () => lzmaOfZeros(5, 32), to: new Uint8Array(32) },
    {
      name: 'lc + lp of 6',
      data: () => lzmaOfZeros(6, 32),
      to: new Uint8Array(32),
      refusal: "lzma properties at offset 0x0 is lc + lp of 6, expected at most 5, for the kernel's heap of 64 KiB",
    },
  ],
  xz: [
    { name: 'as the build makes it', data: tool('xz', '--check=crc32 --threads=1 --x86 --lzma2=dict=32MiB') },
    { name: 'no check, no filter', data: tool('xz', '--check=none') },
    { name: 'blocks with sizes', data: tool('xz', '--check=crc32 --block-size=20000 --threads=2') },
    {
      name: 'CRC64',
      data: tool('xz', '--check=crc64'),
      refusal: 'xz check at offset 0x7 is CRC64, expected none or CRC32',
    },
    {
      name: 'an x86 filter with an offset',
      data: tool('xz', '--check=crc32 --x86=start=4096 --lzma2=dict=1MiB'),
      refusal: 'xz x86 filter properties at offset 0x10 is 0x1000, expected none',
    },
    {
      name: 'a dictionary of 4 GiB',
      data: () => mended('xz', patched(run('xz', '--check=crc32 --lzma2=dict=1MiB', DATA), 16, 40)),
      refusal: 'xz dictionary size at offset 0x10 is 0x28, expected at most 0x27',
    },
    {
      name: 'a dictionary smaller than distances',
      data: () => mended('xz', patched(run('xz', '--check=crc32 --lzma2=dict=1MiB', DATA), 16, 0)),
      refusal: new RegExp(
        `^${WOULD}xz dictionary size at offset 0x10 is 0x1000, expected 0x[0-9a-f]{4}, its longest distance$`,
      ),
    },
  ],
  lzo: [
    { name: 'as the build makes it', data: tool('lzop', '-9') },
    { name: 'CRC-32 of the data', data: tool('lzop', '--crc32') },
    {
      name: 'no checksums',
      data: tool('lzop', '-F'),
      refusal: 'lzo block checksums at offset 0x2e is none, expected one in each block, as flagged',
    },
    {
      name: 'blocks of one byte at the end',
      data: () => {
        // The last four bytes are the end. 0x10001 is the Adler-32 of a zero.
        const blocks = run('lzop', '-9', ZEROS).subarray(0, -4);
        return concat(blocks, times(MORE, [...u32be(1), ...u32be(1), ...u32be(0x1_0001), 0]), u32be(0));
      },
      to: new Uint8Array(ZEROS.length + MORE),
      refusal: inPlace('lzo'),
    },
  ],
  lz4: [
    { name: 'as the build makes it', data: tool('lz4', '-l -9 - -') },
    {
      name: 'two frames, the first a multiple of 8 MiB',
      data: () => concat(lz4Blocks(new Uint8Array(8 << 20)), lz4Blocks(DATA)),
      to: concat(new Uint8Array(8 << 20), DATA),
    },
    {
      name: 'two frames, the first of less',
      data: () => concat(lz4Blocks(DATA), lz4Blocks(DATA)),
      to: concat(DATA, DATA),
      refusal: 'lz4 block at offset 0x8 is 0xea60 bytes, expected 0x1d4c0',
    },
    {
      name: 'short blocks with a boundary inside a run',
      data: () => lz4Blocks(DATA.subarray(0, 30_000), DATA.subarray(30_000)),
      refusal: 'lz4 block at offset 0x8 is 0x7530 bytes, expected 0xea60',
    },
    {
      name: 'a match to the end but one',
      data: () => concat(u32le(0x184c2102), u32le(6), [0x10, 0x61, 1, 0, 0x10, 0x62]),
      to: new TextEncoder().encode('aaaaab'),
      refusal: 'lz4 end of a block at offset 0xe is 1 literals after the last match, expected at least 5',
    },
    {
      name: 'a block size of 0 at the end',
      data: () => concat(lz4Blocks(DATA), [0, 0, 0, 0]),
      refusal: new RegExp(`^${WOULD}lz4 block size at offset 0x[0-9a-f]+ is 0x0, expected none after the last block$`),
      oldOnly: true,
    },
    {
      name: 'frames without blocks at the end',
      data: () => concat(lz4Blocks(ZEROS), times(30_000, u32le(0x184c2102))),
      to: ZEROS,
      refusal: inPlace('lz4'),
    },
  ],
  zstd: [
    { name: 'as the build makes it', data: tool('zstd', '-22 --ultra') },
    { name: 'no checksum', data: tool('zstd', '-3 --no-check') },
    { name: 'a window of 128 MiB', data: tool('zstd', '-3 --long=27') },
    {
      name: 'a window of 256 MiB',
      data: tool('zstd', '-3 --long=28'),
      refusal:
        'zstd frame header at offset 0x4 is 0x10000000, expected a window of at most 0x8000000, for kernels up to 5.15',
      oldOnly: true,
    },
    {
      name: 'empty blocks at the end',
      // 8 blocks of 128 KiB, each a byte repeated. Zeros would look like empty blocks.
      data: () =>
        concat(
          [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58],
          times(8, [0x02, 0x00, 0x10, 1]),
          times(80_000, [0, 0, 0]),
          [1, 0, 0],
        ),
      to: ZEROS.map(() => 1),
      refusal: inPlace('zstd'),
    },
  ],
};

for (const compression of COMPRESSIONS) {
  describe(`${compression}, as kernels read it`, () => {
    const judges = skip === false ? new Judges(compression) : undefined;
    after(() => judges?.end());

    for (const { name, data: make, to = DATA, refusal, oldOnly } of CASES[compression]) {
      it(`${name}: ${refusal === undefined ? 'read' : 'refused'}`, async () => {
        const made: Made = { data: await make(), size: to.length };
        const found = await attempt(stockCodecs, compression, made);
        // Extraction reads it all the same, and knows the difference.
        const differences: string[] = [];
        const wide = await coreCodecs[compression](made.data, made.size, undefined, ({ message }) =>
          differences.push(message),
        );
        assert.equal(Buffer.compare(wide, to), 0);
        if (refusal === undefined) {
          assert.ok(found instanceof Uint8Array, String(found));
          assert.equal(Buffer.compare(found, to), 0);
          assert.deepEqual(differences, []);
        } else {
          assert.ok(found instanceof KernelImageError);
          if (typeof refusal === 'string') assert.equal(found.message, WOULD + refusal);
          else assert.match(found.message, refusal);
          assert.equal(found.code, 'read-differently');
          assert.equal(differences[0], found.message);
        }
        if (oldOnly) return;
        for (const verdict of (await judges?.ask(made, to)) ?? [])
          assert.equal(verdict === 'same', refusal === undefined);
      });
    }

    it('what is read of nearly right payloads, a kernel reads the same', { skip }, async () => {
      const random = new Random(20_260);
      const options: Record<Compression, readonly [Tool, string]> = {
        gzip: ['gzip', '-6'],
        bzip2: ['bzip2', '-1'],
        lzma: ['xz', '--format=lzma --lzma1=dict=4096,lc=1,lp=2,pb=1'],
        xz: ['xz', '--check=none --lzma2=dict=4096,lc=1,lp=2'],
        lzo: ['lzop', '-1'],
        lz4: ['lz4', '-l -1 - -'],
        zstd: ['zstd', '-1'],
      };
      const starts = [FEW, DATA.subarray(0, 300), random.bytes(500)].flatMap((data) => [
        { data: compress(compression, data), size: data.length },
        { data: run(...options[compression], data), size: data.length },
      ]);
      let read = 0;
      for (let round = 0; round < 400; round++) {
        const start = starts[round % starts.length]!;
        const made = await repair(compression, { data: mutate(start.data, random), size: start.size });
        if (made.size > 1 << 20) continue;
        const found = await attempt(stockCodecs, compression, made);
        if (found instanceof KernelImageError) continue;
        read++;
        const verdicts = await judges!.ask(made, found);
        assert.ok(
          verdicts.every((verdict) => verdict === 'same'),
          `round ${round}: ${verdicts.join(', ')}: ${Buffer.from(made.data).toString('hex')}, size ${made.size}`,
        );
      }
      assert.ok(read >= 4, `${read} read`);
    });
  });
}

it('Node, which reads gzip by zlib, reports what a header has that kernels do not know', async () => {
  const differences: string[] = [];
  const payload = gzipOf(4, [1, 0, 0]);
  await nodeCodecs.gzip(payload, DATA.length, undefined, ({ message }) => differences.push(message));
  assert.deepEqual(differences, [`${WOULD}gzip flags at offset 0x3 is 0x4, expected 0, or 8 for a name`]);
});
