/** A recovery as the summaries of `convert` and `extract` show it. */
import { hex } from '../base/errors.ts';
import { physToVirt } from '../base/addresses.ts';
import type { Doubt } from './ledger.ts';
import type { RecoverEvidence, Recovery } from './recover.ts';
import { SYMBOL_SOURCES } from './symbols.ts';
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
  /** What the table stands on, and what it would stand on too if the kernel had it: `.symtab`, `kallsyms`, `patterns`. */
  readonly evidence: { readonly used: readonly string[]; readonly absent: readonly string[] };
  /** The tables that named those places. */
  readonly comparedWith: readonly string[];
  /** Checks that could not be made, and why, a sentence each. */
  readonly leftOut: readonly string[];
  /** Kinds of fields that most kernels have, and this one does not. */
  readonly absent: readonly string[];
}

export interface DoubtFacts {
  /** Where the field is. */
  readonly address: string;
  readonly bits: 32 | 64;
  readonly holds: string;
  readonly why: string;
  /** What the field is in, where kallsyms says it: `function+0x12`. */
  readonly symbol: string | undefined;
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
    evidence: {
      used: [...evidence.symbols, 'patterns'],
      absent: SYMBOL_SOURCES.filter((source) => !evidence.symbols.includes(source)),
    },
    comparedWith: evidence.anchors.tables,
    leftOut: leftOut(evidence),
    absent: evidence.absent.map((rule) => RULES[rule].text),
  };
}

function leftOut({ symbols, physBaseNamed, anchors }: RecoverEvidence): string[] {
  const sentences: string[] = [];
  if (symbols.length === 0)
    sentences.push(
      'where functions begin was not compared, and no symbol decided a doubt: the kernel has neither .symtab nor kallsyms',
    );
  if (!physBaseNamed) sentences.push('phys_base is known from its use alone: no symbol names it');
  if (anchors.strays.length > 0)
    sentences.push(
      `operands near symbols of code at which no instruction begins are doubts: ${anchors.strays.map((place) => hex(physToVirt(place))).join(', ')}`,
    );
  return sentences;
}

export function describeDoubt({ list, place, value, rule, symbol }: Doubt): DoubtFacts {
  return {
    address: hex(physToVirt(place)),
    bits: list === 'abs64' ? 64 : 32,
    holds: hex(BigInt.asUintN(64, value)),
    why: RULES[rule].text,
    symbol,
  };
}
