/** Each rule of recovery on a kernel made for it: what is a site, what is a number, and what is a doubt. Real kernels: test/boot/recover.test.ts, scripts/try-recover.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ascii } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { recoverRelocations } from '../../src/recover/recover.ts';
import type { Recovery } from '../../src/recover/recover.ts';
import {
  CODE_AT,
  DATA,
  DATA_AT,
  END,
  fromHex,
  link,
  makeRecoverKernel,
  markedFields,
  OWN,
  pointer,
  RODATA,
  TEXT,
} from './make-kernel.ts';
import type { RecoverKernel } from './make-kernel.ts';

const recover = (kernel: RecoverKernel): Recovery => recoverRelocations(readVmlinux(makeRecoverKernel(kernel)));
const places = (list: Uint32Array): number[] => Array.from(list, (entry) => entry - 0x8000_0000);

interface Found {
  readonly abs64: number[];
  readonly inverse32: number[];
  readonly abs32: number[];
  readonly doubts: number[];
}

/** Without the sites that every kernel of these tests has. */
function find(kernel: RecoverKernel): Found {
  const { table, doubts } = recover(kernel);
  return {
    abs64: places(table.abs64).filter((place) => !OWN.abs64.some((own) => own === place)),
    inverse32: places(table.inverse32),
    abs32: places(table.abs32),
    doubts: doubts.map(({ place }) => place).toSorted((a, b) => a - b),
  };
}

const NOTHING: Found = { abs64: [], inverse32: [], abs32: [], doubts: [] };
const DATA_LINK = link(DATA_AT);
const MASK = link(DATA_AT);

test('a kernel with nothing but what the rules stand on', () => {
  assert.deepEqual(find({}), NOTHING);
  const { evidence } = recover({});
  assert.equal(evidence.physBase, DATA);
  assert.equal(evidence.anchors.count, 120);
  assert.equal(evidence.pageTableEntries, 1);
});

for (const [what, list, code] of [
  ['mov $link, %rdi', 'abs32', `48c7c7[${DATA_LINK}]`],
  ['movq $link, 8(%rax)', 'abs32', `48c74008[${DATA_LINK}]`],
  ['push $link', 'abs32', `68[${DATA_LINK}]`],
  ['cmp $link, %rax', 'abs32', `483d[${DATA_LINK}]`],
  ['sub $_text, %rbx', 'abs32', `4881eb[${link(TEXT)}]`],
  ['mov table(,%rax,8), %rcx', 'abs32', `488b0cc5[${DATA_LINK}]`],
  ['mov table(%rax), %ecx', 'abs32', `8b88[${DATA_LINK}]`],
  ['lea table(%rax), %rcx', 'abs32', `488d88[${DATA_LINK}]`],
  ['call *table(,%rax,8)', 'abs32', `ff14c5[${DATA_LINK}]`],
  ['movabs $link, %r13', 'abs64', `49bd[${pointer(DATA_AT)}]`],
  ['movabs $physical, %rdx', 'abs64', '48ba[0060000100000000]'],
  ['mov $_end rounded up, %rsi', 'abs32', `48c7c6[${link(END + 0x1f_ffff)}]`],
] as const)
  test(`a site: ${what}`, () => {
    assert.deepEqual(find({ code }), { ...NOTHING, [list]: markedFields(code) });
  });

for (const [what, code] of [
  ['mov $x, %esi', `be${DATA_LINK}`],
  ['cmp $x, %edx', `81fa${DATA_LINK}`],
  ['movl $x, (%rax)', `c700${DATA_LINK}`],
  ['and $x, %rax', `4825${MASK}`],
  ['test $x, %rbx', `48f7c3${MASK}`],
  ['test $x, %rbx, of no alignment', `48f7c3${link(DATA_AT + 0x7f)}`],
  ['and $x, %rax; cmp $x, %rax', `4825${MASK} 483d${MASK}`],
  ['lea x(%rax), %ecx, of 32 bits', `8d88${DATA_LINK}`],
  ['call, whose distance looks like an address', `e8${DATA_LINK}`],
  ['jne, likewise', `0f85${DATA_LINK}`],
  ['movabs of a large number', `48b8${link(DATA_AT)}00000080`],
  ['add $physical, %rax, without phys_base', '480500600001'],
] as const)
  test(`a number: ${what}`, () => {
    assert.deepEqual(find({ code }), NOTHING);
  });

