/**
 * Bytes that no compressor wrote: cut short, changed, made up, or with a size that is not theirs. The decoders must say so with a
 * `KernelImageError`, in bounded time and memory, or decode to exactly the claimed size.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { coreCodecs, type Codecs, type Compression } from '../../src/codecs/formats.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { attempt, compress, machineCode, Random, run } from './tools.ts';

const DATA = machineCode(150_000, 3);

/** The kernel's form of each, and others whose code paths differ. */
const PAYLOADS: readonly { name: string; compression: Compression; codecs: Codecs; payload: Uint8Array }[] = [
  { name: 'gzip', compression: 'gzip', codecs: nodeCodecs, payload: compress('gzip', DATA) },
  { name: 'gzip in the core', compression: 'gzip', codecs: coreCodecs, payload: compress('gzip', DATA) },
  { name: 'bzip2', compression: 'bzip2', codecs: nodeCodecs, payload: compress('bzip2', DATA) },
  { name: 'lzma', compression: 'lzma', codecs: nodeCodecs, payload: compress('lzma', DATA) },
  { name: 'xz', compression: 'xz', codecs: nodeCodecs, payload: compress('xz', DATA) },
  {
    name: 'xz in blocks, unchecked',
    compression: 'xz',
    codecs: nodeCodecs,
    payload: run('xz', '--check=none --block-size=20000 --x86 --lzma2=preset=1', DATA),
  },
  { name: 'lzo', compression: 'lzo', codecs: nodeCodecs, payload: compress('lzo', DATA) },
  { name: 'lzo, unchecked', compression: 'lzo', codecs: nodeCodecs, payload: run('lzop', '-1 -F', DATA) },
  { name: 'lz4', compression: 'lz4', codecs: nodeCodecs, payload: compress('lz4', DATA) },
  { name: 'zstd', compression: 'zstd', codecs: nodeCodecs, payload: compress('zstd', DATA) },
  { name: 'zstd, unchecked', compression: 'zstd', codecs: nodeCodecs, payload: run('zstd', '-3 --no-check', DATA) },
];

/** Formats whose checksums cover all that is decoded: what they accept is right. */
const CHECKED = new Set(['gzip', 'gzip in the core', 'bzip2', 'xz', 'lzo', 'zstd']);

/** Every offset near the ends, where headers and trailers are, and a sample of the rest. */
function offsets(length: number, random: Random, count: number): number[] {
  const chosen = new Set<number>();
  for (let i = 0; i < 80; i++) chosen.add(i).add(length - 1 - i);
  while (chosen.size < 160 + count) chosen.add(random.below(length));
  return [...chosen].filter((offset) => offset >= 0 && offset < length);
}

for (const { name, compression, codecs, payload } of PAYLOADS) {
  describe(name, () => {
    it('is as it should be', async () => {
      const decoded = await attempt(codecs, compression, payload, DATA.length);
      assert.deepEqual(decoded && Buffer.from(decoded), Buffer.from(DATA));
    });

    it('is refused when cut short anywhere', async () => {
      for (const offset of offsets(payload.length, new Random(11), 100)) {
        const decoded = await attempt(codecs, compression, payload.slice(0, offset), DATA.length);
        assert.equal(decoded, undefined, `cut at ${offset}`);
      }
    });

    it('is refused when a byte is changed, or decodes to what it should', async () => {
      const random = new Random(12);
      for (const offset of offsets(payload.length, random, 300)) {
        const changed = payload.slice();
        changed[offset] = changed[offset]! ^ (1 << random.below(8));
        const decoded = await attempt(codecs, compression, changed, DATA.length);
        if (decoded && CHECKED.has(name)) assert.equal(Buffer.compare(decoded, DATA), 0, `changed at ${offset}`);
      }
    });

    it('is refused when a stretch is overwritten or missing', async () => {
      const random = new Random(13);
      for (let round = 0; round < 100; round++) {
        const changed = payload.slice();
        const at = random.below(payload.length);
        const length = 1 + random.below(400);
        if (round % 2 === 0) changed.set(random.bytes(Math.min(length, payload.length - at)), at);
        else changed.copyWithin(at, at + length);
        const decoded = await attempt(codecs, compression, changed, DATA.length);
        if (decoded && CHECKED.has(name)) assert.equal(Buffer.compare(decoded, DATA), 0, `changed at ${at}`);
      }
    });

    it('is refused with another size, without spending memory on it', async () => {
      const before = process.memoryUsage().rss;
      for (const size of [0, 1, DATA.length - 1, DATA.length + 1, 2 ** 20, 2 ** 30, 2 ** 31, 2 ** 32 - 1, 2 ** 32]) {
        assert.equal(await attempt(codecs, compression, payload, size), undefined, `size ${size}`);
      }
      const grown = process.memoryUsage().rss - before;
      assert.ok(grown < 200e6, `grown by ${grown}`);
    });

    it('is refused with the 4 size bytes of a kernel payload behind it, or other bytes', async () => {
      // gzip: Node ignores what follows a member, unless it is another one.
      if (compression === 'gzip' && codecs === nodeCodecs) return;
      for (const tail of [[0, 0, 0, 0], [0xf0, 0x49, 0x02, 0x00], [1]]) {
        const decoded = await attempt(codecs, compression, Uint8Array.from([...payload, ...tail]), DATA.length);
        // A block size of 0 ends lz4 data, for kernels from 5.14 on.
        const ends = compression === 'lz4' && tail.every((byte) => byte === 0);
        if (ends) assert.deepEqual(decoded && Buffer.from(decoded), Buffer.from(DATA));
        else assert.equal(decoded, undefined, `followed by ${tail.join(' ')}`);
      }
    });

    it('does not take bytes around the payload for its own', async () => {
      const around = new Uint8Array(payload.length + 200).fill(0xee);
      around.set(payload, 100);
      const decoded = await attempt(codecs, compression, around.subarray(100, 100 + payload.length), DATA.length);
      assert.deepEqual(decoded && Buffer.from(decoded), Buffer.from(DATA));
    });

    it('as any bytes behind its first ones', async () => {
      const property = async (start: number, bytes: Uint8Array, size: number): Promise<void> => {
        await attempt(codecs, compression, Uint8Array.from([...payload.subarray(0, start), ...bytes]), size);
      };
      const start = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: payload.length }));
      const bytes = fc.uint8Array({ maxLength: 600 });
      const size = fc.oneof(fc.constant(DATA.length), fc.integer({ min: 0, max: 2000 }), fc.nat());
      await fc.assert(fc.asyncProperty(start, bytes, size, property), { numRuns: 200, seed: 5 });
    });
  });
}

describe('errors', () => {
  it('say what and where', async () => {
    const payload = compress('xz', DATA);
    payload[7] = 2;
    await assert.rejects(
      async () => coreCodecs.xz(payload, DATA.length),
      (error: KernelImageError) => {
        assert.equal(error.code, 'corrupt-data');
        assert.match(
          error.message,
          /^corrupt data: xz stream header CRC32 at offset 0x8 is 0x[0-9a-f]+, expected 0x[0-9a-f]+$/,
        );
        return true;
      },
    );
  });

  it('keep the cause', async () => {
    const payload = compress('gzip', DATA);
    payload[5000]! ^= 1;
    await assert.rejects(
      async () => nodeCodecs.gzip(payload, DATA.length),
      (error: KernelImageError) => {
        assert.equal(error.code, 'corrupt-data');
        assert.ok(error.cause instanceof Error);
        return true;
      },
    );
  });
});
