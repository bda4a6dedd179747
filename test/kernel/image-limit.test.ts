/** The range of slides that a kernel's own page tables allow: read twice, by `convert` from their shape and by `verify` from the sites. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { ascii, Reader, Writer } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { reportConvert } from '../../src/cli/reports/convert.ts';
import { convert } from '../../src/convert.ts';
import { inspect } from '../../src/inspect.ts';
import { readImageLimit } from '../../src/kernel/image-limit.ts';
import type { ImageLimit } from '../../src/kernel/image-limit.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { randomize } from '../../src/randomize.ts';
import { limitOf } from '../../src/verify/image-limit.ts';
import { verify } from '../../src/verify/verify.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { DATA, makeVmlinux, TABLE } from '../make-vmlinux.ts';
import { fileAt, LEVEL2, LEVEL3, pageTables } from '../page-tables.ts';
import type { PageTables } from '../page-tables.ts';

const codecs = coreCodecs;
const MIB = 0x10_0000;
/** Of the made kernel: _end is at 0x1009000. */
const END = DATA.paddr + DATA.memsz;

function both(tables: PageTables): { readonly found: ImageLimit; readonly proof: number } {
  const options = pageTables(tables);
  const kernel = readVmlinux(makeVmlinux(options));
  return { found: readImageLimit(kernel), proof: limitOf(kernel, options.table) };
}

test('1 GiB and 512 MiB, with and without page tables of a PVH entry', () => {
  for (const pvh of [{}, { pvh: 512 }])
    assert.deepEqual(both({ mapped: 512, ...pvh }), {
      found: { bytes: 1024 * MIB, source: 'page-tables' },
      proof: 1024 * MIB,
    });
  for (const pvh of [{}, { pvh: 256 }])
    assert.deepEqual(both({ mapped: 256, ...pvh }), {
      found: { bytes: 512 * MIB, source: 'page-tables' },
      proof: 512 * MIB,
    });
});

test('without page tables 1 GiB is assumed, and it is said', async () => {
  const kernel = readVmlinux(makeVmlinux());
  assert.deepEqual(readImageLimit(kernel), { bytes: 1024 * MIB, source: 'assumed' });
  assert.equal(limitOf(kernel, TABLE), 1024 * MIB);
  const { summary } = await convert(makeVmlinux(), { codecs });
  assert.deepEqual(summary.slots.limit, { bytes: 1024 * MIB, source: 'assumed' });
  assert.match(
    reportConvert(summary),
    /^slots +504, every 2 MiB up to 0x3ee00000: 8\.98 bits of entropy\nstep +2 MiB, the least that every kernel allows\nlimit +assumed: the kernel maps 1024 MiB; its page tables were not found$/m,
  );
});

test('what only looks like the page tables is none', () => {
  const edits: Record<string, (elf: Writer) => unknown> = {
    'a map with a hole': (elf) => elf.u64(fileAt(LEVEL2) + 20 * 8, 0),
    'a map with something after its end': (elf) => elf.u64(fileAt(LEVEL2) + 300 * 8, 1),
    'a map that is not present': (elf) => elf.u64(fileAt(LEVEL2), 0x1e2),
    'an upper table that leads elsewhere': (elf) => elf.u64(fileAt(LEVEL3) + 510 * 8, LEVEL3 + 0x63),
    'an upper entry that is a page': (elf) => elf.u64(fileAt(LEVEL3) + 510 * 8, LEVEL2 + 0xe3),
    'an upper entry that is not present': (elf) => elf.u64(fileAt(LEVEL3) + 510 * 8, LEVEL2 + 0x62),
    'a map of less than the image': (elf) => {
      for (let i = 8; i < 256; i++) elf.u64(fileAt(LEVEL2) + i * 8, 0);
    },
  };
  for (const [name, edit] of Object.entries(edits)) {
    const { found, proof } = both({ mapped: 256, edit });
    assert.deepEqual([found.source, proof], ['assumed', 1024 * MIB], name);
  }
});

