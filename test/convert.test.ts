import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { coreCodecs } from '../src/codecs/formats.ts';
import { joinParts, Reader, Writer } from '../src/base/bytes.ts';
import { convert } from '../src/convert.ts';
import { endOfElf, findSection, readElf, sectionBytes } from '../src/elf/read.ts';
import { KernelImageError } from '../src/base/errors.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { encodeCompactTable } from '../src/relocs/tables/compact.ts';
import { encodeRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { ENTRY_BYTES, PARAMS, PARAMS_MAGIC, SCRATCH, TABLE_FORMAT } from '../src/segment/layout.ts';
import { assembleStub } from '../src/stub/program.ts';
import { KERNEL_VERSION, makeBzImage, makePe } from './bzimage/make-image.ts';
import { DATA, ENTRY, LINK, makeVmlinux, TABLE, TEXT } from './make-vmlinux.ts';

const codecs = coreCodecs;
const original = makeVmlinux();
const elfEnd = endOfElf(readElf(original));
const entryOffset = TEXT.offset + (ENTRY - LINK);

async function converted(image = original): Promise<Uint8Array> {
  return (await convert(image, { codecs })).bytes();
}

const refused = async (image: Uint8Array, code: string, message: RegExp, relocs?: Uint8Array): Promise<void> => {
  await assert.rejects(convert(image, { codecs, relocs }), (error: Error) => {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
};

test('every original byte stays, but for the hook and the headers', async () => {
  const bytes = await converted();
  const changed = Array.from({ length: elfEnd }, (_, at) => at).filter((at) => bytes[at] !== original[at]);
  const allowed = (at: number): boolean =>
    at < 64 || (at >= 64 + 4 * 56 && at < 64 + 5 * 56) || (at >= entryOffset && at < entryOffset + 5);
  assert.deepEqual(
    changed.filter((at) => !allowed(at)),
    [],
  );
});

test('the segment holds parameters, program and table, and the hook leads to the program', async () => {
  const elf = readElf(await converted());
  const contents = (name: string): Uint8Array => sectionBytes(elf, findSection(elf, name)!);
  const segment = elf.segments.at(-1)!;
  assert.equal(segment.paddr % 0x1000, 0);
  assert.ok(segment.paddr >= DATA.paddr + DATA.memsz);
  assert.equal((segment.paddr - segment.offset) % segment.align, 0);
  assert.equal(segment.align, 0x20_0000);
  assert.deepEqual(contents('.kslide.text'), assembleStub().code);
  assert.deepEqual(contents('.kslide.table'), encodeCompactTable(TABLE));

  const params = new Reader(contents('.kslide.params'));
  const field = (name: keyof typeof PARAMS): number => params.u64AsNumber(PARAMS[name], name);
  assert.deepEqual(Array.from(params.slice(0, 8, 'magic')), PARAMS_MAGIC);
  assert.equal(field('link_base'), segment.paddr);
  assert.equal(field('entry'), ENTRY);
  assert.deepEqual(
    params.slice(PARAMS.entry_bytes, ENTRY_BYTES, 'entry_bytes'),
    original.subarray(entryOffset, entryOffset + ENTRY_BYTES),
  );
  assert.equal(field('image_start'), LINK);
  assert.equal(field('segment_size'), segment.memsz);
  assert.equal(field('slot_count'), 504);
  assert.equal(field('slot_align'), 0x20_0000);
  assert.equal(field('scratch') + SCRATCH.size, segment.memsz);
  assert.equal(field('table_end'), segment.filesz);
  assert.equal(field('table_end') - field('table'), encodeCompactTable(TABLE).length);
  assert.equal(params.u32(PARAMS.table_format, 'table_format'), TABLE_FORMAT.compact);

  const hook = new Reader(elf.bytes.subarray(entryOffset, entryOffset + 5));
  assert.equal(hook.u8(0, 'opcode'), 0xe9);
  assert.equal(ENTRY + 5 + (hook.u32(1, 'displacement') | 0), segment.paddr + PARAMS.size);
});

test('same input, same bytes, whatever it came in', async () => {
  const bytes = await converted();
  assert.deepEqual(await converted(), bytes);
  const bzImage = makeBzImage({ payload: gzipSync(original), fields: { init_size: 0x10_0000 } });
  assert.deepEqual(await converted(bzImage), bytes);
  assert.deepEqual(await converted(makePe({ sections: { '.linux': bzImage } })), bytes);
  const relocs = encodeRelocationTable(TABLE);
  assert.deepEqual((await convert(original.subarray(0, elfEnd), { codecs, relocs })).bytes(), bytes);
  assert.deepEqual((await convert(bzImage, { codecs: nodeCodecs })).bytes(), bytes);
});

test("the kernel's format on request, with an empty inverse list for a kernel of two", async () => {
  for (const table of [TABLE, { ...TABLE, inverse32: new Uint32Array(0), lists: 2 as const }]) {
    const { parts, summary } = await convert(makeVmlinux({ table }), { codecs, table: 'kernel' });
    const elf = readElf(joinParts(parts));
    assert.deepEqual(sectionBytes(elf, findSection(elf, '.kslide.table')!), encodeRelocationTable(table, 3));
    const params = new Reader(sectionBytes(elf, findSection(elf, '.kslide.params')!));
    assert.equal(params.u32(PARAMS.table_format, 'table_format'), TABLE_FORMAT.kernel);
    assert.equal(summary.tableFormat, 'kernel');
  }
});

test('the summary says what was found and made', async () => {
  const image = makeBzImage({ payload: gzipSync(original) });
  const { summary, parts } = await convert(image, { codecs });
  const output = parts.reduce((sum, part) => sum + part.length, 0);
  assert.equal(summary.input, 'bzimage');
  assert.equal(summary.compression, 'gzip');
  assert.equal(summary.kernelVersion, KERNEL_VERSION);
  assert.deepEqual(summary.entries, ['linux64', 'pvh']);
  assert.deepEqual(summary.relocations, { abs64: 3, inverse32: 1, abs32: 2 });
  assert.deepEqual(summary.slots, {
    count: 504,
    align: 0x20_0000,
    largest: 503 * 0x20_0000,
    bits: Math.log2(504),
    limit: { bytes: 0x4000_0000, source: 'assumed' },
    alignSource: 'least',
    physicalAlign: { bytes: 0x20_0000, source: 'setup-header' },
  });
  assert.deepEqual(summary.warnings, []);
  assert.equal(summary.sizes.input, image.length);
  assert.equal(summary.sizes.vmlinux, elfEnd);
  assert.equal(summary.sizes.output, output);
  assert.equal(summary.sizes.added, output - elfEnd);
  assert.ok(summary.sizes.added <= summary.sizes.table + 0x1_0000, 'at most the table plus 64 KiB');
});

/** XEN_ELFNOTE_PHYS32_RELOC instead of the entry's note; its descriptor begins with the alignment. */
function withRelocNote(align: number): Uint8Array {
  return makeVmlinux({
    edit: (elf) => {
      elf.u32(0x1808, 19);
      elf.u32(0x1810, align);
    },
  });
}

test('one kernel in every form, whatever its CONFIG_PHYSICAL_ALIGN: the same bytes, in steps of 2 MiB', async () => {
  const fields = { kernel_alignment: 0x100_0000 };
  const fromVmlinux = await convert(original, { codecs });
  const fromBzImage = await convert(makeBzImage({ payload: gzipSync(original), fields }), { codecs });
  assert.deepEqual(fromBzImage.bytes(), fromVmlinux.bytes());
  const { count, align, alignSource, physicalAlign } = fromBzImage.summary.slots;
  assert.deepEqual([count, align, alignSource], [504, 0x20_0000, 'least']);
  assert.deepEqual(physicalAlign, { bytes: 0x100_0000, source: 'setup-header' });
  assert.equal(fromVmlinux.summary.slots.physicalAlign, null);
  const fromNote = (await convert(withRelocNote(0x100_0000), { codecs })).summary.slots;
  assert.deepEqual(fromNote.physicalAlign, { bytes: 0x100_0000, source: 'note' });
  assert.deepEqual([fromNote.count, fromNote.align], [504, 0x20_0000]);
  // No kernel can have been built with these.
  for (const bytes of [0, 0x10_0000, 0x30_0000, 0x8000_0000])
    assert.equal((await convert(withRelocNote(bytes), { codecs })).summary.slots.physicalAlign, null);
});

test('align makes the step larger, for every form', async () => {
  const bzImage = makeBzImage({ payload: gzipSync(original) });
  for (const image of [original, bzImage]) {
    const { slots } = (await convert(image, { codecs, align: 0x100_0000 })).summary;
    assert.deepEqual([slots.count, slots.align, slots.alignSource], [63, 0x100_0000, 'option']);
  }
  for (const align of [0, 0x10_0000, 0x30_0000, 0x8000_0000, Number.NaN])
    await assert.rejects(
      convert(original, { codecs, align }),
      /^KernelImageError: invalid value: alignment of slides is .*, expected a power of two from 2 MiB to 1 GiB$/,
    );
});

test('a kernel without a PVH note boots by linux64 alone', async () => {
  const image = makeVmlinux({ edit: (elf) => elf.u32(0x1808, 17) });
  assert.deepEqual((await convert(image, { codecs })).summary.entries, ['linux64']);
});

test('what cannot be converted is refused, each in its own words', async () => {
  await refused(
    await converted(),
    'already-converted',
    /^kernel is already converted: vmlinux; convert the kernel that it was made from$/,
  );
  await refused(
    original.subarray(0, elfEnd),
    'no-relocations',
    /^kernel has no relocation table: vmlinux: expected a table after the ELF file, or \.rela sections; relocations of this kernel are in the bzImage/,
  );
  await refused(
    makeBzImage({ payload: gzipSync(original.subarray(0, elfEnd)) }),
    'no-relocations',
    /payload: expected a table after the ELF file; a kernel built without CONFIG_RANDOMIZE_BASE has none; convert --recover takes them from the image, and cannot prove them/,
  );
  await refused(original.subarray(0, elfEnd - 1), 'truncated', /section header table of 5 entries/);
  await refused(
    original.subarray(0, -1),
    'bad-value',
    /relocation table length at offset 0x[0-9a-f]+ is 0x23, expected a multiple of 4/,
  );
  await refused(makeVmlinux({ edit: (elf) => elf.u16(18, 3) }), 'wrong-architecture', /e_machine/);
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(24, 0x10) }),
    'bad-value',
    /e_entry at offset 0x18 is 0x10, expected a physical address inside/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(24, DATA.paddr + DATA.size - 7) }),
    'bad-value',
    /e_entry at offset 0x18 is 0x1005ff9, expected at least 8 bytes before its segment's end/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 24, LINK - 0x1000) }),
    'bad-value',
    /program header 0: p_vaddr is 0xffffffff81000000, expected 0xffffffff80fff000/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 40, TEXT.size + 0x1000) }),
    'bad-value',
    /program header 1: p_paddr is 0x1003000, expected 0x1004000 or above: segments overlap/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 40, 0x4000_0000) }),
    'bad-value',
    /p_paddr \+ p_memsz is 0x41004000, expected at most 0x40000000/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 40, 0x4000_0000 - DATA.paddr - 0x1000) }),
    'would-not-boot',
    /end of the added segment, after the kernel's image is 0x400[0-9a-f]{5}, expected at most 0x40000000/,
  );
  // A first program header in the last half of the ELF header, of no type that is known; the others behind it.
  await refused(
    makeVmlinux({
      edit: (elf) => [
        elf.copy(88, elf.bytes.slice(64, 64 + 4 * 56)),
        elf.bytes.fill(0, 64, 88),
        elf.u64(32, 32),
        elf.u16(56, 5),
      ],
    }),
    'unsupported',
    /e_phoff at offset 0x20 is 0x20, expected 0x40 or above/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => [elf.u64(64 + 8, 0), elf.u64(24, LINK + 0x10)] }),
    'unsupported',
    /program header 0: p_offset is 0x0, expected file bytes of its own: those of the ELF header are loaded with it/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 8, TEXT.offset) }),
    'unsupported',
    /program header 2: p_offset is 0x1000, expected file bytes of its own: those of program header 0 are loaded with it/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 16, 0x800) }),
    'bad-value',
    /program header 2: p_vaddr is 0x800, expected 0x1000 or above: segments overlap/,
  );
  await refused(
    makeVmlinux({ edit: (elf) => elf.u8(DATA.offset + DATA.size + 27, 0x41) }),
    'bad-value',
    /last byte of the section name table at offset 0x701b is 0x41, expected 0/,
  );
  const user = makeVmlinux({ edit: (elf) => [0, 2].forEach((index) => elf.u64(64 + index * 56 + 16, 0x40_0000)) });
  await refused(user, 'not-a-kernel', /a PT_LOAD at 0xffffffff80000000 \(__START_KERNEL_map\) or above/);
  await refused(
    original.subarray(0, elfEnd),
    'bad-value',
    /expected 4 bytes inside one loaded segment/,
    encodeRelocationTable({ ...TABLE, abs32: Uint32Array.of(0x8000_0000) }),
  );
});

