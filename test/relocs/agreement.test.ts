/** `kslide relocs` against the kernel's own tool: every flag, on every kind of file, byte for byte, and every cell of the rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SHT_SYMTAB, SHT_SYMTAB_SHNDX } from '../../src/elf/constants.ts';
import { readElf } from '../../src/elf/read.ts';
import { readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeKernel32, makeKernel64, makeManySections, makeRealMode, Patchable } from './fixtures.ts';
import { assertAgree, kslideRelocs, skip, skipNewer } from './judge.ts';
import type { Flag } from './judge.ts';

const LISTINGS: readonly Flag[] = ['--abs-syms', '--abs-relocs', '--reloc-info'];
const FLAGS: readonly (readonly Flag[])[] = [
  [],
  ['--text'],
  ['--realmode'],
  ['--realmode', '--text'],
  ...LISTINGS.map((flag) => [flag]),
  ...LISTINGS.map((flag): Flag[] => [flag, '--realmode', '--text']),
  ['--reloc-info', '--abs-relocs'],
  ['--abs-relocs', '--abs-syms'],
];

const kernels = {
  'x86-64, per-cpu at 0': () => makeKernel64(),
  'x86-64 without SMP': () => makeKernel64({ perCpu: 'single' }),
  'x86-64 without a per-cpu section': () => makeKernel64({ perCpu: 'none' }),
  i386: () => makeKernel32(),
  'real-mode code': () => makeRealMode(),
  '66,000 sections': () => makeManySections(),
};

for (const [name, make] of Object.entries(kernels)) {
  test(`${name}: every flag`, { skip }, () => {
    const kernel = make();
    if (name === '66,000 sections') assert.ok(readElf(kernel).sections.some(({ type }) => type === SHT_SYMTAB_SHNDX));
    for (const flags of FLAGS) assertAgree(kernel, flags, name);
  });
}

test('two lists, as the tool of newer kernels: every flag, symbol and type', { skip: skipNewer }, () => {
  for (const perCpu of ['placed', 'empty', 'single', 'none'] as const)
    for (const flags of FLAGS) assertAgree(makeKernel64({ perCpu }), flags, `two lists, ${perCpu}`, 2);
  const kernel = makeKernel64({ perCpu: 'placed' });
  sweep(kernel, '.rodata', [1, 2, 9, 11, 24, 42], [], 'two lists', 2);
  sweep(kernel, '.rodata', [11], ['--abs-relocs'], 'two lists', 2);
  const patchable = new Patchable(kernel);
  for (const type of [...Array.from({ length: 70 }, (_, index) => index), 255, 0xffff_ffff]) {
    for (const symbol of [0, 2]) {
      patchable.setRelocation('.rodata', 3, type, symbol);
      for (const flags of [[], ['--reloc-info']] as const)
        assertAgree(patchable.bytes, flags, `two lists: type ${type}`, 2);
    }
  }
});

test('names that only one of the two tools knows', () => {
  const outcome = (name: string, lists: 2 | 3): [number | null, string] => {
    const patchable = new Patchable(makeKernel64({ perCpu: 'placed' }));
    patchable.setRelocation('.rodata', 0, 11, patchable.symbol(name)); // R_X86_64_32S, instead of an R_X86_64_64
    const { abs32 = 0 } = countLists(patchable.bytes, lists) ?? {};
    return [abs32, kslideRelocs(patchable.bytes, [], lists).refusal?.match(/expected (.*)/)?.[1] ?? ''];
  };
  const plain = countLists(makeKernel64({ perCpu: 'placed' }), 2)!.abs32;
  const refused = [0, 'a symbol that moves with the kernel'];
  for (const name of ['__vvar_page', 'init_per_cpu__gdt_page']) {
    assert.deepEqual(outcome(name, 3), [plain + 1, ''], name);
    assert.deepEqual(outcome(name, 2), refused, name);
  }
  assert.deepEqual(outcome('xen_elfnote_phys32_entry_offset', 2), [plain, '']);
  assert.deepEqual(outcome('xen_elfnote_phys32_entry_offset', 3), refused);
  for (const name of ['xen_elfnote__offset', 'xen_elfnote_entry_offsets']) assert.deepEqual(outcome(name, 2), refused);
  for (const lists of [2, 3] as const) assert.deepEqual(outcome('__end_rodata_hpage_align', lists), [plain + 1, '']);
});

function countLists(kernel: Uint8Array, lists: 2 | 3): { readonly abs32: number } | undefined {
  const { status, stdout } = kslideRelocs(kernel, [], lists);
  if (status !== 0) return undefined;
  const table = readRelocationTable(new Uint8Array(stdout));
  return { abs32: table.abs32.length };
}

/** Each symbol with each type that any rule is about, and some that none is. */
function sweep(
  kernel: Uint8Array,
  section: string,
  types: readonly number[],
  flags: readonly Flag[],
  what: string,
  lists?: 2,
): void {
  const patchable = new Patchable(kernel);
  for (let symbol = 0; symbol < patchable.symbolCount(); symbol++) {
    for (const type of types) {
      patchable.setRelocation(section, 0, type, symbol);
      assertAgree(patchable.bytes, flags, `${what}: type ${type}, symbol ${symbol}`, lists);
    }
  }
}

