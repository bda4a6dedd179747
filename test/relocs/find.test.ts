/** A vmlinux from a build tree: taken with its `.rela` sections, and told where its relocations are when it was stripped of them. */
import { joinParts } from '../../src/base/bytes.ts';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { coreCodecs } from '../../src/codecs/formats.ts';
import type { Encoders } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { extract } from '../../src/extract.ts';
import { insertRelocations } from '../../src/insert.ts';
import { inspect } from '../../src/inspect.ts';
import { randomize } from '../../src/randomize.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { RESERVED_NAMES } from '../../src/relocs/reserved-section.ts';
import { verify } from '../../src/verify/verify.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeKernel64, scratchFile } from './fixtures.ts';

const codecs = coreCodecs;
const LAYOUTS = ['zero', 'single', 'placed', 'empty'] as const;

function objcopy(kernel: Uint8Array, ...options: readonly string[]): Uint8Array {
  const [input, output] = [scratchFile('whole.elf'), scratchFile('stripped.elf')];
  writeFileSync(input, kernel);
  execFileSync('objcopy', [...options, input, output]);
  return new Uint8Array(readFileSync(output));
}

test('extract takes the table from .rela sections, convert from there or from a file, and makes the same segment', async () => {
  for (const perCpu of LAYOUTS) {
    const kernel = makeKernel64({ perCpu });
    const table = encodeRelocationTable(collectRelocations(kernel));
    const extracted = await extract(kernel, { codecs });
    assert.deepEqual(extracted.relocs(), table, perCpu);
    assert.deepEqual(extracted.vmlinux, kernel, perCpu);
    const own = await convert(kernel, { codecs });
    const given = await convert(kernel, { codecs, relocs: table });
    assert.deepEqual(own.bytes(), given.bytes(), perCpu);
  }
});

test('a stripped vmlinux is told where its relocations are, per-cpu data at 0 or not', async () => {
  for (const perCpu of LAYOUTS) {
    const kernel = makeKernel64({ perCpu });
    for (const options of [['--strip-all'], ['--remove-section=.rela*'], ['--strip-all', '--remove-section=.rela*']]) {
      const stripped = objcopy(kernel, ...options);
      for (const ask of [
        () => convert(stripped, { codecs }),
        async () => (await extract(stripped, { codecs })).relocs(),
      ]) {
        await assert.rejects(ask, (error) => {
          assert.ok(error instanceof KernelImageError, String(error));
          assert.equal(error.code, 'no-relocations', `${perCpu}, ${options.join(' ')}: ${error.message}`);
          assert.match(
            error.message,
            /in the bzImage of the same build, in its vmlinux\.unstripped \(since 6\.15\), or in its vmlinux\.relocs \(--relocs\); convert and extract recover them from the image alone with --recover, and cannot prove them$/,
          );
          return true;
        });
      }
    }
  }
});

/** How builds and packages strip relocations, and what is then said of the rest. */
const LEFT = [
  // Linux 6.11 to 6.14.
  [['.rela.*', '.rela__*'], 'one relocation section, .relaruntime_ptr_USER_PTR_MAX'],
  [['.rela.text'], '8 relocation sections, such as .rela.rodata'],
  [['.rela.text', '.rela.rodata', '.rela.data*', '.relaruntime*'], '4 relocation sections, such as .rela.notes'],
  [
    ['.rela.text', '.rela.rodata', '.rela.data', '.relaruntime*', '.rela.notes', '.rela.debug_info'],
    '3 relocation sections, such as .rela.data..percpu',
  ],
  [
    ['.rela.text', '.rela.rodata', '.rela.data*', '.relaruntime*', '.rela.notes', '.rela.init.text'],
    '2 relocation sections, such as .rela.names',
  ],
] as const;

test('relocations that are left of a stripped kernel are not taken for all: each command refuses', async () => {
  const whole = makeKernel64({ runtime: true });
  const converted = (await convert(whole, { codecs })).bytes();
  const relocs = encodeRelocationTable(collectRelocations(whole));
  for (const [removed, named] of LEFT) {
    const left = objcopy(whole, ...removed.map((name) => `--remove-section=${name}`));
    const says = `kernel has no relocation table: vmlinux has ${named}, but none that applies to its code: expected a table after the ELF file, or .rela sections; relocations of this kernel are in the bzImage of the same build, in its vmlinux.unstripped (since 6.15), or in its vmlinux.relocs (--relocs); convert and extract recover them from the image alone with --recover, and cannot prove them`;
    const payload = gzipSync(left, { level: 0 });
    const bzImage = makeBzImage({ payload, fields: { init_size: 0x400000, kernel_info_offset: 0 } });
    const encoders = { gzip: async (data: Uint8Array) => new Uint8Array(gzipSync(data)) } as unknown as Encoders;
    for (const ask of [
      () => convert(left, { codecs }),
      async () => (await extract(left, { codecs })).relocs(),
      () => randomize(left, { codecs, virt: 0 }),
      () => verify(left, converted, { codecs }),
      () => convert(bzImage, { codecs }),
      () => rebuildBzImage(bzImage, { codecs, encoders }),
    ])
      await assert.rejects(ask, (error: KernelImageError) => {
        assert.equal(error.code, 'no-relocations', error.message);
        assert.ok(
          error.message.includes(`vmlinux has ${named}, but none that applies to its code: expected`),
          error.message,
        );
        return true;
      });
    await assert.rejects(convert(left, { codecs }), { message: says });
    assert.equal((await inspect(left, { codecs })).relocations, null);
    // Their table, given, is taken; what is left of .rela is not compared with it.
    assert.deepEqual(
      (await convert(left, { codecs, relocs })).summary.relocations,
      (await convert(whole, { codecs })).summary.relocations,
    );
  }
});

