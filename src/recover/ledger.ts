/** What became of each candidate: a site, a number, or a doubt. */
import type { PhysAddr } from '../base/addresses.ts';
import { lastAtOrBelow } from '../base/search.ts';
import { physToTableEntry } from '../base/addresses.ts';
import type { ListName, RelocationTable } from '../relocs/tables/kernel-table.ts';
import { RULES } from './rules.ts';
import type { RuleName } from './rules.ts';

export interface Doubt {
  readonly list: ListName;
  readonly place: PhysAddr;
  /** What the field holds, sign-extended. */
  readonly value: bigint;
  readonly rule: RuleName;
  /** `function+0x12`, where a symbol says what the field is in. */
  readonly symbol?: string | undefined;
}

export interface RuleCount {
  readonly rule: RuleName;
  readonly sites: number;
  readonly numbers: number;
  readonly doubts: number;
}

export class Ledger {
  readonly #sites: Record<ListName, PhysAddr[]> = { abs64: [], inverse32: [], abs32: [] };
  readonly #counts = new Map<RuleName, { sites: number; numbers: number; doubts: number }>();
  readonly doubts: Doubt[] = [];

  site(rule: RuleName, list: ListName, place: PhysAddr): void {
    this.#sites[list].push(place);
    this.#count(rule).sites++;
  }

  /** Looks at all sites: for a few questions. */
  isSite(list: ListName, place: PhysAddr): boolean {
    return this.#sites[list].includes(place);
  }

  number(rule: RuleName): void {
    this.#count(rule).numbers++;
  }

  doubt(rule: RuleName, list: ListName, place: PhysAddr, value: bigint): void {
    this.doubts.push({ list, place, value, rule });
    this.#count(rule).doubts++;
  }

  /** 32-bit sites that are less than `distance` after one of `places`, which rise, become doubts. */
  doubtAfter(
    rule: RuleName,
    places: readonly PhysAddr[],
    distance: number,
    valueAt: (place: PhysAddr) => bigint,
  ): void {
    if (places.length === 0) return;
    const kept: PhysAddr[] = [];
    for (const site of this.#sites.abs32) {
      const before = places[lastAtOrBelow(places, site)];
      if (before === undefined || site - before >= distance) kept.push(site);
      else this.doubt(rule, 'abs32', site, valueAt(site));
    }
    this.#sites.abs32 = kept;
  }

  table(lists: 2 | 3): RelocationTable {
    const entries = (name: ListName): Uint32Array => {
      const sorted = Uint32Array.from(this.#sites[name], physToTableEntry).toSorted();
      return sorted.filter((entry, index) => index === 0 || sorted[index - 1] !== entry);
    };
    return { abs64: entries('abs64'), inverse32: entries('inverse32'), abs32: entries('abs32'), lists };
  }

  sitesBy(rule: RuleName): number {
    return this.#counts.get(rule)?.sites ?? 0;
  }

  counts(): RuleCount[] {
    return (Object.keys(RULES) as RuleName[]).flatMap((rule) => {
      const count = this.#counts.get(rule);
      return count === undefined ? [] : [{ rule, ...count }];
    });
  }

  #count(rule: RuleName): { sites: number; numbers: number; doubts: number } {
    let count = this.#counts.get(rule);
    if (count === undefined) this.#counts.set(rule, (count = { sites: 0, numbers: 0, doubts: 0 }));
    return count;
  }
}
