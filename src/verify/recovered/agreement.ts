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

/** Places of instructions that the kernel's tables name. Those in data are apart: code is there as well. */
export interface NamedCode {
  readonly inCode: readonly PhysAddr[];
  readonly inData: readonly PhysAddr[];
}

export function readNamedCode(image: JudgedImage): NamedCode {
  const inCode: PhysAddr[] = [];
  const inData: PhysAddr[] = [];
  for (const { name, start, bytes, view } of image.stretches) {
    const table = TABLES.get(name);
    if (table === undefined) continue;
    let best: { readonly outside: number; readonly inCode: PhysAddr[]; readonly inData: PhysAddr[] } | undefined;
    for (const size of table.sizes) {
      if (bytes.length % size !== 0) continue;
      const here = { outside: 0, inCode: [] as PhysAddr[], inData: [] as PhysAddr[] };
      for (let at = 0; at < bytes.length; at += size)
        for (const field of table.fields) {
          const place = start + at + field + view.getInt32(at + field, true);
          const content = stretchAt(image, place)?.content;
          if (content === 'code') here.inCode.push(place);
          else if (content === 'data') here.inData.push(place);
          // Where code ends, the next instruction may be named.
          else if (!image.stretches.some(({ end }) => end === place)) here.outside++;
        }
      if (best === undefined || here.outside < best.outside) best = here;
    }
    for (const place of best?.inCode ?? []) inCode.push(place);
    for (const place of best?.inData ?? []) inData.push(place);
  }
  return { inCode, inData };
}

/** Throws KernelImageError for a kernel whose code is not read as it is executed. */
export function expectAgreement({ inCode }: NamedCode, begins: PlaceBits): void {
  const off = inCode.filter((place) => !begins.has(place));
  if (inCode.length >= FEWEST && off.length === 0) return;
  const examples = off.slice(0, 3).map((place) => hex(physToVirt(place)));
  throw new KernelImageError({
    code: 'unsupported',
    what: 'original: judging relocations that were recovered: places that its own tables name as instructions',
    found:
      off.length === 0
        ? `${inCode.length}`
        : `${off.length} of ${inCode.length} where the disassembly has none (${examples.join(', ')})`,
    expected: off.length === 0 ? `at least ${FEWEST}` : 'an instruction at each',
    hint: 'give the relocation table of this build (--relocs)',
  });
}
