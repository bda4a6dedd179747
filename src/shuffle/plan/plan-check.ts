/** Checks a plan from a file: it has all parts of a plan, and every number lies within what it indexes. */
import { KernelImageError } from '../../base/errors.ts';
import { FUNCTION_ALIGN, roomOf } from '../analyse/units.ts';
import type { FieldColumns, Plan } from './plan.ts';

type Unknown = Readonly<Record<string, unknown>>;

/** Returns `value` as a plan, or throws KernelImageError. */
export function checkPlan(value: unknown): Plan {
  const plan = object(value, 'the whole');
  const kernel = object(plan['kernel'], 'kernel');
  expect(typeof kernel['buildId'] === 'string', 'kernel.buildId');
  const size = number(kernel['size'], 'kernel.size', 2 ** 31);
  number(kernel['checksum'], 'kernel.checksum', 2 ** 32);
  const text = object(plan['text'], 'text');
  const textStart = number(text['start'], 'text.start', 2 ** 30);
  const textEnd = number(text['end'], 'text.end', 2 ** 30);
  const textOffset = number(text['offset'], 'text.offset', size);
  expect(textStart <= textEnd && textOffset + (textEnd - textStart) <= size, 'text');

  const starts = words(plan['starts'], 'starts');
  const ends = words(plan['ends'], 'ends', starts.length);
  words(plan['functions'], 'functions', starts.length);
  let last = textStart;
  for (let unit = 0; unit < starts.length; unit++) {
    if (starts[unit]! < last || ends[unit]! <= starts[unit]! || ends[unit]! > textEnd) expect(false, `unit ${unit}`);
    last = ends[unit]!;
  }
  checkRuns(plan['runs'], starts, ends, textStart, textEnd);
  const owners = starts.length;
  for (const [name, width] of [
    ['relative32', 4],
    ['relative64', 8],
    ['absolute32', 4],
    ['absolute64', 8],
  ] as const)
    checkFields(object(plan[name], name) as unknown as FieldColumns, name, size - width, owners);
  checkRelocationTable(object(plan['table'], 'table'), object(plan['tableOwners'], 'tableOwners'), owners);
  checkSortedTables(plan, size, owners);
  const facts = object(plan['facts'], 'facts');
  expect(facts['kernelVersion'] === undefined || typeof facts['kernelVersion'] === 'string', 'facts.kernelVersion');
  object(facts['branches'], 'facts.branches');
  object(facts['staying'], 'facts.staying');
  return value as Plan;
}

function checkRuns(value: unknown, starts: Uint32Array, ends: Uint32Array, textStart: number, textEnd: number): void {
  expect(Array.isArray(value), 'runs');
  let free = textStart;
  let unit = 0;
  for (const [index, item] of (value as unknown[]).entries()) {
    const what = `run ${index}`;
    const run = object(item, what);
    const start = number(run['start'], what, 2 ** 30);
    const end = number(run['end'], what, 2 ** 30);
    const first = number(run['first'], what, starts.length);
    const count = number(run['count'], what, starts.length);
    const align = number(run['align'], what, FUNCTION_ALIGN);
    expect(align === 1 || align === FUNCTION_ALIGN, what);
    expect(start % align === 0 && start >= free && end >= start && end <= textEnd, what);
    expect(first >= unit && first + count <= starts.length, what);
    let room = 0;
    for (let member = first; member < first + count; member++) {
      if (starts[member]! < start || ends[member]! > end) expect(false, what);
      room += roomOf(starts[member]!, ends[member]!, align);
    }
    expect(room <= end - start, what);
    free = end;
    unit = first + count;
  }
}

function checkFields(columns: FieldColumns, what: string, largest: number, owners: number): void {
  const offsets = words(columns.offsets, what);
  below(offsets, largest, what);
  below(words(columns.sites, what, offsets.length), owners, what);
  below(words(columns.targets, what, offsets.length), owners, what);
}

