import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { ascii } from '../../src/base/bytes.ts';
import type { Codecs, Compression, Decoder } from '../../src/codecs/formats.ts';
import { readSetupHeader } from '../../src/bzimage/header.ts';
import { decodePayload, readPayload, type Payload } from '../../src/bzimage/payload.ts';
import { KernelImageError, type ErrorCode } from '../../src/base/errors.ts';
import { makeBzImage, makeVmlinux, withSizeWord, type BzImageParts } from './make-image.ts';

/** How streams of each compression start; what follows is for the decoders, which have tests of their own. */
const STARTS: Readonly<Record<Exclude<Compression, 'gzip'>, string>> = {
  bzip2: 'BZh9',
  lzma: '\x5d\x00\x00\x80\x00',
  xz: '\xfd7zXZ\x00',
  lzo: '\x89LZO\x00\r\n\x1a\n',
  lz4: '\x02\x21\x4c\x18',
  zstd: '\x28\xb5\x2f\xfd',
};

const payloadOf = (parts: BzImageParts): Payload => {
  const bytes = makeBzImage(parts);
  return readPayload(bytes, readSetupHeader(bytes));
};

for (const [compression, start] of Object.entries(STARTS)) {
  test(`${compression}: the size word is read, and is not for the decoder`, () => {
    const stream = ascii(`${start} and so on`);
    assert.deepEqual(payloadOf({ payload: withSizeWord(stream, 0x1234) }), {
      compression,
      data: stream,
      claimedSize: 0x1234,
      offset: 0x440,
      length: stream.length + 4,
    });
  });
}

test('gzip: the size is in its own trailer, which stays', () => {
  const stream = new Uint8Array(gzipSync(makeVmlinux(0x100)));
  assert.deepEqual(payloadOf({ payload: stream }), {
    compression: 'gzip',
    data: stream,
    claimedSize: 0x100,
    offset: 0x440,
    length: stream.length,
  });
});

test('an ELF file that is not compressed is its own payload', async () => {
  const vmlinux = makeVmlinux(0x100);
  const payload = payloadOf({ payload: vmlinux });
  assert.deepEqual(payload, {
    compression: undefined,
    data: vmlinux,
    claimedSize: 0x100,
    offset: 0x440,
    length: 0x100,
  });
  assert.equal(await decodePayload(payload, noCodecs), payload.data);
});

test('nothing is copied', () => {
  const bytes = makeBzImage();
  assert.equal(readPayload(bytes, readSetupHeader(bytes)).data.buffer, bytes.buffer);
});

const unused: Decoder = () => assert.fail('called');
const noCodecs: Codecs = {
  gzip: unused,
  bzip2: unused,
  lzma: unused,
  xz: unused,
  lzo: unused,
  lz4: unused,
  zstd: unused,
};

test('the decoder of that compression gets data and size, and who watches', async () => {
  const payload = payloadOf({});
  const calls: unknown[] = [];
  const gzip: Decoder = (...call) => {
    calls.push(call);
    return new Uint8Array(gunzipSync(payload.data));
  };
  const watch = (): void => {};
  assert.deepEqual(await decodePayload(payload, { ...noCodecs, gzip }), makeVmlinux(0x100));
  assert.deepEqual(await decodePayload(payload, { ...noCodecs, gzip }, watch), makeVmlinux(0x100));
  assert.deepEqual(calls, [
    [payload.data, 0x100, undefined, undefined],
    [payload.data, 0x100, watch, undefined],
  ]);
});

const zstd = (size: number): Uint8Array => withSizeWord(ascii(STARTS.zstd), size);

const refused: readonly [string, BzImageParts, ErrorCode, string][] = [
  [
    'payload_length 0',
    { fields: { payload_length: 0 } },
    'bad-value',
    'invalid value: payload_length at offset 0x24c is 0x0, expected a compressed kernel',
  ],
  [
    'payload_length past the end',
    { payload: zstd(1), fields: { payload_length: 0x1000 } },
    'truncated',
    'file is truncated: payload (payload_offset, payload_length) at offset 0x440: expected 0x1000 bytes before the end at 0x470',
  ],
  [
    'payload_offset past the end',
    { payload: zstd(1), fields: { payload_offset: 0xffff_ffff } },
    'truncated',
    'file is truncated: payload (payload_offset, payload_length) at offset 0x1000003ff: expected 0x8 bytes before the end at 0x470',
  ],
  [
    'an unknown compression',
    { payload: ascii('what is this') },
    'unsupported',
    'not supported: payload at offset 0x440 is data that starts with 77 68 61 74, expected gzip, bzip2, lzma, xz, lzo, lz4, zstd or ELF',
  ],
  [
    'a size of 0',
    { payload: zstd(0) },
    'bad-value',
    'invalid value: uncompressed size at offset 0x444 is 0x0, expected more than 0',
  ],
  [
    'a size above init_size',
    { payload: zstd(0x10_0001) },
    'too-large',
    'too large: uncompressed size at offset 0x444 is 0x100001, expected at most 0x100000 (init_size)',
  ],
  [
    'a size that no kernel of its length has',
    { payload: zstd(0x400_0801), fields: { init_size: 0xffff_ffff } },
    'too-large',
    'too large: uncompressed size at offset 0x444 is 0x4000801, expected at most 0x4000800, for a payload of 0x8 bytes',
  ],
  [
    'a size above 1 GiB, whatever init_size is',
    { payload: zstd(0x4000_0001), fields: { init_size: 0xffff_ffff } },
    'too-large',
    'too large: uncompressed size at offset 0x444 is 0x40000001, expected at most 0x40000000 (KERNEL_IMAGE_SIZE)',
  ],
  [
    'a size above 1 GiB in a protocol without init_size',
    { payload: zstd(0xffff_ffff), fields: { version: 0x0209 } },
    'too-large',
    'too large: uncompressed size at offset 0x444 is 0xffffffff, expected at most 0x40000000 (KERNEL_IMAGE_SIZE)',
  ],
];

for (const [name, parts, code, message] of refused) {
  test(`${name} is refused`, () => {
    assert.throws(() => payloadOf(parts), { name: 'KernelImageError', code, message });
  });
}

test('a size of exactly init_size, of 256 bytes for each of the payload and 64 MiB, or of 1 GiB is taken', () => {
  const fields = { init_size: 0xffff_ffff };
  const sized = (length: number, size: number): Uint8Array =>
    withSizeWord(Uint8Array.from({ ...zstd(0), length: length - 4 }), size);
  assert.equal(payloadOf({ payload: zstd(0x10_0000) }).claimedSize, 0x10_0000);
  assert.equal(payloadOf({ payload: sized(8, 0x400_0800), fields }).claimedSize, 0x400_0800);
  assert.equal(payloadOf({ payload: sized(0x3c_0000, 0x4000_0000), fields }).claimedSize, 0x4000_0000);
});

test('only KernelImageError comes out of any two fields and any size', () => {
  const u32 = fc.oneof(fc.integer({ min: 0, max: 0x100 }), fc.integer({ min: 0, max: 0xffff_ffff }));
  fc.assert(
    fc.property(u32, u32, u32, (payload_offset, payload_length, size) => {
      try {
        payloadOf({ payload: zstd(size), fields: { payload_offset, payload_length } });
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});