for (const [what, list, code] of [
  ['or $x, %rcx', 'abs32', `4881c9[${MASK}]`],
  ['or $x, %rax', 'abs32', `480d[${MASK}]`],
  ['xor $x, %rcx', 'abs32', `4881f1[${MASK}]`],
  ['lock or $x, (%rdi)', 'abs32', `f048810f[${MASK}]`],
  ['and $object, %rax, which nothing else names', 'abs32', `4825[${link(DATA_AT + 8)}]`],
  ['mov $_text - 1, %rax', 'abs32', `48c7c0[${link(TEXT - 1)}]`],
  ['cmp $_text - 8, %rcx', 'abs32', `4881f9[${link(TEXT - 8)}]`],
  ['lea _end + 0x1000(%rdi), %rax', 'abs32', `488d87[${link(END + 0x1000)}]`],
  ['mov _text - 8(%rax), %rcx', 'abs32', `488b88[${link(TEXT - 8)}]`],
  ['movabs $_text - 1, %rax, which 32 bits could hold', 'abs64', `48b8[${pointer(TEXT - 1)}]`],
  ['movabs $_end + 0x10000000, %rax, likewise', 'abs64', `48b8[${pointer(END + 0x1000_0000)}]`],
  ['mov $physical, %rax, in the form of 64 bits', 'abs32', '48c7c0[00600001]'],
  ['lea 0(%rdi), %rax, with a zero of 32 bits', 'abs32', '488d87[00000000]'],
  ['mov $0, %rdi; call', 'abs32', '48c7c7[00000000] e800000000'],
] as const)
  test(`a doubt: ${what}`, () => {
    assert.deepEqual(find({ code }), { ...NOTHING, doubts: markedFields(code) });
    assert.equal(recover({ code }).doubts[0]!.list, list);
  });

test('masks: AND and TEST with the address of what other code names are doubts; gcc -Os makes `x < 0 ? &object : 0` of them', () => {
  const name = `48c7c1[${DATA_LINK}]`; // mov $object, %rcx
  for (const mask of [`48c1f83f 4825[${DATA_LINK}]`, `48f7c7[${DATA_LINK}]`]) {
    const code = `${name} ${mask}`;
    const [site, doubt] = markedFields(code) as [number, number];
    assert.deepEqual(find({ code }), { ...NOTHING, abs32: [site], doubts: [doubt] }, code);
  }
  // The start of the image is a mask of Debian's kernels.
  const start = `48c7c1[${link(TEXT)}] 48f7c7${link(TEXT)}`;
  assert.deepEqual(find({ code: start }), { ...NOTHING, abs32: markedFields(start) });
});

test('_text is compared with itself: one of the two is the number __START_KERNEL', () => {
  const code = `48c7c0[${link(TEXT)}] 483d[${link(TEXT)}]`;
  const [site, doubt] = markedFields(code) as [number, number];
  assert.deepEqual(find({ code }), { ...NOTHING, abs32: [site], doubts: [doubt] });
  const other = `48c7c0[${link(TEXT)}] 4881f9[${link(TEXT)}]`; // cmp $_text, %rcx
  assert.deepEqual(find({ code: other }), { ...NOTHING, abs32: markedFields(other) });
});

const physBaseFrom = (end: number): string => {
  const distance = DATA - (CODE_AT + end);
  return Buffer.from(Int32Array.of(distance).buffer).toString('hex');
};

for (const [what, code] of [
  ['added before it', `4805[00600001] 480305${physBaseFrom(13)}`],
  ['added after it is loaded', `488b05${physBaseFrom(7)} 4805[00600001]`],
  ['LEA from the register that holds it', `488b05${physBaseFrom(7)} 488d90[00600001]`],
  ['copied before it is added', `4805[00600001] 4889c7 4989c6 48033d${physBaseFrom(19)}`],
  ['after a short jump', `4805[00600001] eb01 cc 480305${physBaseFrom(16)}`],
] as const)
  test(`a physical address: phys_base is ${what}`, () => {
    assert.deepEqual(find({ code }), { ...NOTHING, abs32: markedFields(code) });
  });

