import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32, gzipSync } from 'node:zlib';
import { Reader, Writer } from '../src/base/bytes.ts';
import { coreCodecs } from '../src/codecs/formats.ts';
import type { Encoders } from '../src/codecs/formats.ts';
import { readSetupHeader, SETUP } from '../src/bzimage/header.ts';
import { readPayload } from '../src/bzimage/payload.ts';
import { convert } from '../src/convert.ts';
import { KernelImageError } from '../src/base/errors.ts';
import { extract } from '../src/extract.ts';
import { inspect } from '../src/inspect.ts';
import { readInput } from '../src/kernel/input.ts';
import { rebuildBzImage } from '../src/rebuild.ts';
import type { RebuildOptions } from '../src/rebuild.ts';
import { encodeRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { verify } from '../src/verify/verify.ts';
import { makeBzImage } from './bzimage/make-image.ts';
import { makeVmlinux, TABLE } from './make-vmlinux.ts';

const codecs = coreCodecs;
/** As node:zlib does it; nothing else is asked for. */
const encoders = { gzip: async (data: Uint8Array) => new Uint8Array(gzipSync(data)) } as unknown as Encoders;
const vmlinux = makeVmlinux();
/** Stored, not compressed: there is room. */
const roomy = gzipSync(vmlinux, { level: 0 });
const INIT_SIZE = 0x40_0000;
const PAYLOAD = { offset: 0x400 + 0x40, length: roomy.length };
/** input_len and output_len lie behind the payload, as the decompressor's data does. */
const PAIR = PAYLOAD.offset + PAYLOAD.length + 4;

interface Decompressor {
  readonly payload?: Uint8Array;
  readonly pairs?: number;
  readonly crc?: boolean;
  readonly initSize?: number;
}

function makeKernel({ payload = roomy, pairs = 1, crc = false, initSize = INIT_SIZE }: Decompressor = {}): Uint8Array {
  const image = makeBzImage({ payload, fields: { init_size: initSize, kernel_info_offset: 0 } });
  const writer = new Writer(image);
  for (let pair = 0; pair < pairs; pair++) {
    writer.u32(0x400 + 0x40 + payload.length + 4 + pair * 8, payload.length);
    writer.u32(0x400 + 0x40 + payload.length + 8 + pair * 8, vmlinux.length);
  }
  if (crc) writer.u32(image.length - 4, buildCrc(image));
  return image;
}

/** tools/build does not flip the bits of the sum. */
function buildCrc(image: Uint8Array): number {
  return ~crc32(image.subarray(0, -4)) >>> 0;
}

const image = makeKernel();
const rebuild = (kernel: Uint8Array, options: Partial<RebuildOptions> = {}) =>
  rebuildBzImage(kernel, { codecs, encoders, ...options });

async function proved(kernel: Uint8Array, options: Partial<RebuildOptions> = {}): Promise<Uint8Array> {
  const { bytes } = await rebuild(kernel, options);
  const { offence, verdict } = await verify(kernel, bytes, { codecs });
  assert.equal(offence, undefined);
  assert.equal(verdict, 'proved');
  return bytes;
}

async function refused(
  kernel: Uint8Array,
  code: string,
  message: RegExp,
  options?: Partial<RebuildOptions>,
): Promise<void> {
  await assert.rejects(rebuild(kernel, options), (error: Error) => {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

test('compressed: lengths, init_size and the rest of the room are as the decompressor wants them', async () => {
  const bytes = await proved(image);
  assert.equal(bytes.length, image.length);
  const header = readSetupHeader(bytes);
  const payload = readPayload(bytes, header);
  const reader = new Reader(bytes);
  assert.equal(payload.offset, PAYLOAD.offset);
  assert.deepEqual([reader.u32(PAIR, ''), reader.u32(PAIR + 4, '')], [payload.length, payload.claimedSize]);
  const { vmlinux: unpacked } = await readInput(bytes, { codecs });
  const { vmlinux: elf } = await extract(bytes, { codecs });
  assert.ok(unpacked.subarray(elf.length).every((byte) => byte === 0));
  // Up to the end of the scratch memory, and three words.
  const segment = (await convert(image, { codecs })).summary.segment;
  assert.equal(unpacked.length, segment.paddr + segment.memory - 0x100_0000 + 12);
  const growth = header.initSize! - INIT_SIZE;
  const more = unpacked.length + (unpacked.length >> 8) - vmlinux.length - (vmlinux.length >> 8);
  assert.equal(growth, Math.ceil((more + PAYLOAD.length - payload.length) / 0x1000) * 0x1000);
  // All else is the original's.
  const same = image.slice();
  for (const [at, size] of [
    [SETUP.payload_length.offset, 4],
    [SETUP.init_size.offset, 4],
    [PAYLOAD.offset, PAYLOAD.length],
    [PAIR, 8],
  ] as const)
    same.set(bytes.subarray(at, at + size), at);
  assert.deepEqual(bytes, same);
});

test('the input is not changed, whatever kind of array it is', async () => {
  const buffer = Buffer.from(image);
  await rebuild(buffer);
  await rebuild(buffer, { tableAtEnd: true });
  await rebuild(buffer, { uncompressed: true });
  assert.deepEqual(new Uint8Array(buffer), image);
});

test('a CRC-32 is renewed where there was one', async () => {
  const withCrc = makeKernel({ crc: true });
  const bytes = await proved(withCrc);
  assert.equal(new Reader(bytes).u32(bytes.length - 4, ''), buildCrc(bytes));
});

test('table at the end: the last bytes that are unpacked are the kernel’s table', async () => {
  const bytes = await proved(image, { tableAtEnd: true });
  const { vmlinux: unpacked } = await readInput(bytes, { codecs });
  const table = encodeRelocationTable(TABLE);
  assert.deepEqual(unpacked.subarray(-table.length), table);
  const { vmlinux: elf } = await extract(bytes, { codecs });
  assert.equal(elf.length, unpacked.length);
  const { offence } = await verify(image, elf, { codecs });
  assert.equal(offence, undefined, 'extracted');
});

test('table at the end: no site may lie in the bytes at the entry', async () => {
  const site = Uint32Array.from([0x8100_0230 + 4]);
  const payload = gzipSync(makeVmlinux({ table: { ...TABLE, abs32: site } }), { level: 0 });
  const kernel = makeKernel({ payload });
  await refused(kernel, 'unsupported', /0xffffffff81000234/, { tableAtEnd: true });
});

test('two lists where the kernel has two', async () => {
  const table = { ...TABLE, inverse32: new Uint32Array(), lists: 2 as const };
  const own = makeVmlinux({ table });
  const payload = gzipSync(own, { level: 0 });
  const kernel = makeKernel({ payload });
  new Writer(kernel).u32(0x400 + 0x40 + payload.length + 8, own.length);
  const bytes = await proved(kernel, { tableAtEnd: true });
  const { vmlinux: unpacked } = await readInput(bytes, { codecs });
  assert.deepEqual(unpacked.subarray(-encodeRelocationTable(table).length), encodeRelocationTable(table));
});

test('uncompressed: the payload is what convert writes, and the first segment is aligned', async () => {
  const bytes = await proved(image, { uncompressed: true });
  const header = readSetupHeader(bytes);
  const payload = readPayload(bytes, header);
  assert.deepEqual(payload.data, (await convert(image, { codecs })).bytes());
  assert.equal((header.payloadOffset + 0x1000) % 0x20_0000, 0);
  assert.equal(bytes.length, header.protectedModeStart + header.protectedModeLength);
  assert.equal(header.handoverOffset, 0);
  assert.equal(header.xloadflags! & 0b1100, 0);
  assert.equal(new Reader(bytes).u32(bytes.length - 4, ''), buildCrc(bytes));
});

test('uncompressed: the first segment is at 2 MiB, whatever CONFIG_PHYSICAL_ALIGN is', async () => {
  const aligned = (align: number): Uint8Array => {
    const kernel = new Writer(image.slice());
    kernel.u32(SETUP.kernel_alignment.offset, align);
    return kernel.bytes;
  };
  for (const align of [0x100_0000, 0x4000_0000]) {
    const { payloadOffset, kernelAlignment } = readSetupHeader(await proved(aligned(align), { uncompressed: true }));
    assert.deepEqual([payloadOffset + 0x1000, kernelAlignment], [0x20_0000, align]);
  }
});

test('what cannot be rebuilt is refused, each in its own words', async () => {
  await refused(
    makeKernel({ payload: gzipSync(vmlinux) }),
    'too-large',
    /new payload is 0x[0-9a-f]+, expected at most .*bytes too many/,
  );
  await refused(makeKernel({ pairs: 0 }), 'unsupported', /decompressor is one with no pair/);
  await refused(makeKernel({ pairs: 2 }), 'unsupported', /more than one pair/);
  await refused(vmlinux, 'unsupported', /file is a vmlinux, expected a bzImage/);
  await refused((await rebuild(image, { uncompressed: true })).bytes, 'unsupported', /payload is not compressed/);
  await refused((await rebuild(image)).bytes, 'already-converted', /already converted/);
});

/** `image` with PE headers in its boot sector, as far as they fit before the setup header, and certificates from an offset to the end. */
function signedAt(offset: number, size = image.length - offset): Uint8Array {
  const signed = new Writer(new Uint8Array(offset + size));
  signed.copy(0, image);
  const [pe, optional] = [0x40, 0x58];
  signed.u16(0, 0x5a4d);
  signed.u32(0x3c, pe);
  signed.u32(pe, 0x4550);
  signed.u16(pe + 20, 160);
  signed.u16(optional, 0x20b);
  signed.u32(optional + 108, 6);
  signed.u32(optional + 144, offset);
  signed.u32(optional + 148, size);
  return signed.bytes;
}

test('certificates that begin before the payload or the lengths end are refused', async () => {
  for (const offset of [0x400, PAYLOAD.offset + 0x100, PAYLOAD.offset + PAYLOAD.length - 1, PAIR, PAIR + 7])
    await refused(signedAt(offset), 'bad-value', /CertificateTable is 0x[0-9a-f]+, expected at least 0x/);
  const { bytes, summary } = await rebuild(signedAt(image.length, 0x108));
  assert.equal(summary.signatureDropped, true);
  assert.equal(bytes.length, image.length);
});

test('an init_size that would not fit in its field is refused', async () => {
  await refused(
    makeKernel({ initSize: 0xffff_f000 }),
    'too-large',
    /new init_size is 0x1[0-9a-f]{8}, expected at most 0xffffffff/,
  );
});

test('a changed byte of the container is found, and a container of another kernel', async () => {
  for (const how of [{}, { tableAtEnd: true }, { uncompressed: true }]) {
    const { bytes } = await rebuild(image, how);
    const changed = bytes.slice();
    const places = [
      0,
      0x1ee,
      0x1f4,
      0x24c,
      0x260,
      0x3ff,
      0x400,
      0x410,
      PAYLOAD.offset + 20,
      PAIR,
      PAIR + 4,
      bytes.length - 1,
    ];
    for (const at of places) {
      changed[at] = bytes[at]! ^ 0x10;
      // What is no bzImage any more is unusable, and no wrong verdict either.
      const { verdict } = await verify(image, changed, { codecs });
      assert.equal(verdict, 'refuted', `byte ${at.toString(16)} of ${JSON.stringify(how)}`);
      changed[at] = bytes[at]!;
    }
    const longer = new Uint8Array(bytes.length + 1);
    longer.set(bytes);
    assert.equal((await verify(image, longer, { codecs })).verdict, 'refuted');
  }
  assert.equal((await verify(image, image, { codecs })).verdict, 'refuted');
});

/** The gzip member with an extra field of `size` bytes of 0: node:zlib skips it, a kernel takes it for the data. */
function withExtraField(member: Uint8Array, size: number): Uint8Array {
  const field = [size & 0xff, size >> 8, ...new Uint8Array(size)];
  return Uint8Array.from([...member.subarray(0, 3), 4, ...member.subarray(4, 10), ...field, ...member.subarray(10)]);
}

const DIFFERS =
  /^the kernel's own decompressor would not read this the same: gzip flags at offset 0x3 is 0x4, expected 0, or 8 for a name$/;

test('a payload that the decompressor would read otherwise: refused as input and as output, refuted by verify, and noted by the others', async () => {
  const strange = withExtraField(roomy, 4);
  const kernel = makeKernel({ payload: strange });
  await refused(kernel, 'read-differently', DIFFERS);
  const badEncoders = {
    gzip: async (data: Uint8Array) => withExtraField(gzipSync(data), 4),
  } as unknown as Encoders;
  await refused(image, 'read-differently', DIFFERS, { encoders: badEncoders });

  // A right output, and the same with the field.
  const { bytes, summary } = await rebuild(image);
  const { offset, length } = readPayload(bytes, readSetupHeader(bytes));
  const forged = bytes.slice();
  const payload = withExtraField(forged.slice(offset, offset + length), 4);
  forged.set(payload, offset);
  const writer = new Writer(forged);
  writer.u32(SETUP.payload_length.offset, payload.length);
  writer.u32(PAIR, payload.length);
  const { verdict, offence } = await verify(image, forged, { codecs });
  assert.equal(verdict, 'refuted');
  assert.equal(offence?.check, 'payload');
  assert.match(offence.what, /^gzip flags$/);
  assert.equal(summary.payloadNote, undefined);

  const converted = await convert(kernel, { codecs });
  assert.match(converted.summary.payloadNote ?? '', DIFFERS);
  assert.match((await extract(kernel, { codecs })).payloadNote ?? '', DIFFERS);
  assert.match((await inspect(kernel, { codecs })).setup?.payload.note ?? '', DIFFERS);
});
