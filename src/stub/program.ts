/**
 * The self-relocation program: what runs between the boot loader and startup_64.
 *
 * It is entered through a jump that `convert` writes over the first bytes at e_entry. It runs in 64-bit mode with interrupts off, RSI pointing
 * to boot_params, and an identity map in CR3 (Documentation/arch/x86/boot.rst, "64-bit boot protocol"). The kernel's own PVH code arrives in
 * the same state. The program chooses the slide, applies it, and leaves to startup_64 in the state that it found. Register use: labels.ts.
 *
 * This file and those that it calls are the source. The programs that kslide writes into kernels are the bytes in assembled.ts, generated
 * from here; a test holds the two equal.
 */
import { Assembler } from '../asm/assembler.ts';
import type { Assembled } from '../asm/assembler.ts';
import { emitCmdline } from './cmdline.ts';
import { emitEnter, emitUndoHook } from './enter.ts';
import { emitChooseSlide, emitEntropy } from './entropy.ts';
import { emitFlag } from './flag.ts';
import { makeLabels } from './labels.ts';
import { emitLeave } from './leave.ts';
import { emitPaging } from './paging.ts';
import { emitRelocate } from './relocate.ts';
import { emitInstallTraps, emitTrapHandlers } from './traps.ts';

/** The steps that the bench counts, in the order in which they run. */
export const STUB_STEPS = ['set-up', 'entropy', 'paging', 'relocate', 'leave'] as const;
export type StubStep = (typeof STUB_STEPS)[number];

/** Assembles the program. Its bytes depend on nothing but this version of kslide. */
export function assembleStub(): Assembled {
  const a = new Assembler<StubStep>();
  const labels = makeLabels(a);
  a.step('set-up');
  emitEnter(a, labels); //         own stack
  emitInstallTraps(a, labels); //  from here a fault is survivable where a step says so
  emitUndoHook(a); //              the kernel's own bytes back at its entry
  emitCmdline(a, labels); //       KASLR_FLAG set or nokaslr: leave
  a.step('entropy');
  emitEntropy(a); //               R14: all the randomness that the machine can give
  emitChooseSlide(a); //           R14: the slide
  a.step('paging');
  emitPaging(a); //                off the page tables that the next step changes
  a.step('relocate');
  emitRelocate(a); //              the slide applied
  emitFlag(a); //                  KASLR_FLAG set
  a.step('leave');
  emitLeave(a, labels); //         scratch memory wiped, the loader's state restored
  emitTrapHandlers(a, labels); //  out of line
  return a.assemble();
}

/** The program for a kernel that the host has moved already (`randomize`): it only sets KASLR_FLAG. Its scratch memory is one page. */
export function assembleFlagStub(): Assembled {
  const a = new Assembler<StubStep>();
  const labels = makeLabels(a);
  a.step('set-up');
  emitEnter(a, labels);
  emitInstallTraps(a, labels);
  emitUndoHook(a);
  emitCmdline(a, labels); //       nokaslr: leave; what the guest itself would choose stays unrandomized
  emitFlag(a);
  a.step('leave');
  emitLeave(a, labels);
  emitTrapHandlers(a, labels);
  return a.assemble();
}

/** Where the steps begin, as offsets in the self-relocation program. */
export function stubSteps(): readonly { readonly step: StubStep; readonly offset: number }[] {
  const { listing } = assembleStub();
  return STUB_STEPS.map((step) => {
    const line = listing.find((candidate) => candidate.step === step);
    if (line === undefined) throw new RangeError(`the program has no step ${JSON.stringify(step)}`);
    return { step, offset: line.offset };
  });
}