test('extract gives back the vmlinux and its table', async () => {
  const image = makeBzImage({ payload: gzipSync(original) });
  const { vmlinux, relocs } = await extract(image, { codecs });
  assert.deepEqual(vmlinux, original.subarray(0, elfEnd));
  assert.deepEqual(relocs(), encodeRelocationTable(TABLE));
  const bare = await extract(original.subarray(0, elfEnd), { codecs });
  assert.throws(() => bare.relocs(), /kernel has no relocation table/);
});

test('any change to headers or table gives a file or a KernelImageError, and never touches the input', async () => {
  const table = original.length - elfEnd;
  const places = fc.oneof(
    fc.integer({ min: 0, max: 64 + 4 * 56 - 1 }),
    fc.integer({ min: elfEnd - 5 * 64, max: elfEnd - 1 }),
    fc.integer({ min: original.length - table, max: original.length - 1 }),
  );
  const change = fc.tuple(places, fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 8 }), async (changes) => {
      const image = original.slice();
      for (const [at, value] of changes) image[at] = value;
      const before = image.slice();
      try {
        const { summary } = await convert(image, { codecs });
        assert.ok(summary.sizes.added <= summary.sizes.table + 0x1_0000);
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
      assert.deepEqual(image, before);
    }),
    { numRuns: 1500 },
  );
});

test('a made segment that looks like ours is taken for ours', async () => {
  const image = makeVmlinux({ edit: (elf: Writer) => elf.copy(DATA.offset, Uint8Array.from(PARAMS_MAGIC)) });
  await refused(image, 'already-converted', /already converted/);
});
