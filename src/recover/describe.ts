/** A recovery as the summaries of `convert` and `extract` show it. */
import { hex } from '../base/errors.ts';
import { physToVirt } from '../base/addresses.ts';
import type { Doubt } from './ledger.ts';
import type { Recovery } from './recover.ts';
import type { Build } from './tested.ts';
import { RULES } from './rules.ts';
import type { Rule, RuleName } from './rules.ts';

/** Virtual addresses are text in hex, because they do not fit a double. */
export interface RecoveredFacts {
  /** The kernel's release and compiler, and whether kernels like that were compared with their true tables. */
  readonly build: Build;
  /** Rules that found something, with the number of fields that each took for sites, for numbers, and left in doubt. */
  readonly rules: readonly {
    readonly rule: RuleName;
    readonly basis: Rule['basis'];
    readonly text: string;
    readonly sites: number;
    readonly numbers: number;
    readonly doubts: number;
  }[];
  /** Fields that no rule decided and the caller accepted. They were left as they are. */
  readonly accepted: readonly DoubtFacts[];
  /** Instructions in the code, and how many places that the kernel names as instructions were compared with them. */
  readonly instructions: number;
  readonly anchors: number;
  /** Kinds of fields that most kernels have, and this one does not. */
  readonly absent: readonly string[];
}

export interface DoubtFacts {
  /** Where the field is. */
  readonly address: string;
  readonly bits: 32 | 64;
  readonly holds: string;
  readonly why: string;
}

/** What the user must know of recovered relocations, a sentence each. */
export function recoveryWarnings({ accepted, build }: RecoveredFacts): string[] {
  const warnings = [
    'the relocations were recovered from the image, so this kernel is consistent at best, and not proved',
  ];
  if (!build.tested)
    warnings.push(
      `recovering was never tried on kernels like this one: release ${build.release ?? 'unknown'}, ${build.compiler ?? 'compiler unknown'}`,
    );
  if (accepted.length > 0)
    warnings.push(
      `fields that may hold addresses, left as they are: ${accepted.map(({ address }) => address).join(', ')}`,
    );
  return warnings;
}

export function describeRecovery({ rules, doubts, evidence }: Recovery): RecoveredFacts {
  return {
    build: evidence.build,
    rules: rules.map((count) => ({ ...count, basis: RULES[count.rule].basis, text: RULES[count.rule].text })),
    accepted: doubts.map(describeDoubt),
    instructions: evidence.instructions,
    anchors: evidence.anchors.count,
    absent: evidence.absent.map((rule) => RULES[rule].text),
  };
}

export function describeDoubt({ list, place, value, rule }: Doubt): DoubtFacts {
  return {
    address: hex(physToVirt(place)),
    bits: list === 'abs64' ? 64 : 32,
    holds: hex(BigInt.asUintN(64, value)),
    why: RULES[rule].text,
  };
}
