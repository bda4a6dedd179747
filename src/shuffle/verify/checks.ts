/** The checks of `verify --shuffled`: their names, what each shows, and the record of how they went. */
import { KernelImageError } from '../../base/errors.ts';
import { Refutation } from '../../verify/evidence.ts';
import type { Finding } from '../../verify/evidence.ts';
import type { Premise } from '../../verify/premises.ts';

/** In the order in which they run, with what each shows. Names are stable: programs may switch on them. */
export const SHUFFLE_CHECKS = {
  moves: 'ranges of .text went to places of their own, over nothing but padding',
  conversion: 'the self-relocating file is what `convert` makes of the plain one',
  'relocation-table': "the original's sites; those in moved code moved with it",
  'absolute-fields': 'each holds the new place of its old target',
  code: 'instruction for instruction the same; each relative displacement leads to the new place of its old target',
  'relative-fields':
    'each one outside .text that the debug vmlinux names in a relocation holds the new place of its old target',
  kallsyms: 'sorted by address; the same symbols, moved; the same order of names',
  orc: 'sorted; says of each instruction what it said before',
  extable: 'sorted; the same entries, moved',
  mcount: 'sorted; the same call sites, moved',
  'nothing-else': 'every other byte is unchanged, or has the only right value',
} as const;
/** What `relative-fields` shows without relocations. */
const WITHOUT_RELOCATIONS =
  'each one outside .text that changed leads to the new place of its old target, and no unchanged word looks like one';
export type ShuffleCheck = keyof typeof SHUFFLE_CHECKS;

export interface ShuffleCheckResult {
  readonly name: ShuffleCheck;
  /** null: not done, because a check before it was refuted, or because there is nothing to check. */
  readonly ok: boolean | null;
  readonly detail: string;
  /** The number of things that it compared. */
  readonly count: number;
}

/** The shape of `kslide verify --shuffled --json`. */
export interface ShuffleVerification {
  /** `consistent`: everything that was changed is right. Without relocations it is not shown that everything was changed that had to be. */
  readonly verdict: 'proved' | 'consistent' | 'refuted';
  readonly kernelVersion: string | undefined;
  readonly selfRelocating: boolean | undefined;
  readonly checks: readonly ShuffleCheckResult[];
  /** What the verdict presupposes. */
  readonly premises: readonly Premise[];
  readonly offence: (Finding & { readonly check: ShuffleCheck }) | undefined;
}

/** Runs checks, and records how they went. */
export class CheckRecord {
  readonly #results = new Map<ShuffleCheck, ShuffleCheckResult>();
  readonly #recover: boolean;
  readonly #onCheck: ((name: ShuffleCheck) => void) | undefined;

  constructor(recover: boolean, onCheck?: (name: ShuffleCheck) => void) {
    this.#recover = recover;
    this.#onCheck = onCheck;
  }

  /** Passes on what `work` returns. Its count is null when there was nothing to check; what it throws refutes the check. */
  async run<T extends { readonly count: number | null }>(name: ShuffleCheck, work: () => T | Promise<T>): Promise<T> {
    this.#onCheck?.(name);
    const detail = this.#describe(name);
    try {
      const learned = await work();
      this.#results.set(name, { name, ok: learned.count === null ? null : true, detail, count: learned.count ?? 0 });
      return learned;
    } catch (error) {
      this.#results.set(name, { name, ok: false, detail, count: 0 });
      throw error;
    }
  }

  /** All checks in their order, those that were not done included. */
  results(): ShuffleCheckResult[] {
    return (Object.keys(SHUFFLE_CHECKS) as ShuffleCheck[]).map(
      (name) => this.#results.get(name) ?? { name, ok: null, detail: this.#describe(name), count: 0 },
    );
  }

  /** The offence in what a check threw. Any other error is thrown again. */
  offenceOf(error: unknown): ShuffleVerification['offence'] {
    const finding = findingOf(error);
    if (finding === undefined) throw error;
    const check = [...this.#results.values()].find(({ ok }) => ok === false)!.name;
    return { ...finding, check };
  }

  #describe(name: ShuffleCheck): string {
    return this.#recover && name === 'relative-fields' ? WITHOUT_RELOCATIONS : SHUFFLE_CHECKS[name];
  }
}

function findingOf(error: unknown): Finding | undefined {
  if (error instanceof Refutation) return error.finding;
  if (!(error instanceof KernelImageError)) return undefined;
  const { code, what, offset = 0, found = code, expected = 'another value' } = error.data;
  return { what, offset, found: String(found), expected: String(expected) };
}