test('a sum of a physical address and the start of the direct map: a site where phys_base is added, else a number', () => {
  for (const start of ['8088ffff', '0088ffff', '000011ff']) {
    const movabs = `48b8[00600001${start}]`;
    const code = `${movabs} 480305${physBaseFrom(17)}`;
    assert.deepEqual(find({ code }), { ...NOTHING, abs64: markedFields(code) }, code);
    assert.deepEqual(find({ code: movabs }), NOTHING);
  }
  const move = `48c7c0[00600001] 480305${physBaseFrom(14)}`;
  assert.deepEqual(find({ code: move }), { ...NOTHING, abs32: markedFields(move) });
});

test('phys_base is found without a MOVABS, as in kernels by clang: from what is added to other physical numbers', () => {
  const code = `4805[00600001] 480305${physBaseFrom(13)} 4805[00680001] 480305${physBaseFrom(26)}`;
  const bytes = makeRecoverKernel({ code, edit: (writer, at) => writer.copy(at(TEXT), new Uint8Array(10).fill(0x90)) });
  const { table, evidence } = recoverRelocations(readVmlinux(bytes));
  assert.equal(evidence.physBase, DATA);
  assert.deepEqual(places(table.abs32), markedFields(code));
});

test('no physical address: phys_base is in another register, or its register was written since', () => {
  for (const code of [
    `488b0d${physBaseFrom(7)} 480500600001`,
    `488b05${physBaseFrom(7)} 4889d8 480500600001`,
    `480500600001 4889d8 480305${physBaseFrom(16)}`,
  ])
    assert.deepEqual(find({ code }), NOTHING, code);
});

test('zeros: beside KERNELOFFSET and Kernel Offset, and in the function that seeds; __START_KERNEL beside them is a number', () => {
  const rodata = ascii('\0KERNELOFFSET=%lx\n\0\u00010Kernel Offset: 0x%lx from 0x%lx\0');
  const printed = `48c7c7[${link(RODATA + 1)}] 48c7c6[00000000]`;
  assert.deepEqual(find({ code: printed, rodata }).abs32, markedFields(printed));
  const panic = `48c7c2${link(TEXT)} 48c7c6[00000000] 48c7c7[${link(RODATA + 19)}]`;
  assert.deepEqual(find({ code: panic, rodata }), { ...NOTHING, abs32: markedFields(panic) });
  const seed = '48c7c3[00000000] 4831c0 4881f3[00000000] 48bad38d84f3cb08605d';
  assert.deepEqual(find({ code: seed }), { ...NOTHING, abs32: markedFields(seed) });
});

test('the factor of the function that seeds may be in memory: clang puts it there', () => {
  const rodata = fromHex('d38d84f3cb08605d');
  const distance = Buffer.from(Int32Array.of(RODATA - (CODE_AT + 17)).buffer).toString('hex');
  const code = `48c7c1[00000000] 4831c8 48f725${distance}`; // mov $0, %rcx; xor %rcx, %rax; mulq x(%rip)
  assert.deepEqual(find({ code, rodata }), { ...NOTHING, abs32: markedFields(code) });
});

test('other zeros: a doubt, or with per-cpu data at 0 its first symbol', () => {
  const code = '48c7c3[00000000] 90';
  assert.deepEqual(find({ code }), { ...NOTHING, doubts: markedFields(code) });
  assert.deepEqual(find({ code, perCpu: true }), NOTHING);
});

test('the persistent ring buffer: zeros that it may store the slide in are doubts, a plain zero is none', () => {
  // f: movabs $0x30_0badfeed, %rax; movq $0, 8(%r14); ret … call f; movq $0, 8(%rax)
  const code = '48b8edfead0b30000000 49c74608[00000000] c3 e8e8ffffff 48c74008[00000000]';
  assert.deepEqual(find({ code, perCpu: true }), { ...NOTHING, doubts: markedFields(code) });
  assert.deepEqual(find({ code: '49c7460800000000', perCpu: true }), NOTHING);
});

