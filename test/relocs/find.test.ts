/** A vmlinux from a build tree: taken with its `.rela` sections, and told where its relocations are when it was stripped of them. */
import { joinParts } from '../../src/base/bytes.ts';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { extract } from '../../src/extract.ts';
import { insertRelocations } from '../../src/insert.ts';
import { inspect } from '../../src/inspect.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { RESERVED_NAMES } from '../../src/relocs/reserved-section.ts';
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
            /in the bzImage of the same build, in its vmlinux\.unstripped, or in its vmlinux\.relocs \(--relocs\)$/,
          );
          return true;
        });
      }
    }
  }
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
