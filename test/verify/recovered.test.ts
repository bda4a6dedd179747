/**
 * The judge of a recovered table, on kernels made for each of its rules: what must be a site, what must be a number, and what may be either. Real kernels: test/boot/recovered.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physToTableEntry, physToVirt } from '../../src/base/addresses.ts';
import { ascii, joinParts } from '../../src/base/bytes.ts';
import { hex } from '../../src/base/errors.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { recoverRelocations } from '../../src/recover/recover.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { ListName, RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { loadOperandDisassembler } from '../../src/shuffle/verify/operand-disassembler.ts';
import { judgeTable } from '../../src/verify/recovered/judge.ts';
import { verify } from '../../src/verify/verify.ts';
import type { Verification } from '../../src/verify/verify.ts';
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
} from '../recover/make-kernel.ts';
import type { RecoverKernel } from '../recover/make-kernel.ts';
import { add, contradictionsOf, leaveOut, readFields } from './forge-tables.ts';

const codecs = coreCodecs;
const open = await loadOperandDisassembler();
const DATA_LINK = link(DATA_AT);

const littleEndian = (value: number): string =>
  [0, 8, 16, 24].map((shift) => ((value >>> shift) & 255).toString(16).padStart(2, '0')).join('');

type Places = Partial<Record<ListName, readonly number[]>>;

function tableOf(places: Places, perCpu = false): RelocationTable {
  const list = (name: ListName): Uint32Array =>
    Uint32Array.from(places[name] ?? [], (place) => physToTableEntry(place)).toSorted();
  return { abs64: list('abs64'), inverse32: list('inverse32'), abs32: list('abs32'), lists: perCpu ? 3 : 2 };
}

const own = (places: Places): Places => ({ ...places, abs64: [...OWN.abs64, ...(places.abs64 ?? [])] });

/** `list place found`, with what was expected, of each contradiction. */
function contradictions(kernel: RecoverKernel, places: Places): { list: ListName; place: number; isListed: boolean }[] {
  return contradictionsOf(readVmlinux(makeRecoverKernel(kernel)), tableOf(places, kernel.perCpu), open).map(
    ({ list, place, isListed }) => ({ list, place, isListed }),
  );
}

/** The field must be in the table: with it nothing is contradicted, and without it that place is. */
function mustBeSite(kernel: RecoverKernel, list: ListName, place: number, others: Places = {}): void {
  const rest = own(others);
  const whole = { ...rest, [list]: [...(rest[list] ?? []), place] };
  assert.deepEqual(contradictions(kernel, whole), []);
  assert.deepEqual(contradictions(kernel, rest), [{ list, place, isListed: false }]);
}

/** The field must not be in the table. */
function mustBeNumber(kernel: RecoverKernel, list: ListName, place: number, others: Places = {}): void {
  const rest = own(others);
  assert.deepEqual(contradictions(kernel, rest), []);
  const more = { ...rest, [list]: [...(rest[list] ?? []), place] };
  assert.deepEqual(contradictions(kernel, more), [{ list, place, isListed: true }]);
}

/** With the field and without it, nothing is contradicted. */
function mayBeEither(kernel: RecoverKernel, list: ListName, place: number, others: Places = {}): void {
  const rest = own(others);
  assert.deepEqual(contradictions(kernel, rest), []);
  assert.deepEqual(contradictions(kernel, { ...rest, [list]: [...(rest[list] ?? []), place] }), []);
}

