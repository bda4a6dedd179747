/** `inspect` on small kernels of each kind, whose every number is known: by their makers, by readelf, or by what another command says. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { coreCodecs } from '../src/codecs/formats.ts';
import type { Writer } from '../src/base/bytes.ts';
import { reportInspect } from '../src/cli/reports/inspect.ts';
import { convert } from '../src/convert.ts';
import { endOfElf, readElf } from '../src/elf/read.ts';
import { KernelImageError } from '../src/base/errors.ts';
import { inspect } from '../src/inspect.ts';
import type { Inspection, InspectOptions } from '../src/inspect.ts';
import { collectRelocations } from '../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { PARAMS } from '../src/segment/layout.ts';
import { KERNEL_VERSION, makeBzImage, makePe } from './bzimage/make-image.ts';
import { DATA, ENTRY, LINK, makeVmlinux, PVH_ENTRY, TABLE } from './make-vmlinux.ts';
import { makeKernel64, scratchFile } from './relocs/fixtures.ts';

const RUNS = Number(process.env['KSLIDE_FUZZ_RUNS'] ?? 300);
const codecs = coreCodecs;
const look = (file: Uint8Array, options: Partial<InspectOptions> = {}): Promise<Inspection> =>
  inspect(file, { codecs, ...options });

const vmlinux = makeVmlinux();
const bare = vmlinux.subarray(0, endOfElf(readElf(vmlinux)));
const bzImage = makeBzImage({ payload: gzipSync(vmlinux) });

test('a bzImage: its header, the kernel in it, and the table behind that', async () => {
  const found = await look(bzImage);
  assert.equal(found.input, 'bzimage');
  assert.equal(found.compression, 'gzip');
  assert.equal(found.kernelVersion, KERNEL_VERSION);
  assert.deepEqual(found.sizes, { input: bzImage.length, vmlinux: bare.length, behind: vmlinux.length - bare.length });
  assert.equal(found.setup?.protocol, '2.15');
  assert.equal(found.setup.alignment, 0x20_0000);
  assert.deepEqual(found.image, {
    start: LINK,
    end: DATA.paddr + DATA.memsz,
    vaddr: '0xffffffff81000000',
    entries: { linux64: ENTRY, pvh: PVH_ENTRY },
  });
  assert.deepEqual(found.slots, {
    count: 504,
    align: 0x20_0000,
    alignSource: 'least',
    alignAssumed: false,
    physicalAlign: { bytes: 0x20_0000, source: 'setup-header' },
    largest: 503 * 0x20_0000,
    bits: Math.log2(504),
    limit: { bytes: 0x4000_0000, source: 'assumed' },
  });
  assert.equal(found.converted, null);
  assert.deepEqual(
    found.segments.map(({ type, flags, vaddr, paddr }) => [type, flags, vaddr, paddr]),
    [
      ['PT_LOAD', 'r-x', '0xffffffff81000000', LINK],
      ['PT_LOAD', 'rw-', '0x0', LINK + 0x3000],
      ['PT_LOAD', 'rwx', '0xffffffff81004000', LINK + 0x4000],
      ['PT_NOTE', '---', '0xffffffff81000800', LINK + 0x800],
    ],
  );
  assert.deepEqual(found.notes, [
    { owner: 'Xen', type: 18, name: 'XEN_ELFNOTE_PHYS32_ENTRY', bytes: 8, words: [PVH_ENTRY] },
  ]);
  assert.equal(found.buildId, null);
  assert.deepEqual(found.sections, { count: 5, symbols: false, debug: false, rela: false });
});

test('where sites lie, and the size of each form', async () => {
  const { relocations } = await look(bzImage);
  assert.ok(relocations);
  assert.equal(relocations.source, 'behind');
  assert.equal(relocations.lists, 3);
  // 0x400 and 0x407 of .text share a line; all of .text's are on the three pages 0, 2 and none other; .data's two follow each other.
  assert.deepEqual(relocations.total, { sites: { abs64: 3, inverse32: 1, abs32: 2 }, lines: 4, pages: 3 });
  assert.deepEqual(relocations.placement, {
    abs64: { sites: 3, aligned: 3, adjacent: 1 },
    abs32: { sites: 2, aligned: 1, byteGaps: 1, wordGaps: 1 },
    inverse32: { sites: 1, aligned: 1, byteGaps: 0, wordGaps: 0 },
  });
  assert.deepEqual(relocations.map, { start: LINK, cell: 0x1000, counts: [3, 0, 1, 0, 2, 0, 0, 0, 0] });
  assert.equal(relocations.rela, null);
  assert.deepEqual(relocations.forms, {
    rela: null,
    relaWithoutPcRelative: null,
    relaOfSites: { entries: 6, bytes: 6 * 24 },
    kernelTable: (6 + 3) * 4,
    // An address word for 0x2000, one for 0x4008, and a bitmap for the site behind it.
    relr: { bytes: 3 * 8, sites: 3, rest: { entries: 3, bytes: (3 + 3) * 4 } },
    // By docs/formats.md: a chain of two sites, one of one, two addresses with a skip and a bitmap each, and three ends.
    compact: 4 + 2 + 1 + (4 + 2) + 2 * (5 + 1 + 8) + (1 + 1 + 5),
  });
});

test('one kernel, whatever it is in: UKI, bzImage, table behind, table in a file', async () => {
  const expected = (await look(bzImage)).relocations;
  const table = encodeRelocationTable(TABLE);
  assert.deepEqual((await look(makePe({ sections: { '.linux': bzImage } }))).relocations, expected);
  assert.deepEqual((await look(vmlinux)).relocations, expected);
  assert.deepEqual((await look(bare, { relocs: table })).relocations, { ...expected, source: 'relocs-file' });
  assert.deepEqual((await look(vmlinux)).setup, null);
  assert.deepEqual((await look(vmlinux)).slots, { ...(await look(bzImage)).slots, physicalAlign: null });
});

test('a kernel without relocations is described all the same', async () => {
  for (const file of [bare, makeVmlinux({ sections: false }).subarray(0, DATA.offset + DATA.size)]) {
    const found = await look(file);
    assert.equal(found.relocations, null);
    assert.deepEqual(found.image, (await look(vmlinux)).image);
    assert.match(reportInspect(found), /^relocations {2}none here: see the bzImage of the same build/m);
  }
  const fixed = await look(makeBzImage({ payload: gzipSync(bare) }));
  assert.equal(fixed.relocations, null);
  assert.match(
    reportInspect(fixed),
    /^relocations {2}none: built without CONFIG_RANDOMIZE_BASE; convert --recover takes them from the image, which cannot be proved$/m,
  );
});

test('a converted kernel: the kernel that it was, its table read from the added segment, with or without section names', async () => {
  const before = await look(bzImage);
  const { parts, summary, bytes } = await convert(bzImage, { codecs });
  assert.ok(parts.length > 1);
  const found = await look(bytes());
  assert.deepEqual(found.image, before.image);
  assert.deepEqual(found.slots, { ...before.slots, alignSource: 'converted', physicalAlign: null });
  assert.deepEqual({ ...found.relocations, source: 'behind' }, before.relocations);
  assert.equal(found.relocations?.source, 'converted');
  assert.equal(found.converted?.segment.paddr, summary.segment.paddr);
  assert.equal(found.converted.segment.memory, summary.segment.memory);
  assert.equal(found.converted.table.bytes, summary.sizes.table);
  assert.equal(found.converted.slots.count, summary.slots.count);
  assert.match(reportInspect(found), /^converted {4}yes: .* in the \w+ form, 504 slots$/m);

  const nameless = bytes().slice();
  nameless.fill(0, 40, 48); // e_shoff
  nameless.fill(0, 58, 64); // e_shentsize, e_shnum, e_shstrndx
  const stripped = await look(nameless.subarray(0, found.converted.table.offset + found.converted.table.bytes));
  assert.deepEqual(stripped.converted, found.converted);
  assert.deepEqual(stripped.relocations?.total, found.relocations.total);
});

test('a converted kernel with a broken table, or of another layout, is refused', async () => {
  const bytes = (await convert(bzImage, { codecs })).bytes();
  const { converted } = await look(bytes);
  const { segment } = converted!;
  const changed = (at: number, value: number): Uint8Array => {
    const copy = bytes.slice();
    copy[segment.offset + at] = value;
    return copy;
  };
  for (const [file, message] of [
    [
      changed(7, 9),
      /^not supported: layout of the segment that kslide added at offset 0x[0-9a-f]+ is 0x9, expected 0x1$/,
    ],
    [
      changed(PARAMS.table_format, 77),
      /^not supported: parameters: table_format at offset .* is 0x4d, expected one of 0/,
    ],
    [changed(PARAMS.table_end + 3, 1), /^file is truncated: relocation table of the added segment/],
    [changed(PARAMS.table_end + 7, 0xff), /relocation table of the added segment/],
    [changed(converted!.table.offset - segment.offset, 77), /relocation table/],
    [changed(PARAMS.slot_align, 1), /^invalid value: alignment of slides/],
  ] as const) {
    await assert.rejects(look(file), (error) => error instanceof KernelImageError && message.test(error.message));
  }
});

test('.rela sections: counted as readelf counts them', async () => {
  for (const perCpu of ['zero', 'placed'] as const) {
    const kernel = makeKernel64({ perCpu });
    const file = scratchFile('inspected.elf');
    writeFileSync(file, kernel);
    const { relocations } = await look(kernel);
    assert.ok(relocations?.rela);
    assert.equal(relocations.source, 'rela');

    const text = execFileSync('readelf', ['-rW', file], { encoding: 'utf8' });
    const blocks = text.split(/^Relocation section /m).slice(1);
    const typesOf = (names: RegExp): string[] =>
      blocks
        .filter((block) => names.test(block))
        .flatMap((block) => Array.from(block.matchAll(/^[0-9a-f]{16} +[0-9a-f]{16} (R_\w+)/gm), ([, type]) => type!));
    const unloaded = /^'\.rela(?:\.names|\.debug_info|\.notes)'/;
    const types = typesOf(/^(?!'\.rela(?:\.names|\.debug_info|\.notes)')/);
    assert.equal(relocations.rela.entries, types.length);
    assert.deepEqual(
      Object.fromEntries(relocations.rela.types.map(({ type, entries }) => [type, entries])),
      Object.fromEntries(types.map((type) => [type, types.filter((other) => other === type).length])),
    );
    const pcRelative = types.filter((type) => /_PC\d+$|_PLT32$/.test(type)).length;
    assert.equal(relocations.rela.pcRelative, pcRelative);
    assert.equal(relocations.rela.unloadedBytes, typesOf(unloaded).length * 24);

    const table = collectRelocations(kernel);
    const { forms } = relocations;
    assert.deepEqual(forms.rela, { entries: types.length, bytes: types.length * 24 });
    const kept = types.length - pcRelative + table.inverse32.length;
    assert.deepEqual(forms.relaWithoutPcRelative, { entries: kept, bytes: kept * 24 });
    assert.equal(forms.kernelTable, encodeRelocationTable(table).length);
    assert.equal(relocations.lists, perCpu === 'zero' ? 3 : 2);
  }
});

test('a table that does not fit the kernel is refused', async () => {
  const abs64 = Uint32Array.of(0x8900_0000);
  const relocs = encodeRelocationTable({ ...TABLE, abs64 });
  await assert.rejects(
    look(bare, { relocs }),
    /^KernelImageError: invalid value: relocation table, entry 0 of the 64-bit list/,
  );
});

test('names out of the file reach no terminal as they are', async () => {
  const names = DATA.offset + DATA.size;
  const edit = (writer: Writer): void => {
    writer.u8(names + 1, 0x1b); // .text
    writer.u64(names + 32 + 64 + 8, 2); // SHF_ALLOC
  };
  const found = await look(makeVmlinux({ edit }));
  assert.equal(found.relocations?.sections[0]?.name, '\u001Btext');
  assert.match(reportInspect(found), /^\\x1btext /m);
  assert.doesNotMatch(reportInspect(found), /[^\n -~·▁▂▃▄▅▆▇█×]/);
});

test('whatever is changed in a file, it is described or refused', async () => {
  const converted = (await convert(bzImage, { codecs })).bytes();
  const kernels = [vmlinux, converted, makeKernel64(), makeKernel64({ perCpu: 'placed' })];
  const table = encodeRelocationTable(TABLE);
  const places = (kernel: Uint8Array): fc.Arbitrary<number> => {
    const { header, segments } = readElf(kernel);
    const ranges: [number, number][] = [
      [0, 64],
      [header.phoff, header.phoff + header.phnum * 56],
      [header.shoff, header.shoff + header.shnum * 64],
      [0, kernel.length],
    ];
    const last = segments.findLast(({ type, filesz }) => type === 1 && filesz > 0)!;
    ranges.push([last.offset, last.offset + last.filesz]);
    return fc.oneof(...ranges.map(([from, to]) => fc.integer({ min: from, max: to - 1 })));
  };
  const cases = fc.constantFrom(...kernels).chain((kernel) =>
    fc.record({
      kernel: fc.constant(kernel),
      changes: fc.array(fc.tuple(places(kernel), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255))), {
        minLength: 1,
        maxLength: 5,
      }),
      cut: fc.oneof(
        { weight: 9, arbitrary: fc.constant(kernel.length) },
        { weight: 1, arbitrary: fc.nat(kernel.length) },
      ),
      relocs: fc.constantFrom(undefined, undefined, table),
    }),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ({ kernel, changes, cut, relocs }) => {
      const bytes = kernel.slice();
      for (const [at, value] of changes) bytes[at] = value;
      try {
        const found = await look(bytes.subarray(0, cut), { relocs });
        assert.match(reportInspect(found), /^kernel {7}/);
        assert.doesNotMatch(JSON.stringify(found.relocations?.total ?? {}), /null/);
      } catch (error) {
        if (!(error instanceof KernelImageError)) throw error;
      }
    }),
    { numRuns: RUNS },
  );
});

test('the text, line by line', async () => {
  const text = reportInspect(await look(bzImage));
  const sizes = /bzimage, [\d.]+ kB; gzip payload of \d+ bytes/;
  assert.match(text, sizes);
  assert.equal(
    text.replace(sizes, 'SIZES'),
    `kernel       6.12.0-test (builder@host) #1 SMP
file         SIZES; boot protocol 2.15, preferred address 0x1000000, init_size 1.05 MB
vmlinux      29.0 kB, 5 sections, no symbols, no debug information, no .rela sections, 36 bytes after it, no build id
image        physical 0x1000000 to 0x1009000 (36.9 kB), linked at 0xffffffff81000000
entries      linux64 0x1000230, pvh 0x1000900
notes        XEN_ELFNOTE_PHYS32_ENTRY 0x1000900
slots        504, every 2 MiB up to 0x3ee00000: 8.98 bits of entropy
step         2 MiB, the least that every kernel allows; CONFIG_PHYSICAL_ALIGN, the step of its own decompressor, is 2 MiB (setup header)
limit        assumed: the kernel maps 1024 MiB; its page tables were not found
converted    no
relocations  6 from the table after the vmlinux, three lists

segment  flags  offset             virtual   physical  in file  in memory     align
PT_LOAD    r-x  0x1000  0xffffffff81000000  0x1000000   0x3000     0x3000  0x200000
PT_LOAD    rw-  0x4000                 0x0  0x1003000   0x1000     0x1000  0x200000
PT_LOAD    rwx  0x5000  0xffffffff81004000  0x1004000   0x2000     0x5000  0x200000
PT_NOTE    ---  0x1800  0xffffffff81000800  0x1000800     0x18       0x18       0x4

sites in section         at  64-bit  inverse 32-bit  32-bit  cache lines  pages
(none)            0x1000400       3               1       2            4      3
all                               3               1       2            4      3

64-bit sites   all at multiples of 8, 33.3% directly after the previous one
32-bit sites   50.0% at multiples of 4, 50.0% within 0xff of the previous one, 50.0% within 0xffff
inverse sites  all at multiples of 4, none within 0xff of the previous one, none within 0xffff
map            █·▃·▆····
               from 0x1000000, 0x1000 bytes per character, at most 3 sites in one

stored as                                              bytes   ratio
.rela sections, whole                       not in this file
.rela sections without PC-relative entries  not in this file
an Elf64_Rela for each site                              144  4.00 ×
the kernel's table                                        36  1.00 ×
RELR for 3 sites, the table for 3                         48  1.33 ×
the compact table                                         48  1.33 ×
`,
  );
});