test('inverse: RIP-relative operands that lead to per-cpu data at 0', () => {
  const field = CODE_AT + 4;
  const distance = Buffer.from(Int32Array.of((0x100 - (CODE_AT + 8 + 0x8000_0000)) | 0).buffer).toString('hex');
  const code = `65488b05[${distance}]`; // mov %gs:0x100(%rip), %rax
  assert.deepEqual(markedFields(code), [field]);
  assert.deepEqual(find({ code, perCpu: true }), { ...NOTHING, inverse32: [field] });
  assert.deepEqual(find({ code }), NOTHING);
});

test('a factor: the address of a string, or a doubt', () => {
  const rodata = ascii('\0\0(no comm)\0');
  const string = `4d69f6[${link(RODATA + 2)}]`;
  assert.deepEqual(find({ code: string, rodata }), { ...NOTHING, abs32: markedFields(string) });
  const other = `4d69f6[${link(RODATA + 0x123)}]`;
  assert.deepEqual(find({ code: other }), { ...NOTHING, doubts: markedFields(other) });
});

test('pointers in data: to instructions, to aligned places, to strings; not into an instruction, not a lone odd one', () => {
  const rodata = ascii('\0name\0');
  const cases = [
    { value: CODE_AT, is: 'site' },
    { value: DATA_AT + 0x40, is: 'site' },
    { value: RODATA + 1, is: 'site' },
    { value: CODE_AT + 0x10 + 3, is: 'doubt' },
    { value: RODATA + 0x1233, is: 'doubt' },
  ];
  // Far from each other, so that none is near another pointer. At CODE_AT + 0x10 there is an instruction of 7 bytes.
  const data = new Uint8Array(0x200);
  const code = `${'90'.repeat(0x10)}48c7c700000000`.replace('48c7c700000000', '48c7c711223344');
  cases.forEach(({ value }, index) => data.set(fromHex(pointer(value)), index * 0x60));
  const found = find({ code, rodata, data });
  const placesOf = (kind: string): number[] =>
    cases.flatMap(({ is }, index) => (is === kind ? [DATA_AT + index * 0x60] : []));
  assert.deepEqual(found.abs64, placesOf('site'));
  // The last one is nearer than a page to no field of its own.
  assert.deepEqual(found.doubts, placesOf('doubt'));
});

test("ftrace's sorted table of call sites: zeros at its start are sites, as in the kernel's own table", () => {
  // 300 rising addresses of instructions (no-operations), after three zeros.
  const rows = [0, 0, 0, ...Array.from({ length: 300 }, (_, index) => TEXT + 0x200 + index)];
  const data = fromHex(rows.map((place) => (place === 0 ? '00'.repeat(8) : pointer(place))).join(''));
  const start = `48c7c7[${link(DATA_AT)}]`;
  const all = rows.map((_, index) => DATA_AT + index * 8);
  assert.deepEqual(find({ code: start, data }).abs64, all);
  // Nothing names the zeros, or two things do, or the table begins with an address.
  for (const code of [
    '',
    start + start.replace(link(DATA_AT), link(DATA_AT + 8)),
    start + start.replace(link(DATA_AT), link(DATA_AT + 24)),
  ])
    assert.deepEqual(find({ code, data }).abs64, all.slice(3));
});

test('words of data that lead less than 2 MiB beyond the image are doubts', () => {
  for (const [target, doubts] of [
    [TEXT - 1, [DATA_AT]],
    [TEXT - 0x20_0000, [DATA_AT]],
    [TEXT - 0x20_0001, []],
    [END + 0x1f_ffff, [DATA_AT]],
    [END + 0x20_0000, []],
  ] as const)
    assert.deepEqual(find({ data: fromHex(pointer(target)) }), { ...NOTHING, doubts }, target.toString(16));
});

