/** The table in its reserved section: what lies where, what is left alone, and what is refused. */
import { joinParts } from '../src/base/bytes.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSection, readElf, sectionBytes } from '../src/elf/read.ts';
import { KernelImageError } from '../src/base/errors.ts';
import { insertRelocations } from '../src/insert.ts';
import { collectRelocations } from '../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { makeKernel32, makeKernel64 } from './relocs/fixtures.ts';
import { kslideRelocs } from './relocs/judge.ts';

function sectionOf(kernel: Uint8Array, name: string): { bytes: Uint8Array; offset: number } {
  const elf = readElf(kernel);
  const section = findSection(elf, name);
  assert.ok(section);
  return { bytes: sectionBytes(elf, section), offset: section.offset };
}

/** As the kernel walks it: from the section's end, each list down to its zero. */
function readBackwards(bytes: Uint8Array, lists: number): number[][] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: number[][] = [];
  let at = bytes.length;
  for (let list = 0; list < lists; list++) {
    const entries: number[] = [];
    for (at -= 4; view.getUint32(at, true) !== 0; at -= 4) entries.push(view.getUint32(at, true));
    found.push(entries.toReversed());
  }
  return found;
}

for (const name of ['.data.reloc', '.data.relocs']) {
  test(`${name}: the table is flush with the end, zeros are before it, and nothing else changes`, () => {
    const kernel = makeKernel64({ reserved: { name, size: 0x1000 } });
    const inserted = joinParts(insertRelocations(kernel));
    const table = collectRelocations(kernel);
    const { bytes, offset } = sectionOf(inserted, name);
    const encoded = encodeRelocationTable(table);
    assert.deepEqual(bytes.subarray(bytes.length - encoded.length), encoded);
    assert.ok(bytes.subarray(0, bytes.length - encoded.length).every((byte) => byte === 0));
    assert.deepEqual(readBackwards(bytes, 3), [[...table.abs32], [...table.inverse32], [...table.abs64]]);

    const restored = inserted.slice();
    restored.set(kernel.subarray(offset, offset + bytes.length), offset);
    assert.deepEqual(restored, kernel);
    assert.deepEqual(joinParts(insertRelocations(inserted)), inserted, 'a second time changes nothing');
  });
}

test('two lists, when the kernel reads two or when told so', () => {
  const kernel = makeKernel64({ perCpu: 'placed', reserved: { name: '.data.reloc', size: 0x1000 } });
  const { abs32, abs64 } = collectRelocations(kernel);
  const two = sectionOf(joinParts(insertRelocations(kernel)), '.data.reloc').bytes;
  assert.deepEqual(readBackwards(two, 2), [[...abs32], [...abs64]]);
  const three = sectionOf(joinParts(insertRelocations(kernel, { lists: 3 })), '.data.reloc').bytes;
  assert.deepEqual(readBackwards(three, 3), [[...abs32], [], [...abs64]]);
});

test('i386: one list', () => {
  const kernel = makeKernel32({ reserved: { name: '.data.reloc', size: 0x1000 } });
  const { bytes } = sectionOf(joinParts(insertRelocations(kernel)), '.data.reloc');
  const table = kslideRelocs(kernel, []).stdout;
  assert.deepEqual(Buffer.from(bytes.subarray(bytes.length - table.length)), table);
});

test('a table that fills the section to the last byte fits; one byte less does not', () => {
  const size = encodeRelocationTable(
    collectRelocations(makeKernel64({ reserved: { name: '.data.reloc', size: 8 } })),
  ).length;
  const exact = makeKernel64({ reserved: { name: '.data.reloc', size } });
  const encoded = encodeRelocationTable(collectRelocations(exact));
  assert.deepEqual(sectionOf(joinParts(insertRelocations(exact)), '.data.reloc').bytes, encoded);

  const small = makeKernel64({ reserved: { name: '.data.reloc', size: size - 1 } });
  assert.throws(() => insertRelocations(small), {
    name: 'KernelImageError',
    code: 'too-large',
    message:
      `too large: relocation table for section .data.reloc is 0x${size.toString(16)}, ` +
      `expected at most 0x${(size - 1).toString(16)}, the size of the section; reserve 0x1000 bytes`,
  });
});

test('refuses a kernel without the section, and one whose section has no bytes', () => {
  assert.throws(() => insertRelocations(makeKernel64()), {
    code: 'bad-value',
    message:
      'invalid value: section .data.reloc or .data.relocs is missing, expected one that the linker script reserves ' +
      'for the relocation table; docs/kernel-build.md shows how',
  });
  const kernel = makeKernel64({ reserved: { name: '.data.reloc', size: 0x1000 } });
  const elf = readElf(kernel);
  const header = elf.header.shoff + findSection(elf, '.data.reloc')!.index * 64;
  const nobits = kernel.slice();
  nobits[header + 4] = 8;
  assert.throws(() => insertRelocations(nobits), /sh_type of section \.data\.reloc is SHT_NOBITS/);
  const outside = kernel.slice();
  outside[header + 24 + 5] = 1; // sh_offset
  assert.throws(
    () => insertRelocations(outside),
    (error) => error instanceof KernelImageError && error.code === 'truncated',
  );
});
