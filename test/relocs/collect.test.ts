/** Collecting as a library: two lists or three, what is refused and in which words, and how little of a file is read. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { viewOf } from '../../src/base/bytes.ts';
import { SHT_RELA } from '../../src/elf/constants.ts';
import { readElf, sectionName } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { openByteSource } from '../../src/node/files/byte-source.ts';
import { InputFileError } from '../../src/node/errors.ts';
import { collectRelocations, hasRelocations } from '../../src/relocs/tool/collect.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { encodeRelocationTable, readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { ByteSource } from '../../src/relocs/tool/byte-source.ts';
import { makeKernel32, makeKernel64, makeRealMode, Patchable, scratchFile } from './fixtures.ts';
import { judge, kslideRelocs, skip } from './judge.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-collect-'));
after(() => rmSync(directory, { recursive: true }));

function theirTable(kernel: Uint8Array): Buffer {
  const file = scratchFile('their-table.elf');
  writeFileSync(file, kernel);
  const { status, stdout } = judge(file, []);
  assert.equal(status, 0);
  return stdout;
}

test('three lists where the kernel is older than 6.15', { skip }, () => {
  for (const perCpu of ['zero', 'single', 'none'] as const) {
    const kernel = makeKernel64({ perCpu });
    const table = collectRelocations(kernel);
    assert.equal(table.lists, 3, perCpu);
    assert.deepEqual(Buffer.from(encodeRelocationTable(table)), theirTable(kernel), perCpu);
    assert.equal(table.inverse32.length > 0, perCpu === 'zero');
  }
});

test('two lists where it is newer: the same table without the empty list', { skip }, () => {
  for (const perCpu of ['placed', 'empty'] as const) {
    const kernel = makeKernel64({ perCpu });
    const table = collectRelocations(kernel);
    assert.equal(table.lists, 2, perCpu);
    assert.equal(table.inverse32.length, 0);
    const bytes = Buffer.from(encodeRelocationTable(table));
    const middle = 4 * (1 + table.abs64.length);
    const three = Buffer.concat([bytes.subarray(0, middle), Buffer.alloc(4), bytes.subarray(middle)]);
    assert.deepEqual(three, theirTable(kernel), perCpu);
    assert.deepEqual(kslideRelocs(kernel, []).stdout, bytes);
    assert.deepEqual(kslideRelocs(kernel, [], 3).stdout, three);
    assert.deepEqual(readRelocationTable(bytes), table);
  }
});

test('R_X86_64_REX_GOTPCRELX counts as PC-relative since there are two lists', () => {
  const rexGotpcrelx = 42;
  const patchable = new Patchable(makeKernel64({ perCpu: 'placed' }));
  const before = collectRelocations(patchable.bytes);
  patchable.setRelocation('.init.text', 0, rexGotpcrelx, 2);
  assert.deepEqual(collectRelocations(patchable.bytes), before);
  assert.throws(() => collectRelocations(patchable.bytes, { lists: 3 }), { code: 'unsupported' });
});

test('two lists cannot hold what has to be subtracted', () => {
  assert.throws(
    () => collectRelocations(makeKernel64(), { lists: 2 }),
    (error) =>
      error instanceof KernelImageError &&
      /^invalid value: relocations to subtract the slide from is \d+, the first at 0x[0-9a-f]{8}, expected none/.test(
        error.message,
      ),
  );
});

test('tells a kernel that has its relocations', () => {
  const kernel = makeKernel64();
  assert.equal(hasRelocations(kernel), true);
  const patchable = new Patchable(kernel);
  const { header, sections } = readElf(kernel);
  // .rela.debug_info and .rela.names are left: they apply to nothing that is loaded.
  const view = viewOf(patchable.bytes);
  for (const { index, type, info } of sections) {
    if (type === SHT_RELA && (sections[info]!.flags & 2n) !== 0n)
      view.setBigUint64(header.shoff + index * 64 + 32, 0n, true);
  }
  assert.equal(hasRelocations(patchable.bytes), false);
  assert.deepEqual(collectRelocations(patchable.bytes), {
    abs64: new Uint32Array(0),
    inverse32: new Uint32Array(0),
    abs32: new Uint32Array(0),
    lists: 3,
  });
});

test('an i386 kernel has no table for x86-64', () => {
  assert.throws(() => collectRelocations(makeKernel32()), {
    name: 'KernelImageError',
    message: 'not an x86-64 kernel: EI_CLASS at offset 0x4 is 0x1, expected 0x2',
  });
});

test('refuses a file that names the same relocations again and again', () => {
  const kernel = makeKernel64();
  const { header, sections } = readElf(kernel);
  const copies = 5000;
  const start = header.shoff + sections.findIndex(({ type }) => type === SHT_RELA) * 64;
  const bytes = new Uint8Array(kernel.length + (header.shnum + copies) * 64);
  bytes.set(kernel);
  bytes.set(kernel.subarray(header.shoff, header.shoff + header.shnum * 64), kernel.length);
  for (let copy = 0; copy < copies; copy++)
    bytes.set(kernel.subarray(start, start + 64), kernel.length + (header.shnum + copy) * 64);
  const view = viewOf(bytes);
  view.setBigUint64(40, BigInt(kernel.length), true); // e_shoff
  view.setUint16(60, header.shnum + copies, true); // e_shnum
  assert.throws(() => collectRelocations(bytes), {
    name: 'KernelImageError',
    message:
      /^invalid value: size of all relocation sections is 0x[0-9a-f]+, expected at most 0x[0-9a-f]+, the size of the file$/,
  });
});

interface Refusal {
  readonly kernel: 'x86-64' | 'i386' | 'real mode';
  readonly section: string;
  readonly type: number;
  /** By its name. */
  readonly symbol: string;
  readonly message: RegExp;
}

