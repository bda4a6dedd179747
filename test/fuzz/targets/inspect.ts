/** `inspect` and `extract` of everything that kslide reads: a kernel in each container, and one that was converted. */
import { extract } from '../../../src/extract.ts';
import { inspect } from '../../../src/inspect.ts';
import { reportInspect } from '../../../src/cli/reports/inspect.ts';
import { makeVmlinux } from '../../make-vmlinux.ts';
import { makePe } from '../../bzimage/make-image.ts';
import { makeKernel64 } from '../../relocs/fixtures.ts';
import { isRefusal } from '../execute.ts';
import { elfFields, peFields, setupFields } from '../fields.ts';
import { bzImageOf, codecs, converted } from '../make/kernels.ts';
import type { Target } from '../target.ts';

const target: Target = {
  async seeds() {
    const kernel = makeVmlinux();
    const image = bzImageOf(kernel);
    return [
      kernel,
      await converted(kernel),
      await converted(kernel, 'kernel'),
      image,
      makePe({ sections: { '.linux': image } }),
      makeKernel64(),
    ];
  },
  async run(input) {
    try {
      await extract(input, { codecs });
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const inspection = await inspect(input, { codecs });
    reportInspect(inspection);
    JSON.stringify(inspection);
    return `${inspection.input}, ${inspection.converted?.table.format ?? 'plain'}, ${inspection.relocations?.source ?? 'no relocations'}`;
  },
  fields: (input) => (input[0] === 0x7f ? elfFields(input) : [...setupFields(input), ...peFields(input)]),
  executions: 500,
};
export default target;