function checkRelocationTable(table: Unknown, tableOwners: Unknown, owners: number): void {
  expect(table['lists'] === 2 || table['lists'] === 3, 'table');
  for (const name of ['abs64', 'inverse32', 'abs32']) {
    const list = words(table[name], 'table');
    below(words(tableOwners[name], 'table', list.length), owners, 'table');
  }
}

function checkSortedTables(plan: Unknown, size: number, owners: number): void {
  const extable = object(plan['extable'], 'extable');
  const insns = words(extable['insns'], 'extable');
  number(extable['place'], 'extable', 2 ** 30);
  fits(extable['offset'], insns.length * 12, size, 'extable');
  for (const name of ['insnOwners', 'fixupOwners'])
    below(words(extable[name], 'extable', insns.length), owners, 'extable');
  for (const name of ['fixups', 'data']) words(extable[name], 'extable', insns.length);
  if (plan['mcount'] !== undefined) {
    const mcount = object(plan['mcount'], 'mcount');
    const callsites = words(mcount['callsites'], 'mcount');
    below(words(mcount['owners'], 'mcount', callsites.length), owners, 'mcount');
    fits(mcount['offset'], callsites.length * 8, size, 'mcount');
  }
  if (plan['kallsyms'] !== undefined) checkKallsyms(object(plan['kallsyms'], 'kallsyms'), size, owners);
  if (plan['orc'] !== undefined) checkOrc(object(plan['orc'], 'orc'), size, owners);
}

function checkKallsyms(table: Unknown, size: number, owners: number): void {
  const what = 'kallsyms';
  const count = number(table['count'], what, 2 ** 22 - 1);
  number(table['base'], what, 2 ** 30);
  number(table['offsetsPlace'], what, 2 ** 30);
  fits(table['offsets'], count * 4, size, what);
  fits(table['names'], count, size, what);
  fits(table['markers'], Math.ceil(count / 256) * 4, size, what);
  if (table['seqs'] !== 0) fits(table['seqs'], count * 3, size, what);
  fits(table['tokens'], 1, size, what);
  fits(table['tokenIndex'], 512, size, what);
  const places = words(table['places'], what);
  const first = number(table['first'], what, count);
  expect(first + places.length <= count, what);
  below(words(table['owners'], what, places.length), owners, what);
}

function checkOrc(table: Unknown, size: number, owners: number): void {
  const what = 'orc';
  const count = number(table['count'], what, 2 ** 26);
  number(table['ipPlace'], what, 2 ** 30);
  fits(table['ipOffset'], count * 4, size, what);
  fits(table['entryOffset'], count * 6, size, what);
  const ips = words(table['ips'], what);
  const firsts = words(table['firsts'], what, owners + 1);
  const { entries } = table;
  expect(entries instanceof Uint8Array && entries.length === ips.length * 6, what);
  expect(ips.length > 0 && ips.length <= count, what);
  let last = 0;
  for (let unit = 0; unit < firsts.length; unit++) {
    const first = firsts[unit]!;
    if (first < last || first > ips.length) expect(false, what);
    last = first;
  }
}

function object(value: unknown, what: string): Unknown {
  expect(typeof value === 'object' && value !== null, what);
  return value as Unknown;
}

function number(value: unknown, what: string, largest: number): number {
  expect(typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= largest, what);
  return value as number;
}

function words(value: unknown, what: string, length?: number): Uint32Array {
  expect(value instanceof Uint32Array && (length === undefined || value.length === length), what);
  return value as Uint32Array;
}

function below(array: Uint32Array, largest: number, what: string): void {
  for (let index = 0; index < array.length; index++) if (array[index]! > largest) expect(false, what);
}

function fits(offset: unknown, length: number, size: number, what: string): void {
  expect(number(offset, what, size) + length <= size, what);
}

function expect(condition: boolean, what: string): void {
  if (condition) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: `plan: ${what}`,
    found: 'out of bounds',
    expected: 'what kslide writes',
  });
}