const REFUSALS: readonly Refusal[] = [
  {
    kernel: 'x86-64',
    section: '.rodata',
    type: 12,
    symbol: 'function',
    message:
      /^not supported: relocation 1 of section \.rela\.rodata at offset 0x[0-9a-f]+ is R_X86_64_16 \(12\) at 0xffffffff81[0-9a-f]{6} in \.rodata, symbol function$/,
  },
  {
    kernel: 'x86-64',
    section: '.data',
    type: 41,
    symbol: 'object',
    message: /^not supported: relocation 1 of section \.rela\.data .* is type 41 at 0x.* in \.data, symbol object$/,
  },
  {
    kernel: 'x86-64',
    section: '.text',
    type: 11,
    symbol: 'LOAD_PHYSICAL_ADDR',
    message:
      /^invalid value: .* is R_X86_64_32S \(11\) at .* in \.text, symbol LOAD_PHYSICAL_ADDR, expected a symbol that moves with the kernel$/,
  },
  {
    kernel: 'x86-64',
    section: '.rodata',
    type: 24,
    symbol: 'per_cpu_object',
    message: /is R_X86_64_PC64 \(24\) at .*, symbol per_cpu_object, expected a symbol outside \.data\.\.percpu$/,
  },
  {
    kernel: 'i386',
    section: '.data',
    type: 20,
    symbol: 'function',
    message:
      /^not supported: relocation 1 of section \.rel\.data .* is R_386_16 \(20\) at 0xc1.* in \.data, symbol function$/,
  },
  {
    kernel: 'real mode',
    section: '.data',
    type: 20,
    symbol: 'pa_next',
    message: /is R_386_16 \(20\) at 0x.* in \.data, symbol pa_next, expected a 32-bit field for a linear address$/,
  },
  {
    kernel: 'real mode',
    section: '.data',
    type: 1,
    symbol: 'real_mode_seg',
    message: /is R_386_32 \(1\) at 0x.* in \.data, symbol real_mode_seg, expected a 16-bit field for a segment$/,
  },
];

const kernels = { 'x86-64': makeKernel64(), i386: makeKernel32(), 'real mode': makeRealMode() };

for (const { kernel, section, type, symbol, message } of REFUSALS) {
  test(`refuses, naming everything: ${kernel}, type ${type}, ${symbol}`, () => {
    const patchable = new Patchable(kernels[kernel]);
    patchable.setRelocation(section, 1, type, patchable.symbol(symbol));
    const flags = kernel === 'real mode' ? (['--realmode'] as const) : [];
    assert.match(kslideRelocs(patchable.bytes, flags).refusal ?? '', message);
  });
}

test('refuses an offset that the table cannot hold', () => {
  const patchable = new Patchable(makeKernel64());
  patchable.setOffset('.rodata', 2, 0x1_0000_0000n);
  assert.match(
    kslideRelocs(patchable.bytes, []).refusal ?? '',
    /^invalid value: relocation 2 of section \.rela\.rodata .* at 0x100000000 in \.rodata, .*, expected an offset that fits 32 bits/,
  );
});

/** A source that remembers what was read of it. */
function watched(bytes: Uint8Array): { source: ByteSource; wasRead: (offset: number, length: number) => boolean } {
  const inner = memorySource(bytes);
  const ranges: [number, number][] = [];
  const source: ByteSource = {
    size: inner.size,
    readAt(offset, length, scratch) {
      ranges.push([offset, offset + length]);
      return inner.readAt(offset, length, scratch);
    },
  };
  return { source, wasRead: (offset, length) => ranges.some(([from, to]) => from < offset + length && to > offset) };
}

test('reads nothing that it does not need', () => {
  const kernel = makeKernel64();
  const { source, wasRead } = watched(kernel);
  collectRelocations(source);
  const elf = readElf(kernel);
  const read = elf.sections
    .filter(({ type, size }) => type !== 8 && size > 0)
    .filter(({ offset, size }) => wasRead(offset, size))
    .map((section) => sectionName(elf, section));
  assert.deepEqual(read.toSorted(), [
    '.rela.data',
    '.rela.data..percpu',
    '.rela.init.text',
    '.rela.rodata',
    '.rela.text',
    '.shstrtab',
    '.strtab',
    '.symtab',
  ]);
});

test('takes parts of a file as it takes bytes in memory', async () => {
  const kernel = makeKernel64();
  const file = join(directory, 'vmlinux');
  writeFileSync(file, kernel);
  const source = await openByteSource(file);
  assert.deepEqual(collectRelocations(source), collectRelocations(kernel));
  writeFileSync(file, kernel.subarray(0, 0x1000));
  assert.throws(() => collectRelocations(source), { name: 'DiskError', message: `${file}: changed while it was read` });
  source.close();
  await assert.rejects(openByteSource(join(directory, 'nothing')), InputFileError);
  await assert.rejects(openByteSource(directory), InputFileError);
});
