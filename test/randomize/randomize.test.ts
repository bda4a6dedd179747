/** Kernels moved by the host: bytes against a table applied by other code, headers, notes, seeds. Boots are in test/boot. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { ascii, Reader } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { endOfElf, findSection, readElf, readNotes, sectionBytes, segmentBytes } from '../../src/elf/read.ts';
import type { ElfFile } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { inspect } from '../../src/inspect.ts';
import { openRandomizer, randomize } from '../../src/randomize.ts';
import type { RandomizeOptions } from '../../src/randomize.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { ENTRY_BYTES, PARAMS, TABLE_FORMAT } from '../../src/segment/layout.ts';
import { assembleFlagStub } from '../../src/stub/program.ts';
import { kindOfKernel } from '../../src/segment/read.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { DATA, ENTRY, LINK, makeVmlinux, PVH_ENTRY, TABLE, TEXT } from '../make-vmlinux.ts';
import { applyNaively } from '../relocs/naive.ts';

const codecs = coreCodecs;
const MIB = 0x10_0000;
const original = makeVmlinux();
const elfEnd = endOfElf(readElf(original));
const kernelTable = encodeRelocationTable(TABLE);
const entryOffset = TEXT.offset + (ENTRY - LINK);
const SEED = Uint8Array.from({ length: 32 }, (_, index) => index);
/** Memory from LINK to the end of the image. */
const SIZE = DATA.paddr + DATA.memsz - LINK;

async function moved(options: RandomizeOptions, image = original): Promise<Uint8Array> {
  return (await randomize(image, { codecs, ...options })).bytes();
}

/** What a loader makes of the file, without what was added. */
function load(elf: ElfFile, physical: number): Uint8Array {
  const memory = new Uint8Array(SIZE);
  for (const segment of elf.segments) {
    const at = segment.paddr - physical - LINK;
    if (segment.type === 1 && at < SIZE) memory.set(segmentBytes(elf, segment), at);
  }
  return memory;
}

const noteAt = 0x800 + 16;

/** With the note that kernels have since 6.12, but without the operands by which 6.12 finds itself. */
const since613 = makeVmlinux({
  edit: (writer) => {
    writer.u64(64 + 3 * 56 + 32, 52); // p_filesz
    [4, 12, 19].forEach((value, index) => writer.u32(0x1800 + 24 + index * 4, value));
    writer.copy(0x1800 + 36, ascii('Xen\0'));
    [2 * MIB, 16 * MIB, 0x3fff_ffff].forEach((value, index) => writer.u32(0x1800 + 40 + index * 4, value));
  },
});

test('the image in memory is what the plain loop makes of it, the note and the hook apart; headers say where it is', async () => {
  for (const [virt, phys] of [
    [0, 0],
    [2 * MIB, 2 * MIB],
    [0x3ee0_0000, 0x10 * MIB],
    [6 * MIB, 0],
  ] as const) {
    for (const flag of [true, false]) {
      const elf = readElf(await moved({ virt, phys, entry: 'linux64', flag }));
      const expected = load(readElf(original), 0);
      applyNaively(expected, LINK, kernelTable, virt);
      const memory = load(elf, phys);
      if (flag) {
        const params = new Reader(sectionBytes(elf, findSection(elf, '.kslide.params')!));
        memory.set(params.slice(PARAMS.entry_bytes, ENTRY_BYTES, 'entry_bytes'), ENTRY - LINK);
        assert.equal(params.u64AsNumber(PARAMS.entry, 'entry'), ENTRY + phys);
        assert.equal(params.u64AsNumber(PARAMS.virt_slide, 'virt_slide'), virt);
        assert.equal(params.u32(PARAMS.table_format, 'table_format'), TABLE_FORMAT.none);
      }
      assert.deepEqual(memory, expected, `${virt} ${phys} ${flag}`);
      assert.equal(Number(elf.header.entry), ENTRY + phys);
      const before = readElf(original).segments;
      before.forEach(({ paddr, vaddr, type }, index) => {
        assert.equal(elf.segments[index]!.paddr, paddr + phys);
        assert.equal(elf.segments[index]!.vaddr, vaddr);
        if (type === 1) assert.equal(elf.segments[index]!.type, 1);
      });
    }
  }
});

