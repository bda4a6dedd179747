/**
 * A section for each of 66,000 functions: more than e_shnum and st_shndx have bits for (SHN_LORESERVE), in the stripped file as well. A distribution's
 * kernel that is built with -ffunction-sections has as many.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { SHN_LORESERVE } from '../../src/elf/constants.ts';
import { readElf } from '../../src/elf/read.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';

const FUNCTIONS = 66_000;
const SCRIPT = `
ENTRY(phys_startup)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); note PT_NOTE FLAGS(4); }
SECTIONS {
  . = 0xffffffff81000000;
  phys_startup = ABSOLUTE(startup_64 - 0xffffffff80000000);
  .text : AT(ADDR(.text) - 0xffffffff80000000) { _text = .; *(.head.text) *(.text) } :text =0xcccccccc
  .rodata : AT(ADDR(.rodata) - 0xffffffff80000000) { _etext = .; *(.rodata) } :text
  __ex_table : AT(ADDR(__ex_table) - 0xffffffff80000000) { __start___ex_table = .; *(__ex_table) __stop___ex_table = .; } :text
  .notes : AT(ADDR(.notes) - 0xffffffff80000000) { *(.note.gnu.build-id) } :text :note
  . = ALIGN(0x200000);
  .data : AT(ADDR(.data) - 0xffffffff80000000) { *(.data) _end = .; } :data
}
`;

function makeManySections(): { unstripped: Uint8Array; stripped: Uint8Array } {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-many-'));
  const run = (program: string, ...args: string[]): void => {
    execFileSync(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  };
  try {
    const lines = ['.section .head.text, "ax"', '.globl startup_64', 'startup_64: call f0', 'jmp startup_64'];
    for (let index = 0; index < FUNCTIONS; index++) {
      const other = `f${(index * 7 + 3) % FUNCTIONS}`;
      lines.push(`.section .text.f${index}, "ax", @progbits`, '.p2align 4', `.type f${index}, @function`);
      lines.push(`f${index}: call ${other}`, ...Array.from({ length: index % 5 }, () => `mov $${other}, %rax`), 'ret');
      lines.push(`.size f${index}, . - f${index}`);
    }
    lines.push('.data', '.quad f1, f2, f65999', '');
    writeFileSync(join(folder, 'a.s'), lines.join('\n'));
    writeFileSync(join(folder, 'k.lds'), SCRIPT);
    run('as', 'a.s', '-o', 'a.o');
    const flags = ['--emit-relocs', '--build-id=sha1', '-z', 'noexecstack', '--no-warn-rwx-segments', '-T', 'k.lds'];
    run('ld', ...flags, 'a.o', '-o', 'vmlinux');
    run('objcopy', '-S', 'vmlinux', 'stripped');
    const read = (name: string): Uint8Array => new Uint8Array(readFileSync(join(folder, name)));
    return { unstripped: read('vmlinux'), stripped: read('stripped') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('66,000 sections of code: planned, shuffled, proved, from the stripped and from the unstripped file', async () => {
  const { unstripped, stripped } = makeManySections();
  for (const file of [unstripped, stripped]) assert.ok(readElf(file).sections.length > SHN_LORESERVE);
  const relocs = encodeRelocationTable(collectRelocations(unstripped));
  const debug = memorySource(unstripped);
  for (const { image, table, plain } of [
    { image: stripped, table: relocs, plain: false },
    { image: unstripped, table: undefined, plain: true },
  ]) {
    const options = { codecs: coreCodecs, debug, relocs: table };
    const plan = await planShuffle(image, options);
    const moving = plan.runs.reduce((sum, { count }) => sum + count, 0);
    assert.ok(moving >= FUNCTIONS - 1, `${moving} units`);
    const shuffled = await shuffle(image, { codecs: coreCodecs, plan, seed: Uint8Array.of(7), plain });
    const { verdict, offence } = await verifyShuffled(image, shuffled.bytes(), options);
    assert.equal(verdict, 'proved', JSON.stringify(offence));
  }
});
