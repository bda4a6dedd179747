/** The checks by name, and how far a proof has come. */
import { KernelImageError } from '../base/errors.ts';
import { Refutation, shown } from './evidence.ts';
import type { Finding } from './evidence.ts';

/** Before the others, where CONVERTED is a bzImage. */
export const CONTAINER_CHECKS = {
  container:
    "the original's setup code, header and decompressor, but for what tells of another payload; or the segment loader",
  payload: 'decodes to an ELF file, followed by what the decompressor needs',
} as const;

/** In the order in which they run, with what each shows. Names are stable: programs may switch on them. */
export const CHECKS = {
  'elf-header': "the original's, but for where the headers are and how many",
  'program-headers': "the original's, and one PT_LOAD more",
  placement: 'the added segment lies outside the image; no two segments overlap, physically or virtually',
  'original-bytes': 'unchanged, but for headers and hook',
  hook: 'leads from e_entry to the program; the bytes under it are saved',
  program: 'the one that this version of kslide writes',
  parameters: 'each has the one value that is right for this kernel',
  slots: 'as many as the image has room for within KERNEL_IMAGE_SIZE, at its alignment',
  table: "decodes to the original's relocations",
  'section-names': "the original's, and the added segment's",
  'section-headers': "the original's, and the added segment's with its true ranges",
  padding: 'zero',
  'nothing-else': 'every byte of the file is accounted for',
  'dry-run': "slides carried out in memory give the image that the original's own table gives",
} as const;

export type CheckName = keyof typeof CHECKS | keyof typeof CONTAINER_CHECKS;

export const isContainerCheck = (name: CheckName): boolean => name in CONTAINER_CHECKS;

export interface CheckResult {
  readonly name: CheckName;
  /** null: not looked at, because a check before it was refuted. */
  readonly ok: boolean | null;
  /** What the check shows. */
  readonly detail: string;
}

export interface Offence extends Finding {
  readonly check: CheckName;
}

export class Proof {
  readonly #results = new Map<CheckName, boolean>();
  readonly #onCheck: ((name: CheckName) => void) | undefined;
  readonly #names: Readonly<Partial<Record<CheckName, string>>>;
  #offence: Offence | undefined;

  constructor(onCheck?: (name: CheckName) => void, container = false) {
    this.#onCheck = onCheck;
    this.#names = container ? { ...CONTAINER_CHECKS, ...CHECKS } : CHECKS;
  }

  get offence(): Offence | undefined {
    return this.#offence;
  }

  get checks(): CheckResult[] {
    return (Object.entries(this.#names) as [CheckName, string][]).map(([name, detail]) => ({
      name,
      ok: this.#results.get(name) ?? null,
      detail,
    }));
  }

  /** Runs one check and gives what it learned. A refuted one ends the `attempt` that it is part of. */
  check<T>(name: CheckName, run: () => T): T {
    this.#onCheck?.(name);
    try {
      const learned = run();
      this.#results.set(name, true);
      return learned;
    } catch (error) {
      const finding = findingOf(error);
      if (finding === undefined) throw error;
      this.#results.set(name, false);
      this.#offence = { check: name, ...finding };
      throw error;
    }
  }

  /** The whole of a proof; undefined when a check was refuted. */
  attempt<T>(prove: () => T): T | undefined {
    try {
      return prove();
    } catch (error) {
      if (this.#offence === undefined) throw error;
      return undefined;
    }
  }
}

/** Table readers report what is wrong with the converted file as a KernelImageError. Any other error is a bug of ours, and passes through. */
function findingOf(error: unknown): Finding | undefined {
  if (error instanceof Refutation) return error.finding;
  if (!(error instanceof KernelImageError)) return undefined;
  const { code, what, offset = 0, found = code, expected = 'another value' } = error.data;
  return { what, offset, found: shown(found), expected: shown(expected) };
}
