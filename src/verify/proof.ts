/**
 * The checks by name, and how far a proof has come.
 *
 * verify.ts calls the checks in order, in `prove` and `examineBzImage`. The code of a check is a function named after it (`elf-header` is
 * `checkElfHeader`), if this table names no other:
 *
 *     headers.ts     elf-header, program-headers, placement
 *     hook.ts        original-bytes, hook
 *     segment.ts     program, parameters, slots
 *     table.ts       table; the readers of each format are in table/
 *     sections.ts    section-names, section-headers, padding
 *     evidence.ts    nothing-else: `expectAllProved`
 *     dry-run.ts     dry-run: `dryRun`
 *     container.ts   payload: `openContainer`; container: `checkDecompressor`, `readKernel`
 *     decompressor-model.ts   container: `checkUnpacking`
 *     segment-loader.ts       container of a bzImage without a decompressor: `checkSegmentLoader`
 *     recovered/              recovered: `judgeTable`
 */
import { KernelImageError } from '../base/errors.ts';
import { Refutation, shown } from './evidence.ts';
import type { Finding } from './evidence.ts';

/** These run before the others if the converted file is a bzImage. */
export const CONTAINER_CHECKS = {
  container:
    "the original's setup code, header and decompressor, except the fields that describe the payload; or the segment loader",
  payload: 'decodes to an ELF file, followed by what the decompressor expects',
} as const;

/** In the order in which they run, with what each shows. The names are stable, because programs may switch on them. */
export const CHECKS = {
  'elf-header': "the original's, except where the header tables are and how many entries they have",
  'program-headers': "the original's, and one more PT_LOAD",
  placement: 'the added segment lies outside the image; no two segments overlap, physically or virtually',
  'original-bytes': 'unchanged, except headers and hook',
  hook: 'leads from e_entry to the program; the bytes under it are saved',
  program: 'the one that this version of kslide writes',
  parameters: 'each has the one value that is right for this kernel',
  slots: 'one for each multiple of the alignment by which the image can move within KERNEL_IMAGE_SIZE',
  table: "decodes to the original's relocations",
  'section-names': "the original's, and the added segment's",
  'section-headers': "the original's, and the added segment's with its true ranges",
  padding: 'zero',
  'nothing-else': 'every byte of the file is accounted for',
  'dry-run': "slides applied in memory give the image that the original's own table gives",
} as const;

/** What these show is less if the table in the converted file is the one that is judged. */
const CLAIMED_CHECKS = {
  table:
    'decodes to sites in the image of which no two overlap; from here on they are taken as right, until `recovered`',
  'dry-run': 'slides applied in memory give the image that the table gives',
} as const satisfies Partial<Record<keyof typeof CHECKS, string>>;

/** This runs after the others if the original has no table: the one in the converted file was recovered from the image. */
export const RECOVERED_CHECKS = {
  recovered:
    'each field of the table can hold an address, and each field that looks like an address and is not in the table has a reason to be a number',
} as const;

export type CheckName = keyof typeof CHECKS | keyof typeof CONTAINER_CHECKS | keyof typeof RECOVERED_CHECKS;

export const isContainerCheck = (name: CheckName): boolean => name in CONTAINER_CHECKS;

export interface CheckResult {
  readonly name: CheckName;
  /** null: not run, because an earlier check was refuted. */
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

  constructor(onCheck?: (name: CheckName) => void, more: { container?: boolean; recovered?: boolean } = {}) {
    this.#onCheck = onCheck;
    this.#names = {
      ...(more.container === true && CONTAINER_CHECKS),
      ...CHECKS,
      ...(more.recovered === true && { ...CLAIMED_CHECKS, ...RECOVERED_CHECKS }),
    };
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

  /** Runs one check and returns its result. If the check is refuted, this throws, which ends the `attempt` around it. */
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

  /** Runs a whole proof. Undefined if a check was refuted. */
  attempt<T>(prove: () => T): T | undefined {
    try {
      return prove();
    } catch (error) {
      if (this.#offence === undefined) throw error;
      return undefined;
    }
  }
}

/**
 * What a refutation says, or the KernelImageError that a reader has thrown. Undefined for any other error: that is a bug in kslide and is thrown on.
 */
function findingOf(error: unknown): Finding | undefined {
  if (error instanceof Refutation) return error.finding;
  if (!(error instanceof KernelImageError)) return undefined;
  const { code, what, offset = 0, found = code, expected = 'another value' } = error.data;
  return { what, offset, found: shown(found), expected: shown(expected) };
}
