/** `kslide relocs` with every kind of output. */
import { memorySource } from '../../../src/relocs/tool/byte-source.ts';
import { runRelocsTool } from '../../../src/relocs/tool/tool.ts';
import { isRefusal } from '../execute.ts';

/** What a listing may have for each byte of the file: its rows repeat long names. */
const OUTPUT = 1 << 26;

/** The number of outputs that were made. */
export function runTool(input: Uint8Array, realModes: readonly boolean[]): string {
  let made = 0;
  for (const realMode of realModes)
    for (const print of ['table', 'text', 'abs-syms', 'abs-relocs', 'reloc-info'] as const) {
      try {
        let length = 0;
        for (const piece of runRelocsTool(memorySource(input), { print, realMode })) length += piece.length;
        if (length > OUTPUT) throw new RangeError(`${print}: ${length} bytes of output`);
        made++;
      } catch (error) {
        if (!isRefusal(error)) throw error;
      }
    }
  return `${made} outputs`;
}
