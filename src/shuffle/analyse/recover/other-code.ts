/**
 * Code outside .text, whose references into it no relocation names: .init.text and .exit.text, and the two sections of alternatives.
 *
 * Cut at its symbols, each stretch is disassembled from its start; padding decodes as well. The replacements of alternatives have no symbols, but a
 * table that says where each begins. Where a stretch does not decode, whatever four of its bytes could be a displacement to stays.
 */
import type { PhysAddr } from '../../../base/addresses.ts';
import { viewOf } from '../../../base/bytes.ts';
import { sectionsOf, symbolsBySection } from '../../debug-kernel-sections.ts';
import type { DebugKernel } from '../../read/debug-kernel.ts';
import { FLOW } from '../../disassembler.ts';
import type { Disassembler } from '../../disassembler.ts';
import type { ImageBytes } from '../../read/kernel-image.ts';
import type { TableField } from './known-tables.ts';

export interface OtherCode {
  readonly fields: readonly TableField[];
  /** What cannot be written: targets of branches of two bytes, and of all that undecodable bytes may be. */
  readonly held: readonly PhysAddr[];
  readonly instructions: number;
}

/** `begins`: further places where an instruction begins. */
export function sweepOtherCode(
  debug: DebugKernel,
  image: ImageBytes,
  begins: readonly PhysAddr[],
  makeDisassembler: (code: Uint8Array) => Disassembler,
): OtherCode {
  const { text } = debug;
  const fields: TableField[] = [];
  const held: PhysAddr[] = [];
  let instructions = 0;
  const inText = (target: number): boolean => target >= text.start && target < text.end;
  const others = sectionsOf(debug).filter(({ isCode, index }) => isCode && !text.sections.has(index));
  const cutsOf = symbolsBySection(debug);
  for (const { index, start: origin, end, name } of others) {
    const code = image.range(origin, end, name);
    const view = viewOf(code);
    const inside = [...(cutsOf.get(index) ?? []), ...begins].filter((place) => place > origin && place < end);
    const cuts = [...new Set([origin, ...inside, end])].toSorted((a, b) => a - b);
    const disassembler = makeDisassembler(code);
    for (let stretch = 0; stretch + 1 < cuts.length; stretch++) {
      const stop = cuts[stretch + 1]! - origin;
      let at = cuts[stretch]! - origin;
      disassembler.seek(at);
      while (at < stop) {
        const next = disassembler.step();
        if (next < 0 || next > stop) break;
        instructions++;
        const isBranch = disassembler.flow() >= FLOW.branch;
        const width = isBranch && next - at < 5 ? 1 : 4;
        const field = isBranch ? next - width : at + disassembler.ripOperand();
        if (field > at) {
          const target = next + (width === 1 ? view.getInt8(field) : view.getInt32(field, true)) + origin;
          if (inText(target)) {
            if (width === 1) held.push(target);
            else fields.push({ place: field + origin, target });
          }
        }
        at = next;
      }
      for (; at < stop; at++) {
        for (const more of at + 4 <= stop ? [4, 5, 6, 8] : []) {
          const target = at + more + view.getInt32(at, true) + origin;
          if (inText(target)) held.push(target);
        }
      }
    }
    disassembler.free();
  }
  return { fields, held, instructions };
}
