/** The setup header of a bzImage, its payload's place, and the PE header around it. */
import { peekPayload, readSetupHeader } from '../../../src/bzimage/header.ts';
import { readPayload } from '../../../src/bzimage/payload.ts';
import { dropSignature, growImage } from '../../../src/bzimage/pe.ts';
import { expectInput } from '../../../src/kernel/input.ts';
import { makeBzImage } from '../../bzimage/make-image.ts';
import { peFields, setupFields } from '../fields.ts';
import { addPe } from '../make/images.ts';
import type { Target } from '../target.ts';

const target: Target = {
  seeds: () => [
    makeBzImage(),
    makeBzImage({ fields: { version: 0x0208 } }),
    addPe(makeBzImage(), 0),
    addPe(makeBzImage(), 0x200),
  ],
  run(input) {
    peekPayload(input);
    expectInput(input.subarray(0, 0x1000));
    const header = readSetupHeader(input);
    const { compression, length } = readPayload(input, header);
    const { bytes, signed } = dropSignature(input);
    growImage(bytes, header.initSize ?? 0, length);
    return `${compression ?? 'not compressed'}, ${signed ? 'signed' : 'not signed'}`;
  },
  fields: (input) => [...setupFields(input), ...peFields(input)],
  executions: 20_000,
};
export default target;
