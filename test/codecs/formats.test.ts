/** What the system's tools do not write, or write only when asked: forms that must be read all the same, and forms that are refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { coreCodecs, type Compression } from '../../src/codecs/formats.ts';
import { KernelImageError, type ErrorCode } from '../../src/base/errors.ts';
import { assertSame, compress, DECODERS, machineCode, Random, realCode, run } from './tools.ts';

const DATA = machineCode(60_000, 9);

async function refuses(
  compression: Compression,
  payload: Uint8Array,
  code: ErrorCode,
  message: RegExp,
  size = DATA.length,
): Promise<void> {
  await assert.rejects(
    async () => coreCodecs[compression](payload, size),
    (error: unknown) => {
      assert.ok(error instanceof KernelImageError, String(error));
      assert.match(error.message, message);
      assert.equal(error.code, code);
      return true;
    },
  );
}

/** A copy with bytes replaced. */
function patched(bytes: Uint8Array, offset: number, ...replacement: number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(replacement, offset);
  return copy;
}

const concat = (...parts: (Uint8Array | readonly number[])[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));

const u32le = (value: number): number[] => [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 0xff);

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const withCrc = (bytes: Uint8Array): Uint8Array => concat(bytes, u32le(crc32(bytes)));

/** Section 1.2 of the .xz specification. */
function vli(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...vli(Math.floor(value / 0x80))];
}

const padded = (bytes: Uint8Array): Uint8Array => concat(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));

