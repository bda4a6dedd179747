import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ascii, Writer } from '../../src/bytes.ts';
import { findPeSection, isPe, readPe } from '../../src/bzimage/pe.ts';
import { KernelImageError, type ErrorCode } from '../../src/errors.ts';
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