test('page tables that map different sizes are refused', async () => {
  const image = makeVmlinux(pageTables({ mapped: 256, pvh: 512 }));
  const message =
    'invalid value: page table at 0xffffffff81004000 (level2_kernel_pgt): mapped entries is 0x200, expected 0x100, as the one at 0xffffffff81005000';
  for (const refused of [
    convert(image, { codecs }),
    inspect(image, { codecs }),
    randomize(image, { codecs, virt: 0 }),
  ]) {
    await assert.rejects(refused, (error) => {
      assert.ok(error instanceof KernelImageError);
      assert.deepEqual([error.code, error.message], ['bad-value', message]);
      return true;
    });
  }
});

test('256 entries: every command counts 248 slots, and the image ends at 512 MiB in the last', async () => {
  const image = makeVmlinux(pageTables({ mapped: 256, pvh: 256 }));
  const converted = await convert(image, { codecs });
  const slots = { count: 248, align: 2 * MIB, largest: 247 * 2 * MIB, bits: Math.log2(248) };
  const limit = { bytes: 512 * MIB, source: 'page-tables' };
  assert.ok(END + slots.largest <= limit.bytes && END + slots.largest + slots.align > limit.bytes);
  assert.deepEqual(converted.summary.slots, { ...slots, limit, alignSource: 'least', physicalAlign: null });
  assert.deepEqual(converted.summary.warnings, []);
  assert.match(
    reportConvert(converted.summary),
    /^slots +248, every 2 MiB up to 0x1ee00000: 7\.95 bits of entropy\nstep +2 MiB, the least that every kernel allows\nlimit +the kernel maps 512 MiB: it was built without CONFIG_RANDOMIZE_BASE\nstays +its direct map, vmalloc, vmemmap and modules, where they are documented: only its image moves$/m,
  );
  for (const file of [image, converted.bytes()])
    assert.deepEqual((await inspect(file, { codecs })).slots, {
      ...slots,
      alignSource: file === image ? 'least' : 'converted',
      alignAssumed: false,
      physicalAlign: null,
      limit,
    });
  const proof = await verify(image, converted.bytes(), { codecs });
  assert.deepEqual([proof.verdict, proof.slots], ['proved', { ...slots, alignSource: 'least' }]);

  const moved = await randomize(image, { codecs, virt: slots.largest, entry: 'linux64' });
  assert.equal(moved.summary.text.virt, '0xffffffff9fe00000');
  await assert.rejects(
    randomize(image, { codecs, virt: slots.largest + slots.align, entry: 'linux64' }),
    /virtual slide is 0x1f000000, expected at most 0x1ee00000: the image must end at 0xffffffffa0000000 or below, where modules begin; the nearest that works: 0x1ee00000$/,
  );
});

test('a file whose slots are those of 1 GiB is refuted for a kernel that maps 512 MiB, and the reverse', async () => {
  for (const [mapped, count, right] of [
    [256, 504, 248],
    [512, 248, 504],
  ] as const) {
    const image = makeVmlinux(pageTables({ mapped }));
    const forged = new Writer((await convert(image, { codecs })).bytes());
    const { offset } = readVmlinux(forged.bytes).loads.at(-1)!;
    forged.u64(offset + PARAMS.slot_count, count);
    const { verdict, offence } = await verify(image, forged.bytes, { codecs });
    assert.equal(verdict, 'refuted');
    assert.deepEqual(
      [offence?.check, offence?.found, offence?.expected],
      ['slots', `0x${count.toString(16)}`, `0x${right.toString(16)}`],
    );
  }
});