for (const [what, list, code] of [
  ['mov $link, %rdi', 'abs32', `48c7c7[${DATA_LINK}]`],
  ['movq $link, 8(%rax)', 'abs32', `48c74008[${DATA_LINK}]`],
  ['movq $link, 0x100(%rax)', 'abs32', `48c78000010000[${DATA_LINK}]`],
  ['push $link', 'abs32', `68[${DATA_LINK}]`],
  ['cmp $link, %rax', 'abs32', `483d[${DATA_LINK}]`],
  ['add $link, %rax', 'abs32', `4805[${DATA_LINK}]`],
  ['sub $_text, %rbx', 'abs32', `4881eb[${link(TEXT)}]`],
  ['mov $_text, %rbx', 'abs32', `48c7c3[${link(TEXT)}]`],
  ['mov $_end, %rbx', 'abs32', `48c7c3[${link(END)}]`],
  ['mov table(,%rax,8), %rcx', 'abs32', `488b0cc5[${DATA_LINK}]`],
  ['mov table(%rax), %ecx', 'abs32', `8b88[${DATA_LINK}]`],
  ['cmpb $1, table(%rax)', 'abs32', `80b8[${DATA_LINK}]01`],
  ['movw $1, table(%rax)', 'abs32', `66c780[${DATA_LINK}]0100`],
  ['movl $1, table(%rax)', 'abs32', `c780[${DATA_LINK}]01000000`],
  ['lea table(%rax), %rcx', 'abs32', `488d88[${DATA_LINK}]`],
  ['call *table(,%rax,8)', 'abs32', `ff14c5[${DATA_LINK}]`],
  ['movabs $link, %r13', 'abs64', `49bd[${pointer(DATA_AT)}]`],
  ['movabs link, %al', 'abs64', `a0[${pointer(DATA_AT)}]`],
  ['movabs $physical, %rdx', 'abs64', '48ba[0060000100000000]'],
  ['mov $_end rounded up, %rsi', 'abs32', `48c7c6[${link(END + 0x1f_ffff)}]`],
] as const)
  test(`a site: ${what}`, () => mustBeSite({ code }, list, markedFields(code)[0]!));

test('a sum of a physical address and the start of the direct map: a site where phys_base is added, else a number', () => {
  const movabs = '48b8[006000018088ffff]';
  const distance = littleEndian(DATA - (CODE_AT + 17));
  const code = `${movabs} 480305${distance}`; // add phys_base(%rip), %rax
  mustBeSite({ code }, 'abs64', markedFields(code)[0]!);
  mustBeNumber({ code: movabs }, 'abs64', markedFields(movabs)[0]!);
});

for (const [what, code] of [
  ['mov $x, %esi', `be[${DATA_LINK}]`],
  ['cmp $x, %edx', `81fa[${DATA_LINK}]`],
  ['movl $x, (%rax)', `c700[${DATA_LINK}]`],
  ['lea x(%rax), %ecx', `8d88[${DATA_LINK}]`],
  ['mov x(%eax), %ecx', `678b88[${DATA_LINK}]`],
  ['and $x, %rax', `4825[${DATA_LINK}]`],
  ['or $x, %rax', `480d[${DATA_LINK}]`],
  ['xor $x, %rax', `4835[${DATA_LINK}]`],
  ['test $x, %rax', `48a9[${DATA_LINK}]`],
  ['test $x, (%rax)', `48f700[${DATA_LINK}]`],
  ['and $x, %rbx; cmp $x, %rbx', `4881e3${DATA_LINK} 4881fb[${DATA_LINK}]`],
  ['a branch', `e9[${DATA_LINK}]`],
  ['a number of 64 bits', `48b8[${DATA_LINK}]01000000`],
  ['a physical number without phys_base', '4805[00600001]'],
  ['the middle of an instruction', `48b890[${DATA_LINK}]909090`],
] as const)
  test(`a number: ${what}`, () => mustBeNumber({ code }, 'abs32', markedFields(code)[0]!));

test('a factor of IMUL: the address of a text is a site, another may be either', () => {
  const code = `4869c0[${DATA_LINK}]`;
  const [field] = markedFields(code);
  mustBeSite({ code, data: ascii('text\0') }, 'abs32', field!);
  mayBeEither({ code }, 'abs32', field!);
});

