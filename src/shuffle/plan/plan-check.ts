/**
 * Checks a plan from a file, whoever wrote it: it has all parts of a plan and no others, and each number is inside what it indexes. So whatever is done with
 * the plan later takes time and memory in proportion to the plan and the kernel: no number says how often something is repeated, or how much is allocated,
 * unless something of that size is in the file.
 *
 * The kernel is not at hand here. `kernel.size` bounds offsets in it, and `shuffle` compares it with the kernel before it uses any of them.
 */
import { KERNEL_IMAGE_SIZE } from '../../base/addresses.ts';
import type { FileOffset } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import { STAY } from '../analyse/pieces.ts';
import { FUNCTION_ALIGN, roomOf } from '../analyse/units.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { Plan } from './plan.ts';

type Unknown = Readonly<Record<string, unknown>>;
/** Where a column begins in the plan's file, for messages. */
export type ColumnOffset = (column: Uint32Array | Uint8Array) => FileOffset | undefined;

/** orderOf() packs an index into 22 bits. */
const ENTRIES_AT_MOST = 2 ** 22 - 1;
/** A build-id is 20 bytes by default; --build-id=0x… may give more. */
const BUILD_ID = /^(?:[0-9a-f]{2}){1,64}$/;
/** What is read as a kernel's version is not longer. */
const VERSION = /^[^]{0,4096}$/;

/** Returns `value` as a plan, or throws KernelImageError. `offsetOf` says where in the file a column is. */
export function checkPlan(value: unknown, offsetOf: ColumnOffset = () => undefined): Plan {
  new PlanCheck(offsetOf).check(value);
  return value as Plan;
}

class PlanCheck {
  readonly #offsetOf: ColumnOffset;
  /** By unit. */
  #starts: Uint32Array = new Uint32Array(0);
  #ends: Uint32Array = new Uint32Array(0);
  /** The kernel's file, in bytes, as the plan says. */
  #size = 0;

  constructor(offsetOf: ColumnOffset) {
    this.#offsetOf = offsetOf;
  }

