/** ELF headers, segments, sections and notes of a vmlinux, and what tells where its relocations are. */
import { findFilledSection, readFilledSection } from '../../../src/relocs/reserved-section.ts';
import { checkKernel } from '../../../src/kernel/open.ts';
import { readPvh } from '../../../src/kernel/pvh.ts';
import { loadedSections } from '../../../src/inspect/site-locations.ts';
import { describeNotes, describeSections, describeSegments } from '../../../src/inspect/elf.ts';
import { readSegment } from '../../../src/segment/read.ts';
import { elfFields } from '../fields.ts';
import { converted, vmlinuxes } from '../make/kernels.ts';
import type { Target } from '../target.ts';

const target: Target = {
  async seeds() {
    const plain = vmlinuxes();
    return [...plain, ...(await Promise.all(plain.map((kernel) => converted(kernel))))];
  },
  run(vmlinux) {
    const input = {
      kind: 'vmlinux',
      vmlinux,
      bzImage: undefined,
      header: undefined,
      compression: undefined,
      payloadDiffers: undefined,
      kernelVersion: undefined,
      relocs: undefined,
    } as const;
    const { kernel } = checkKernel(input, 'extract');
    const { elf } = kernel;
    describeNotes(elf);
    describeSections(elf);
    describeSegments(elf);
    loadedSections(kernel);
    const reserved = findFilledSection(elf);
    if (reserved !== undefined) readFilledSection(reserved, true);
    const pvh = readPvh(kernel, { abs64: new Uint32Array(), inverse32: new Uint32Array(), abs32: new Uint32Array() });
    const added = readSegment(elf);
    checkKernel(input, 'rewrite');
    return `${pvh === undefined ? 'no pvh' : 'pvh'}, ${added === undefined ? 'plain' : 'converted'}`;
  },
  fields: elfFields,
  executions: 3000,
};
export default target;