/** An .xz file of one block of LZMA2 chunks, without a check. */
function xzOf(
  chunks: Uint8Array,
  size: number,
  blockHeaderRest: readonly number[] = [0x00, 0x21, 0x01, 0x1c],
): Uint8Array {
  const header = padded(concat([0], blockHeaderRest));
  header[0] = header.length / 4;
  const blockHeader = withCrc(header);
  const index = withCrc(padded(concat([0, 1], vli(blockHeader.length + chunks.length), vli(size))));
  const backward = concat(u32le(index.length / 4 - 1), [0, 0]);
  return concat(
    [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
    withCrc(Uint8Array.of(0, 0)),
    blockHeader,
    padded(chunks),
    index,
    u32le(crc32(backward)),
    backward,
    [0x59, 0x5a],
  );
}

/** A block header from its flags on. */
const sizesAndLzma2 = (compressed: number, size: number): number[] => [
  0xc0,
  ...vli(compressed),
  ...vli(size),
  0x21,
  1,
  0x1c,
];

const lzma2Of = (data: Uint8Array): Uint8Array => run('xz', '--format=raw --lzma2=preset=6 -c', data);

const xzWith = (options: string): Uint8Array => run('xz', options, DATA);

describe('xz', () => {
  it('resets the dictionary within a block, as 7-Zip writes it', async () => {
    const [first, second] = [DATA.subarray(0, 25_000), DATA.subarray(25_000)];
    const chunks = concat(lzma2Of(first).subarray(0, -1), lzma2Of(second));
    const payload = xzOf(chunks, DATA.length);
    assertSame(run(...DECODERS.xz, payload), DATA, 'by xz');
    assertSame(await coreCodecs.xz(payload, DATA.length), DATA, 'ours');
  });

  it('goes on after stored chunks', async () => {
    const data = concat(DATA, new Random(3).bytes(200_000), DATA);
    const payload = run('xz', '--check=crc32 --lzma2=preset=6', data);
    assertSame(await coreCodecs.xz(payload, data.length), data, 'ours');
  });

  it('refuses chunks that begin without a reset', async () => {
    const chunks = lzma2Of(DATA);
    assert.ok(chunks[0]! >= 0xe0);
    const starting = (control: number): Uint8Array =>
      xzOf(patched(chunks, 0, control | (chunks[0]! & 0x1f)), DATA.length);
    await refuses(
      'xz',
      starting(0x80),
      'corrupt-data',
      /LZMA2 control at offset 0x18 .* a reset of the dictionary first/,
    );
    await refuses('xz', starting(0xa0), 'corrupt-data', /LZMA2 control/);
    await refuses('xz', xzOf(patched(chunks, 0, 2), DATA.length), 'corrupt-data', /LZMA2 control/);
    await refuses('xz', xzOf(patched(chunks, 0, 0x40), DATA.length), 'corrupt-data', /LZMA2 control.* is 0x40/);
    // lc + lp of 5.
    await refuses('xz', xzOf(patched(chunks, 5, 4 + 9), DATA.length), 'corrupt-data', /LZMA2 properties.* is 0xd/);
  });

  it('refuses a match that reaches over a reset of the dictionary', async () => {
    // Too long for one chunk. Make the second one, which has matches in the first, reset the dictionary.
    const data = realCode();
    const chunks = lzma2Of(data);
    const second = 6 + ((chunks[3]! << 8) | chunks[4]!) + 1;
    assert.ok(chunks[0]! >= 0xe0 && chunks[second]! >= 0x80 && chunks[second]! < 0xe0);
    const reset = concat(
      chunks.subarray(0, second),
      [chunks[second]! | 0xe0],
      chunks.subarray(second + 1, second + 5),
      [chunks[5]!],
      chunks.subarray(second + 5),
    );
    await refuses('xz', xzOf(reset, data.length), 'corrupt-data', /xz (data|LZMA2 chunk)/, data.length);
  });

  it('refuses what the kernel does not decode either', async () => {
    await refuses(
      'xz',
      xzWith('--check=sha256'),
      'unsupported',
      /xz check at offset 0x7 is 0xa, expected none, CRC32 or CRC64/,
    );
    await refuses('xz', xzWith('--arm --lzma2'), 'unsupported', /xz filter at offset 0xe is 0x7/);
    await refuses('xz', xzWith('--delta=dist=4 --lzma2'), 'unsupported', /xz filter/);
    await refuses('xz', xzWith('--x86 --x86 --lzma2'), 'unsupported', /xz filter/);
    const twice = concat(xzWith('-0'), xzWith('-0'));
    await refuses('xz', twice, 'unsupported', /second stream/);
    await refuses('xz', concat(xzWith('-0'), [0, 0, 0, 0]), 'corrupt-data', /bytes after the stream footer/);
  });

  it('refuses a filter chain without LZMA2, and one with more behind it', async () => {
    const chunks = lzma2Of(DATA);
    await refuses('xz', xzOf(chunks, DATA.length, [0x00, 0x04, 0x00]), 'unsupported', /xz filter/);
    await refuses('xz', xzOf(chunks, DATA.length, [0x01, 0x21, 0x01, 0x1c, 0x04, 0x00]), 'unsupported', /xz filter/);
    await refuses(
      'xz',
      xzOf(chunks, DATA.length, [0x00, 0x21, 0x01, 0x29]),
      'unsupported',
      /dictionary size.* is 0x29/,
    );
    await refuses('xz', xzOf(chunks, DATA.length, [0x04, 0x21, 0x01, 0x1c]), 'unsupported', /block flags/);
    await refuses('xz', xzOf(chunks, DATA.length, [0x00, 0x21, 0x81, 0x80, 0x80, 0x00]), 'corrupt-data', /too long/);
  });

  it('compares the sizes in the block header and in the index', async () => {
    const chunks = lzma2Of(DATA);
    const right = xzOf(chunks, DATA.length, sizesAndLzma2(chunks.length, DATA.length));
    assertSame(await coreCodecs.xz(right, DATA.length), DATA, 'ours');
    const wrong = (compressed: number, size: number): Uint8Array =>
      xzOf(chunks, DATA.length, sizesAndLzma2(compressed, size));
    await refuses('xz', wrong(chunks.length + 1, DATA.length), 'corrupt-data', /xz compressed size/);
    await refuses('xz', wrong(chunks.length, DATA.length - 1), 'corrupt-data', /xz uncompressed size/);
    await refuses('xz', xzOf(chunks, DATA.length + 1), 'corrupt-data', /xz uncompressed size/);
  });
});

const sized = (payload: Uint8Array, size: number): Uint8Array => patched(payload, 5, ...u32le(size), 0, 0, 0, 0);

describe('lzma', () => {
  it('reads a stream with a size and a marker', async () => {
    const payload = sized(compress('lzma', DATA), DATA.length);
    assertSame(await coreCodecs.lzma(payload, DATA.length), DATA, 'ours');
    await refuses('lzma', sized(payload, DATA.length + 1), 'corrupt-data', /lzma uncompressed size at offset 0x5/);
  });

  it('reads a stream with a size and no marker, as in an LZMA2 chunk', async () => {
    const chunks = lzma2Of(DATA);
    const length = ((chunks[3]! << 8) | chunks[4]!) + 1;
    assert.equal(chunks.length, 6 + length + 1);
    const payload = concat([chunks[5]!, 0, 0, 1, 0], u32le(DATA.length), [0, 0, 0, 0], chunks.subarray(6, -1));
    assertSame(run(...DECODERS.lzma, payload), DATA, 'by xz');
    assertSame(await coreCodecs.lzma(payload, DATA.length), DATA, 'ours');
    const unsized = patched(payload, 5, 255, 255, 255, 255, 255, 255, 255, 255);
    await refuses('lzma', unsized, 'corrupt-data', /lzma/);
  });

  it('takes no notice of the dictionary size', async () => {
    const payload = patched(compress('lzma', DATA), 1, 0xff, 0xff, 0xff, 0xff);
    assertSame(await coreCodecs.lzma(payload, DATA.length), DATA, 'ours');
  });

  it('has room for every lc and lp', async () => {
    // lc=8 lp=4 pb=4: no tool writes it. 1 << 12 contexts, so 6 MB of probabilities.
    await refuses('lzma', patched(compress('lzma', DATA), 0, 224), 'corrupt-data', /lzma/);
    await refuses(
      'lzma',
      patched(compress('lzma', DATA), 0, 225),
      'corrupt-data',
      /lzma properties at offset 0x0 is 0xe1/,
    );
  });
});

/** With a window of 1 KiB. */
const zstdBlock = (block: number, ...rest: number[]): Uint8Array =>
  concat([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00], [block & 0xff, (block >> 8) & 0xff, block >> 16], rest);

describe('zstd', () => {
  const payload = compress('zstd', DATA);

  it('refuses what a kernel has not', async () => {
    await refuses('zstd', patched(payload, 4, payload[4]! | 0x08), 'unsupported', /frame header descriptor/);
    await refuses('zstd', patched(payload, 4, payload[4]! | 0x01), 'unsupported', /dictionary ID|zstd/);
    await refuses('zstd', concat(payload, payload), 'corrupt-data', /bytes after the frame/);
    // A skippable frame.
    await refuses('zstd', concat([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], payload), 'corrupt-data', /magic/);
  });

  it('compares the checksum', async () => {
    const last = payload.length - 1;
    await refuses(
      'zstd',
      patched(payload, last, payload[last]! ^ 1),
      'corrupt-data',
      /zstd content checksum at offset/,
    );
  });

  it('reads the size in the frame header, in each of its widths', async () => {
    for (const size of [200, 300, 60_000, 70_000]) {
      const data = machineCode(size, 4);
      const withSize = run('zstd', `-3 --stream-size=${size}`, data);
      assertSame(await coreCodecs.zstd(withSize, size), data, String(size));
      await refuses('zstd', withSize, 'corrupt-data', /frame content size/, size + 1);
    }
    // Eight bytes wide, and single segment: written by hand, with one stored block.
    const frame = concat([0x28, 0xb5, 0x2f, 0xfd, 0xe0], u32le(3), u32le(0), [(3 << 3) | 1, 0, 0, 7, 8, 9]);
    assertSame(await coreCodecs.zstd(frame, 3), Uint8Array.of(7, 8, 9), 'by hand');
    assertSame(run(...DECODERS.zstd, frame), Uint8Array.of(7, 8, 9), 'by zstd');
  });

  it('refuses reserved block types and blocks beyond the window', async () => {
    await refuses('zstd', zstdBlock((3 << 3) | (3 << 1) | 1, 1, 2, 3), 'corrupt-data', /block type/, 3);
    await refuses(
      'zstd',
      zstdBlock((1025 << 3) | (1 << 1) | 1, 1),
      'corrupt-data',
      /block size at offset 0x6 is 0x401/,
      1025,
    );
    const repeated = await coreCodecs.zstd(zstdBlock((1024 << 3) | (1 << 1) | 1, 0xaa), 1024);
    assertSame(repeated, new Uint8Array(1024).fill(0xaa), 'repeated');
  });
});

describe('bzip2', () => {
  it('refuses a randomised block, a wrong block size, and a second stream', async () => {
    const payload = compress('bzip2', DATA);
    // The bit after "BZh9", the magic and the CRC.
    await refuses('bzip2', patched(payload, 14, payload[14]! | 0x80), 'unsupported', /randomised block at offset 0xe/);
    await refuses('bzip2', patched(payload, 3, 0x30), 'corrupt-data', /block size at offset 0x3/);
    await refuses('bzip2', concat(payload, payload), 'corrupt-data', /bytes after its end/);
    await refuses('bzip2', patched(payload, 10, payload[10]! ^ 1), 'corrupt-data', /block CRC/);
  });

  it('refuses a block that is larger than the header says', async () => {
    const payload = run('bzip2', '-2', new Random(5).bytes(190_000));
    await refuses('bzip2', patched(payload, 3, 0x31), 'corrupt-data', /bzip2 data/, 190_000);
  });
});

describe('lzo', () => {
  it('refuses other methods and filters, with the header checksum put right', async () => {
    const payload = compress('lzo', DATA);
    await refuses('lzo', patched(payload, 15, 0x80), 'unsupported', /lzo method is 0x80/);
    await refuses('lzo', patched(payload, 19, payload[19]! | 0x08), 'unsupported', /lzo flags/);
    await refuses('lzo', patched(payload, 25, payload[25]! ^ 1), 'corrupt-data', /lzo header checksum/);
    await refuses('lzo', payload.subarray(0, -4), 'corrupt-data', /block size.*end of the payload/);
  });
});

const lz4Block = (...bytes: number[]): Uint8Array => concat([0x02, 0x21, 0x4c, 0x18], u32le(bytes.length), bytes);

describe('lz4', () => {
  it('refuses the current frame format, and a match before the block', async () => {
    await refuses(
      'lz4',
      run('lz4', '-9 - -', DATA),
      'corrupt-data',
      /lz4 magic at offset 0x0 is 0x184d2204, expected 0x184c2102/,
    );
    await refuses('lz4', lz4Block(0x10, 0x61, 2, 0, 0x00), 'corrupt-data', /an offset to before the block/, 9);
    await refuses('lz4', lz4Block(0x10, 0x61, 0, 0, 0x00), 'corrupt-data', /an offset to before the block/, 9);
    await refuses('lz4', lz4Block(0x1f, 0x61, 1, 0, 255, 255), 'corrupt-data', /a length that ends after the block/, 9);
    await refuses('lz4', lz4Block(0x10, 0x61, 1, 0), 'corrupt-data', /a block that ends with a match/, 5);
    const decoded = await coreCodecs.lz4(lz4Block(0x10, 0x61, 1, 0, 0x10, 0x62), 6);
    assert.equal(Buffer.from(decoded).toString(), 'aaaaab');
  });
});
