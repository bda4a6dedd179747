/** The relocations of a kernel that may have none: its own, or recovered ones if the caller asks for them. */
import type { OpenedKernel } from '../kernel/open.ts';
import { locateRelocations } from '../relocs/find.ts';
import type { Doubt } from './ledger.ts';
import { recoverRelocations } from './recover.ts';
import type { Recovery, RecoverOptions } from './recover.ts';

export interface RecoverChoice extends RecoverOptions {
  /** Leave the fields that no rule decides as they are. Without it, one of them is an error. */
  readonly acceptDoubts?: boolean | undefined;
}

/** A recovered table has doubts, and the caller did not accept them. */
export class DoubtsError extends Error {
  override readonly name = 'DoubtsError';
  readonly doubts: readonly Doubt[];

  constructor(doubts: readonly Doubt[]) {
    super(`${doubts.length} ${doubts.length === 1 ? 'field' : 'fields'} may or may not hold an address`);
    this.doubts = doubts;
  }
}

/** Undefined where nothing needs to be recovered: the kernel has its relocations, or was given them. Throws DoubtsError, and KernelImageError as `recoverRelocations` does. */
export function recoverIfNeeded({ kernel, input }: OpenedKernel, choice: RecoverChoice): Recovery | undefined {
  if (locateRelocations(kernel, input) !== undefined) return undefined;
  const recovery = recoverRelocations(kernel, choice);
  if (recovery.doubts.length > 0 && choice.acceptDoubts !== true) throw new DoubtsError(recovery.doubts);
  return recovery;
}