test('an operand past _end may be either', () => {
  const code = `48c7c6[${link(END + 0x1000)}]`;
  mayBeEither({ code }, 'abs32', markedFields(code)[0]!);
});

test('after bytes that are no instruction an operand may be either', () => {
  const code = `06 90 48c7c7[${DATA_LINK}]`;
  mayBeEither({ code }, 'abs32', markedFields(code)[0]!);
});

test('a physical number to which phys_base is added', () => {
  const distance = (at: number): string => littleEndian(DATA - (CODE_AT + at));
  for (const code of [
    // add $physical, %rax; mov %rax, %rcx; add phys_base(%rip), %rcx
    `4805[00600001] 4889c1 48030d${distance(16)}`,
    // mov phys_base(%rip), %rax; lea physical(%rax), %rcx
    `488b05${distance(7)} 488d88[00600001]`,
  ])
    mustBeSite({ code }, 'abs32', markedFields(code)[0]!);
  // The sum is written over before.
  const code = `4805[00600001] 4831c0 480305${distance(16)}`;
  mustBeNumber({ code }, 'abs32', markedFields(code)[0]!);
});

test('phys_base without a MOVABS, as in kernels by clang: what is added to other physical numbers, and holds 0', () => {
  const distance = (at: number, place = DATA): string => littleEndian(place - (CODE_AT + at));
  // add $physical, %rax; add phys_base(%rip), %rax, and the other way around; then a variable that holds something, more often.
  const clear = '4831c0'; // xor %rax, %rax
  let code = `4805[00600001] 480305${distance(13)} ${clear} 488b05${distance(23)} 4805[00680001]`;
  for (let end = 29; end < 29 + 6 * 16; end += 16)
    code += `${clear} 4805[00700001] 480305${distance(end + 16, DATA + 0x10)}`;
  const edit: RecoverKernel['edit'] = (elf, offsetOf) => elf.copy(offsetOf(TEXT), new Uint8Array(10).fill(0x90));
  const kernel = readVmlinux(makeRecoverKernel({ code, edit }));
  const [first, second, ...others] = markedFields(code);
  const judged = (places: readonly number[]): unknown[] =>
    contradictionsOf(kernel, tableOf({ abs64: OWN.abs64.slice(1), abs32: places }), open).map(({ place }) => place);
  assert.deepEqual(judged([first!, second!]), []);
  assert.deepEqual(judged([first!]), [second]);
  assert.deepEqual(judged([]), [first, second]);
  assert.deepEqual(judged([first!, second!, others[0]!]), [others[0]]);
});

test('zeros: printed as the kernel offset, or not', () => {
  const text = ascii('\0\0\0\0\0\0\0\0\x011Kernel Offset: 0x%lx from 0x%lx\0');
  const string = RODATA + 8;
  // mov $string, %rdi; mov $_text, %rsi; mov $0, %rdx
  const code = `48c7c7[${link(string)}] 48c7c6[${link(TEXT)}] 48c7c2[00000000]`;
  const [named, start, zero] = markedFields(code) as [number, number, number];
  const kernel = { code, rodata: text };
  mustBeSite(kernel, 'abs32', zero, { abs32: [named] });
  mustBeNumber(kernel, 'abs32', start, { abs32: [named, zero] });
  const other = '48c7c2[00000000]';
  const [field] = markedFields(other);
  mayBeEither({ code: other }, 'abs32', field!);
  mustBeNumber({ code: other, perCpu: true }, 'abs32', field!);
});

test('the seed of the random slides adds a zero', () => {
  // movabs $0x5d6008cbf3848dd3, %rcx; add $0, %rax
  const code = '48b9d38d84f3cb08605d 4805[00000000]';
  mustBeSite({ code }, 'abs32', markedFields(code)[0]!);
});

