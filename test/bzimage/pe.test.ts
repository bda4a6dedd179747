import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ascii, Reader, Writer } from '../../src/base/bytes.ts';
import { dropSignature, findPeSection, growImage, isPe, readPe } from '../../src/bzimage/pe.ts';
import { hex, KernelImageError, type ErrorCode } from '../../src/base/errors.ts';
import { makePe, PE_AT, PE_SECTIONS_AT } from './make-image.ts';

const good = makePe({ sections: { '.cmdline': ascii('quiet'), '.linux': ascii('the kernel') } });

test('sections by name, each without its padding', () => {
  assert.ok(isPe(good));
  assert.deepEqual(readPe(good), {
    machine: 0x8664,
    sections: [
      { name: '.cmdline', offset: 0x200, size: 5 },
      { name: '.linux', offset: 0x400, size: 10 },
    ],
  });
  // All eight bytes of the name, with no NUL behind it.
  assert.deepEqual(findPeSection(good, '.cmdline'), ascii('quiet'));
  assert.deepEqual(findPeSection(good, '.linux'), ascii('the kernel'));
  assert.equal(findPeSection(good, '.initrd'), undefined);
});

test('a section is a view', () => {
  assert.equal(findPeSection(good, '.linux')?.buffer, good.buffer);
});

test('VirtualSize 0 and VirtualSize beyond the file contents mean SizeOfRawData', () => {
  for (const virtualSize of [0, 0x1000]) {
    const bytes = changed((pe) => pe.u32(PE_SECTIONS_AT + 8, virtualSize));
    assert.equal(findPeSection(bytes, '.cmdline')?.length, 0x200);
  }
});

function changed(change: (pe: Writer) => void): Uint8Array {
  const bytes = good.slice();
  change(new Writer(bytes));
  return bytes;
}

const refused: readonly [string, (pe: Writer) => void, ErrorCode, string][] = [
  ['no MZ', (pe) => pe.u8(0, 0), 'not-a-kernel', 'not a kernel image: e_magic at offset 0x0: expected "MZ"'],
  [
    'e_lfanew outside the file',
    (pe) => pe.u32(0x3c, 0xffff_fff0),
    'truncated',
    'file is truncated: PE signature at offset 0xfffffff0: expected 0x4 bytes before the end at 0x600',
  ],
  [
    'another signature',
    (pe) => pe.u8(PE_AT, 0x4e),
    'not-a-kernel',
    'not a kernel image: PE signature at offset 0x40 is 0x454e, expected 0x4550',
  ],
  [
    'more sections than fit',
    (pe) => pe.u16(PE_AT + 6, 0xffff),
    'truncated',
    'file is truncated: section table of 65535 entries at offset 0xc8: expected 0x27ffd8 bytes before the end at 0x600',
  ],
  [
    'a section outside the file',
    (pe) => pe.u32(PE_SECTIONS_AT + 40 + 20, 0x5f8),
    'truncated',
    'file is truncated: .linux section at offset 0x5f8: expected 0xa bytes before the end at 0x600',
  ],
];

for (const [name, change, code, message] of refused) {
  test(`${name} is refused`, () => {
    assert.throws(() => findPeSection(changed(change), '.linux'), { name: 'KernelImageError', code, message });
  });
}

/** As a kernel's build writes an EFI stub's headers: six data directories, and sections with addresses. */
const OPTIONAL_AT = PE_AT + 24;
const STUB = { sectionAlignment: OPTIONAL_AT + 32, sizeOfImage: OPTIONAL_AT + 56, checkSum: OPTIONAL_AT + 64 };
const CERTIFICATES = OPTIONAL_AT + 112 + 4 * 8;
const STUB_SECTIONS = OPTIONAL_AT + 160;
const CHECKSUM = 0x1234_5678;

function makeEfiStub({ sizeOfImage = 0x9000, certificates = 0 } = {}): Uint8Array {
  const image = new Writer(new Uint8Array(0x1000 + certificates));
  image.u16(0, 0x5a4d);
  image.u32(0x3c, PE_AT);
  image.u32(PE_AT, 0x4550);
  image.u16(PE_AT + 6, 3);
  image.u16(PE_AT + 20, 160);
  image.u16(OPTIONAL_AT, 0x20b);
  image.u32(STUB.sectionAlignment, 0x20);
  image.u32(STUB.sizeOfImage, sizeOfImage);
  image.u32(OPTIONAL_AT + 108, 6);
  for (const [index, [address, size]] of SECTIONS.entries()) {
    image.u32(STUB_SECTIONS + index * 40 + 8, size);
    image.u32(STUB_SECTIONS + index * 40 + 12, address);
  }
  if (certificates === 0) return image.bytes;
  image.u32(CERTIFICATES, 0x1000);
  image.u32(CERTIFICATES + 4, certificates);
  image.u32(STUB.checkSum, CHECKSUM);
  image.bytes.fill(0xee, 0x1000);
  return image.bytes;
}

