import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { PF_R, PT_LOAD, SHT_PROGBITS } from '../../src/elf/constants.ts';
import { endOfElf, findSection, readElf, readNotes, sectionBytes, sectionName } from '../../src/elf/read.ts';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { addSegment, appendOffset, patched } from '../../src/elf/write.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { makeVmlinux, PVH_ENTRY } from '../make-vmlinux.ts';
import type { VmlinuxOptions } from '../make-vmlinux.ts';

/** The ELF file of a made kernel, without the table behind it. */
function elfOf(options: VmlinuxOptions = {}): ReturnType<typeof readElf> {
  const bytes = makeVmlinux(options);
  return readElf(bytes.subarray(0, endOfElf(readElf(bytes))));
}

const CONTENT = Uint8Array.from({ length: 100 }, (_, index) => index);

function withSegment(elf: ReturnType<typeof readElf>): Uint8Array {
  const offset = appendOffset(elf);
  const section = { name: '.extra', type: SHT_PROGBITS, flags: 0n, start: 4, size: 96, align: 4 };
  const segment = {
    flags: PF_R,
    paddr: 0x200_0000,
    offset,
    memsz: 0x2000,
    align: 0x1000,
    content: [CONTENT],
    sections: [section],
  };
  return joinParts(addSegment(elf, segment, [{ offset: 0x1234, bytes: Uint8Array.from([0xaa, 0xbb]) }]));
}

test('headers, sections and notes read as they were made', () => {
  const elf = elfOf();
  assert.deepEqual(
    elf.sections.map((section) => sectionName(elf, section)),
    ['', '.text', '.data', '.bss', '.shstrtab'],
  );
  assert.equal(findSection(elf, '.data')?.index, 2);
  assert.equal(findSection(elf, '.none'), undefined);
  const [note] = readNotes(elf);
  assert.equal(note?.owner, 'Xen');
  assert.equal(note.type, 18);
  assert.equal(note.desc[0], PVH_ENTRY & 0xff);
  assert.equal(note.descOffset, 0x1810);
});

test('the same notes named by many segments are refused, not read again and again', () => {
  const { bytes, segments, header } = elfOf();
  const note = segments.find(({ type }) => type === 4)!;
  const count = 50_000;
  const many = new Uint8Array(bytes.length + count * 56);
  many.set(bytes);
  const from = header.phoff + note.index * 56;
  for (let copy = 0; copy < count; copy++) many.set(bytes.subarray(from, from + 56), bytes.length + copy * 56);
  const writer = new Writer(many);
  writer.u64(32, bytes.length); // e_phoff
  writer.u16(56, count); // e_phnum
  assert.throws(() => readNotes(readElf(many)), {
    code: 'too-large',
    message: 'too large: size of all PT_NOTE segments is 0x100008, expected at most 0x100000',
  });
});

test('a rewrite that changes nothing is byte-identical', () => {
  const elf = elfOf();
  assert.deepEqual(joinParts(patched(elf.bytes, [])), elf.bytes);
});

test('patches may not overlap or reach past the end', () => {
  const bytes = new Uint8Array(8);
  const two = Uint8Array.from([1, 2]);
  assert.deepEqual(
    joinParts(
      patched(bytes, [
        { offset: 6, bytes: two },
        { offset: 0, bytes: two },
      ]),
    ),
    Uint8Array.from([1, 2, 0, 0, 0, 0, 1, 2]),
  );
  assert.throws(
    () =>
      patched(bytes, [
        { offset: 0, bytes: two },
        { offset: 1, bytes: two },
      ]),
    RangeError,
  );
  assert.throws(() => patched(bytes, [{ offset: 7, bytes: two }]), RangeError);
});

for (const [name, options] of [
  ['in place', {}],
  ['moved behind, where a section lies in the way', { crowded: true }],
  ['without section headers', { sections: false }],
] as const) {
  test(`a segment is added, program headers ${name}`, () => {
    const elf = elfOf(options);
    const bytes = withSegment(elf);
    const result = readElf(bytes);
    const added = result.segments.at(-1)!;
    assert.deepEqual(result.segments.slice(0, -1), elf.segments);
    assert.equal(added.type, PT_LOAD);
    assert.equal(added.vaddr, 0xffff_ffff_8200_0000n);
    assert.equal(added.memsz, 0x2000);
    assert.deepEqual(bytes.subarray(added.offset, added.offset + added.filesz), CONTENT);
    assert.equal(result.header.phoff === elf.header.phoff, name !== 'moved behind, where a section lies in the way');
    const extra = findSection(result, '.extra')!;
    assert.deepEqual(sectionBytes(result, extra), CONTENT.subarray(4));
    // Every original byte is where it was, but for the ELF header, the program headers and the patch.
    const changed = [...elf.bytes.keys()].filter((at) => bytes[at] !== elf.bytes[at]);
    const allowed = (at: number): boolean =>
      at < 64 || (at >= 64 + 4 * 56 && at < 64 + 5 * 56) || at === 0x1234 || at === 0x1235;
    assert.deepEqual(
      changed.filter((at) => !allowed(at)),
      [],
    );
    readelfAgrees(bytes, result.segments.length);
  });
}

/** Second opinion: GNU readelf reads the result without a warning. */
function readelfAgrees(bytes: Uint8Array, segments: number): void {
  const directory = mkdtempSync(join(tmpdir(), 'kslide-elf-'));
  try {
    const file = join(directory, 'vmlinux');
    writeFileSync(file, bytes);
    const output = execFileSync('readelf', ['-lSWn', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    assert.match(output, new RegExp(`There are ${segments} program headers`));
    assert.match(output, /\.extra +PROGBITS +ffffffff82000004/);
    assert.doesNotMatch(output, /warning/i);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('any change to the headers gives an ELF file or a KernelImageError', () => {
  const good = elfOf().bytes;
  const sectionsAt = readElf(good).header.shoff;
  const places = fc.oneof(
    fc.integer({ min: 0, max: 64 + 4 * 56 - 1 }),
    fc.integer({ min: sectionsAt, max: good.length - 1 }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(places, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
      (changes) => {
        const bytes = good.slice();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          const elf = readElf(bytes);
          for (const section of elf.sections) sectionName(elf, section);
          readNotes(elf);
          endOfElf(elf);
        } catch (error) {
          assert.ok(error instanceof KernelImageError, String(error));
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('a cut file gives an ELF file or a KernelImageError', () => {
  const good = elfOf().bytes;
  for (let length = 0; length < 600; length++) {
    assert.throws(() => readElf(good.subarray(0, length)), KernelImageError);
  }
});