test('one slot: converted, with a warning in the summary; few slots: the same', async () => {
  const withEnd = (end: number): Uint8Array =>
    makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 40, end - DATA.paddr) });
  assert.deepEqual((await convert(withEnd(0x3fe0_1000), { codecs })).summary.warnings, [
    'this kernel will never move: it has only one slot, 0. Its image ends at 0x3fe01000, moves by multiples of 0x200000, and must end at 0x40000000 or below',
  ]);
  const { summary } = await convert(withEnd(0x3fdf_f000), { codecs });
  assert.deepEqual(summary.warnings, [
    'this kernel has only 2 slots (1.00 bits of entropy): its image ends at 0x3fdff000, moves by multiples of 0x200000, and must end at 0x40000000 or below',
  ]);
  assert.deepEqual((await convert(withEnd(0x3fe0_0000), { codecs })).summary.warnings, [
    'this kernel will never move: it has only one slot, 0. Its image ends at 0x3fe00000, moves by multiples of 0x200000, and must end below 0x40000000',
  ]);
  assert.deepEqual((await convert(withEnd(0x381f_f000), { codecs })).summary.warnings, []);
  const alone = await inspect(withEnd(0x3fe0_1000), { codecs });
  assert.equal(alone.slots.count, 1);
});

/** `last`: the section that ends where the image does, of `size` bytes. Undefined: the file has no sections. */
function endsAt(end: number, last: string | undefined, mapped = 512): Uint8Array {
  const { edit, table } = pageTables({ mapped });
  return makeVmlinux({
    table,
    sections: last !== undefined,
    edit: (elf) => {
      edit?.(elf);
      elf.u64(64 + 2 * 56 + 40, end - DATA.paddr);
      if (last === undefined) return;
      // The last row but one is .bss; its name becomes `last`, in the bytes after the names.
      const bss = Number(new Reader(elf.bytes).u64(40, 'e_shoff')) + 3 * 64;
      const names = DATA.offset + DATA.size;
      const room = names + '\0.text\0.data\0.bss\0'.length;
      elf.copy(room, ascii(`${last}\0`));
      elf.u32(bss, room - names);
      elf.u64(bss + 8, 3);
      elf.u64(bss + 32, end - DATA.paddr - DATA.size);
      elf.u64(bss + 64 + 32, room - names + last.length + 1);
    },
  });
}

test('the last slot never puts _end where the table of 1 GiB ends; .init.scratch lies after _end, and may end there', async () => {
  for (const [end, last, mapped, count] of [
    [0x420_0000, '.brk', 512, 479],
    [0x420_0000, undefined, 512, 479],
    [0x420_0000, '.init.scratch', 512, 480],
    [0x41f_f000, '.brk', 512, 480],
    [0x41f_f000, '.init.scratch', 512, 480],
    // Where the page after the last one that is mapped has an entry in the same table, _end can be looked up.
    [0x420_0000, '.brk', 256, 224],
    [0x420_0000, '.init.scratch', 256, 224],
  ] as const) {
    const image = endsAt(end, last, mapped);
    const converted = await convert(image, { codecs });
    assert.equal(converted.summary.slots.count, count, `${end.toString(16)} ${last} ${mapped}`);
    assert.equal((await inspect(image, { codecs })).slots.count, count);
    assert.equal((await inspect(converted.bytes(), { codecs })).slots.count, count);
    const proof = await verify(image, converted.bytes(), { codecs });
    assert.deepEqual([proof.verdict, proof.slots.count], ['proved', count]);
    const largest = (count - 1) * 2 * MIB;
    assert.equal((await randomize(image, { codecs, virt: largest, entry: 'linux64' })).summary.virt, largest);
    await assert.rejects(
      randomize(image, { codecs, virt: largest + 2 * MIB, entry: 'linux64' }),
      /expected at most 0x[0-9a-f]+: the image must end/,
    );
    const forged = new Writer(converted.bytes());
    forged.u64(readVmlinux(forged.bytes).loads.at(-1)!.offset + PARAMS.slot_count, count + 1);
    assert.equal((await verify(image, forged.bytes, { codecs })).offence?.check, 'slots');
  }
});
