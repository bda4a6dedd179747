/**
 * Whether the sweep met the instructions that the processor executes. The kernel's tables of its own code name places of instructions: faults that are expected, returns, calls, branches through
 * thunks, alternatives. A sweep that begins at the wrong byte meets others.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { physToVirt } from '../../base/addresses.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import type { PlaceBits } from './place-bits.ts';
import { stretchAt } from './sections.ts';
import type { JudgedImage } from './sections.ts';

/** Sizes that an entry may have, and where in it a distance from itself to an instruction is. */
const TABLES = new Map<string, { readonly sizes: readonly number[]; readonly fields: readonly number[] }>([
  ['__ex_table', { sizes: [12], fields: [0, 4] }],
  ['.return_sites', { sizes: [4], fields: [0] }],
  ['.retpoline_sites', { sizes: [4], fields: [0] }],
  ['.call_sites', { sizes: [4], fields: [0] }],
  ['.altinstructions', { sizes: [14, 12, 13], fields: [0] }],
]);
/** Every kernel has thousands. */
const FEWEST = 100;

/** Returns the places in data: code is there as well. Throws KernelImageError for a kernel whose code is not read as it is executed. */
export function expectAgreement(image: JudgedImage, begins: PlaceBits): PhysAddr[] {
  const inData: PhysAddr[] = [];
  let count = 0;
  const off: PhysAddr[] = [];
  for (const { name, start, bytes, view } of image.stretches) {
    const table = TABLES.get(name);
    if (table === undefined) continue;
    let best: { readonly off: PhysAddr[]; readonly inData: PhysAddr[]; readonly count: number } | undefined;
    for (const size of table.sizes) {
      if (bytes.length % size !== 0) continue;
      const here = { off: [] as PhysAddr[], inData: [] as PhysAddr[], count: 0 };
      for (let at = 0; at < bytes.length; at += size)
        for (const field of table.fields) {
          const place = start + at + field + view.getInt32(at + field, true);
          here.count++;
          if (begins.has(place)) continue;
          const stretch = stretchAt(image, place);
          if (stretch?.content === 'data') here.inData.push(place);
          // Where code ends, the next instruction may be named.
          else if (stretch?.content === 'code' || !image.stretches.some(({ end }) => end === place))
            here.off.push(place);
        }
      if (best === undefined || here.off.length < best.off.length) best = here;
    }
    if (best === undefined) continue;
    count += best.count;
    off.push(...best.off.slice(0, 3));
    inData.push(...best.inData);
  }
  if (count < FEWEST || off.length > 0) {
    const examples = off.slice(0, 3).map((place) => hex(physToVirt(place)));
    throw new KernelImageError({
      code: 'unsupported',
      what: 'original: judging relocations that were recovered: places that its own tables name as instructions',
      found: off.length === 0 ? `${count}` : `some where the disassembly has none (${examples.join(', ')})`,
      expected: off.length === 0 ? `at least ${FEWEST}` : 'an instruction at each',
      hint: 'give the relocation table of this build (--relocs)',
    });
  }
  return inData;
}
