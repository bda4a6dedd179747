/**
 * Converted kernels that are wrong and agree with themselves: no field contradicts another, many of them would even boot. Each is refuted by the
 * check that it was made for.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physToVirt } from '../../src/base/addresses.ts';
import { joinParts, Reader, Writer } from '../../src/base/bytes.ts';
import { addSegment, appendOffset } from '../../src/elf/write.ts';
import { readElf } from '../../src/elf/read.ts';
import { encodeCompactTable } from '../../src/relocs/tables/compact.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { PARAMS, TABLE_FORMAT } from '../../src/segment/layout.ts';
import type { CheckName } from '../../src/verify/verify.ts';
import { CHECKS } from '../../src/verify/proof.ts';
import type { Original } from '../../src/verify/original.ts';
import { DATA, ENTRY, entryAt, LINK, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';
import { batch } from './chains.ts';
import { examined, forge, inserted, movedTo, original, program } from './forge.ts';
import type { Forgery } from './forge.ts';

const kernel = await original();
const right = forge(kernel);
const rightElf = readElf(right);
const added = rightElf.segments.at(-1)!;
const addedHeader = 64 + 4 * 56;
const PMD = 0x20_0000;

function refuted(bytes: Uint8Array, check: CheckName, message: RegExp, of: Original = kernel): void {
  const { verdict, checks, offence } = examined(of, bytes);
  assert.equal(verdict, 'refuted');
  const text = `${offence!.what} at ${offence!.offset.toString(16)} is ${offence!.found}, expected ${offence!.expected}`;
  assert.equal(offence!.check, check, text);
  assert.match(text, message);
  // The checks before it hold; those after it were not run.
  const order = Object.keys(CHECKS);
  assert.deepEqual(
    checks.map(({ ok }) => ok),
    order.map((_, index) => (index === order.indexOf(check) ? false : index < order.indexOf(check) ? true : null)),
  );
}

const forged = (forgery: Forgery, check: CheckName, message: RegExp): void =>
  refuted(forge(kernel, forgery), check, message);

function edited(edit: (writer: Writer) => void): Uint8Array {
  const copy = right.slice();
  edit(new Writer(copy));
  return copy;
}

test('without changes it is what convert writes, and proved', () => {
  assert.equal(examined(kernel, right).verdict, 'proved');
});

test('the original is not a converted kernel', () => {
  refuted(makeVmlinux(), 'elf-header', /^ELF header: e_phnum at 38 is 0x4, expected 0x5$/);
  refuted(kernel.kernel.elf.bytes, 'elf-header', /e_phnum/);
});

test('the entry itself moved to the program, with no hook', () => {
  const bytes = forge(kernel, { hook: () => kernel.entryBytes.slice(0, 5) });
  refuted(bytes, 'hook', /^hook: opcode at 1230 is 0x50, expected 0xe9$/);
  new Writer(bytes).u64(24, added.paddr + PARAMS.size);
  refuted(bytes, 'elf-header', /e_entry at 18 is 0x1208080, expected 0x1000230/);
});

test('a hook that leads elsewhere', () => {
  const hook = (at: number) => (): Uint8Array => {
    const jump = new Writer(Uint8Array.of(0xe9, 0, 0, 0, 0));
    jump.u32(1, (at - (ENTRY + 5)) >>> 0);
    return jump.bytes;
  };
  forged(
    { hook: hook(added.paddr + PARAMS.size + 1) },
    'hook',
    /^hook: displacement at 1231 is 0x207e4c, expected 0x207e4b$/,
  );
  forged({ hook: hook(DATA.paddr) }, 'hook', /displacement/);
});

test('the hook saved instead of what it covers', () => {
  const saved = (params: Writer): void => params.copy(PARAMS.entry_bytes, right.subarray(0x1230, 0x1238));
  forged({ params: saved }, 'hook', /^parameters: entry_bytes at 8018 is 0x[0-9a-f]+e9, expected 0x/);
});

test('a byte of the kernel, and the site that was there, taken out together', () => {
  const bytes = forge(kernel, { table: { abs64: TABLE.abs64.subarray(1) } });
  bytes[TEXT.offset + 0x2000] = 0x55;
  refuted(bytes, 'original-bytes', /^byte of the original at 3000 is 0x55, expected 0x10$/);
});

test('another program, of the same length', () => {
  const nops: Forgery['segment'] = (segment) => {
    const [params, code, ...rest] = segment.content as [Uint8Array, Uint8Array];
    return { ...segment, content: [params, code.slice().fill(0x90, 0, 2), ...rest] }; // the program is everybody's
  };
  forged({ segment: nops }, 'program', /^byte of this version's program at 8080 is 0x90, expected 0xfa$/);
});

test('parameters and program moved apart, the hook knowing it', () => {
  const gap = 16;
  forged(
    {
      segment: (segment) => ({
        ...segment,
        content: [segment.content[0]!, new Uint8Array(gap), ...segment.content.slice(1)],
        sections: segment.sections.map((section) => ({
          ...section,
          start: section.start === 0 ? 0 : section.start + gap,
        })),
      }),
      params: (params) => {
        const reader = new Reader(params.bytes);
        for (const name of ['table', 'table_end'] as const)
          params.u64(PARAMS[name], reader.u64(PARAMS[name], name) + 16n);
      },
      hook: ({ paddr }) => {
        const hook = new Writer(Uint8Array.of(0xe9, 0, 0, 0, 0));
        hook.u32(1, paddr + PARAMS.size + gap - (ENTRY + 5));
        return hook.bytes;
      },
    },
    'hook',
    /displacement/,
  );
});

test('the table moved, with more padding before it than it needs', () => {
  forged(
    {
      segment: (segment) => ({
        ...segment,
        content: [...segment.content.slice(0, 3), new Uint8Array(16), segment.content[3]!],
        sections: segment.sections.map((section) => ({
          ...section,
          start: section.name === '.kslide.table' ? section.start + 16 : section.start,
        })),
      }),
      params: (params) => {
        const reader = new Reader(params.bytes);
        for (const name of ['table', 'table_end'] as const)
          params.u64(PARAMS[name], reader.u64(PARAMS[name], name) + 16n);
      },
    },
    'parameters',
    /^parameters: table at 8048 is/,
  );
});

test('slots: more than fit, fewer, and coarser ones', () => {
  forged({ slots: { count: 505, align: PMD } }, 'slots', /^parameters: slot_count at 8030 is 0x1f9, expected 0x1f8$/);
  forged({ slots: { count: 503, align: PMD } }, 'slots', /slot_count at 8030 is 0x1f7, expected 0x1f8/);
  forged({ slots: { count: 1, align: PMD } }, 'slots', /slot_count/);
  forged(
    { slots: { count: 252, align: 2 * PMD } },
    'slots',
    /^parameters: slot_align at 8038 is 0x400000, expected 0x200000; this is what `--align` writes \(verify --align 0x400000\)$/,
  );
  for (const align of [PMD / 2, 3 * PMD, 0x8000_0000])
    forged(
      { slots: { count: 252, align } },
      'slots',
      /^parameters: slot_align at 8038 is 0x[0-9a-f]+, expected 0x200000$/,
    );
});

test('parameters that the program would believe', () => {
  const set = (name: keyof typeof PARAMS, value: number, message: RegExp): void =>
    forged({ params: (params) => params.u64(PARAMS[name], value) }, 'parameters', message);
  set('link_base', added.paddr - PMD, /link_base at 8008 is 0x1008000, expected 0x1208000/);
  set('entry', ENTRY + 5, /parameters: entry at 8010 is 0x1000235, expected 0x1000230/);
  set('image_start', 0, /image_start at 8020 is 0x0, expected 0x1000000/);
  set('segment_size', added.memsz - 0x1000, /segment_size/);
  set('scratch', 0x3000, /scratch at 8040 is 0x3000, expected 0x2000/);
  set('table', 0x80, /parameters: table at/);
  set('table_end', added.filesz - 4, /table_end/);
  set('table_format', 7, /^parameters: table_format at 8058 is 0x7, expected one of 0/);
  set(
    'flags',
    1,
    /^parameters: flags at 805c is 0x1, expected 0x0; this is what a vmlinux has that was taken out of a bzImage/,
  );
  set('flags', 2, /^parameters: flags at 805c is 0x2, expected 0x0$/);
  forged(
    { params: (params) => params.u8(0x7f, 1) },
    'parameters',
    /^reserved byte of the parameters at 807f is 0x1, expected 0x0$/,
  );
  forged({ params: (params) => params.u8(7, 9) }, 'parameters', /^parameters: magic at 8007 is 0x9, expected 0x1$/);
});

test('a table that says something else', () => {
  const { abs64, inverse32, abs32 } = TABLE;
  const entry = (offset: number): number => entryAt(LINK + offset);
  const list = (...entries: number[]): Uint32Array => Uint32Array.from(entries);
  const [first, second, third] = abs64 as unknown as [number, number, number];
  forged(
    { format: 'kernel', table: { abs64: list(first, second) } },
    'table',
    /entry 2 of the 64-bit list at [0-9a-f]+ is the end of the list after 2 entries, expected 0xffffffff81004010$/,
  );
  forged(
    { format: 'kernel', table: { abs64: list(second, third) } },
    'table',
    /entry 0 of the 64-bit list at [0-9a-f]+ is 0xffffffff81004008, expected 0xffffffff81002000$/,
  );
  forged(
    { format: 'kernel', table: { abs64: list(...abs64, entry(0x5000)) } },
    'table',
    /entry 3 of the 64-bit list at [0-9a-f]+ is 0xffffffff81005000, expected the end of the list after 3 entries$/,
  );
  forged(
    { format: 'kernel', table: { abs64: list(first, third, second) } },
    'table',
    /entry of the 64-bit list at [0-9a-f]+ is 0x81004010, expected less than 0x81004008, the entry after it$/,
  );
  forged(
    { format: 'kernel', table: { abs64: list(first, second, second, third) } },
    'table',
    /is 0x81004008, expected less than 0x81004008/,
  );
  forged(
    { format: 'kernel', table: { abs32: list(entry(0x400), entry(0x408)) } },
    'table',
    /entry 1 of the 32-bit list at [0-9a-f]+ is 0xffffffff81000408, expected 0xffffffff81000407$/,
  );
  forged(
    { format: 'kernel', table: { abs32: list(...abs32, 0xff00_0000) } },
    'table',
    /entry 2 of the 32-bit list .* is 0xffffffffff000000/,
  );
  forged(
    { format: 'kernel', table: { abs32: list(0x10, ...abs32) } },
    'table',
    /entry 0 of the 32-bit list .* is 0x10, expected 0xffffffff81000400/,
  );
  forged(
    { format: 'kernel', table: { inverse32: list(), abs32: list(entry(0x400), entry(0x407), entry(0x600)) } },
    'table',
    /entry 0 of the inverse 32-bit list/,
  );
  forged(
    { format: 'kernel', table: { inverse32: abs32, abs32: inverse32 } },
    'table',
    /entry 0 of the inverse 32-bit list/,
  );
});

test('a table that is not one', () => {
  const bytes = encodeRelocationTable(TABLE);
  const words = (...values: number[]): Uint8Array => {
    const writer = new Writer(new Uint8Array(values.length * 4));
    values.forEach((value, index) => writer.u32(index * 4, value));
    return writer.bytes;
  };
  const unread = /relocation table: start at [0-9a-f]+ is 0x[48] bytes that the program never reads/;
  forged({ format: 'kernel', tableBytes: joinParts([words(0), bytes]) }, 'table', unread);
  forged({ format: 'kernel', tableBytes: joinParts([words(0, 0x8100_0000), bytes]) }, 'table', unread);
  forged(
    { format: 'kernel', tableBytes: bytes.subarray(4) },
    'table',
    /start at [0-9a-f]+ is no zero, expected the one before the 64-bit list/,
  );
  forged(
    { format: 'kernel', tableBytes: encodeRelocationTable({ ...TABLE, inverse32: new Uint32Array(0) }, 2) },
    'table',
    /64-bit list/,
  );
  forged({ format: 'kernel', tableBytes: words(0, 0) }, 'table', /no zero/);
  forged(
    { format: 'kernel', tableBytes: bytes.subarray(1) },
    'table',
    /no zero, expected the one before the 64-bit list/,
  );
  forged(
    { format: 'kernel', tableBytes: new Uint8Array(0) },
    'table',
    /no zero, expected the one before the 32-bit list/,
  );
});

test('a compact table that says something else, or in other words', () => {
  const { abs64, abs32 } = TABLE;
  forged(
    { table: { abs64: abs64.subarray(0, 2) } },
    'table',
    /entry 2 of the 64-bit list at [0-9a-f]+ is the end of the list after 2 entries, expected 0xffffffff81004010$/,
  );
  forged(
    { table: { abs32: Uint32Array.of(...abs32, entryAt(LINK + 0x500)) } },
    'table',
    /entry 2 of the 32-bit list at [0-9a-f]+ is 0xffffffff81000500, expected the end of the list after 2 entries$/,
  );
  // The 32-bit list comes first in this format.
  forged({ table: { abs32: TABLE.inverse32, inverse32: abs32 } }, 'table', /entry 0 of the 32-bit list/);
  const bytes = encodeCompactTable(TABLE);
  forged({ tableBytes: joinParts([bytes, Uint8Array.of(0)]) }, 'table', /end at [0-9a-f]+ is 0x1 bytes that/);
  forged(
    { tableBytes: bytes.subarray(0, bytes.length - 1) },
    'table',
    /64-bit list at [0-9a-f]+ is the end of the table/,
  );
  forged({ tableBytes: new Uint8Array(0) }, 'table', /32-bit list at [0-9a-f]+ is the end of the table/);
});

test('a compact table that has its chains in other words', async () => {
  const sites = [0x400, 0x407, 0x500, 0x1400].map((at) => LINK + at);
  const [first, second, third, far] = sites as [number, number, number, number];
  const other = await original({ table: { ...TABLE, abs32: Uint32Array.from(sites, entryAt) } });
  const bytes = encodeCompactTable(other.table);
  const list = [...batch([first, second, third]), ...batch([far]), 0];
  assert.deepEqual([...bytes.subarray(0, list.length)], list);
  for (const [batches, message] of [
    [[...batch([first, second]), ...batch([third]), ...batch([far])], /is 0x1001400, expected 0x1010500 or more, or a/],
    [
      [...batch([first, second]), ...batch([third], [far])],
      /chain of the 32-bit list at [0-9a-f]+ is one of 2, expected/,
    ],
    [
      batch([first], [second], [third], [far]),
      /chain of the 32-bit list at [0-9a-f]+ is one of 1, expected one of 3, for 3/,
    ],
    [
      [...batch([first, second, third]), ...batch([far]), 1, 1, 0, 1, 0, 0x14],
      /first chain of a batch .* is 0x1001400/,
    ],
    [[...batch([first, second, third]), 1, 24, 0, 1, 0, 0x14], /length of chains in .* is 0x18, expected at most 3/],
    [[1, 5, ...list.slice(2)], /length of chains in the 32-bit list at [0-9a-f]+ is 0x5, expected one of 24/],
    [
      [86, 3, ...list.slice(2)],
      /number of chains of 3 sites in the 32-bit list at [0-9a-f]+ is 0x56, expected at most/,
    ],
    [[...batch([first, second, second + 3])], /distance in a chain of the 32-bit list at [0-9a-f]+ is 0x3, expected 4/],
    [
      batch([first], [far]),
      /entry 1 of the 32-bit list at [0-9a-f]+ is 0xffffffff81001400, expected 0xffffffff81000407$/,
    ],
    [
      [...batch([far]), ...batch([first, second, third])],
      /entry 0 of .* is 0xffffffff81001400, expected 0xffffffff81000400$/,
    ],
  ] as const) {
    const tableBytes = joinParts([Uint8Array.from([...batches, 0]), bytes.subarray(list.length)]);
    refuted(forge(other, { tableBytes }), 'table', message, other);
  }
});

test('the format of another table than the one that is there', () => {
  const wrong = (params: Writer): void => params.u32(PARAMS.table_format, TABLE_FORMAT.kernel);
  forged({ params: wrong }, 'table', /^parameters: table_format at 8058 is 0x0, expected 0x1$/);
});

test('the added segment: type, flags, alignment, place in the file', () => {
  refuted(
    edited((elf) => elf.u32(addedHeader, 0)),
    'program-headers',
    /^program header 4: p_type at 120 is 0x0, expected 0x1$/,
  );
  forged(
    { segment: (segment) => ({ ...segment, flags: 5 }) },
    'program-headers',
    /p_flags at 124 is 0x5, expected 0x7/,
  );
  forged(
    { segment: (segment) => ({ ...segment, align: 0x1000 }) },
    'program-headers',
    /p_align at 150 is 0x1000, expected 0x200000/,
  );
  forged({ offset: added.offset + 0x1000 }, 'program-headers', /p_offset at 128 is 0x9000, expected 0x8000/);
  forged({ offset: added.offset + PMD }, 'program-headers', /p_offset/);
});

test('the added segment: place in memory', () => {
  const { paddr } = added;
  forged(movedTo(paddr + PMD), 'placement', /^program header 4: p_paddr at 138 is 0x1408000, expected 0x1208000$/);
  forged(movedTo(paddr + 0x1000), 'placement', /p_paddr at 138 is 0x1209000, expected 0x1208000/);
  forged(
    movedTo(DATA.paddr),
    'placement',
    /p_paddr at 138 is 0x1004000, expected none of 0x1004000 to 0x1009000, program header 2's$/,
  );
  // Loaded where it should be, but linked over the kernel's text.
  const text = physToVirt(TEXT.paddr + 0x1000);
  refuted(
    edited((elf) => elf.u64(addedHeader + 16, text)),
    'placement',
    /p_vaddr at 130 is 0xffffffff81001000, expected none of 0xffffffff81000000 to 0xffffffff81003000, program header 0's/,
  );
  // Per-cpu data is at virtual 0.
  refuted(
    edited((elf) => elf.u64(addedHeader + 16, 0)),
    'placement',
    /p_vaddr at 130 is 0x0, expected none of 0x0 to 0x1000, program header 1's/,
  );
  forged(
    {
      segment: (segment) => ({ ...segment, memsz: segment.memsz + 0x1000 }),
      params: (params, { memsz }) => params.u64(PARAMS.segment_size, memsz),
    },
    'placement',
    /p_memsz/,
  );
});

test('the added segment in a hole of the image', async () => {
  const far = LINK + 2 * PMD;
  const holed = await original({
    table: { ...TABLE, abs64: TABLE.abs64.subarray(0, 1) },
    edit: (elf) => {
      elf.u64(64 + 2 * 56 + 16, physToVirt(far));
      elf.u64(64 + 2 * 56 + 24, far);
    },
  });
  assert.equal(examined(holed, forge(holed)).verdict, 'proved');
  const inside = LINK + PMD + added.offset;
  refuted(
    forge(holed, movedTo(inside)),
    'placement',
    /p_paddr at 138 is 0x1208000, expected memory outside 0x1000000 to 0x1405000 \(_text to _end\)/,
    holed,
  );
});

test('one segment more', () => {
  const content = [Uint8Array.of(0xcc)];
  const paddr = added.paddr + PMD;
  const more = { flags: 7, paddr, content, offset: appendOffset(rightElf), memsz: 1, align: PMD, sections: [] };
  refuted(joinParts(addSegment(rightElf, more, [])), 'elf-header', /e_phnum at 38 is 0x6, expected 0x5/);
  // In the place of the note.
  refuted(
    edited((elf) => elf.u32(64 + 3 * 56, 1)),
    'program-headers',
    /^program header 3: p_type at e8 is 0x1, expected 0x4$/,
  );
});

test('sections that tell something else', () => {
  const { shoff, shnum } = rightElf.header;
  const section = (index: number, field: number, value: number | bigint): Uint8Array =>
    edited((elf) => elf.u64(shoff + index * 64 + field, value));
  refuted(section(1, 32, 0x10), 'section-headers', /^section header 1: sh_size at [0-9a-f]+ is 0x10, expected 0x3000$/);
  refuted(
    section(shnum - 3, 24, 0),
    'section-headers',
    /^section header 6: sh_offset at [0-9a-f]+ is 0x0, expected 0x8080$/,
  );
  refuted(
    edited((elf) => elf.u16(60, shnum - 1)),
    'elf-header',
    /e_shnum at 3c is 0x8, expected 0x9/,
  );
  const sections = (change: (name: string) => string): Forgery => ({
    segment: (segment) => ({
      ...segment,
      sections: segment.sections.map((each) => ({ ...each, name: change(each.name) })),
    }),
  });
  forged(
    sections((name) => name.replace('.kslide', '.kslida')),
    'section-names',
    /^byte of the section name table at [0-9a-f]+ is 0x61, expected 0x65$/,
  );
});

test('what nothing accounts for', () => {
  const end = right.length;
  refuted(
    inserted(right, end, 0),
    'nothing-else',
    new RegExp(`^data at ${end.toString(16)} is 0x1 bytes that nothing accounts for, expected the end of the file$`),
  );
  refuted(inserted(right, end, ...right.subarray(0, 64)), 'nothing-else', /is 0x40 bytes that nothing accounts for/);
  // The headers knowing it: bytes before the section headers, or before the names.
  const { shoff } = rightElf.header;
  const late = inserted(right, shoff, 0, 0, 0, 0, 0, 0, 0, 0);
  new Writer(late).u64(40, shoff + 8);
  refuted(late, 'section-headers', /^ELF header: e_shoff at 28 is/);
  // In the gaps.
  refuted(
    edited((elf) => elf.u8(added.offset - 1, 0x90)),
    'padding',
    /^padding before the added segment at 7fff is 0x90, expected 0x0$/,
  );
  const afterProgram = added.offset + PARAMS.size + program.length;
  refuted(
    edited((elf) => elf.u8(afterProgram, 0x90)),
    'padding',
    /^padding before the table/,
  );
  // The names end where section headers may begin; in this format they do not.
  const gap = forge(kernel, { format: 'kernel' });
  new Writer(gap).u8(readElf(gap).header.shoff - 1, 0x90);
  refuted(gap, 'padding', /^padding before the section headers/);
});

test('program headers that moved, and did not need to or not there', async () => {
  const crowded = await original({ crowded: true });
  const moved = forge(crowded);
  assert.equal(examined(crowded, moved).verdict, 'proved');
  const { phoff } = readElf(moved).header;
  const further = inserted(moved, phoff, 0, 0, 0, 0, 0, 0, 0, 0);
  new Writer(further).u64(32, phoff + 8);
  refuted(further, 'elf-header', /e_phoff at 20/, crowded);
  const atEnd = joinParts([right, right.subarray(64, addedHeader + 56)]);
  new Writer(atEnd).u64(32, right.length);
  refuted(atEnd, 'elf-header', /e_phoff at 20 is 0x[0-9a-f]+, expected 0x40/);
});