// One of each row of the rules; every type by number comes below.
const TYPES_64 = [1, 2, 9, 24];
const TYPES_32 = [1, 2, 20];

test('x86-64: every symbol with the types that count', { skip }, () => {
  sweep(makeKernel64(), '.rodata', TYPES_64, [], 'x86-64');
});

test('x86-64: every symbol, from the per-cpu section', { skip }, () => {
  sweep(makeKernel64(), '.data..percpu', [1, 2], [], 'per-cpu');
});

test('i386: every symbol with the types that count', { skip }, () => {
  sweep(makeKernel32(), '.data', TYPES_32, [], 'i386');
});

test('real mode: every symbol with the types that count', { skip }, () => {
  sweep(makeRealMode(), '.data', TYPES_32, ['--realmode'], 'real mode');
});

test('absolute symbols in --abs-relocs, by both sets of rules', { skip }, () => {
  sweep(makeKernel64(), '.rodata', [11], ['--abs-relocs'], 'x86-64');
  sweep(makeKernel64(), '.rodata', [1], ['--abs-relocs', '--realmode'], 'x86-64');
  sweep(makeKernel32(), '.data', [1], ['--abs-relocs'], 'i386');
});

test('every type, by number, accepted or refused and by the same name', { skip }, () => {
  const wide = new Patchable(makeKernel64());
  for (const type of [...Array.from({ length: 70 }, (_, index) => index), 255, 256, 0x7fff_ffff, 0xffff_ffff]) {
    wide.setRelocation('.rodata', 3, type, 2);
    for (const flags of [[], ['--reloc-info']] as const) assertAgree(wide.bytes, flags, `x86-64 type ${type}`);
    wide.setRelocation('.rodata', 3, type, 0);
    assertAgree(wide.bytes, [], `x86-64 type ${type}, no symbol`);
  }
  const narrow = new Patchable(makeKernel32());
  for (let type = 0; type < 256; type++) {
    narrow.setRelocation('.data', 3, type, 2);
    for (const flags of [[], ['--reloc-info'], ['--realmode']] as const)
      assertAgree(narrow.bytes, flags, `i386 type ${type}`);
  }
});

test('x86-64: offsets that do not fit 32 bits when sign-extended', { skip }, () => {
  const patchable = new Patchable(makeKernel64());
  const edges = [
    0n,
    0x7fff_ffffn,
    0x8000_0000n,
    0xffff_ffffn,
    0xffff_ffff_7fff_ffffn,
    0xffff_ffff_8000_0000n,
    2n ** 63n,
  ];
  for (const offset of edges) {
    for (const [section, entry] of [
      ['.rodata', 0],
      ['.data..percpu', 0],
      ['.text', 11],
    ] as const) {
      const original = patchable.bytes.slice();
      patchable.setOffset(section, entry, offset);
      assertAgree(patchable.bytes, [], `offset ${offset.toString(16)} in ${section}`);
      patchable.bytes.set(original);
    }
  }
});

test('a symbol table without symbols needs no names', { skip }, () => {
  const kernel = makeKernel64();
  const SH_TYPE = 4;
  kernel[readElf(kernel).header.shoff + SH_TYPE] = SHT_SYMTAB; // section 0: no bytes, and linked to itself
  assertAgree(kernel, [], 'section 0 as a symbol table');
});
