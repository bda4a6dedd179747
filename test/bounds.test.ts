/**
 * The bounds of docs/security.md: what a small file claims costs no memory. Memory is counted (fuzz/meter.ts), not measured. Time is not: a test here that takes
 * minutes has lost its bound.
 */
import { metered } from './fuzz/meter.ts';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { physToVirt } from '../src/base/addresses.ts';
import { ascii, joinParts, Writer } from '../src/base/bytes.ts';
import { readSetupHeader } from '../src/bzimage/header.ts';
import { decodePayload, readPayload } from '../src/bzimage/payload.ts';
import { COMPRESSIONS, coreCodecs } from '../src/codecs/formats.ts';
import type { Compression } from '../src/codecs/formats.ts';
import { convert } from '../src/convert.ts';
import { EHDR, PHDR, PHDR_SIZE, SHDR, SYM_SIZE, writeFields } from '../src/elf/fields.ts';
import { readElf } from '../src/elf/read.ts';
import { inspect } from '../src/inspect.ts';
import { readAuditFile } from '../src/measure/audit/record.ts';
import { parseConsole } from '../src/node/qemu/console.ts';
import { readCompactTable } from '../src/relocs/tables/compact.ts';
import { encodeRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { memorySource } from '../src/relocs/tool/byte-source.ts';
import { runRelocsTool } from '../src/relocs/tool/tool.ts';
import { PARAMS } from '../src/segment/layout.ts';
import { findSegment } from '../src/segment/read.ts';
import { decodeCompactTable } from '../src/verify/table/compact.ts';
import { verify } from '../src/verify/verify.ts';
import { makeBzImage, withSizeWord } from './bzimage/make-image.ts';
import { compress } from './codecs/tools.ts';
import { makeUnits, openTables, putSymbols, TEXT as IMAGE } from './fuzz/make/tables.ts';
import { DATA, makeVmlinux, TABLE } from './make-vmlinux.ts';
import { makeKernel64 } from './relocs/fixtures.ts';
import { readKallsyms } from '../src/shuffle/tables/kallsyms.ts';
import { readOrc } from '../src/shuffle/tables/orc.ts';

const MIB = 0x10_0000;
const codecs = coreCodecs;
const directory = mkdtempSync(join(tmpdir(), 'kslide-bounds-'));
after(() => rmSync(directory, { recursive: true }));

/** How many bytes it asks for before it refuses. */
async function refusal(work: () => unknown, message: RegExp, most = MIB): Promise<void> {
  const { allocated } = await metered(most, () =>
    assert.rejects(async () => work(), { name: 'KernelImageError', message }),
  );
  assert.ok(allocated <= most);
}

const phdr = (index: number): number => 64 + index * PHDR_SIZE[64];

test('a kernel of 30 kB that spans almost 1 GiB is converted, inspected and proved in a few MiB', async () => {
  const kernel = makeVmlinux({
    edit: (elf) => writeFields(elf, phdr(2), PHDR[64], { p_memsz: 0x3fa0_0000 - DATA.paddr }),
  });
  const { result, allocated } = await metered(8 * MIB, async () => {
    const converted = (await convert(kernel, { codecs })).bytes();
    await inspect(converted, { codecs });
    return verify(kernel, converted, { codecs });
  });
  assert.equal(result.offence, undefined);
  assert.ok(allocated > kernel.length);
});

test('segments that load the same bytes many times are refused', async () => {
  const kernel = makeVmlinux({
    edit: (elf) => writeFields(elf, phdr(2), PHDR[64], { p_offset: 0x1000, p_filesz: 0x6000, p_memsz: 0x6000 }),
  });
  await refusal(
    () => inspect(kernel, { codecs }),
    /p_filesz of all PT_LOADs is 0xa000, expected at most 0x7\w+, the size of the file/,
  );
});

test('65,000 program headers are compared by their neighbours', async () => {
  const count = 65_000;
  const start = 0x10_0000 + count * PHDR_SIZE[64];
  const made = makeVmlinux();
  const file = new Writer(new Uint8Array(start + count * 8));
  file.copy(0, made.subarray(0, 64));
  writeFields(file, 0, EHDR[64], {
    e_phoff: 64,
    e_phnum: count,
    e_shoff: 0,
    e_shnum: 0,
    e_shstrndx: 0,
    e_entry: 0x100_0000,
  });
  for (let index = 0; index < count; index++) {
    const paddr = 0x100_0000 + index * 8;
    const p_offset = start + (index === count - 1 ? 4 : index * 8);
    const values = { p_type: 1, p_offset, p_paddr: paddr, p_vaddr: physToVirt(paddr), p_filesz: 8, p_memsz: 8 };
    writeFields(file, phdr(index), PHDR[64], values);
  }
  await assert.rejects(convert(joinParts([file.bytes, new Uint8Array(8)]), { codecs }), {
    code: 'unsupported',
    message: /program header 64999: p_offset is 0x\w+, expected file bytes of its own: those of program header 0 /,
  });
});

test('counts of headers that the file cannot hold', async () => {
  const many = makeVmlinux({ edit: (elf) => writeFields(elf, 0, EHDR[64], { e_phnum: 0xfffe }) });
  await refusal(() => inspect(many, { codecs }), /program header table of 65534 entries/);
  const shoff = readElf(makeVmlinux()).header.shoff;
  const counted = makeVmlinux({
    edit: (elf) => {
      writeFields(elf, shoff, SHDR[64], { sh_size: 2 ** 40, sh_info: 0xffff_ffff, sh_link: 0xffff_ffff });
      writeFields(elf, 0, EHDR[64], { e_shnum: 0, e_phnum: 0xffff, e_shstrndx: 0xffff });
    },
  });
  await refusal(() => inspect(counted, { codecs }), /program header table of 4294967295 entries/);
});

test('more headers than any kernel has, which are in the file', async () => {
  const most = 2 ** 19;
  const shoff = 0x1_0000;
  const withSections = (count: number): Uint8Array => {
    const file = new Writer(new Uint8Array(shoff + count * 64));
    file.copy(0, makeVmlinux().subarray(0, 0x1000));
    writeFields(file, 0, EHDR[64], { e_shoff: shoff, e_shnum: 0, e_shstrndx: 0 });
    writeFields(file, shoff, SHDR[64], { sh_size: count });
    return file.bytes;
  };
  assert.equal(readElf(withSections(most)).sections.length, most);
  const many = withSections(most + 1);
  const refused = /number of section headers at offset 0x10000 is 0x80001, expected at most 0x80000$/;
  await refusal(() => inspect(many, { codecs }), refused);
  await refusal(() => [...runRelocsTool(memorySource(many), { print: 'table', realMode: false })], refused);
  const segments = makeVmlinux();
  const file = new Writer(new Uint8Array(2 ** 25));
  file.copy(0, segments.subarray(0, 0x1000));
  writeFields(file, 0, EHDR[64], { e_phnum: 0xffff, e_phoff: shoff, e_shoff: 0x8000, e_shnum: 1, e_shstrndx: 0 });
  writeFields(file, 0x8000, SHDR[64], { sh_info: most + 1 });
  await refusal(() => inspect(file.bytes, { codecs }), /number of program headers at offset 0x10000 is 0x80001/);
});

test('tables of a file of 8 TB that is read by parts', async () => {
  const kernel = makeKernel64();
  const { header, sections } = readElf(kernel);
  const names = sections[header.shstrndx]!;
  const forged = (edit: (file: Writer) => void): (() => unknown) => {
    const file = new Writer(kernel.slice());
    edit(file);
    return () => [
      ...runRelocsTool({ ...memorySource(file.bytes), size: 2 ** 43 }, { print: 'table', realMode: false }),
    ];
  };
  const at = (index: number): number => header.shoff + index * 64;
  await refusal(
    forged((file) => {
      writeFields(file, 0, EHDR[64], { e_shnum: 0 });
      writeFields(file, header.shoff, SHDR[64], { sh_size: 2 ** 36 });
    }),
    /number of section headers at offset 0x\w+ is 0x1000000000, expected at most 0x80000$/,
  );
  await refusal(
    forged((file) => writeFields(file, at(names.index), SHDR[64], { sh_size: 2 ** 42 })),
    /size of table of section names, section \d+ at offset 0x\w+ is 0x40000000000, expected at most 0x80000000$/,
  );
  const symbols = sections.find(({ type }) => type === 2)!;
  await refusal(
    forged((file) => writeFields(file, at(symbols.index), SHDR[64], { sh_size: 2 ** 42 })),
    /size of all symbol tables is 0x40000000000, expected at most 0x80000000$/,
  );
  const relocations = sections.find(({ type, info }) => type === 4 && (sections[info]!.flags & 2n) !== 0n)!;
  await refusal(
    forged((file) => writeFields(file, at(relocations.index), SHDR[64], { sh_size: 2 ** 42 })),
    /size of all relocation sections is 0x40000000000, expected at most 0x80000000$/,
  );
});

/** Item after item of the same run, as the issue of a table of 140 bytes; and one run of 2^20 units. */
const RUNS = Uint8Array.from([
  0,
  0,
  ...Array.from({ length: 12 }, () => [0xff, 8, 0, 0, 0, 0xfe, 0, 0, 8, 0]).flat(),
  0xff,
  0,
  0,
  0,
  0,
]);
const LONG_RUN = Uint8Array.of(0, 0, 0xfe, 0, 0, 0x10, 0, 0xff, 0, 0, 0, 0);

test('a compact table of some bytes claims no more sites than the kernel has room for', async () => {
  for (const table of [RUNS, LONG_RUN]) {
    await refusal(() => readCompactTable(table), /list is 0x\w+, expected at most 0x4\w{4} sites/);
    await refusal(() => decodeCompactTable(table, 0), /expected at most 26\d+ sites/);
  }
  const kernel = makeVmlinux();
  const converted = (await convert(kernel, { codecs })).bytes();
  const { offset } = findSegment(readElf(converted))!;
  const view = new DataView(converted.buffer);
  const tableAt = offset + Number(view.getBigUint64(offset + PARAMS.table, true));
  converted.set(LONG_RUN, tableAt);
  await refusal(
    () => inspect(converted, { codecs }),
    /relocation table: list is 0x1000000, expected at most 0x\w{4} sites/,
  );
  const { result } = await metered(2 * MIB, () => verify(kernel, converted, { codecs }));
  assert.equal(result.offence?.check, 'table');
});

test('a payload of some bytes claims no gigabyte, and one that decodes to more than it claims gets no more', async () => {
  const zeros = new Uint8Array(200_000);
  const image = (compression: Compression, size: number): Uint8Array => {
    const stream = compress(compression, zeros);
    const payload = compression === 'gzip' ? stream.slice() : withSizeWord(stream, size);
    new Writer(payload).u32(payload.length - 4, size);
    return makeBzImage({ payload, fields: { init_size: 0xffff_ffff } });
  };
  for (const compression of COMPRESSIONS) {
    const read = (size: number): Promise<Uint8Array> => {
      const bytes = image(compression, size);
      return decodePayload(readPayload(bytes, readSetupHeader(bytes)), codecs);
    };
    await refusal(
      () => read(0x4000_0000),
      /uncompressed size at offset 0x\w+ is 0x40000000, expected at most 0x\w+, for a payload of/,
    );
    await refusal(() => read(0x400_0000), /payload size|corrupt data/, 16 * MIB);
    await refusal(() => read(1000), /payload size|corrupt data/, 16 * MIB);
  }
});

test('long names are not read once for each symbol', async () => {
  const kernel = makeKernel64({ perCpu: 'none' });
  const { sections } = readElf(kernel);
  const symtab = sections.find(({ type }) => type === 2)!;
  const strtab = sections[symtab.link]!;
  const grown = new Uint8Array(kernel.length + 0x10_0000).fill(0x61, kernel.length);
  grown.set(kernel);
  const writer = new Writer(grown);
  const { header } = readElf(kernel);
  writeFields(writer, header.shoff + strtab.index * 64, SHDR[64], { sh_offset: 0, sh_size: grown.length });
  for (let symbol = 1; symbol < symtab.size / SYM_SIZE[64]; symbol++)
    writer.u32(symtab.offset + symbol * SYM_SIZE[64], kernel.length);
  await refusal(
    () => [...runRelocsTool(memorySource(grown), { print: 'abs-syms', realMode: false })],
    /the name that st_name of symbol \d+ leads to at offset 0x\w+: expected a NUL after at most 0x1000 bytes/,
    4 * MIB,
  );
});

test('40,000 sections with one long name take no memory for each', async () => {
  const count = 40_000;
  const made = makeVmlinux();
  const end = readElf(made).header.shoff;
  const headers = end + 0x2000;
  const file = new Writer(new Uint8Array(headers + count * 64));
  file.copy(0, made.subarray(0, end));
  file.bytes.fill(0x61, end, headers - 1);
  for (let index = 1; index < count; index++) {
    const paddr = 0x100_0000 + (index % 0x600) * 8;
    const values = { sh_type: 1, sh_flags: 2, sh_addr: physToVirt(paddr), sh_offset: 0x1000, sh_size: 8 };
    writeFields(file, headers + index * 64, SHDR[64], values);
  }
  writeFields(file, headers + 64, SHDR[64], { sh_type: 3, sh_flags: 0, sh_offset: end, sh_size: 0x2000 });
  writeFields(file, 0, EHDR[64], { e_shoff: headers, e_shnum: count, e_shstrndx: 1 });
  const { sections, relocations } = await inspect(joinParts([file.bytes, encodeRelocationTable(TABLE)]), { codecs });
  assert.equal(sections.count, count);
  assert.equal(relocations?.source, 'behind');
});

test('kallsyms and ORC: counts that the image does not hold', async () => {
  const symbols = ['kallsyms_names', 'kallsyms_num_syms', 'kallsyms_offsets', 'kallsyms_relative_base'];
  const units = makeUnits(IMAGE + 0x100, 4);
  const file = new Writer(new Uint8Array(0x400));
  putSymbols(file, symbols, Object.fromEntries(symbols.map((name, index) => [name, IMAGE + 0x100 + index * 0x20])));
  file.u32(0x120, 0xffff_ffff);
  const kallsyms = openTables(file.bytes, symbols, IMAGE + 0x200);
  await refusal(
    () => readKallsyms(kallsyms.debug, kallsyms.image, () => 0),
    /kallsyms_offsets is 0x1000140, expected 0x3fffffffc bytes/,
  );

  const orcSymbols = [
    '__start_orc_unwind_ip',
    '__stop_orc_unwind_ip',
    '__start_orc_unwind',
    'orc_lookup',
    'orc_lookup_end',
  ];
  const orcOf = (stop: number, lookupEnd: number): (() => unknown) => {
    const orc = new Writer(new Uint8Array(0x400));
    putSymbols(orc, orcSymbols, {
      __start_orc_unwind_ip: IMAGE + 0x100,
      __stop_orc_unwind_ip: stop,
      __start_orc_unwind: IMAGE + 0x200,
      orc_lookup: IMAGE + 0x300,
      orc_lookup_end: lookupEnd,
    });
    const { debug, image } = openTables(orc.bytes, orcSymbols, IMAGE + 0x200);
    return () => readOrc(debug, image, units);
  };
  await refusal(
    orcOf(IMAGE + 0x40, IMAGE + 0x340),
    /end of .orc_unwind_ip is 0x1000040, expected 0x1000100, where it starts/,
  );
  await refusal(orcOf(IMAGE + 0x102, IMAGE + 0x340), /end of .orc_unwind_ip is 0x1000102/);
  await refusal(orcOf(0x3fff_fffc, IMAGE + 0x340), /.orc_unwind_ip is 0x1000100, expected 0x3efffefc bytes/);
  // A gigabyte of lookup table, of which the image has 256 bytes.
  await refusal(orcOf(IMAGE + 0x110, 0x4000_0000), /.orc_unwind/);
});

test('text: long lines and long words end', async () => {
  const log = `${'a'.repeat(1_000_000)} ${'0123456789abcdef'.repeat(60_000)} Kernel Offset: 0x${'1'.repeat(500_000)}`;
  assert.equal(parseConsole(log).slide, undefined);
  const path = join(directory, 'results');
  writeFileSync(path, ascii(`${' '.repeat(0x10_0001)}\n`));
  await assert.rejects(readAuditFile(path), {
    name: 'InputFileError',
    message: /line 1 is not a result that kslide wrote/,
  });
});