test('a file without a section .text: relocations of any code count', async () => {
  const whole = makeKernel64();
  const renamed = objcopy(whole, '--rename-section', '.text=.code');
  assert.equal((await inspect(renamed, { codecs })).relocations?.source, 'rela');
});

test('a table that --keep has put into its section is found there once the .rela sections are gone', async () => {
  for (const perCpu of LAYOUTS) {
    for (const name of RESERVED_NAMES) {
      const size = encodeRelocationTable(
        collectRelocations(makeKernel64({ perCpu, reserved: { name, size: 8 } })),
      ).length;
      for (const room of [size, size + 4, size + 6, 0x2000]) {
        const linked = makeKernel64({ perCpu, reserved: { name, size: room } });
        const table = collectRelocations(linked);
        const stripped = objcopy(joinParts(insertRelocations(linked)), '--strip-all', '--remove-section=.rela*');
        const { relocs } = await extract(stripped, { codecs });
        const title = `${perCpu}, ${name}, ${room} bytes`;
        assert.deepEqual(relocs(), encodeRelocationTable(table), title);
        assert.equal((await inspect(stripped, { codecs })).relocations?.source, 'reserved', title);
      }
    }
  }
  const kept = objcopy(joinParts(insertRelocations(reserving())), '--remove-section=.rela*');
  assert.deepEqual(
    (await convert(kept, { codecs })).summary.relocations,
    (await convert(reserving(), { codecs })).summary.relocations,
  );
});

test('a section that nobody has filled is no table, and one with something else in it is refused', async () => {
  const stripped = objcopy(reserving(), '--strip-all', '--remove-section=.rela*');
  const elf = readElf(stripped);
  const { offset, size } = findSection(elf, '.data.reloc')!;
  const empty = stripped.slice().fill(0, offset, offset + size);
  await assert.rejects(convert(empty, { codecs }), { code: 'no-relocations' });
  const broken =
    /^invalid value: section \.data\.reloc at offset 0x[0-9a-f]+: expected a relocation table that ends with it, and zeros before that; kslide relocs --keep writes one$/;
  // As it was linked: 0xaa all over. Then with one zero, and with something before the table.
  await assert.rejects(convert(stripped, { codecs }), { code: 'bad-value', message: broken });
  const one = stripped.slice().fill(0, offset + size - 8, offset + size - 4);
  await assert.rejects(convert(one, { codecs }), { code: 'bad-value', message: broken });
  const crowded = objcopy(joinParts(insertRelocations(reserving())), '--strip-all', '--remove-section=.rela*');
  crowded[findSection(readElf(crowded), '.data.reloc')!.offset] = 1;
  await assert.rejects(convert(crowded, { codecs }), { code: 'bad-value', message: broken });
});

function reserving(): Uint8Array {
  return makeKernel64({ reserved: { name: '.data.reloc', size: 0x1000 } });
}

test('a table that is given, beside one that the file has: each command that takes both refuses a difference of one site', async () => {
  const linked = makeKernel64();
  const kept = makeKernel64({ reserved: { name: '.data.reloc', size: 0x1000 } });
  const table = collectRelocations(linked);
  const lost = ({ abs64, ...rest }: RelocationTable): Uint8Array =>
    encodeRelocationTable({ ...rest, abs64: abs64.subarray(0, -1) });
  const [right, wrong] = [encodeRelocationTable(table), lost(table)];
  const stripped = objcopy(linked, '--strip-all', '--remove-section=.rela*');
  const converted = (await convert(linked, { codecs })).bytes();
  const cases = [
    ["the table in the file's .rela sections", linked, table],
    ['the table after the ELF file', joinParts([stripped, right]), table],
    [
      "the table in the file's section for one",
      objcopy(joinParts(insertRelocations(kept)), '--strip-all', '--remove-section=.rela*'),
      collectRelocations(kept),
    ],
  ] as const;
  for (const [named, file, own] of cases)
    for (const relocs of [encodeRelocationTable(own), lost(own)])
      for (const ask of [
        () => convert(file, { codecs, relocs }),
        async () => (await extract(file, { codecs, relocs })).relocs(),
        () => inspect(file, { codecs, relocs }),
        () => randomize(file, { codecs, relocs, virt: 0 }),
        () => verify(file, converted, { codecs, relocs }),
      ])
        if (relocs.length > lost(own).length) await ask();
        else
          await assert.rejects(ask, (error: KernelImageError) => {
            assert.equal(error.code, 'bad-value');
            assert.match(
              error.message,
              /the relocation table that was given is not the same as the table .*: 1 site is in one of them only \(0xffffffff\w+ in the second\), expected the same sites/,
            );
            assert.ok(error.message.includes(`is not the same as ${named}: `), error.message);
            return true;
          });
  // Two of the file's own.
  await assert.rejects(convert(joinParts([linked, wrong]), { codecs }), {
    message:
      /the table after the ELF file is not the same as the table in the file's \.rela sections: 1 site is in one of them only/,
  });
  // And a proof of what was made with another table.
  const other = (await convert(stripped, { codecs, relocs: wrong })).bytes();
  assert.equal((await verify(stripped, other, { codecs, relocs: right })).verdict, 'refuted');
});