test('words of data', () => {
  const aligned = fromHex(pointer(DATA));
  mustBeSite({ data: aligned }, 'abs64', DATA_AT);
  mustBeNumber({ data: fromHex('0102030405060708') }, 'abs64', DATA_AT);
  // In an odd place: a number, unless code names it.
  const odd = joinParts([new Uint8Array(3), fromHex(pointer(END - 8))]);
  mustBeNumber({ data: odd }, 'abs64', DATA_AT + 3);
  const code = `488b0425[${link(DATA_AT + 3)}]`;
  mustBeSite({ data: odd, code }, 'abs64', DATA_AT + 3, { abs32: markedFields(code) });
  // Four bytes alone.
  mustBeNumber({ data: fromHex(DATA_LINK) }, 'abs32', DATA_AT);
  // Into the middle of an instruction.
  const middle = `48c7c7[${DATA_LINK}]`;
  mayBeEither({ data: fromHex(pointer(CODE_AT + 2)), code: middle }, 'abs64', DATA_AT, { abs32: markedFields(middle) });
  // Alone, and to a place in the middle of what nothing names.
  mayBeEither({ data: fromHex(pointer(RODATA + 3)) }, 'abs64', DATA_AT);
});

test('words in odd places beside others: all are sites, or none', () => {
  const data = joinParts([new Uint8Array(3), fromHex(`${pointer(END - 8)}00000000${pointer(END - 16)}`)]);
  const [first, second] = [DATA_AT + 3, DATA_AT + 15];
  assert.deepEqual(contradictions({ data }, own({})), []);
  assert.deepEqual(contradictions({ data }, own({ abs64: [first, second] })), []);
  assert.deepEqual(contradictions({ data }, own({ abs64: [first] })), [
    { list: 'abs64', place: second, isListed: false },
  ]);
});

test('page tables: an entry in a page of entries', () => {
  const entry = DATA + 0x2000;
  mustBeSite({ edit: (elf, offsetOf) => elf.u64(offsetOf(DATA + 0x1008), entry + 0x67) }, 'abs64', DATA + 0x1008);
  // Not in a page of entries.
  const data = fromHex('6370000100000000 1000000000000000');
  mustBeNumber({ data }, 'abs64', DATA_AT);
});

test('distances to per-cpu data at 0', () => {
  // mov %gs:0x10(%rip), %rax
  const code = `65488b05[${littleEndian(0x10 - (0x8000_0000 + CODE_AT + 8))}]`;
  mustBeSite({ code, perCpu: true }, 'inverse32', markedFields(code)[0]!);
  const other = '488b05[00000000]';
  mustBeNumber({ code: other, perCpu: true }, 'inverse32', markedFields(other)[0]!);
});

test('a kernel that cannot be judged is refused, not refuted', () => {
  const judge = (edit: RecoverKernel['edit']): (() => void) => {
    const kernel = readVmlinux(makeRecoverKernel({ edit: edit! }));
    return () => judgeTable(kernel, tableOf({}), open);
  };
  const unsupported = (message: RegExp): object => ({ name: 'KernelImageError', code: 'unsupported', message });
  assert.throws(
    judge((elf, offsetOf) => elf.u16(offsetOf(TEXT + 10), 0x9090)),
    unsupported(/phys_base/),
  );
  assert.throws(
    judge((elf, offsetOf) => elf.u64(offsetOf(DATA + 0x1000), 0)),
    unsupported(/page tables/),
  );
  // The tables of code lead into an instruction.
  assert.throws(
    judge((elf, offsetOf) => elf.copy(offsetOf(TEXT + 0x20), fromHex('48c7c700000000'))),
    unsupported(/6 of 120 where the disassembly has none/),
  );
});

const CODE = `48c7c7[${DATA_LINK}] 48c7c6[${DATA_LINK}]`;
const image = makeRecoverKernel({
  code: CODE,
  edit: (elf, offsetOf) => elf.copy(offsetOf(TEXT + 0xc0), fromHex('9090909090909090')),
});
const { table } = recoverRelocations(readVmlinux(image));

