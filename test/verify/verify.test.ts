import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { ascii, Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { verify } from '../../src/verify/verify.ts';
import type { Verification } from '../../src/verify/verify.ts';
import { CHECKS } from '../../src/verify/proof.ts';
import { KERNEL_VERSION, makeBzImage, makePe } from '../bzimage/make-image.ts';
import { DATA, ENTRY, entryAt, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';
import type { VmlinuxOptions } from '../make-vmlinux.ts';
import { examined, forge, original as readable } from './forge.ts';

const codecs = coreCodecs;
const original = makeVmlinux();
const bare = original.subarray(0, endOfElf(readElf(original)));
const bzImage = makeBzImage({ payload: gzipSync(original) });
const uki = makePe({ sections: { '.linux': bzImage } });
const relocs = encodeRelocationTable(TABLE);

const converted = async (image: Uint8Array, table?: Uint8Array): Promise<Uint8Array> =>
  (await convert(image, { codecs, relocs: table })).bytes();
const right = await converted(original);

const PREMISES = [
  {
    name: 'original',
    statement:
      'the original is the kernel that is meant: the converted file is compared with it, and its code is not judged',
  },
  {
    name: 'program-model',
    statement:
      "the program's machine code does what the model of it does: its tests and real boots show that, not this proof",
  },
];

async function proved(image: Uint8Array, file: Uint8Array, table?: Uint8Array): Promise<Verification> {
  const result = await verify(image, file, { codecs, relocs: table });
  assert.deepEqual(result.offence, undefined);
  assert.equal(result.verdict, 'proved');
  assert.ok(result.checks.every(({ ok }) => ok === true));
  return result;
}

async function unusable(image: Uint8Array, file: Uint8Array, message: RegExp): Promise<void> {
  await assert.rejects(verify(image, file, { codecs }), (error: Error) => {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.match(error.message, message);
    return true;
  });
}

test('what convert makes is proved, whatever the original came in', async () => {
  for (const image of [original, bzImage, uki]) await proved(image, right);
  await proved(bare, right, relocs);
  await proved(original, right, relocs);
  // Another table: of a kernel without one, the file is not what convert makes; beside the kernel's own, it is refused.
  const other = encodeRelocationTable({ ...TABLE, abs32: TABLE.abs32.subarray(1) });
  await proved(bare, await converted(bare, other), other);
  assert.equal((await verify(bare, right, { codecs, relocs: other })).offence?.check, 'table');
  await assert.rejects(verify(original, right, { codecs, relocs: other }), {
    code: 'bad-value',
    message:
      'invalid value: original: the relocation table that was given is not the same as the table after the ELF file: 1 site is in one of them only (0xffffffff81000400 in the second), expected the same sites; they are of different builds; leave one out',
  });
});

test('kernels of all shapes', async () => {
  const shapes: VmlinuxOptions[] = [
    { sections: false },
    { crowded: true },
    { crowded: true, sections: true },
    { table: { ...TABLE, inverse32: new Uint32Array(0), lists: 2 } },
    // No PVH note.
    { edit: (elf) => elf.u32(0x1808, 17) },
    // Entered in its last segment, at the last place where the saved bytes fit.
    { edit: (elf) => elf.u64(24, DATA.paddr + DATA.size - 8) },
    // Relocations in the hook, and over the end of the saved bytes.
    {
      table: {
        ...TABLE,
        abs64: Uint32Array.of(entryAt(ENTRY + 5), ...TABLE.abs64),
        abs32: Uint32Array.of(entryAt(ENTRY - 2), ...TABLE.abs32),
      },
    },
    // A segment of no bytes, where there is no image.
    {
      table: { ...TABLE, inverse32: new Uint32Array(0), lists: 2 },
      edit: (elf) => [24, 32, 40].forEach((field) => elf.u64(64 + 56 + field, 0)),
    },
    // So large that it cannot move: one slot, and just room for the program.
    { edit: (elf) => elf.u64(64 + 2 * 56 + 40, 0x3fe0_1000 - DATA.paddr) },
  ];
  for (const shape of shapes) {
    const image = makeVmlinux(shape);
    await proved(image, await converted(image));
  }
});

test('more sections than e_shnum can count', async () => {
  for (const count of [0xfefb, 0xfefc, 0xfeff, 0xff00, 0x1_0005]) {
    const elf = makeVmlinux({ sections: false, table: { ...TABLE, lists: 3 } }).slice(0, DATA.offset + DATA.size);
    const names = '\0.shstrtab\0';
    const shoff = elf.length + 16;
    const image = new Writer(new Uint8Array(shoff + count * 64));
    image.copy(0, elf);
    image.copy(elf.length, ascii(names));
    image.u64(40, shoff);
    image.u16(58, 64);
    image.u16(60, count < 0xff00 ? count : 0);
    image.u16(62, 1);
    if (count >= 0xff00) image.u64(shoff + 32, count);
    image.u32(shoff + 64, 1);
    image.u32(shoff + 64 + 4, 3);
    image.u64(shoff + 64 + 24, elf.length);
    image.u64(shoff + 64 + 32, names.length);
    const file = await converted(image.bytes, relocs);
    await proved(image.bytes, file, relocs);
    assert.equal(readElf(file).sections.length, count + 4);
  }
});

test('one kernel as bzImage and as vmlinux: each proves what was made from the other, whatever its CONFIG_PHYSICAL_ALIGN', async () => {
  const coarse = makeBzImage({ payload: gzipSync(original), fields: { kernel_alignment: 0x100_0000 } });
  const file = await converted(coarse);
  assert.deepEqual(file, right);
  for (const from of [coarse, bzImage, original]) {
    const { slots } = await proved(from, file);
    const bits = Math.log2(504);
    assert.deepEqual(slots, { count: 504, align: 0x20_0000, alignSource: 'least', largest: 503 * 0x20_0000, bits });
  }
});

test('a larger step is proved if the caller says it, and named if not', async () => {
  const align = 0x100_0000;
  for (const from of [original, bzImage]) {
    const file = (await convert(from, { codecs, align })).bytes();
    const { verdict, slots } = await verify(from, file, { codecs, align });
    assert.equal(verdict, 'proved');
    assert.deepEqual(slots, { count: 63, align, alignSource: 'option', largest: 62 * align, bits: Math.log2(63) });
    const { offence } = await verify(from, file, { codecs });
    assert.deepEqual(
      [offence?.check, offence?.what, offence?.found, offence?.expected],
      [
        'slots',
        'parameters: slot_align',
        '0x1000000',
        '0x200000; this is what `--align` writes (verify --align 0x1000000)',
      ],
    );
    assert.equal((await verify(from, right, { codecs, align })).offence?.check, 'slots');
  }
  for (const wrong of [0, 0x10_0000, 0x30_0000, 0x8000_0000, Number.NaN])
    await assert.rejects(
      verify(original, right, { codecs, align: wrong }),
      /step of the slides is .*, expected a power of two from 2 MiB to 1 GiB$/,
    );
});

test('the result is data', async () => {
  const seen: string[] = [];
  const result = await verify(bzImage, right, { codecs, onCheck: (name) => seen.push(name) });
  assert.deepEqual(seen, Object.keys(CHECKS));
  assert.deepEqual(JSON.parse(JSON.stringify(result)), {
    verdict: 'proved',
    checks: Object.entries(CHECKS).map(([name, detail]) => ({ name, ok: true, detail })),
    form: { name: 'direct', table: 'compact' },
    premises: PREMISES,
    slides: [0, 0x20_0000, 167 * 0x20_0000, 335 * 0x20_0000, 503 * 0x20_0000],
    input: 'bzimage',
    compression: 'gzip',
    kernelVersion: KERNEL_VERSION,
    relocations: { abs64: 3, inverse32: 1, abs32: 2 },
    slots: { count: 504, align: 0x20_0000, alignSource: 'least', largest: 503 * 0x20_0000, bits: Math.log2(504) },
  });
  const wrong = right.slice();
  wrong[0x2000]! ^= 0xff;
  const { verdict, offence, slides } = await verify(bzImage, wrong, { codecs });
  assert.deepEqual(JSON.parse(JSON.stringify({ verdict, offence, slides })), {
    verdict: 'refuted',
    offence: { check: 'original-bytes', what: 'byte of the original', offset: 0x2000, found: '0xff', expected: '0x0' },
    slides: [],
  });
});

test('the verdict names the form, and what it takes as given', async () => {
  const form = async (image: Uint8Array, file: Uint8Array, table?: Uint8Array): Promise<unknown> =>
    (await proved(image, file, table)).form;
  assert.deepEqual(await form(original, right), { name: 'direct', table: 'compact' });
  const kernelTable = (await convert(original, { codecs, table: 'kernel' })).bytes();
  assert.deepEqual(await form(original, kernelTable), { name: 'direct', table: 'kernel' });
  assert.deepEqual((await proved(bare, right, relocs)).premises, [
    PREMISES[0],
    { name: 'given-table', statement: 'the relocation table that was given is of the same build' },
    PREMISES[1],
  ]);
  const wrong = right.slice();
  wrong[0x2000]! ^= 0xff;
  assert.equal((await verify(original, wrong, { codecs })).form, undefined);
});

test('the flags of a vmlinux have one value: the other one is that of a vmlinux from a bzImage, and only if that is asked for', async () => {
  const flagged = right.slice();
  flagged[0x8000 + PARAMS.flags] = 1;
  const { verdict, offence } = await verify(original, flagged, { codecs });
  assert.equal(verdict, 'refuted');
  assert.deepEqual(offence, {
    check: 'parameters',
    what: 'parameters: flags',
    offset: 0x805c,
    found: '0x1',
    expected: '0x0; this is what a vmlinux has that was taken out of a bzImage (verify --extracted)',
  });
  const asked = await verify(original, flagged, { codecs, extracted: true });
  assert.equal(asked.verdict, 'proved');
  assert.deepEqual(asked.form, { name: 'extracted', table: 'compact' });
  assert.equal((await verify(original, right, { codecs, extracted: true })).offence?.what, 'parameters: flags');
  flagged[0x8000 + PARAMS.flags] = 2;
  for (const extracted of [true, false])
    assert.equal((await verify(original, flagged, { codecs, extracted })).offence?.what, 'parameters: flags');
});

test('another kernel', async () => {
  const edits: ((elf: Writer) => void)[] = [
    (elf) => elf.u8(TEXT.offset + 0x123, 1),
    (elf) => elf.u64(24, TEXT.paddr + 0x240),
    (elf) => elf.u64(64 + 2 * 56 + 40, DATA.memsz + 0x1000),
  ];
  for (const edit of edits) {
    const other = makeVmlinux({ edit });
    assert.equal((await verify(other, right, { codecs })).verdict, 'refuted');
    assert.equal((await verify(original, await converted(other), { codecs })).verdict, 'refuted');
  }
});

// The next three are put together by the parts of the writer, whether or not convert takes such originals.

test('a hook that is loaded twice: only carrying out a slide shows it', async () => {
  // The data segment loads the same bytes of the file as text does, and the program puts the entry right in one place only.
  const table = { ...TABLE, abs64: TABLE.abs64.subarray(0, 1) };
  const kernel = await readable({ table, edit: (elf) => elf.u64(64 + 2 * 56 + 8, TEXT.offset) });
  const { offence } = examined(kernel, forge(kernel));
  assert.equal(offence?.check, 'dry-run');
  assert.match(offence.what, /^image after a slide of 0x0: byte at physical link address 0x1004230$/);
});

test('an image that the ELF header is part of', async () => {
  const kernel = await readable({ edit: (elf) => elf.u64(64 + 56 + 8, 0) });
  const { offence } = examined(kernel, forge(kernel));
  assert.equal(offence?.check, 'dry-run');
  assert.match(offence.what, /^image after a slide of 0x0: byte at physical link address 0x1003020$/); // e_phoff
});

test('what cannot be looked at is unusable, and said of which file', async () => {
  const elf = (edit: (elf: Writer) => void): Uint8Array => {
    const copy = new Writer(right.slice());
    edit(copy);
    return copy.bytes;
  };
  await unusable(new Uint8Array(0), right, /^not a kernel image: original: file is empty/);
  await unusable(
    bare,
    right,
    /^kernel has no relocation table: original: vmlinux: expected a table after the ELF file, or .rela sections; .*\(--relocs\); convert and extract recover them .* cannot prove them$/,
  );
  await unusable(
    right,
    original,
    /^kernel is already converted: original: vmlinux; the kernel that it was made from comes first/,
  );
  await unusable(
    makeVmlinux({ edit: (writer) => writer.u64(24, DATA.paddr + DATA.size - 7) }),
    right,
    /original: e_entry at offset 0x18 is 0x1005ff9, expected at least 8 bytes/,
  );
  await unusable(
    makeVmlinux({ edit: (writer) => writer.u16(62, 1) }),
    right,
    /original: e_shstrndx at offset 0x3e is 0x1, expected the number of a SHT_STRTAB section/,
  );
  await unusable(original, new Uint8Array(0), /^not a kernel image: converted: file is empty/);
  await unusable(original, new Uint8Array(5000).fill(7), /^not a kernel image: converted: file is of an unknown kind/);
  await unusable(
    original,
    bzImage,
    /^not a kernel image: converted: file is a bzimage, expected an ELF file for x86-64, as `kslide convert` writes it, or a bzImage made from a bzImage$/,
  );
  await unusable(original, right.subarray(0, 12), /^file is truncated: converted: e_machine/);
  await unusable(
    original,
    elf((writer) => writer.u8(4, 1)),
    /^not an x86-64 kernel: converted: EI_CLASS at offset 0x4 is 0x1/,
  );
  await unusable(
    original,
    elf((writer) => writer.u8(5, 2)),
    /converted: EI_DATA/,
  );
  await unusable(
    original,
    elf((writer) => writer.u16(18, 183)),
    /converted: e_machine at offset 0x12 is 0xb7/,
  );
  // Of an ELF file for x86-64 there is always a verdict.
  assert.equal((await verify(original, right.subarray(0, 20), { codecs })).verdict, 'refuted');
  assert.equal(
    (
      await verify(
        original,
        elf((writer) => writer.u16(16, 1)),
        { codecs },
      )
    ).offence?.check,
    'elf-header',
  );
});

test('whatever the bytes of the converted file: a verdict or a KernelImageError, and nothing but the right file is proved', async () => {
  const places = fc.oneof(fc.integer({ min: 0, max: 64 + 5 * 56 }), fc.integer({ min: 0x7000, max: right.length }));
  const value = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
  const change = fc.record({ at: places, cut: fc.nat(16), put: fc.array(value, { maxLength: 16 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 5 }), async (changes) => {
      let file: Uint8Array = right;
      for (const { at, cut, put } of changes)
        file = Uint8Array.from([...file.subarray(0, at), ...put, ...file.subarray(at + cut)]);
      const before = file.slice();
      try {
        const { verdict } = await verify(original, file, { codecs });
        assert.equal(verdict, Buffer.compare(file, right) === 0 ? 'proved' : 'refuted');
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
      assert.deepEqual(file, before);
    }),
    { numRuns: 400 },
  );
});

test('whatever is written over its headers, in place', async () => {
  const field = fc.record({
    at: fc.oneof(
      fc.integer({ min: 6, max: 17 }),
      fc.integer({ min: 20, max: 64 + 5 * 56 }),
      fc.integer({ min: 0x8000, max: right.length - 8 }),
    ),
    value: fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.constantFrom(0n, 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 53n, BigInt(right.length)),
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(field, { minLength: 1, maxLength: 4 }), async (fields) => {
      const file = right.slice();
      for (const { at, value } of fields) new Writer(file).u64(at, value);
      if (file[18] !== 62 || file[19] !== 0) return; // unusable
      const { verdict } = await verify(original, file, { codecs });
      assert.equal(verdict, Buffer.compare(file, right) === 0 ? 'proved' : 'refuted');
    }),
    { numRuns: 1500 },
  );
});
