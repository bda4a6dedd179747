/**
 * The references into .text from other code, which no relocation names: from .init.text and .exit.text, and from the two sections of alternatives.
 *
 * Each section is cut at its symbols, and a linear sweep disassembles each part from its start; padding decodes as well. The replacements of alternatives
 * have no symbols, but a table says where each begins. Where code does not decode, everything that four of its bytes could lead to is pinned.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { symbolsBySection } from './debug-kernel.ts';
import type { DebugKernel } from './debug-kernel.ts';
import { FLOW } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import type { ImageBytes } from './kernel-image.ts';
import type { TableField } from './known-tables.ts';

export interface OtherCode {
  readonly fields: readonly TableField[];
  /** Targets of what cannot be rewritten: of branches of two bytes, and of everything that undecodable bytes may be. */
  readonly pinned: readonly PhysAddr[];
}

/** `instructionStarts`: places other than symbols where an instruction begins. */
export function sweepOtherCode(
  debug: DebugKernel,
  image: ImageBytes,
  instructionStarts: readonly PhysAddr[],
  makeDisassembler: (code: Uint8Array) => Disassembler,
): OtherCode {
  const { text } = debug;
  const fields: TableField[] = [];
  const pinned: PhysAddr[] = [];
  const inText = (target: number): boolean => target >= text.start && target < text.end;
  const others = debug.loadedSections().filter(({ isCode, index }) => isCode && !text.sections.has(index));
  const cutsOf = symbolsBySection(debug);
  for (const { index, start: origin, end, name } of others) {
    const code = image.range(origin, end, name);
    const view = viewOf(code);
    const inside = [...(cutsOf.get(index) ?? []), ...instructionStarts].filter(
      (place) => place > origin && place < end,
    );
    const cuts = [...new Set([origin, ...inside, end])].toSorted((a, b) => a - b);
    const disassembler = makeDisassembler(code);
    for (let part = 0; part + 1 < cuts.length; part++) {
      const stop = cuts[part + 1]! - origin;
      let at = cuts[part]! - origin;
      disassembler.seek(at);
      while (at < stop) {
        const next = disassembler.step();
        if (next < 0 || next > stop) break;
        const isBranch = disassembler.flow() >= FLOW.branch;
        const width = isBranch && next - at < 5 ? 1 : 4;
        const field = isBranch ? next - width : at + disassembler.ripOperand();
        if (field > at) {
          const target = next + (width === 1 ? view.getInt8(field) : view.getInt32(field, true)) + origin;
          if (inText(target)) {
            if (width === 1) pinned.push(target);
            else fields.push({ place: field + origin, target });
          }
        }
        at = next;
      }
      for (; at < stop; at++) {
        for (const more of at + 4 <= stop ? [4, 5, 6, 8] : []) {
          const target = at + more + view.getInt32(at, true) + origin;
          if (inText(target)) pinned.push(target);
        }
      }
    }
    disassembler.free();
  }
  return { fields, pinned };
}
