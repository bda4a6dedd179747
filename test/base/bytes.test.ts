import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alignUp, ascii, cString, indexOfBytes, Reader, unshared, viewOf, Writer } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';

test('a view honours byteOffset', () => {
  const whole = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(viewOf(whole.subarray(2, 6)).getUint32(0, true), 0x06050403);
  assert.equal(new Reader(whole.subarray(4)).u32(0, 'x'), 0x08070605);
});

test('a read past the end names field, file offset and what was needed', () => {
  const reader = new Reader(new Uint8Array(6), 0x200);
  assert.throws(
    () => reader.u32(4, 'e_phoff'),
    (error: KernelImageError) =>
      error.code === 'truncated' &&
      error.message === 'file is truncated: e_phoff at offset 0x204: expected 0x4 bytes before the end at 0x206',
  );
  for (const offset of [-1, Number.NaN, Infinity, 2 ** 53, 7]) {
    assert.throws(() => reader.u8(offset, 'x'), KernelImageError);
  }
});

test('a u64 above 2^53 is refused as a size', () => {
  const bytes = new Uint8Array(8).fill(0xff);
  assert.throws(
    () => new Reader(bytes).u64AsNumber(0, 'sh_size'),
    /sh_size at offset 0x0 is 0xffffffffffffffff, expected less/,
  );
});

test('writes are little-endian and cannot miss', () => {
  const bytes = new Uint8Array(8);
  new Writer(bytes).u64(0, -1n);
  assert.deepEqual(bytes, new Uint8Array(8).fill(0xff));
  assert.throws(() => new Writer(bytes).u32(6, 1), RangeError);
});

test('strings and searches', () => {
  assert.equal(cString(ascii('ab\0cd'), 0), 'ab');
  assert.equal(cString(ascii('abcd'), 1), 'bcd');
  assert.equal(indexOfBytes(ascii('aabab'), ascii('ab')), 1);
  assert.equal(indexOfBytes(ascii('aabab'), ascii('ab'), 2), 3);
  assert.equal(indexOfBytes(ascii('aab'), ascii('abc')), -1);
  assert.equal(alignUp(0x1001, 0x1000), 0x2000);
  assert.equal(alignUp(0x1_0000_0000, 0x20_0000), 0x1_0000_0000);
});

test('views of shared memory are copied for what takes none, others stay', () => {
  const own = Uint8Array.from([1, 2, 3, 4]).subarray(1);
  assert.equal(unshared(own), own);
  const shared = new Uint8Array(new SharedArrayBuffer(4)).fill(7).subarray(1);
  assert.ok(!(unshared(shared).buffer instanceof SharedArrayBuffer));
  assert.deepEqual(unshared(shared), Uint8Array.from([7, 7, 7]));
});
