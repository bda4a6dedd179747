/** What the loaders of docs/recipes.md ask of a file, held against what `convert` and `randomize` write: linux-loader, QEMU, crosvm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reader } from '../src/base/bytes.ts';
import { coreCodecs } from '../src/codecs/formats.ts';
import { convert } from '../src/convert.ts';
import { PT_LOAD } from '../src/elf/constants.ts';
import { PHDR_SIZE } from '../src/elf/fields.ts';
import { readElf, readNotes } from '../src/elf/read.ts';
import { randomize } from '../src/randomize.ts';
import { makeVmlinux } from './make-vmlinux.ts';

const codecs = coreCodecs;
const MIB = 0x10_0000;

const made: Record<string, () => Promise<Uint8Array>> = {
  convert: async () => (await convert(makeVmlinux(), { codecs })).bytes(),
  'convert, program headers moved': async () => (await convert(makeVmlinux({ crowded: true }), { codecs })).bytes(),
};
for (const flag of [true, false]) {
  for (const options of [
    { virt: 0 },
    { virt: 6 * MIB },
    { virt: 6 * MIB, phys: 8 * MIB, force: true },
    { virt: 6 * MIB, phys: 8 * MIB, entry: 'linux64' },
  ] as const)
    made[`randomize ${JSON.stringify({ ...options, flag })}`] = async () =>
      (await randomize(makeVmlinux(), { codecs, flag, ...options })).bytes();
}

for (const [name, make] of Object.entries(made)) {
  test(name, async () => {
    const bytes = await make();
    const elf = readElf(bytes);
    const loads = elf.segments.filter(({ type }) => type === PT_LOAD);
    const entry = Number(elf.header.entry);
    // linux-loader.
    assert.equal(new Reader(bytes).u16(54, 'e_phentsize'), PHDR_SIZE[64]);
    assert.ok(elf.header.phoff >= 64);
    assert.ok(entry >= MIB);
    for (const { align, offset, filesz } of loads) {
      assert.equal(align % (2 * MIB), 0);
      assert.ok(offset + filesz <= bytes.length);
    }
    // QEMU: nothing is loaded twice, and e_flags are not multiboot's.
    let end = 0;
    for (const { paddr, memsz } of loads.toSorted((a, b) => a.paddr - b.paddr)) {
      assert.ok(paddr >= end);
      end = paddr + memsz;
    }
    assert.equal(new Reader(bytes).u32(48, 'e_flags'), 0);
    // crosvm: between the first and the last, as they stand in the file; none below 2 MiB.
    const [first, last] = [loads[0]!, loads.at(-1)!];
    assert.ok(entry >= first.paddr && entry < last.paddr + last.memsz);
    assert.equal(last.paddr + last.memsz, end);
    assert.ok(loads.every(({ paddr }) => paddr >= 2 * MIB));
    // PVH: one note, with the entry where it is loaded; none where it would not work.
    const notes = readNotes(elf).filter(({ owner, type }) => owner === 'Xen' && type === 18);
    assert.equal(notes.length, name.includes('"linux64"') ? 0 : 1);
    for (const { desc } of notes) {
      const at = new Reader(desc).u32(0, 'XEN_ELFNOTE_PHYS32_ENTRY');
      assert.ok(at >= first.paddr && at < first.paddr + first.filesz);
    }
  });
}
