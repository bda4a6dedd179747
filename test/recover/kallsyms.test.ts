/** What kallsyms adds to a recovery: functions that are compared with the sweep, phys_base, and pointers in doubt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physToVirt } from '../../src/base/addresses.ts';
import { hex } from '../../src/base/errors.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { describeRecovery } from '../../src/recover/describe.ts';
import { recoverRelocations } from '../../src/recover/recover.ts';
import type { Recovery } from '../../src/recover/recover.ts';
import { LAYOUTS, makeKallsyms } from '../kernel/make-kallsyms.ts';
import type { TestSymbol } from '../kernel/make-kallsyms.ts';
import {
  CODE_AT,
  DATA,
  DATA_AT,
  fromHex,
  link,
  makeRecoverKernel,
  markedFields,
  pointer,
  RODATA,
  TEXT,
} from './make-kernel.ts';
import type { RecoverKernel } from './make-kernel.ts';

const PHYS_BASE: TestSymbol = { place: DATA, type: 'D', name: 'phys_base' };
const FUNCTIONS: readonly TestSymbol[] = [
  { place: TEXT, type: 'T', name: '_text' },
  ...Array.from({ length: 300 }, (_, index) => ({ place: TEXT + 0x1000 + index, type: 't', name: `func${index}` })),
];
/** Not compared: no code, or after the end of it. */
const OTHERS: readonly TestSymbol[] = [
  { place: RODATA, type: 'T', name: '_etext' },
  { place: DATA_AT + 3, type: 't', name: 'code_in_data' },
];

function recover(kernel: RecoverKernel, more: readonly TestSymbol[] = []): Recovery {
  const symbols = [...FUNCTIONS, ...OTHERS, ...more].toSorted((a, b) => a.place - b.place);
  const rodata = makeKallsyms(symbols, LAYOUTS['7.3'], RODATA).bytes;
  return recoverRelocations(readVmlinux(makeRecoverKernel({ ...kernel, rodata })));
}

const at = (place: number, name = 'symbol'): TestSymbol => ({ place, type: 't', name });
const places = (list: Uint32Array): number[] => Array.from(list, (entry) => entry - 0x8000_0000);
const doubts = ({ doubts: open }: Recovery): [string, number, string | undefined][] =>
  open.map(({ rule, place, symbol }) => [rule, place, symbol]);

const MOVE = `48c7c7[${link(DATA_AT)}]`;
const [FIELD] = markedFields(MOVE) as [number];

test('functions are compared with the sweep; the report says so', () => {
  const inside: TestSymbol = { place: CODE_AT + 3, type: 'd', name: 'data_in_code' };
  const recovery = recover({ code: MOVE }, [PHYS_BASE, inside]);
  assert.deepEqual(doubts(recovery), []);
  assert.deepEqual(places(recovery.table.abs32), [FIELD]);
  const { evidence } = recovery;
  assert.deepEqual(evidence.symbols, ['kallsyms']);
  assert.deepEqual(evidence.anchors.tables, ['.return_sites', 'kallsyms']);
  assert.equal(evidence.anchors.count, 120 + FUNCTIONS.length);
  const facts = describeRecovery(recovery);
  assert.deepEqual(facts.evidence, { used: ['kallsyms', 'patterns'], absent: ['.symtab'] });
  assert.deepEqual(facts.leftOut, []);
});

test('without kallsyms, or with one without data: what was left out', () => {
  const facts = describeRecovery(recoverRelocations(readVmlinux(makeRecoverKernel({}))));
  assert.deepEqual(facts.evidence, { used: ['patterns'], absent: ['.symtab', 'kallsyms'] });
  assert.deepEqual(facts.leftOut, [
    'where functions begin was not compared, and no symbol decided a doubt: the kernel has neither .symtab nor kallsyms',
    'phys_base is known from its use alone: no symbol names it',
  ]);
  assert.deepEqual(describeRecovery(recover({})).leftOut, [
    'phys_base is known from its use alone: no symbol names it',
  ]);
});

test('a symbol at which no instruction begins: operands near it are doubts; many are a refusal', () => {
  const stray = recover({ code: MOVE }, [at(CODE_AT + 2)]);
  assert.deepEqual(doubts(stray), [['stray', FIELD, 'symbol+0x1']]);
  assert.match(describeRecovery(stray).leftOut.join(), new RegExp(hex(physToVirt(CODE_AT + 2))));
  // It is told once, whatever the number of its names.
  const aliases = Array.from({ length: 12 }, (_, index) => at(CODE_AT + 2, `alias${index}`));
  assert.deepEqual(doubts(recover({ code: MOVE }, aliases)), [['stray', FIELD, 'alias11+0x1']]);
  // An instruction within an instruction, each with a symbol: as retbleed_return_thunk.
  assert.deepEqual(doubts(recover({ code: MOVE }, [at(CODE_AT), at(CODE_AT + 2)])), []);
  const many = (count: number): TestSymbol[] =>
    Array.from({ length: count }, (_, index) => at(CODE_AT + 2 + 7 * index));
  assert.equal(recover({ code: MOVE.repeat(9) }, many(8)).doubts.length, 9);
  assert.throws(() => recover({ code: MOVE.repeat(9) }, many(9)), {
    name: 'KernelImageError',
    code: 'unsupported',
    message: /9 of 430 \(0xffffffff81000102, /,
  });
});

test('phys_base: a symbol elsewhere is a refusal; where nothing shows its use, the symbol tells it', () => {
  assert.throws(() => recover({}, [{ ...PHYS_BASE, place: DATA + 8 }]), {
    name: 'KernelImageError',
    code: 'unsupported',
    message: /phys_base.*0xffffffff81004008, as kallsyms says/,
  });
  const edit: RecoverKernel['edit'] = (writer, offsetOf) =>
    writer.copy(offsetOf(TEXT + 10), new Uint8Array(7).fill(0x90));
  assert.throws(() => recover({ edit }), { name: 'KernelImageError', message: /phys_base/ });
  assert.equal(recover({ edit }, [PHYS_BASE]).evidence.physBase, DATA);
});

test('a pointer into an instruction, or a lone one to an odd place, is a site if it leads to a symbol', () => {
  const data = fromHex(pointer(CODE_AT + 2));
  assert.deepEqual(doubts(recover({ code: MOVE, data })), [['pointer', DATA_AT, '_etext+0x4000']]);
  const decided = recover({ code: MOVE, data }, [at(CODE_AT), at(CODE_AT + 2)]);
  assert.deepEqual(doubts(decided), []);
  assert.ok(places(decided.table.abs64).includes(DATA_AT));
});