test('the hook leads to the program, which lies behind the image as far from it as its file offset says', async () => {
  const elf = readElf(await moved({ virt: 4 * MIB, phys: 4 * MIB }));
  const segment = elf.segments.at(-1)!;
  assert.equal((segment.paddr - segment.offset) % segment.align, 0);
  assert.ok(segment.paddr >= DATA.paddr + DATA.memsz + 4 * MIB);
  assert.deepEqual(sectionBytes(elf, findSection(elf, '.kslide.text')!), assembleFlagStub().code);
  const hook = new Reader(elf.bytes.subarray(entryOffset, entryOffset + 5));
  assert.equal(hook.u8(0, 'opcode'), 0xe9);
  assert.equal(ENTRY + 4 * MIB + 5 + (hook.u32(1, 'displacement') | 0), segment.paddr + PARAMS.size);
  assert.equal(kindOfKernel(elf), 'moved');
  assert.equal(kindOfKernel(readElf(original)), 'plain');
  assert.equal(kindOfKernel(readElf((await convert(original, { codecs })).bytes())), 'self-relocating');
});

test('PVH loaders read where the entry is, the kernel where it would be if it had been linked there', async () => {
  const notes = (elf: ElfFile): number[] =>
    readNotes(elf)
      .filter(({ type }) => type === 18)
      .map(({ desc }) => new Reader(desc).u32(0, 'entry'));
  const loaded = (elf: ElfFile, phys: number): number => new Reader(load(elf, phys)).u32(noteAt, 'note');
  for (const [image, reads] of [
    [original, false],
    [since613, true],
  ] as const) {
    // Who reads /sys/kernel/notes sees the loaded note: it tells the slide only where the entry's code needs it.
    const shown = (virt: number): number => PVH_ENTRY + (reads ? virt : 0);
    for (const flag of [true, false]) {
      const same = readElf(await moved({ virt: 6 * MIB, phys: 6 * MIB, flag }, image));
      assert.deepEqual([notes(same), loaded(same, 6 * MIB)], [[PVH_ENTRY + 6 * MIB], shown(6 * MIB)]);
      const apart = readElf(await moved({ virt: 6 * MIB, phys: 2 * MIB, flag, force: true }, image));
      assert.deepEqual([notes(apart), loaded(apart, 2 * MIB)], [[PVH_ENTRY + 2 * MIB], shown(6 * MIB)]);
      const hidden = readElf(await moved({ virt: 6 * MIB, phys: 0, entry: 'linux64', flag }, image));
      assert.deepEqual([notes(hidden), loaded(hidden, 0)], [[], PVH_ENTRY]);
      assert.equal(hidden.segments[3]!.type, 0);
    }
    const { summary } = await randomize(image, { codecs, virt: 6 * MIB });
    assert.deepEqual([summary.entry, summary.slideInNotes], ['both', reads]);
    const { summary: linux64 } = await randomize(image, { codecs, virt: 6 * MIB, entry: 'linux64' });
    assert.equal(linux64.slideInNotes, false);
  }
});

test('moved again and again is the same as moved once; the input stays as it is', async () => {
  const input = original.slice();
  const randomizer = await openRandomizer(input, { codecs });
  for (const options of [
    { virt: 8 * MIB, phys: 2 * MIB, entry: 'linux64', flag: false },
    { virt: 0, phys: 0 },
    { virt: 0x3000_0000 },
    { virt: 2 * MIB, phys: 8 * MIB, entry: 'linux64' },
    { virt: 'random', seed: SEED },
  ] as const) {
    assert.deepEqual(randomizer.randomize(options).bytes(), await moved(options));
  }
  assert.deepEqual(input, original);
  // Node's Buffers as well, whose slice() does not copy.
  const buffer = Buffer.from(original);
  await randomize(buffer, { codecs, virt: 2 * MIB });
  assert.deepEqual(new Uint8Array(buffer), original);
  await randomize(input, { codecs, virt: 2 * MIB, inPlace: true });
  assert.notDeepEqual(input, original);
});

