/** Where the steps of the stub begin, as offsets in its program. */
import { assembleStub } from '../../stub/program.ts';

export const STUB_STEPS = ['set-up', 'entropy', 'paging', 'relocate', 'leave'] as const;
export type StubStep = (typeof STUB_STEPS)[number];

/** The note of the listing that stands at each step's first instruction. */
const FIRST_NOTE: Readonly<Record<StubStep, string>> = {
  'set-up': 'enter',
  entropy: 'hash boot_params',
  paging: 'is CR3 inside the image?',
  relocate: 'relocate',
  leave: 'leave',
};

/** In the order in which they run. Throws RangeError when the program has lost one: then the notes above are to be mended. */
export function stubSteps(): readonly { readonly step: StubStep; readonly offset: number }[] {
  const { listing } = assembleStub();
  return STUB_STEPS.map((step) => {
    const line = listing.find(({ note }) => note?.split('; ').includes(FIRST_NOTE[step]) === true);
    if (line === undefined) throw new RangeError(`the stub has no step ${JSON.stringify(FIRST_NOTE[step])}`);
    return { step, offset: line.offset };
  });
}
