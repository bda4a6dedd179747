/** Tables of relocations that are wrong in one field: a site left out, or a number added. */
import { physToTableEntry, tableEntryToPhys } from '../../src/base/addresses.ts';
import type { PhysAddr } from '../../src/base/addresses.ts';
import { fileOffsetOf } from '../../src/kernel/vmlinux.ts';
import type { Vmlinux } from '../../src/kernel/vmlinux.ts';
import { LISTS } from '../../src/relocs/tables/kernel-table.ts';
import type { ListName, RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { Refutation } from '../../src/verify/evidence.ts';
import type { OpenDisassembler } from '../../src/verify/recovered/disassembler.ts';
import { judgeTable } from '../../src/verify/recovered/judge.ts';
import type { Contradiction } from '../../src/verify/recovered/judgement.ts';
import { readJudgedImage } from '../../src/verify/recovered/sections.ts';

export interface Field {
  readonly list: ListName;
  readonly place: PhysAddr;
  readonly verdict: 'site' | 'number' | 'open';
  readonly meaning: string;
}

/** A field that a forged table is wrong about. */
export interface Forged {
  readonly list: ListName;
  readonly place: PhysAddr;
  readonly kind: string;
}

export interface ForgedTable {
  readonly table: RelocationTable;
  readonly forged: readonly Forged[];
}

function judge(
  kernel: Vmlinux,
  table: RelocationTable,
  open: OpenDisassembler,
  watch: Parameters<typeof judgeTable>[3],
): void {
  try {
    judgeTable(kernel, table, open, watch);
  } catch (error) {
    if (!(error instanceof Refutation)) throw error;
  }
}

/** All that the judge finds, not only the first. */
export function contradictionsOf(kernel: Vmlinux, table: RelocationTable, open: OpenDisassembler): Contradiction[] {
  const found: Contradiction[] = [];
  judge(kernel, table, open, { onContradiction: (contradiction) => found.push(contradiction) });
  return found;
}

/** What the judge says of each field that it meets. */
export function readFields(kernel: Vmlinux, table: RelocationTable, open: OpenDisassembler): Field[] {
  const fields: Field[] = [];
  judge(kernel, table, open, {
    onField: (list, place, verdict, meaning) => fields.push({ list, place, verdict, meaning }),
  });
  return fields;
}

/** Numbers below 1, the same in every run: Park and Miller's generator. */
export function* numbers(seed = 1): Generator<number, never> {
  for (let state = seed; ;) {
    state = (state * 48271) % 0x7fff_ffff;
    yield state / 0x7fff_ffff;
  }
}

/** Takes one of each kind in turn, at random, until there are `count`. */
function spread<T>(kinds: readonly (readonly T[])[], count: number): T[] {
  const random = numbers();
  const left = kinds.map((kind) => [...kind]);
  const taken: T[] = [];
  while (taken.length < count && left.some((kind) => kind.length > 0))
    for (const kind of left) {
      if (kind.length === 0 || taken.length === count) continue;
      const [one] = kind.splice(Math.floor(random.next().value * kind.length), 1);
      taken.push(one!);
    }
  return taken;
}

/** By kind: what makes it a site, or that it could be either. */
export function sitesByKind(table: RelocationTable, fields: readonly Field[]): Forged[][] {
  const listed = new Set(LISTS.flatMap(({ name }) => Array.from(table[name], (entry) => `${name} ${entry}`)));
  return kindsOf(
    fields
      .filter(({ list, place }) => listed.has(`${list} ${physToTableEntry(place)}`))
      .map(({ list, place, meaning }) => ({ list, place, kind: meaning })),
  );
}

function kindsOf(all: readonly Forged[]): Forged[][] {
  const kinds = new Map<string, Forged[]>();
  for (const each of all) {
    const kind = `${each.list} ${each.kind}`;
    const list = kinds.get(kind);
    if (list === undefined) kinds.set(kind, [each]);
    else list.push(each);
  }
  return [...kinds.values()];
}

export function forgeLeftOut(table: RelocationTable, fields: readonly Field[], count: number): ForgedTable {
  const forged = spread(sitesByKind(table, fields), count);
  return { table: leaveOut(table, forged), forged };
}

export function leaveOut(table: RelocationTable, gone: readonly Forged[]): RelocationTable {
  const without = (name: ListName): Uint32Array => {
    const places = new Set(gone.filter(({ list }) => list === name).map(({ place }) => physToTableEntry(place)));
    return table[name].filter((entry) => !places.has(entry));
  };
  return { ...table, abs64: without('abs64'), inverse32: without('inverse32'), abs32: without('abs32') };
}

export function add(table: RelocationTable, more: readonly Forged[]): RelocationTable {
  const withMore = (name: ListName): Uint32Array =>
    Uint32Array.from([
      ...table[name],
      ...more.filter(({ list }) => list === name).map(({ place }) => physToTableEntry(place)),
    ]).toSorted();
  return { ...table, abs64: withMore('abs64'), inverse32: withMore('inverse32'), abs32: withMore('abs32') };
}

/** By kind: why they are numbers; and fields of 4 and 8 bytes anywhere in code and in data, that look like addresses or are any bytes. None shares a byte with a site. */
export function numbersByKind(kernel: Vmlinux, table: RelocationTable, fields: readonly Field[]): Forged[][] {
  const taken = new Set<PhysAddr>();
  for (const { name, width } of LISTS)
    for (const entry of table[name]) for (let at = 0; at < width; at++) taken.add(tableEntryToPhys(entry)! + at);
  const isFree = ({ list, place }: Forged): boolean => {
    const { width } = LISTS.find(({ name }) => name === list)!;
    if (fileOffsetOf(kernel.loads, place + width - 1) === undefined) return false;
    for (let at = 0; at < width; at++) if (taken.has(place + at)) return false;
    return true;
  };
  const all: Forged[] = fields
    .filter(({ verdict }) => verdict !== 'site')
    .map(({ list, place, meaning }) => ({ list, place, kind: meaning }));
  const image = readJudgedImage(kernel);
  const random = numbers(7);
  for (const { content, view, bytes, start } of image.stretches) {
    for (let at = 0; at + 8 <= bytes.length; at++) {
      const target = view.getInt32(at, true) + 0x8000_0000;
      if (target < image.low || target > image.high || random.next().value > 0.02) continue;
      all.push({ list: 'abs32', place: start + at, kind: `4 bytes of ${content} that look like an address` });
    }
    for (let left = Math.min(200, bytes.length / 64); left > 0; left--) {
      const at = Math.floor(random.next().value * (bytes.length - 8));
      all.push({ list: 'abs32', place: start + at, kind: `any 4 bytes of ${content}` });
      all.push({ list: 'abs64', place: start + at - (at % 8), kind: `any 8 bytes of ${content}` });
      if (image.perCpu > 0)
        all.push({ list: 'inverse32', place: start + at, kind: `any 4 bytes of ${content}, inverse` });
    }
  }
  return kindsOf(all.filter(isFree));
}

export function forgeAdded(
  kernel: Vmlinux,
  table: RelocationTable,
  fields: readonly Field[],
  count: number,
): ForgedTable {
  const forged: Forged[] = [];
  const taken = new Set<PhysAddr>();
  // More than are wanted: two of them may share bytes.
  for (const each of spread(numbersByKind(kernel, table, fields), count * 2)) {
    const places = Array.from({ length: 8 }, (_, at) => each.place + at);
    if (forged.length === count || places.some((place) => taken.has(place))) continue;
    for (const place of places) taken.add(place);
    forged.push(each);
  }
  return { table: add(table, forged), forged };
}