test('rows of a packed structure with -1 after the pointer: doubts, as tables of numbers may have two masks; a lone one is a number', () => {
  const row = (target: number): string => `01000000 ${pointer(target)} ffffffff`;
  const data = fromHex(row(DATA_AT + 0x100) + row(DATA_AT + 0x180));
  assert.deepEqual(find({ data }), { ...NOTHING, doubts: [DATA_AT + 4, DATA_AT + 20] });
  assert.deepEqual(find({ data: fromHex(`01000000 ${pointer(DATA_AT + 0x100)} ffffffff`) }), NOTHING);
});

test('words at odd places: a packed array, what code loads, the stack of the TSS; a lone one is a doubt if an object may begin where it leads', () => {
  const packed = new Uint8Array(0x40);
  packed.set(fromHex(pointer(DATA_AT + 0x40)), 2);
  packed.set(fromHex(pointer(DATA_AT + 0x80)), 2 + 18);
  assert.deepEqual(find({ data: packed }).abs64, [DATA_AT + 2, DATA_AT + 20]);
  const lone = new Uint8Array(0x40);
  lone.set(fromHex(pointer(DATA_AT + 0x40)), 4);
  assert.deepEqual(find({ data: lone }), { ...NOTHING, doubts: [DATA_AT + 4] });
  for (const target of [DATA_AT + 0x41, DATA_AT + 0x43]) {
    lone.set(fromHex(pointer(target)), 4);
    assert.deepEqual(find({ data: lone }), NOTHING);
  }
  lone.set(fromHex(pointer(DATA_AT + 0x40)), 4);
  const distance = Buffer.from(Int32Array.of(DATA_AT + 4 - (CODE_AT + 6)).buffer).toString('hex');
  assert.deepEqual(find({ data: lone, code: `ff25${distance}` }).abs64, [DATA_AT + 4]); // jmp *x(%rip)
  const tss = fromHex(`00000000 0100000000000080 ${pointer(DATA_AT + 0x100)}`);
  assert.deepEqual(find({ data: tss }).abs64, [DATA_AT + 12]);
});

test('decisions: a doubt becomes a site or a number; what is no doubt cannot be decided', () => {
  const code = '48c7c3[00000000] 90';
  const [field] = markedFields(code) as [number];
  const kernel = readVmlinux(makeRecoverKernel({ code }));
  const asSite = recoverRelocations(kernel, { sites: [field] });
  assert.deepEqual([places(asSite.table.abs32), asSite.doubts.length], [[field], 0]);
  const asNumber = recoverRelocations(kernel, { numbers: [field] });
  assert.deepEqual([places(asNumber.table.abs32), asNumber.doubts.length], [[], 0]);
  for (const options of [{ sites: [field + 1] }, { sites: [field], numbers: [field] }])
    assert.throws(() => recoverRelocations(kernel, options), { name: 'KernelImageError', code: 'bad-value' });
});

test('refused: no section headers, no phys_base, no descriptor, no page table, too few anchors, anchors that are off', () => {
  const refusal = (edit: NonNullable<RecoverKernel['edit']>): string => {
    try {
      recover({ edit });
      return 'not refused';
    } catch (error) {
      assert.ok(error instanceof KernelImageError, String(error));
      assert.equal(error.code, 'unsupported');
      return error.message;
    }
  };
  assert.match(
    refusal((writer) => {
      writer.u64(40, 0);
      writer.u16(60, 0);
      writer.u16(62, 0);
    }),
    /section headers/,
  );
  assert.match(
    refusal((writer, at) => writer.copy(at(TEXT), new Uint8Array(17).fill(0x90))),
    /phys_base/,
  );
  assert.match(
    refusal((writer, at) => writer.copy(at(DATA + 0x12), new Uint8Array(8))),
    /IDT/,
  );
  assert.match(
    refusal((writer, at) => writer.u64(at(DATA + 0x1000), 0)),
    /page tables/,
  );
  assert.match(
    refusal((writer, at) => writer.u32(at(TEXT + 0x8000), TEXT + 2 - (TEXT + 0x8000))),
    /1 of 120 \(0xffffffff81000002\)/,
  );
  assert.match(
    refusal((writer, at) => writer.copy(at(TEXT + 0x8000), new Uint8Array(480))),
    /at least 100/,
  );
});