async function verified(claimed: RelocationTable): Promise<Verification> {
  const converted = (await convert(image, { codecs, relocs: encodeRelocationTable(claimed) })).bytes();
  return verify(image, converted, { codecs, loadDisassembler: loadOperandDisassembler });
}

test('verify: consistent, with what cannot be shown; proved if the table is given', async () => {
  const result = await verified(table);
  assert.equal(result.offence, undefined);
  assert.equal(result.verdict, 'consistent');
  assert.ok(result.checks.every(({ ok }) => ok === true));
  assert.equal(result.checks.at(-1)!.name, 'recovered');
  assert.deepEqual(
    result.premises.map(({ name }) => name),
    ['original', 'recovered-table', 'kernel-facts', 'program-model'],
  );
  assert.equal(result.judged!.sites, 5);
  const relocs = encodeRelocationTable(table);
  const converted = (await convert(image, { codecs, relocs })).bytes();
  const proved = await verify(image, converted, { codecs, relocs });
  assert.equal(proved.verdict, 'proved');
  assert.equal('judged' in proved, false);
});

test('verify: a site left out and a number added are refuted, with the place', async () => {
  const [field] = markedFields(CODE) as [number];
  const offset = 0x1000 + field - TEXT;
  const without = await verified(leaveOut(table, [{ list: 'abs32', place: field, kind: '' }]));
  assert.equal(without.verdict, 'refuted');
  assert.deepEqual(without.offence, {
    check: 'recovered',
    what: `32-bit field at ${hex(physToVirt(field))} (the only contradiction)`,
    offset,
    found: `left alone, holding 0x${(DATA_AT + 0x8000_0000).toString(16)}`,
    expected: 'a site: a sign-extended operand that is an address',
  });
  assert.equal(without.judged, undefined);
  const place = CODE_AT + 0x20;
  const more = await verified(add(table, [{ list: 'abs32', place, kind: '' }]));
  assert.deepEqual(more.offence, {
    check: 'recovered',
    what: `entry of the 32-bit list at ${hex(physToVirt(place))} (the only contradiction)`,
    offset: 0x1000 + place - TEXT,
    found: 'a site, holding 0x90909090',
    expected: `a number: in the instruction at ${hex(physToVirt(place))} no operand field that is an address begins there`,
  });
});

test('verify: a file whose table cannot be read is refuted as before', async () => {
  const converted = (await convert(image, { codecs, relocs: encodeRelocationTable(table) })).bytes();
  const { offset } = readVmlinux(converted).loads.at(-1)!;
  for (const [field, check] of [
    [PARAMS.table_format, 'parameters'],
    [PARAMS.table, 'parameters'],
  ] as const) {
    const changed = converted.slice();
    changed[offset + field]! ^= 0x55;
    const result = await verify(image, changed, { codecs, loadDisassembler: loadOperandDisassembler });
    assert.equal(result.verdict, 'refuted');
    assert.equal(result.offence?.check, check);
  }
  const changed = converted.slice();
  changed[changed.lastIndexOf(0xff, offset + 0x8000)]! ^= 1;
  assert.equal(
    (await verify(image, changed, { codecs, loadDisassembler: loadOperandDisassembler })).verdict,
    'refuted',
  );
  // Not converted at all.
  const plain = await verify(image, image, { codecs, loadDisassembler: loadOperandDisassembler });
  assert.equal(plain.verdict, 'refuted');
  assert.equal(plain.offence?.check, 'elf-header');
});

test('every field of a made kernel has a meaning', () => {
  const fields = readFields(readVmlinux(image), table, open);
  assert.deepEqual(
    fields
      .filter(({ verdict }) => verdict === 'site')
      .map(({ place }) => place)
      .toSorted((a, b) => a - b),
    [...OWN.abs64, ...markedFields(CODE)].toSorted((a, b) => a - b),
  );
});
