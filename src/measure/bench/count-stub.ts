/** Counts the stub's instructions by themselves. The count is exact, because the number does not depend on the stub's random numbers. */
import { PARAMS } from '../../segment/layout.ts';
import { countGuest, wouldNotBoot } from './guest.ts';
import { guestOf } from './measure.ts';
import type { GuestSettings } from './measure.ts';
import { stubSteps } from '../../stub/program.ts';
import type { StubStep } from '../../stub/program.ts';
import type { Subject, Variant } from './subject.ts';
import type { StubCount } from './summary.ts';

/** Counts two boots with different seeds, which should give the same number (both are reported), and one with nokaslr. */
export async function countStub(
  subject: Subject,
  variant: Variant,
  nokaslr: Variant,
  settings: GuestSettings,
): Promise<StubCount> {
  const first = await countOnce(subject, variant, settings, 1);
  const second = await countOnce(subject, variant, settings, 2);
  const without = await countOnce(subject, nokaslr, settings, 1);
  return {
    table: variant.stub!.table,
    tableBytes: variant.stub!.tableBytes,
    instructions: first.instructions,
    again: second.instructions,
    perRelocation: first.instructions / subject.relocationCount,
    steps: first.steps,
    nokaslr: without.instructions,
  };
}

interface StubBoot {
  /** From the first arrival at e_entry, where the hook stands, to the second. */
  readonly instructions: number;
  /** The steps that ran. The hook is counted as part of the first step. */
  readonly steps: Partial<Record<StubStep, number>>;
}

/** Runs a guest up to the end of the stub. */
function countOnce(subject: Subject, variant: Variant, settings: GuestSettings, seed: number): Promise<StubBoot> {
  const { entry } = subject.plain;
  const program = variant.stub!.segment + PARAMS.size;
  return countGuest({ ...guestOf(subject, variant, settings), seed }, async (guest) => {
    const steps: Partial<Record<StubStep, number>> = {};
    const [first, ...later] = stubSteps();
    const ahead = new Map(later.map(({ step, offset }) => [program + offset, step]));
    let step = first!.step;
    const start = await guest.runTo([entry], 'startup_64');
    let before = start.instructions;
    // The guest is at the entry now. It has to leave before a breakpoint there can mean that it came back.
    let arrival = await guest.runTo([program], 'the stub');
    while (arrival.at !== undefined && arrival.at !== entry) {
      arrival = await guest.runTo([...ahead.keys(), entry], 'startup_64 again');
      steps[step] = arrival.instructions - before;
      before = arrival.instructions;
      step = ahead.get(arrival.at ?? 0) ?? step;
      // Each step is entered once. A breakpoint at the guest's present address would stop it there again.
      ahead.delete(arrival.at ?? 0);
    }
    if (arrival.at === undefined)
      throw wouldNotBoot(variant.title, 'a guest that ended', 'startup_64 to be reached again');
    return { instructions: arrival.instructions - start.instructions, steps };
  });
}
