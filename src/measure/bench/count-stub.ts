/** The stub counted by itself: exactly, because nothing in it depends on chance. */
import { PARAMS } from '../../segment/layout.ts';
import { countGuest, wouldNotBoot } from './guest.ts';
import { guestOf } from './measure.ts';
import type { GuestSettings } from './measure.ts';
import { stubSteps } from '../../stub/program.ts';
import type { StubStep } from '../../stub/program.ts';
import type { Subject, Variant } from './subject.ts';
import type { StubCount } from './summary.ts';

/** Two boots by different seeds, and the number is the same: so both are shown. A third one with nokaslr. */
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
  /** Those that ran; the hook belongs to the first. */
  readonly steps: Partial<Record<StubStep, number>>;
}

/** Runs no further than the stub. */
function countOnce(subject: Subject, variant: Variant, settings: GuestSettings, seed: number): Promise<StubBoot> {
  const { entry } = subject.plain;
  const program = variant.stub!.segment + PARAMS.size;
  return countGuest({ ...guestOf(subject, variant, settings), seed }, async (guest) => {
    const steps: Partial<Record<StubStep, number>> = {};
    const [first, ...later] = stubSteps();
    const ahead = new Map(later.map(({ step, offset }) => [program + offset, step]));
    let step = first!.step;
    const start = await guest.runTo([entry]);
    let before = start.instructions;
    // The guest stands at the entry already: it must be led away from there before it can come back.
    let arrival = await guest.runTo([program]);
    while (arrival.at !== undefined && arrival.at !== entry) {
      arrival = await guest.runTo([...ahead.keys(), entry]);
      steps[step] = arrival.instructions - before;
      before = arrival.instructions;
      step = ahead.get(arrival.at ?? 0) ?? step;
      // A step is entered once; a breakpoint where the guest stands would hold it there.
      ahead.delete(arrival.at ?? 0);
    }
    if (arrival.at === undefined)
      throw wouldNotBoot(variant.title, 'a guest that ended', 'startup_64 to be reached again');
    return { instructions: arrival.instructions - start.instructions, steps };
  });
}
