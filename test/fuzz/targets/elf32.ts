/** ELF32 and `.rel` sections: i386 kernels and real-mode code, as `relocs` takes them. */
import { readElf } from '../../../src/elf/read.ts';
import { openRelocsImage } from '../../../src/relocs/tool/image.ts';
import { memorySource } from '../../../src/relocs/tool/byte-source.ts';
import { makeKernel32, makeRealMode } from '../../relocs/fixtures.ts';
import { elfFields } from '../fields.ts';
import { runTool } from '../make/relocs.ts';
import type { Target } from '../target.ts';

const target: Target = {
  seeds: () => [makeKernel32(), makeRealMode()],
  run(input) {
    readElf(input);
    openRelocsImage(memorySource(input));
    return runTool(input, [false, true]);
  },
  fields: elfFields,
  executions: 300,
};
export default target;