test('same seed, same bytes, whatever the kernel came in; another seed or kernel, another slide', async () => {
  const options = { virt: 'random', seed: SEED, memory: 1024 * MIB } as const;
  const bytes = await moved(options);
  assert.deepEqual(await moved(options), bytes);
  assert.deepEqual(await moved(options, makeBzImage({ payload: gzipSync(original) })), bytes);
  const { summary } = await randomize(original, { codecs, ...options });
  // Written down from the first run: it must never change.
  assert.deepEqual([summary.virt, summary.phys, summary.ways], [0x1480_0000, 0x1480_0000, { virt: 495, phys: 1 }]);
  const other = makeVmlinux({ edit: (elf) => elf.u8(0x1810, 1) });
  assert.notEqual((await randomize(other, { codecs, ...options })).summary.virt, summary.virt);
  await assert.rejects(
    randomize(original, { codecs, virt: 'random' }),
    /^RangeError: a random virtual slide needs a seed/,
  );
  await assert.rejects(
    randomize(original, { codecs, ...options, seed: SEED.subarray(0, 15) }),
    /^RangeError: a seed of 15 bytes/,
  );
});

test('the summary says what was chosen', async () => {
  const { summary, parts } = await randomize(original, { codecs, virt: 4 * MIB });
  assert.deepEqual(summary, {
    input: 'vmlinux',
    compression: undefined,
    kernelVersion: undefined,
    entry: 'both',
    virt: 4 * MIB,
    phys: 4 * MIB,
    ways: { virt: 1, phys: 1 },
    slots: { align: 2 * MIB, alignSource: 'least', physicalAlign: null },
    text: { virt: '0xffffffff81400000', phys: LINK + 4 * MIB },
    flag: true,
    relocations: 6,
    noteSites: 0,
    slideInNotes: false,
    loadEnd: readElf(await moved({ virt: 4 * MIB })).segments.reduce(
      (end, { paddr, memsz }) => Math.max(end, paddr + memsz),
      0,
    ),
    output: parts.reduce((sum, part) => sum + part.length, 0),
  });
});

test('what was moved is not moved or converted again', async () => {
  for (const phys of [0, 4 * MIB]) {
    const bytes = await moved({ virt: 4 * MIB, phys, entry: 'linux64' });
    const refused = { code: 'already-converted', message: /^kernel is already converted: vmlinux/ };
    await assert.rejects(randomize(bytes, { codecs, virt: 0, relocs: kernelTable }), refused);
    await assert.rejects(convert(bytes, { codecs, relocs: kernelTable }), refused);
  }
});

test('inspect names a moved kernel, with its slides', async () => {
  const bytes = await moved({ virt: 4 * MIB, phys: 6 * MIB, entry: 'linux64' });
  await assert.rejects(inspect(bytes, { codecs }), {
    code: 'unsupported',
    message:
      'not supported: vmlinux is moved by the host (kslide randomize), virtual slide 0x400000, physical slide 0x600000; take the kernel that it was made from',
  });
});

test('any change to headers or table gives a file or a KernelImageError', async () => {
  const places = fc.oneof(
    fc.integer({ min: 0, max: 64 + 4 * 56 - 1 }),
    fc.integer({ min: 0x1800, max: 0x1818 }),
    fc.integer({ min: elfEnd - 5 * 64, max: original.length - 1 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(places, fc.nat(255)), { minLength: 1, maxLength: 4 }), async (changes) => {
      const image = original.slice();
      for (const [at, value] of changes) image[at] = value;
      try {
        const bytes = await moved({ virt: 'random', phys: 'random', seed: SEED }, image);
        assert.ok(readElf(bytes));
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error instanceof Error ? error.stack : error));
      }
    }),
    { numRuns: 400 },
  );
});
