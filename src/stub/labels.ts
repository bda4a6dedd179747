/**
 * The labels that the steps of a stub share, and the registers that hold something from `enter` to `leave`. No step uses the stack: only
 * traps do.
 *
 *     R15  the parameters (start of the segment)      R12  boot_params
 *     RBP  the scratch memory                         R13  physical slide: where the segment runs minus where it is linked
 *     R14  entropy, later the virtual slide           all others: free within a step
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { PARAMS } from '../segment/layout.ts';

export interface StubLabels {
  /** The parameters, which lie before the program. */
  readonly params: Label;
  /** Trap handlers: for faults, and for NMIs. */
  readonly fault: Label;
  readonly nmi: Label;
  /** Leaves without having randomized anything. */
  readonly leave: Label;
}

export function makeLabels(a: Assembler): StubLabels {
  return {
    params: a.labelAt('params', -PARAMS.size),
    fault: a.label('fault'),
    nmi: a.label('nmi'),
    leave: a.label('leave'),
  };
}
