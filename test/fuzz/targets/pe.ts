/** A UKI: its PE header and sections, and the bzImage in it. */
import { readPe } from '../../../src/bzimage/pe.ts';
import { readInput } from '../../../src/kernel/input.ts';
import { makeBzImage, makePe } from '../../bzimage/make-image.ts';
import { peFields } from '../fields.ts';
import { codecs } from '../make/kernels.ts';
import type { Target } from '../target.ts';

const target: Target = {
  seeds: () => {
    const text = new Uint8Array(40).fill(0x20);
    const linux = makeBzImage();
    return [
      makePe({ sections: { '.osrel': text, '.cmdline': text, '.linux': linux } }),
      makePe({ sections: { '.linux': linux, '.initrd': text } }),
      makePe({ sections: { '.text': text } }),
    ];
  },
  async run(input) {
    const { sections } = readPe(input);
    const { kind } = await readInput(input, { codecs });
    return `${kind}, ${Math.min(sections.length, 4)} sections`;
  },
  fields: peFields,
  executions: 8000,
};
export default target;
