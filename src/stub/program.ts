/**
 * The self-relocation program: what runs between the boot loader and startup_64.
 *
 * It is entered through a jump that `convert` puts over the first bytes at e_entry, in 64-bit mode with interrupts off, RSI pointing to
 * boot_params and an identity map in CR3 (Documentation/arch/x86/boot.rst, "64-bit boot protocol"); the kernel's own PVH code arrives in
 * the same state. It leaves to startup_64 in the state that it found, the slide chosen and applied.
 *
 * Register use, from `enter` to `leave`. No step uses the stack: only traps do.
 *
 *     R15  the parameters (start of the segment)      R12  boot_params
 *     RBP  the scratch memory                         R13  physical slide: where the segment runs minus where it is linked
 *     R14  entropy, later the virtual slide           all others: free within a step
 */
import { Assembler } from '../asm/assembler.ts';
import type { Assembled, Label } from '../asm/assembler.ts';
import { emitCmdline } from './cmdline.ts';
import { emitEnter, emitUndoHook } from './enter.ts';
import { emitChooseSlide, emitEntropy } from './entropy.ts';
import { emitFlag } from './flag.ts';
import { PARAMS } from '../segment/layout.ts';
import { emitLeave } from './leave.ts';
import { emitPaging } from './paging.ts';
import { emitRelocate } from './relocate.ts';
import { emitInstallTraps, emitTrapHandlers } from './traps.ts';

/** The labels that steps share. */
export interface Stub {
  /** The parameters, which lie before the program. */
  readonly params: Label;
  /** Trap handlers: for faults, and for NMIs. */
  readonly fault: Label;
  readonly nmi: Label;
  /** Leaves without having randomized anything. */
  readonly leave: Label;
}

/** Assembles the program. Its bytes depend on nothing but this version of kslide. */
export function assembleStub(): Assembled {
  const a = new Assembler();
  const stub = makeLabels(a);
  emitEnter(a, stub); //         own stack
  emitInstallTraps(a, stub); //  from here a fault is survivable where a step says so
  emitUndoHook(a); //            the kernel's own bytes back at its entry
  emitCmdline(a, stub); //       KASLR_FLAG set or nokaslr: leave
  emitEntropy(a); //             R14: everything random that can be had
  emitChooseSlide(a); //         R14: the slide
  emitPaging(a); //              off the page tables that the next step changes
  emitRelocate(a); //            the slide applied, KASLR_FLAG set
  emitLeave(a, stub); //         nothing left behind
  emitTrapHandlers(a, stub); //  out of line
  return a.assemble();
}

/** The program of a kernel that the host has moved already (`randomize`): what is left is to say so. Its scratch memory is the first page alone. */
export function assembleFlagStub(): Assembled {
  const a = new Assembler();
  const stub = makeLabels(a);
  emitEnter(a, stub);
  emitInstallTraps(a, stub);
  emitUndoHook(a);
  emitCmdline(a, stub); //       nokaslr: leave; all that the guest would choose stays as it is
  emitFlag(a);
  emitLeave(a, stub);
  emitTrapHandlers(a, stub);
  return a.assemble();
}

function makeLabels(a: Assembler): Stub {
  return {
    params: a.labelAt('params', -PARAMS.size),
    fault: a.label('fault'),
    nmi: a.label('nmi'),
    leave: a.label('leave'),
  };
}