  check(value: unknown): void {
    const plan = object(value, 'the whole', [
      'kernel',
      'text',
      'starts',
      'ends',
      'functions',
      'runs',
      'relative32',
      'relative64',
      'absolute32',
      'absolute64',
      'table',
      'tableOwners',
      'extable',
      'mcount?',
      'kallsyms?',
      'orc?',
      'facts',
    ]);
    const kernel = object(plan['kernel'], 'kernel', ['buildId', 'size', 'checksum']);
    string(kernel['buildId'], 'kernel.buildId', BUILD_ID);
    const size = (this.#size = number(kernel['size'], 'kernel.size', 2 ** 31 - 1));
    number(kernel['checksum'], 'kernel.checksum', 2 ** 32 - 1);

    const text = object(plan['text'], 'text', ['start', 'end', 'offset']);
    const textEnd = number(text['end'], 'text.end', KERNEL_IMAGE_SIZE);
    const textStart = number(text['start'], 'text.start', textEnd);
    fits(text['offset'], textEnd - textStart, size, 'text.offset');

    const starts = (this.#starts = words(plan['starts'], 'starts'));
    const ends = (this.#ends = words(plan['ends'], 'ends', starts.length));
    const functions = words(plan['functions'], 'functions', starts.length);
    if (starts.length > ENTRIES_AT_MOST) bad('starts', starts.length, `at most ${ENTRIES_AT_MOST} units`);
    const facts = this.#checkFacts(plan['facts'], textEnd - textStart + 1);
    let last = textStart;
    let counted = 0;
    for (let unit = 0; unit < starts.length; unit++) {
      const [start, end] = [starts[unit]!, ends[unit]!];
      if (start < last) this.#badEntry('starts', starts, unit, `0x${last.toString(16)} or more`);
      if (end <= start || end > textEnd) this.#badEntry('ends', ends, unit, 'an end after its start, inside .text');
      // A function has at least a byte.
      if (functions[unit]! > end - start) this.#badEntry('functions', functions, unit, 'no more than it has bytes');
      counted += functions[unit]!;
      last = end;
    }
    if (counted > facts.functions) bad('facts.functions', facts.functions, `${counted} or more, as the units have`);
    this.#checkRuns(plan['runs'], textStart, textEnd);

    for (const [name, width] of [
      ['relative32', 4],
      ['relative64', 8],
      ['absolute32', 4],
      ['absolute64', 8],
    ] as const) {
      const columns = object(plan[name], name, ['offsets', 'sites', 'targets']);
      const offsets = words(columns['offsets'], `${name}.offsets`);
      this.#atMost(offsets, size - width, `${name}.offsets`);
      this.#owners(columns['sites'], offsets.length, `${name}.sites`);
      this.#owners(columns['targets'], offsets.length, `${name}.targets`);
    }
    this.#checkRelocationTable(plan['table'], plan['tableOwners']);
    this.#checkExtable(plan['extable']);
    if (plan['mcount'] !== undefined) this.#checkMcount(plan['mcount']);
    if (plan['kallsyms'] !== undefined) this.#checkKallsyms(plan['kallsyms']);
    if (plan['orc'] !== undefined) this.#checkOrc(plan['orc']);
  }

  #checkFacts(value: unknown, most: number): { readonly functions: number } {
    const facts = object(value, 'facts', [
      'kernelVersion?',
      'functions',
      'staying',
      'instructions',
      'relocations',
      'branches',
    ]);
    if (facts['kernelVersion'] !== undefined) string(facts['kernelVersion'], 'facts.kernelVersion', VERSION);
    const branches = object(facts['branches'], 'facts.branches', ['resolved', 'crossing', 'short']);
    for (const [name, count] of Object.entries(branches)) number(count, `facts.branches.${name}`, most);
    const reasons = Object.keys(STAY).map((reason) => `${reason}?`);
    const staying = object(facts['staying'], 'facts.staying', reasons);
    for (const [reason, count] of Object.entries(staying)) number(count, `facts.staying.${reason}`, most);
    number(facts['instructions'], 'facts.instructions', most);
    // A byte of the code may have several relocations, but R_X86_64_NONE says nothing: bounded by what .rela sections hold.
    number(facts['relocations'], 'facts.relocations', 2 ** 32 - 1);
    return { functions: number(facts['functions'], 'facts.functions', most) };
  }

  #checkRuns(value: unknown, textStart: number, textEnd: number): void {
    const starts = this.#starts;
    const ends = this.#ends;
    if (!Array.isArray(value)) return bad('runs', typeof value, 'a list');
    let free = textStart;
    let unit = 0;
    for (const [index, item] of (value as readonly unknown[]).entries()) {
      const what = `run ${index}`;
      const run = object(item, what, ['start', 'end', 'align', 'first', 'count']);
      const end = number(run['end'], `${what}: end`, textEnd);
      const start = number(run['start'], `${what}: start`, end);
      const first = number(run['first'], `${what}: first`, starts.length);
      const count = number(run['count'], `${what}: count`, starts.length - first);
      const align = number(run['align'], `${what}: align`, FUNCTION_ALIGN);
      if ((align !== 1 && align !== FUNCTION_ALIGN) || start % align !== 0)
        bad(`${what}: align`, align, `1 or 0x${FUNCTION_ALIGN.toString(16)}, and a start at a multiple of it`);
      if (start < free) bad(`${what}: start`, start, `0x${free.toString(16)} or more, after the run before it`);
      if (first < unit || count === 0) bad(`${what}: first`, first, 'units of its own, at least one');
      const next = first + count;
      const before = first === 0 ? textStart : ends[first - 1]!;
      const after = next === starts.length ? textEnd : starts[next]!;
      if (starts[first]! < start || ends[next - 1]! > end || before > start || after < end)
        bad(`${what}: start`, start, 'that all of its units are in it, and no others');
      let room = 0;
      for (let member = first; member < next; member++) room += roomOf(starts[member]!, ends[member]!, align);
      if (room > end - start) bad(`${what}: end`, end, `room for its units, 0x${room.toString(16)} bytes`);
      free = end;
      unit = next;
    }
  }

  #checkRelocationTable(value: unknown, owners: unknown): void {
    const lists = ['abs64', 'inverse32', 'abs32'];
    const table = object(value, 'table', [...lists, 'lists']);
    const tableOwners = object(owners, 'tableOwners', lists);
    if (table['lists'] !== 2 && table['lists'] !== 3) bad('table.lists', shown(table['lists']), '2 or 3');
    for (const name of lists) {
      const sites = words(table[name], `table.${name}`);
      this.#owned(sites, tableOwners[name], `table.${name}`, placeOfLow);
    }
  }

