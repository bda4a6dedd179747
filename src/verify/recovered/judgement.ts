/**
 * What the judge found, field by field. Each field that could hold an address is said to be a site, a number or open; the table is asked what it says, and a contradiction is
 * an offence. Entries of the table that no judge has met lead to no field.
 */
import { tableEntryToPhys } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import type { Sites } from '../../relocs/tables/apply.ts';
import { LISTS } from '../../relocs/tables/kernel-table.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';
import { PlaceBits } from './place-bits.ts';
import type { JudgedImage } from './sections.ts';
import { OPEN, REASONS } from './reasons.ts';
import type { OpenKind, Reason } from './reasons.ts';

export interface Contradiction {
  readonly list: ListName;
  readonly place: PhysAddr;
  readonly isListed: boolean;
  readonly found: string;
  readonly expected: string;
}

/** Is told of every field as it is judged, and of every contradiction: what measures the judge needs them all. */
export interface JudgeWatch {
  /** `meaning`: what makes it a site, or the reason why it is a number or open. */
  readonly onField?:
    | ((list: ListName, place: PhysAddr, verdict: 'site' | 'number' | 'open', meaning: string) => void)
    | undefined;
  readonly onContradiction?: ((contradiction: Contradiction) => void) | undefined;
}

/** The counts of `verify --json`. */
export interface JudgedFields {
  /** Instructions that were decoded. */
  readonly instructions: number;
  /** Sites of the table that were found to be fields of addresses. */
  readonly sites: number;
  /** Fields that look like addresses and are not in the table, by the reason why they are numbers. */
  readonly numbers: Readonly<Partial<Record<Reason, number>>>;
  /** Fields that could be either, as the table has them. */
  readonly open: Readonly<Partial<Record<OpenKind, number>>>;
}

export class Judgement {
  readonly #listed: Readonly<Record<ListName, PlaceBits>>;
  /** Listed, and not met yet. */
  readonly #unmet: Readonly<Record<ListName, PlaceBits>>;
  /** Where a field was judged, of any width. */
  readonly #judged: PlaceBits;
  readonly #table: Sites;
  readonly #numbers: Partial<Record<Reason, number>> = {};
  readonly #open: Partial<Record<OpenKind, number>> = {};
  readonly #watch: JudgeWatch;
  #first: Contradiction | undefined;
  #sites = 0;
  #count = 0;

  constructor({ low, high }: JudgedImage, table: Sites, watch: JudgeWatch = {}) {
    this.#watch = watch;
    this.#table = table;
    const sets = (): Record<ListName, PlaceBits> => ({
      abs64: new PlaceBits(low, high),
      inverse32: new PlaceBits(low, high),
      abs32: new PlaceBits(low, high),
    });
    this.#listed = sets();
    this.#unmet = sets();
    this.#judged = new PlaceBits(low, high);
    for (const { name } of LISTS)
      for (const entry of table[name]) {
        const place = tableEntryToPhys(entry) ?? -1;
        this.#listed[name].add(place);
        this.#unmet[name].add(place);
      }
  }

  isListed(list: ListName, place: PhysAddr): boolean {
    return this.#listed[list].has(place);
  }

  isJudged(place: PhysAddr): boolean {
    return this.#judged.has(place);
  }

  /** The field there holds an address, so the table must have it. */
  site(list: ListName, place: PhysAddr, what: string): void {
    this.#meet(list, place, 'site', what);
    if (this.#unmet[list].has(place)) {
      this.#unmet[list].delete(place);
      this.#sites++;
    } else if (!this.#listed[list].has(place))
      this.#contradict({ list, place, isListed: false, found: 'left alone', expected: `a site: ${what}` });
  }

  /** The field there is a number, so the table must not have it. `count`: of fields that no site can be at. */
  number(reason: Reason, list?: ListName, place?: PhysAddr, count = 1): void {
    this.#numbers[reason] = (this.#numbers[reason] ?? 0) + count;
    if (list === undefined || place === undefined) return;
    this.#meet(list, place, 'number', reason);
    if (!this.#unmet[list].has(place)) return;
    this.#unmet[list].delete(place);
    this.#contradict({ list, place, isListed: true, found: 'a site', expected: `a number, of: ${REASONS[reason]}` });
  }

  /** The field there may be either. */
  open(kind: OpenKind, list: ListName, place: PhysAddr): void {
    this.#open[kind] = (this.#open[kind] ?? 0) + 1;
    this.#meet(list, place, 'open', kind);
    this.#unmet[list].delete(place);
  }

  #meet(list: ListName, place: PhysAddr, verdict: 'site' | 'number' | 'open', meaning: string): void {
    this.#judged.add(place);
    this.#watch.onField?.(list, place, verdict, meaning);
  }

  /** Entries of the table that lead to no field that was met, by rising place in each list. */
  *unmet(list: ListName): Generator<PhysAddr> {
    for (const entry of this.#table[list]) {
      const place = tableEntryToPhys(entry) ?? -1;
      if (this.#unmet[list].has(place)) yield place;
    }
  }

  /** The contradiction at the lowest place, and how many there are; `rest`: what is there for an entry that leads to no field. */
  finish(rest: (list: ListName, place: PhysAddr) => string): { first: Contradiction | undefined; count: number } {
    for (const { name } of LISTS)
      for (const place of this.unmet(name))
        this.#contradict({ list: name, place, isListed: true, found: 'a site', expected: rest(name, place) });
    return { first: this.#first, count: this.#count };
  }

  fields(instructions: number): JudgedFields {
    const ordered = <K extends string>(names: object, counts: Partial<Record<K, number>>): Partial<Record<K, number>> =>
      Object.fromEntries(
        (Object.keys(names) as K[]).flatMap((name) => (counts[name] === undefined ? [] : [[name, counts[name]]])),
      ) as Partial<Record<K, number>>;
    return {
      instructions,
      sites: this.#sites,
      numbers: ordered(REASONS, this.#numbers),
      open: ordered(OPEN, this.#open),
    };
  }

  /** Keeps the one at the lowest place: a table that is wholly wrong has a contradiction for each field. */
  #contradict(contradiction: Contradiction): void {
    this.#count++;
    this.#watch.onContradiction?.(contradiction);
    if (this.#first === undefined || contradiction.place < this.#first.place) this.#first = contradiction;
  }
}
