/** A small program, linked as a kernel, through the whole pipeline: what moves, what does not, and what is refused. Real kernels are test/boot's. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { SHT_NULL } from '../../src/elf/constants.ts';
import { SHDR_SIZE } from '../../src/elf/fields.ts';
import { findSection, readElf, sectionBytes } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import type { ErrorData } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { readLinkMap } from '../../src/shuffle/read/link-map.ts';
import { decodePlan, encodePlan, planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import type { Plan } from '../../src/shuffle/index.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { makeKernel } from './make-kernel.ts';

const codecs = coreCodecs;
const kernel = makeKernel();
const relocs = encodeRelocationTable(collectRelocations(kernel.unstripped));
const plan = await planShuffle(kernel.stripped, { codecs, relocs, debug: memorySource(kernel.unstripped) });
const seed = Uint8Array.of(1, 2, 3);

const isMoving = (unit: number): boolean => plan.runs.some(({ first, count }) => unit >= first && unit < first + count);
const moved = plan.runs.reduce((sum, { count }) => sum + count, 0);

async function refusal(work: () => unknown): Promise<ErrorData> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.ok(!error.message.includes('\n'));
    return error.data;
  }
  assert.fail('not refused');
}

test('code that stays has a reason to; all other code moves', () => {
  assert.equal(plan.facts.functions, 22);
  assert.deepEqual(plan.facts.staying, { 'fixed range': 2 });
  const moving = plan.functions.filter((_, unit) => isMoving(unit));
  assert.equal(
    moving.reduce((sum, count) => sum + count, 0),
    20,
  );
  // near_a and near_b are one unit, through_a and through_b another. How short the compiler's own branches are is not asserted.
  assert.ok(moving.filter((count) => count === 2).length >= 2);
  assert.ok(plan.facts.branches.short >= 1);
  assert.ok(plan.facts.branches.crossing > 5);
});

test('mitigations that work by their address stay', async () => {
  const { unstripped } = makeKernel(
    'KEEP u64 srso_alias_safe_ret(u64 x) { return x; } KEEP u64 srso_other(u64 x) { return x; }',
  );
  const { facts } = await planShuffle(unstripped, { codecs, debug: memorySource(unstripped) });
  assert.equal(facts.functions, plan.facts.functions + 2);
  assert.deepEqual(facts.staying, { 'fixed range': 4 });
});

test('what undecodable code may lead to stays, even padding', async () => {
  const { unstripped } =
    makeKernel(`asm(".p2align 4; .type padded,@function; padded: .fill 16,1,0x90; ret; .size padded,17;"
    ".p2align 4,0xcc; opaque: .byte 0x06,-16; .p2align 4,0xcc");`);
  const debug = memorySource(unstripped);
  const own = await planShuffle(unstripped, { codecs, debug });
  assert.deepEqual(own.facts.staying, { 'fixed range': 2, 'tied to fixed code': 1 });
  for (let round = 0; round < 10; round++) {
    const shuffled = await shuffle(unstripped, { codecs, plan: own, seed: Uint8Array.of(round) });
    const { verdict, offence } = await verifyShuffled(unstripped, shuffled.bytes(), { codecs, debug });
    assert.equal(verdict, 'proved', JSON.stringify(offence));
  }
});

test('one seed, one layout; another seed, another', async () => {
  const first = (await shuffle(kernel.stripped, { codecs, plan, seed })).bytes();
  assert.deepEqual((await shuffle(kernel.stripped, { codecs, plan, seed })).bytes(), first);
  assert.notDeepEqual((await shuffle(kernel.stripped, { codecs, plan, seed: Uint8Array.of(4) })).bytes(), first);
});

test('a plain one carries its relocation table, and converting it gives the same file as shuffle', async () => {
  const plain = (await shuffle(kernel.stripped, { codecs, plan, seed, plain: true })).bytes();
  assert.ok(readVmlinux(plain).trailer.length > 0);
  const { convert } = await import('../../src/convert.ts');
  const whole = (await shuffle(kernel.stripped, { codecs, plan, seed })).bytes();
  assert.deepEqual((await convert(plain, { codecs })).bytes(), whole);
});

test('an unstripped vmlinux is its own debug file, and what it says of symbols is left out', async () => {
  const own = await planShuffle(kernel.unstripped, { codecs, debug: memorySource(kernel.unstripped) });
  assert.deepEqual(own.starts, plan.starts);
  assert.deepEqual(own.relative32, plan.relative32);
  const elf = readElf((await shuffle(kernel.unstripped, { codecs, plan: own, seed })).bytes());
  assert.equal(findSection(elf, '.symtab'), undefined);
  assert.equal(findSection(elf, '.rela.text'), undefined);
});

test('.kslide.moves says where everything went: the bytes of each function are there, except fields', async () => {
  const elf = readElf((await shuffle(kernel.stripped, { codecs, plan, seed, plain: true })).bytes());
  const section = sectionBytes(elf, findSection(elf, '.kslide.moves')!);
  const view = new DataView(section.buffer, section.byteOffset, section.byteLength);
  assert.equal(section.length, 12 * moved);
  const rows = Array.from({ length: moved }, (_, row) => [0, 4, 8].map((at) => view.getUint32(row * 12 + at, true)));
  const old = readVmlinux(kernel.stripped);
  const fields = new Set<number>();
  for (const { offsets } of [plan.relative32, plan.absolute32])
    for (const at of offsets) for (let byte = 0; byte < 4; byte++) fields.add(at + byte);
  const shift = plan.text.offset - plan.text.start - 0x8000_0000;
  for (const [from = 0, size = 0, to = 0] of rows) {
    for (let byte = 0; byte < size; byte++) {
      if (fields.has(from + shift + byte)) continue;
      assert.equal(elf.bytes[to + shift + byte], old.elf.bytes[from + shift + byte]);
    }
  }
});

describe('plan files', () => {
  const file = joinParts(encodePlan(plan));

  test('come back as they were', () => {
    const back = decodePlan(file);
    assert.deepEqual(JSON.parse(JSON.stringify(back)), JSON.parse(JSON.stringify(plan)));
    assert.deepEqual(back.relative32, plan.relative32);
  });

  test('give the same kernel', async () => {
    const direct = (await shuffle(kernel.stripped, { codecs, plan, seed })).bytes();
    assert.deepEqual((await shuffle(kernel.stripped, { codecs, plan: decodePlan(file), seed })).bytes(), direct);
  });

  test('are refused when any byte is changed, or the end is missing', async () => {
    for (let at = 0; at < file.length; at += 7) {
      const changed = file.slice();
      changed[at] = changed[at]! ^ 0x41;
      await refusal(() => decodePlan(changed));
    }
    for (let length = 0; length < file.length; length += 101) await refusal(() => decodePlan(file.subarray(0, length)));
  });

  test('are refused when a number is out of bounds, with a right fingerprint', async () => {
    const forge = (change: (forged: Record<string, unknown>) => void): Uint8Array => {
      const forged: Record<string, unknown> = { ...plan };
      change(forged);
      return joinParts(encodePlan(forged as unknown as Plan));
    };
    const [run] = plan.runs;
    const beyond = Uint32Array.of(0xffff_ffff);
    const cases: ((forged: Record<string, unknown>) => void)[] = [
      (forged) => (forged['starts'] = plan.starts.toReversed()),
      (forged) => (forged['ends'] = plan.ends.map((end) => end + 0x100_0000)),
      (forged) => (forged['runs'] = [{ ...run, end: run!.start }]),
      (forged) => (forged['runs'] = [{ ...run, first: 1e6 }]),
      (forged) => (forged['runs'] = [run, run]),
      (forged) => (forged['runs'] = 'none'),
      (forged) => (forged['relative32'] = { offsets: beyond, sites: beyond, targets: beyond }),
      (forged) => (forged['relative32'] = { ...plan.relative32, targets: beyond }),
      (forged) => (forged['extable'] = { ...plan.extable, offset: 1e9 }),
      (forged) => (forged['table'] = { ...plan.table, lists: 4 }),
      (forged) => (forged['kallsyms'] = { count: 1e9 }),
      (forged) => (forged['orc'] = {}),
      (forged) => (forged['facts'] = { ...plan.facts, kernelVersion: 6 }),
      (forged) => delete forged['facts'],
      (forged) => delete forged['kernel'],
    ];
    for (const change of cases) assert.equal((await refusal(() => decodePlan(forge(change)))).code, 'bad-value');
  });

  test('an image that may be written over gives the same bytes, whether there is room after it or not', async () => {
    const expected = (await shuffle(kernel.stripped, { codecs, plan, seed })).bytes();
    for (const [spare, taken] of [
      [0, false],
      [1 << 16, true],
    ] as const) {
      const room = new Uint8Array(kernel.stripped.length + spare).fill(0xaa);
      const image = room.subarray(0, kernel.stripped.length);
      image.set(kernel.stripped);
      const shuffled = await shuffle(image, { codecs, plan, seed, takeImage: true });
      assert.deepEqual(shuffled.bytes(), expected);
      assert.equal(
        shuffled.parts.some(({ buffer }) => buffer === room.buffer),
        taken,
      );
    }
  });

  test('are refused for another kernel', async () => {
    const other = makeKernel('void more_of_it(void) { counter += 2; }');
    const wrong = await refusal(() => shuffle(other.stripped, { codecs, plan, seed }));
    assert.equal(wrong.what, 'build-id of the kernel');
    const changed = kernel.stripped.slice();
    changed[plan.text.offset + 5]! ^= 1;
    assert.equal((await refusal(() => shuffle(changed, { codecs, plan, seed }))).what, 'contents of the kernel');
  });
});

describe('refused', () => {
  const planOf = (debug: Uint8Array, image = kernel.stripped): Promise<ErrorData> =>
    refusal(() => planShuffle(image, { codecs, relocs, debug: memorySource(debug) }));

  test('a debug vmlinux of another build', async () => {
    const other = makeKernel('void more_of_it(void) { counter += 2; }');
    assert.equal((await planOf(other.unstripped)).what, 'build-id of the debug vmlinux');
  });

  test('one of the same name with other contents', async () => {
    const changed = kernel.unstripped.slice();
    changed[plan.text.offset + 3]! ^= 1;
    assert.match((await planOf(changed)).what, /^section \.text of the debug vmlinux/);
  });

  test('a stripped one, and a file that is not ELF', async () => {
    assert.match((await planOf(kernel.stripped)).what, /^debug vmlinux: \.symtab/);
    assert.equal((await planOf(new Uint8Array(100))).code, 'not-a-kernel');
    assert.equal((await planOf(kernel.unstripped.subarray(0, 9000))).code, 'truncated');
  });

  test('one whose code has no .rela section, though some small section has', async () => {
    const changed = kernel.unstripped.slice();
    const elf = readElf(changed);
    assert.ok(findSection(elf, '.rela.data') !== undefined);
    const { index } = findSection(elf, '.rela.text')!;
    new Writer(changed).u32(elf.header.shoff + index * SHDR_SIZE[64] + 4, SHT_NULL);
    assert.equal((await planOf(changed)).what, 'debug vmlinux: .rela section of .text');
  });

  test('a kernel that is converted already', async () => {
    const converted = (await shuffle(kernel.stripped, { codecs, plan, seed })).bytes();
    assert.equal((await refusal(() => shuffle(converted, { codecs, plan, seed }))).code, 'already-converted');
  });

  test('any changed byte of the debug vmlinux gives a plan or a refusal, no crash', async () => {
    for (let at = 0; at < kernel.unstripped.length; at += 331) {
      const changed = kernel.unstripped.slice();
      changed[at] = changed[at]! ^ 0xff;
      try {
        await planShuffle(kernel.stripped, { codecs, relocs, debug: memorySource(changed) });
      } catch (error) {
        assert.ok(error instanceof KernelImageError, `byte ${at}: ${String(error)}`);
      }
    }
  });
});

test('room before a function for the kernel to write to moves with it, and is no function of its own', async () => {
  const padded = (name: string): string =>
    `asm(".p2align 4; .type __pfx_${name},@function; __pfx_${name}: .fill 16,1,0x90; .size __pfx_${name},16");
     asm(".globl ${name}; .type ${name},@function; ${name}: lea 3(%rdi),%rax; ret; .size ${name},.-${name}");`;
  const { unstripped } = makeKernel(padded('padded_a') + padded('padded_b'));
  const debug = memorySource(unstripped);
  const own = await planShuffle(unstripped, { codecs, debug });
  assert.equal(own.facts.functions, plan.facts.functions + 2);
  assert.deepEqual(own.facts.staying, plan.facts.staying);
  const code = [...new Uint8Array(16).fill(0x90), 0x48, 0x8d, 0x47, 3, 0xc3];
  const isPadded = ({ bytes }: { readonly bytes: Uint8Array }, at: number): boolean =>
    code.every((byte, index) => bytes[at + index] === byte);
  const { elf } = readVmlinux(unstripped);
  const shift = own.text.offset - own.text.start;
  const units = [...own.starts.keys()].filter((unit) => isPadded(elf, own.starts[unit]! + shift));
  assert.deepEqual(
    units.map((unit) => [own.ends[unit]! - own.starts[unit]!, own.functions[unit]]),
    [
      [21, 1],
      [21, 1],
    ],
  );
  const shuffled = await shuffle(unstripped, { codecs, plan: own, seed });
  const { verdict, offence } = await verifyShuffled(unstripped, shuffled.bytes(), { codecs, debug });
  assert.equal(verdict, 'proved', JSON.stringify(offence));
});

describe('-ffunction-sections', () => {
  const flags = ['-ffunction-sections'];
  const text = (map: Uint8Array): string => Buffer.from(map).toString('latin1');

  test('kept as sections: each is a function, and moves', async () => {
    const { unstripped } = makeKernel('', flags);
    const debug = memorySource(unstripped);
    const sections = readElf(unstripped).sections.length;
    assert.ok(sections > readElf(kernel.unstripped).sections.length + 14, 'the linker put them together');
    const own = await planShuffle(unstripped, { codecs, debug });
    const moving = own.runs.reduce((sum, { count }) => sum + count, 0);
    assert.ok(moving >= 16, `${moving} units`);
    // What the assembler resolved itself stays inside one function.
    assert.ok(own.facts.branches.crossing < plan.facts.branches.crossing);
    for (let round = 0; round < 5; round++) {
      const shuffled = await shuffle(unstripped, { codecs, plan: own, seed: Uint8Array.of(round) });
      const { verdict, offence } = await verifyShuffled(unstripped, shuffled.bytes(), { codecs, debug });
      assert.equal(verdict, 'proved', JSON.stringify(offence));
    }
  });

  test('the rest of a function that another replaced moves, if it is known to be a section, from its first byte on', async () => {
    // As of a weak function: no symbol is left of it. Before its code there is room for the kernel to write to.
    const dead = (label = '', after = ''): string =>
      `asm(".section .text.dead,\\"ax\\"; .p2align 4; .fill 16,1,0x90; ${label} lea 5(%rdi),%rax; ret; ${after} .text");`;
    // `ld -r` has put it together with the function that replaced it.
    const both = dead('', '.p2align 4; .type alive,@function; alive: lea 6(%rdi),%rax; ret; .size alive,.-alive;');
    const forms = [
      { moves: true, together: false, withMap: false, code: dead(), functions: 0 },
      { moves: true, together: true, withMap: true, code: dead(), functions: 0 },
      { moves: true, together: false, withMap: false, code: both, functions: 1 },
      { moves: true, together: true, withMap: true, code: both, functions: 1 },
      { moves: false, together: true, withMap: false, code: dead(), functions: 0 },
      { moves: false, together: false, withMap: false, code: dead('label:'), functions: 0 },
    ];
    for (const { moves, together, withMap, code, functions } of forms) {
      const { unstripped, map } = makeKernel(code, flags, together);
      const debug = memorySource(unstripped);
      const own = await planShuffle(unstripped, { codecs, debug, map: withMap ? map : undefined });
      const [, address = '', size = ''] = /^ \.text\.dead\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)/m.exec(text(map))!;
      const start = Number(BigInt(`0x${address}`) - START_KERNEL_MAP);
      const end = start + Number.parseInt(size, 16);
      const unit = own.starts.findIndex((_, index) => own.ends[index] === end);
      if (moves) assert.equal(own.starts[unit], start);
      assert.equal(own.functions[unit], functions);
      assert.equal(
        own.runs.some(({ first, count }) => unit >= first && unit < first + count),
        moves,
      );
      for (let round = 0; round < 4; round++) {
        const shuffled = await shuffle(unstripped, { codecs, plan: own, seed: Uint8Array.of(round) });
        const { verdict, offence } = await verifyShuffled(unstripped, shuffled.bytes(), { codecs, debug });
        assert.equal(verdict, 'proved', JSON.stringify(offence));
      }
    }
  });

  describe('a link map', () => {
    // As in the kernel's assembler files: a function in a section of its own, without a size.
    const sizeless = (name: string): string =>
      `asm(".section .text.${name},\\"ax\\"; .p2align 4; .type ${name},@function; ${name}: lea 3(%rdi),%rax; ret; .text");`;
    const built = makeKernel(sizeless('sizeless') + sizeless('sizeless_with_a_long_name'), flags, true);
    const debug = memorySource(built.unstripped);
    const changed = (from: RegExp | string, to: string): Uint8Array => {
      const after = text(built.map).replace(from, to);
      assert.notEqual(after, text(built.map));
      return Buffer.from(after, 'latin1');
    };
    const planWith = (map?: Uint8Array): Promise<Plan> => planShuffle(built.unstripped, { codecs, debug, map });
    const movingOf = ({ runs, functions }: Plan): number => {
      let moving = 0;
      for (const { first, count } of runs)
        for (let unit = first; unit < first + count; unit++) moving += functions[unit]!;
      return moving;
    };

    test('gives functions without a size theirs, and they move', async () => {
      const [without, own] = [await planWith(), await planWith(built.map)];
      assert.equal(movingOf(own), movingOf(without) + 2);
      for (let round = 0; round < 3; round++) {
        const shuffled = await shuffle(built.unstripped, { codecs, plan: own, seed: Uint8Array.of(round) });
        const { verdict, offence } = await verifyShuffled(built.unstripped, shuffled.bytes(), { codecs, debug });
        assert.equal(verdict, 'proved', JSON.stringify(offence));
      }
    });

    test('of any bytes is read or refused', async () => {
      const extent = { start: plan.text.start, end: plan.text.end };
      for (let at = 0; at < built.map.length; at += 37) {
        const broken = built.map.slice();
        broken[at] = at % 3 === 0 ? 0x20 : at % 3 === 1 ? 0x0a : 0xff;
        for (const bytes of [broken, built.map.subarray(0, at)]) {
          try {
            const { starts, ends } = readLinkMap(bytes, extent);
            assert.ok(
              starts.every((start, index) => start >= (ends[index - 1] ?? extent.start) && ends[index]! > start),
            );
          } catch (error) {
            assert.ok(error instanceof KernelImageError, `byte ${at}: ${String(error)}`);
          }
        }
      }
    });

    test('is refused when it is of another build, cut, or no map', async () => {
      const other = makeKernel('void more_of_it(void) { counter += 2; }', flags, true);
      const maps = [
        other.map,
        new Uint8Array(0),
        built.unstripped,
        changed(/^ \.text\.tail[^]*?\.o$/m, ''),
        changed(/^( \.text\.tail\s+0x[0-9a-f]+ +)0x[0-9a-f]+/m, '$10x1'),
        changed(/^( \.text\.tail\s+0x[0-9a-f]+ +)0x[0-9a-f]+/m, '$10xffffff'),
      ];
      for (const map of maps) {
        const { code, what } = await refusal(() => planWith(map));
        assert.deepEqual([code, what], ['bad-value', 'link map']);
      }
    });
  });
});