  #checkExtable(value: unknown): void {
    const table = object(value, 'extable', ['offset', 'place', 'insns', 'insnOwners', 'fixups', 'fixupOwners', 'data']);
    const insns = words(table['insns'], 'extable.insns');
    number(table['place'], 'extable.place', KERNEL_IMAGE_SIZE);
    this.#entries(table['offset'], insns.length, 12, 'extable.offset');
    this.#owned(insns, table['insnOwners'], 'extable.insns');
    this.#owned(words(table['fixups'], 'extable.fixups', insns.length), table['fixupOwners'], 'extable.fixups');
    words(table['data'], 'extable.data', insns.length);
  }

  #checkMcount(value: unknown): void {
    const table = object(value, 'mcount', ['offset', 'callsites', 'owners']);
    const callsites = words(table['callsites'], 'mcount.callsites');
    this.#entries(table['offset'], callsites.length, 8, 'mcount.offset');
    this.#owned(callsites, table['owners'], 'mcount.callsites');
  }

  #checkKallsyms(value: unknown): void {
    const table = object(value, 'kallsyms', [
      'base',
      'offsetsPlace',
      'count',
      'offsets',
      'names',
      'markers',
      'seqs',
      'tokens',
      'tokenIndex',
      'first',
      'places',
      'owners',
    ]);
    const count = number(table['count'], 'kallsyms.count', ENTRIES_AT_MOST);
    number(table['base'], 'kallsyms.base', KERNEL_IMAGE_SIZE);
    number(table['offsetsPlace'], 'kallsyms.offsetsPlace', KERNEL_IMAGE_SIZE);
    for (const [name, length] of [
      ['offsets', count * 4],
      ['names', count],
      ['markers', Math.ceil(count / 256) * 4],
      ['seqs', table['seqs'] === 0 ? 0 : count * 3],
      ['tokens', 1],
      ['tokenIndex', 512],
    ] as const)
      fits(table[name], length, this.#size, `kallsyms.${name}`);
    const places = words(table['places'], 'kallsyms.places');
    const first = number(table['first'], 'kallsyms.first', count);
    if (places.length > count - first)
      bad('kallsyms.places', places.length, `at most 0x${(count - first).toString(16)}`);
    this.#owned(places, table['owners'], 'kallsyms.places');
  }

  #checkOrc(value: unknown): void {
    const table = object(value, 'orc', ['ipOffset', 'ipPlace', 'entryOffset', 'count', 'firsts', 'ips', 'entries']);
    const count = number(table['count'], 'orc.count', this.#size);
    number(table['ipPlace'], 'orc.ipPlace', KERNEL_IMAGE_SIZE);
    fits(table['ipOffset'], count * 4, this.#size, 'orc.ipOffset');
    fits(table['entryOffset'], count * 6, this.#size, 'orc.entryOffset');
    const ips = words(table['ips'], 'orc.ips');
    this.#atMost(ips, KERNEL_IMAGE_SIZE, 'orc.ips');
    if (ips.length === 0 || ips.length > count) bad('orc.ips', ips.length, `1 to 0x${count.toString(16)} entries`);
    const { entries } = table;
    if (!(entries instanceof Uint8Array) || entries.length !== ips.length * 6)
      bad('orc.entries', shown(entries), '6 bytes for each of orc.ips');
    const firsts = words(table['firsts'], 'orc.firsts', this.#starts.length + 1);
    let last = 0;
    for (let unit = 0; unit < firsts.length; unit++) {
      const first = firsts[unit]!;
      if (first < last || first > ips.length)
        this.#badEntry('orc.firsts', firsts, unit, 'numbers of entries that rise');
      last = first;
    }
  }

  /** The offset of a table that is sorted again. */
  #entries(offset: unknown, count: number, size: number, what: string): void {
    if (count > ENTRIES_AT_MOST) bad(what, count, `at most 0x${ENTRIES_AT_MOST.toString(16)} entries`);
    fits(offset, count * size, this.#size, what);
  }

  /** Owners: 0, or the number of a unit plus 1. */
  #owners(value: unknown, length: number, what: string): Uint32Array {
    const owners = words(value, what, length);
    this.#atMost(owners, this.#starts.length, what);
    return owners;
  }

  /** Places in the image, each with its owner: the unit that it lies in. */
  #owned(places: Uint32Array, value: unknown, what: string, placeOf = (place: number): number => place): void {
    const owners = this.#owners(value, places.length, `owners of ${what}`);
    const starts = this.#starts;
    const ends = this.#ends;
    for (let index = 0; index < places.length; index++) {
      const place = placeOf(places[index]!);
      const unit = owners[index]! - 1;
      if (place < 0 || place > KERNEL_IMAGE_SIZE) this.#badEntry(what, places, index, 'a place in the image');
      if (unit >= 0 && (place < starts[unit]! || place >= ends[unit]!))
        this.#badEntry(`owners of ${what}`, owners, index, 'the unit that the place is in');
    }
  }

  #atMost(column: Uint32Array, largest: number, what: string): void {
    for (let index = 0; index < column.length; index++)
      if (column[index]! > largest)
        this.#badEntry(what, column, index, `at most 0x${Math.max(largest, 0).toString(16)}`);
  }

  #badEntry(what: string, column: Uint32Array, index: number, expected: string): never {
    const start = this.#offsetOf(column);
    return bad(`${what}[${index}]`, column[index]!, expected, start === undefined ? undefined : start + index * 4);
  }
}

