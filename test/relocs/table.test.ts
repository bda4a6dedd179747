import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Writer } from '../../src/base/bytes.ts';
import { readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import {
  checkSites,
  countRelocations,
  encodeRelocationTable,
  readRelocationTable,
} from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { DATA, entryAt, LINK, makeVmlinux, PERCPU, TABLE, TEXT } from '../make-vmlinux.ts';

const words = (...values: number[]): Uint8Array => {
  const writer = new Writer(new Uint8Array(values.length * 4));
  values.forEach((value, index) => writer.u32(index * 4, value));
  return writer.bytes;
};

test('three lists, in file order: 64-bit, inverse, 32-bit', () => {
  const table = readRelocationTable(words(0, 0x81000010, 0x81000020, 0, 0x81000030, 0, 0x81000040));
  assert.deepEqual([...table.abs64], [0x81000010, 0x81000020]);
  assert.deepEqual([...table.inverse32], [0x81000030]);
  assert.deepEqual([...table.abs32], [0x81000040]);
  assert.equal(table.lists, 3);
  assert.equal(countRelocations(table), 4);
});

test('two lists: no inverse one', () => {
  const table = readRelocationTable(words(0, 0x81000010, 0, 0x81000040, 0x81000050));
  assert.deepEqual([...table.abs64], [0x81000010]);
  assert.equal(table.inverse32.length, 0);
  assert.deepEqual([...table.abs32], [0x81000040, 0x81000050]);
  assert.equal(table.lists, 2);
});

test('empty lists', () => {
  assert.equal(countRelocations(readRelocationTable(words(0, 0, 0))), 0);
  assert.equal(countRelocations(readRelocationTable(words(0, 0))), 0);
});

test('a table that is not one is refused, saying where', () => {
  const refused = (bytes: Uint8Array, message: RegExp): void => {
    assert.throws(
      () => readRelocationTable(bytes, 0x1000),
      (error: Error) => error instanceof KernelImageError && message.test(error.message),
    );
  };
  refused(new Uint8Array(0), /no relocation table: relocation table at offset 0x1000/);
  refused(new Uint8Array(7), /length at offset 0x1000 is 0x7, expected a multiple of 4/);
  refused(words(1, 0, 0), /first word at offset 0x1000 is 0x1, expected 0x0/);
  refused(words(0), /count of zero words in relocation table at offset 0x1000 is 1, expected 2 or 3/);
  refused(words(0, 0, 0, 0), /is more than 3, expected 2 or 3/);
  refused(words(0, 5, 4, 0, 0), /entry 1 of the 64-bit list at offset 0x1008 is 0x4, expected more than 0x5/);
  refused(words(0, 0, 7, 7, 0), /entry 1 of the inverse 32-bit list at offset 0x100c is 0x7/);
  refused(words(0, 0, 0, 9, 8), /entry 1 of the 32-bit list at offset 0x1010 is 0x8/);
});

const list = fc
  .uniqueArray(fc.integer({ min: 1, max: 0xffff_ffff }), { maxLength: 40 })
  .map((entries) => Uint32Array.from(entries).toSorted());

test('any table survives encoding and reading', () => {
  fc.assert(
    fc.property(list, list, list, (abs64, inverse32, abs32) => {
      const table: RelocationTable = { abs64, inverse32, abs32, lists: 3 };
      assert.deepEqual(readRelocationTable(encodeRelocationTable(table)), table);
      const two: RelocationTable = { abs64, inverse32: new Uint32Array(0), abs32, lists: 2 };
      assert.deepEqual(readRelocationTable(encodeRelocationTable(two)), two);
      assert.equal(readRelocationTable(encodeRelocationTable(two, 3)).lists, 3);
    }),
  );
  assert.throws(() => encodeRelocationTable(TABLE, 2), RangeError);
});

test('any bytes give a table or a KernelImageError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        readRelocationTable(bytes);
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
    }),
  );
});

test('sites must lie in bytes that a segment loads, and apart', () => {
  const { loads } = readVmlinux(makeVmlinux());
  const none = new Uint32Array(0);
  const sites = (part: Partial<RelocationTable>): RelocationTable => ({
    abs64: none,
    inverse32: none,
    abs32: none,
    lists: 3,
    ...part,
  });
  const at = (...paddrs: number[]): Uint32Array => Uint32Array.from(paddrs, entryAt);
  const refused = (table: RelocationTable, message: RegExp): void => {
    assert.throws(
      () => checkSites(table, loads),
      (error: Error) => error instanceof KernelImageError && message.test(error.message),
    );
  };
  checkSites(TABLE, loads);
  // First and last places where each kind fits; a per-cpu site is named by its load address.
  checkSites(sites({ abs32: at(LINK, TEXT.paddr + TEXT.size - 4, DATA.paddr + DATA.size - 4) }), loads);
  checkSites(sites({ abs64: at(PERCPU.paddr, DATA.paddr + DATA.size - 8) }), loads);
  refused(
    sites({ abs32: at(LINK - 1) }),
    /entry 0 of the 32-bit list is 0xffffffff80ffffff, expected 4 bytes inside one loaded segment/,
  );
  refused(sites({ abs64: at(DATA.paddr + DATA.size - 7) }), /expected 8 bytes inside one loaded segment/);
  refused(sites({ abs32: at(TEXT.paddr + TEXT.size - 2) }), /expected 4 bytes inside one loaded segment/);
  refused(sites({ abs32: at(DATA.paddr + DATA.size) }), /expected 4 bytes inside one loaded segment/);
  refused(
    sites({ abs32: Uint32Array.from([0x7fff_ffff]) }),
    /is 0x7fffffff, expected a link address inside the kernel image/,
  );
  refused(sites({ abs32: Uint32Array.from([0xc000_0000]) }), /expected a link address inside the kernel image/);
  refused(sites({ abs64: at(LINK, LINK + 7) }), /entry 1 of the 64-bit list is .* does not overlap/);
  refused(sites({ abs64: at(LINK), abs32: at(LINK + 4) }), /entry 0 of the 32-bit list is .* does not overlap/);
  refused(sites({ inverse32: at(LINK), abs32: at(LINK) }), /does not overlap/);
});

test('the made kernel is what readelf would call sound', () => {
  const elf = readElf(makeVmlinux());
  assert.equal(elf.segments.length, 4);
  assert.equal(elf.sections.length, 5);
});