/** VirtualAddress, VirtualSize; the last in memory is not the last in the table. */
const SECTIONS = [
  [0x200, 0x400],
  [0x600, 0x8a00],
  [0x40, 0x20],
] as const;

const offsetsThatDiffer = (a: Uint8Array, b: Uint8Array): number[] => [...a.keys()].filter((at) => a[at] !== b[at]);

test('a signature goes with its entry and the checksum; all else stays, and the given bytes as well', () => {
  const signed = Buffer.from(makeEfiStub({ certificates: 0x208 }));
  const before = new Uint8Array(signed);
  const { bytes, signed: was } = dropSignature(signed);
  assert.ok(was);
  assert.deepEqual(bytes, makeEfiStub());
  bytes.fill(1);
  assert.deepEqual(new Uint8Array(signed), before);
});

test('without a signature, or without PE headers, what is given is copied as it is', () => {
  for (const image of [makeEfiStub(), new Uint8Array(0x1000)]) {
    const { bytes, signed } = dropSignature(image);
    assert.ok(!signed);
    assert.deepEqual(bytes, image);
    assert.notEqual(bytes.buffer, image.buffer);
  }
});

test('padding after the certificates goes with them: zeros, or the 0xff of erased flash', () => {
  const signed = makeEfiStub({ certificates: 0x208 });
  for (const fill of [0, 0xff]) {
    for (const length of [1, 8, 0xdf8]) {
      const padded = new Uint8Array(signed.length + length).fill(fill, signed.length);
      padded.set(signed);
      const { bytes, signed: was } = dropSignature(padded);
      assert.deepEqual([was, bytes], [true, makeEfiStub()]);
      padded[padded.length - 1] = 1;
      assert.throws(() => dropSignature(padded), {
        code: 'bad-value',
        message: `invalid value: CertificateTable at offset ${hex(CERTIFICATES)} is 0x1000 to 0x1208, expected certificates that end the file, at ${hex(padded.length)}, but for padding`,
      });
    }
  }
});

test('certificates that do not end the file, or lie over their own entry, are refused', () => {
  const place = (offset: number, size: number): Uint8Array => {
    const image = new Writer(makeEfiStub({ certificates: 0x208 }));
    image.u32(CERTIFICATES, offset);
    image.u32(CERTIFICATES + 4, size);
    return image.bytes;
  };
  const refusal = { name: 'KernelImageError', code: 'bad-value' };
  for (const [offset, size] of [
    [0x1000, 0x200],
    [0x1000, 0xffff_ffff],
    [0x1300, 0],
    [CERTIFICATES, 0x1208 - CERTIFICATES],
    [4, 0x1204],
  ] as const)
    assert.throws(() => dropSignature(place(offset, size)), refusal, `${offset} ${size}`);
});

test('an EFI stub that decompresses in its own image has SizeOfImage and its last section grow; no other field changes', () => {
  const image = makeEfiStub({ sizeOfImage: 0x9000 });
  const before = image.slice();
  growImage(image, 0x9000, 0x1001);
  const reader = new Reader(image);
  // Up to a multiple of SectionAlignment.
  assert.equal(reader.u32(STUB.sizeOfImage, ''), 0x9000 + 0x1020);
  assert.equal(reader.u32(STUB_SECTIONS + 40 + 8, ''), 0x8a00 + 0x1020);
  const fields = [STUB.sizeOfImage, STUB_SECTIONS + 40 + 8];
  assert.ok(
    offsetsThatDiffer(image, before).every((at) => fields.some((field) => at >= field && at < field + 4)),
    'another byte changed',
  );
});

test('one that asks the firmware for memory, no growth, and no PE: nothing changes', () => {
  for (const [image, growth] of [
    [makeEfiStub({ sizeOfImage: 0x8fff }), 0x1000],
    [makeEfiStub(), 0],
    [new Uint8Array(0x1000), 0x1000],
  ] as const) {
    const before = image.slice();
    growImage(image, 0x9000, growth);
    assert.deepEqual(image, before);
  }
});

test('only KernelImageError comes out of random headers', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0x118 }), fc.uint8Array({ maxLength: 12 }), (at, noise) => {
      try {
        findPeSection(
          changed((pe) => pe.copy(at, noise)),
          '.linux',
        );
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});
