/**
 * The public names of `kslide/shuffle`: what needs a disassembler. They are apart from the core, which is bundled for browsers, because iced-x86 is 2 MB of
 * WebAssembly. It is loaded by the first call of planShuffle or verifyShuffled; making layouts from a plan needs none.
 */
export { decodePlan, encodePlan } from './plan/plan-file.ts';
export type { Plan } from './plan/plan.ts';
export { openShuffler, planShuffle, shuffle } from './shuffle.ts';
export type {
  PlanOptions,
  Shuffled,
  ShuffleOnceOptions,
  ShuffleOptions,
  ShufflePass,
  Shuffler,
  ShufflerOptions,
} from './shuffle.ts';
export type { ShuffleSummary } from './summary.ts';
export { verifyShuffled } from './verify/verify.ts';
export type { ShuffleCheck, ShuffleCheckResult, ShuffleVerification } from './verify/checks.ts';
export type { VerifyShuffledOptions } from './verify/verify.ts';
export { loadOperandDisassembler } from './verify/operand-disassembler.ts';