/** `fields`: the names of all fields; those that end in "?" may be missing. */
function object(value: unknown, what: string, fields: readonly string[]): Unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    return bad(what, shown(value), 'an object');
  const required = fields.filter((name) => !name.endsWith('?'));
  const allowed = new Set(fields.map((name) => name.replace('?', '')));
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) bad(`${what}: ${missing}`, 'missing', 'one');
  if (!Object.keys(value).every((name) => allowed.has(name)))
    bad(what, 'something with other fields', 'those that kslide writes, and no others');
  return value as Unknown;
}

function number(value: unknown, what: string, largest: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > largest)
    return bad(what, shown(value), `0 to 0x${largest.toString(16)}`);
  return value;
}

function string(value: unknown, what: string, form: RegExp): void {
  if (typeof value !== 'string' || !form.test(value)) bad(what, shown(value), `text of the form ${form.source}`);
}

function words(value: unknown, what: string, length?: number): Uint32Array {
  if (!(value instanceof Uint32Array)) return bad(what, shown(value), 'a column of numbers');
  if (length !== undefined && value.length !== length)
    bad(what, `0x${value.length.toString(16)} numbers`, `0x${length.toString(16)}`);
  return value;
}

/** An offset with `length` bytes after it in the kernel's file. */
function fits(offset: unknown, length: number, size: number, what: string): void {
  if (length > size) bad(what, `that of 0x${length.toString(16)} bytes`, `at most 0x${size.toString(16)}, the kernel`);
  number(offset, what, size - length);
}

/** What is there, in a few characters: it may be text of any length and with any characters. */
function shown(value: unknown): string | number {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : 'no whole number below 2^53';
  if (value === null || value === undefined) return 'missing';
  return typeof value === 'string' ? `text of ${value.length} characters` : `of type ${typeof value}`;
}

function bad(what: string, found: string | number, expected: string, offset?: FileOffset): never {
  throw new KernelImageError({ code: 'bad-value', what: `plan: ${what}`, offset, found, expected });
}
