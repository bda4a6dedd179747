/** Physical addresses in code: a number to which phys_base is added, along the registers that carry the sum. */
import type { PhysAddr } from '../../base/addresses.ts';
import { OPERATION } from './disassembler.ts';
import type { Disassembler } from './disassembler.ts';
import type { Operand } from './code.ts';
import type { Judgement } from './judgement.ts';
import type { PlaceBits } from './place-bits.ts';
import type { Stretch } from './sections.ts';

/** 5.10 to 7.3 have up to 15 instructions between the number and phys_base. */
const WINDOW = 24;
const LONGEST = 15;

export interface Flow {
  readonly begins: PlaceBits;
  readonly disassemblers: ReadonlyMap<Stretch, Disassembler>;
  /** Whether the word there is 0 in the file. */
  readonly holdsZero: (place: PhysAddr) => boolean;
}

/**
 * The place of phys_base: what is added most often to a MOVABS of a physical address. clang makes no such MOVABS; then it is what is added to other physical numbers, of which startup_64 has two.
 * It holds 0 in the file. Undefined if no variable is added in most places.
 */
export function findPhysBase(flow: Flow, wide: readonly Operand[], physical: readonly Operand[]): PhysAddr | undefined {
  return mostFrequent(flow, wide) ?? mostFrequent(flow, physical);
}

function mostFrequent(flow: Flow, fields: readonly Operand[]): PhysAddr | undefined {
  const votes = new Map<PhysAddr, number>();
  for (const field of fields)
    for (const variable of new Set(variablesMet(flow, field))) {
      if (flow.holdsZero(variable)) votes.set(variable, (votes.get(variable) ?? 0) + 1);
    }
  const [first, second] = [...votes].toSorted((a, b) => b[1] - a[1]);
  if (first === undefined || (second !== undefined && second[1] * 2 > first[1])) return undefined;
  return first[0];
}

/** The variables that are in the sum that a field is in. */
function* variablesMet(flow: Flow, field: Operand): Generator<PhysAddr> {
  yield* loadedBefore(flow, field);
  yield* addedAfter(flow, field);
}

/** The place that a memory operand without registers names, of the instruction that was just decoded and ends at `next`. */
function loadedFrom({ view, start }: Stretch, disassembler: Disassembler, next: number): PhysAddr | undefined {
  if (disassembler.written() === 0) return undefined;
  const { displacement, displacementSize } = disassembler.constants();
  if (displacementSize !== 4) return undefined;
  const value = view.getInt32(displacement, true);
  return disassembler.isRipRelative() ? start + next + value : value + 0x8000_0000;
}

export function judgePhysical(
  flow: Flow,
  fields: readonly Operand[],
  physBase: PhysAddr,
  judgement: Judgement,
  list: 'abs32' | 'abs64' = 'abs32',
): void {
  for (const field of fields)
    if (meets(flow, field, physBase))
      judgement.site(list, field.place, 'a physical address to which phys_base is added');
    else judgement.number(list === 'abs32' ? 'physical' : 'wide', list, field.place);
}

function meets(flow: Flow, field: Operand, physBase: PhysAddr): boolean {
  for (const variable of variablesMet(flow, field)) if (variable === physBase) return true;
  return false;
}

/** What the other summand was loaded from, or had added. */
function* loadedBefore({ begins, disassemblers }: Flow, { stretch, instruction }: Operand): Generator<PhysAddr> {
  const disassembler = disassemblers.get(stretch)!;
  disassembler.step(instruction - stretch.start);
  const sources = new Set(disassembler.summands());
  let place = instruction;
  for (let left = WINDOW; left > 0 && sources.size > 0; left--) {
    let before = place - 1;
    while (before >= place - LONGEST && !begins.has(before)) before--;
    if (before < stretch.start || before < place - LONGEST) return;
    place = before;
    const next = disassembler.step(place - stretch.start);
    if (next < 0) return;
    const written = disassembler.written();
    if (!sources.has(written)) continue;
    const operation = disassembler.operation();
    const isLoad = operation === OPERATION.add || operation === OPERATION.move;
    const variable = isLoad ? loadedFrom(stretch, disassembler, next) : undefined;
    if (variable !== undefined) yield variable;
    if (operation === OPERATION.add || operation === OPERATION.subtract) continue;
    sources.delete(written);
    const copied = disassembler.copied();
    if (copied !== 0) sources.add(copied);
    else if (operation === OPERATION.lea) for (const register of disassembler.summands()) sources.add(register);
  }
}

/** What is added to the sum, or to a copy of it. */
function* addedAfter({ disassemblers }: Flow, { stretch, instruction }: Operand): Generator<PhysAddr> {
  const disassembler = disassemblers.get(stretch)!;
  const { view, bytes, start } = stretch;
  let at = disassembler.step(instruction - start);
  const sums = new Set([disassembler.written()]);
  for (let left = WINDOW; left > 0 && sums.size > 0 && at >= 0 && at < bytes.length; left--) {
    const next = disassembler.step(at);
    if (next < 0) return;
    const written = disassembler.written();
    const copied = disassembler.copied();
    const operation = disassembler.operation();
    if (copied !== 0 && sums.has(copied)) sums.add(written);
    else if (sums.has(written)) {
      const variable = operation === OPERATION.add ? loadedFrom(stretch, disassembler, next) : undefined;
      if (variable !== undefined) yield variable;
      const isSum =
        operation === OPERATION.add ||
        operation === OPERATION.subtract ||
        (operation === OPERATION.lea && disassembler.summands().some((register) => sums.has(register)));
      if (!isSum) sums.delete(written);
    }
    // Along jumps.
    if (bytes[at] === 0xeb) at = next + view.getInt8(at + 1);
    else if (bytes[at] === 0xe9) at = next + view.getInt32(at + 1, true);
    else at = next;
    if (at < 0) return;
  }
}
