/**
 * Physical addresses in code: a symbol's physical link address, to which phys_base, the physical slide minus the virtual one, is added. The slide must be added to the operand, because it
 * is taken off again by phys_base.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import type { Decoder } from '../../x86/decoder.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';
import { instructionsBefore, instructionsFrom, ripTarget } from '../window.ts';
import type { Field, Later } from './operands.ts';

const ADD_FROM_MEMORY = 0x03;
const MOV_FROM_MEMORY = 0x8b;
/** __startup_64 and setup_arch compute several addresses from one load; 5.10 to 7.3 need up to 15. */
const WINDOW = 24;

/**
 * The place of phys_base: what is added most often to a MOVABS of a physical address. clang makes none; then it is what is added to other physical numbers, of which startup_64 has two. `symbol`: what .symtab says.
 */
export function findPhysBase(
  image: RecoverImage,
  { wide, physical }: Pick<Later, 'wide' | 'physical'>,
  symbol: PhysAddr | undefined,
): PhysAddr | undefined {
  return mostFrequent(image, wide) ?? symbol ?? mostFrequent(image, physical);
}

function mostFrequent(image: RecoverImage, fields: readonly Field[]): PhysAddr | undefined {
  const votes = new Map<PhysAddr, number>();
  for (const field of fields)
    for (const term of new Set(termsOf(image, field))) votes.set(term, (votes.get(term) ?? 0) + 1);
  const [best, second] = [...votes].toSorted((a, b) => b[1] - a[1]);
  return best === undefined || (second !== undefined && second[1] * 2 > best[1]) ? undefined : best[0];
}

/** The place that an operand without registers names by its address. */
function absoluteTarget({ view }: Part, decoder: Decoder): PhysAddr | undefined {
  if (decoder.displacementSize !== 4 || decoder.mod !== 0 || decoder.sib !== 0x25) return undefined;
  return view.getInt32(decoder.displacement, true) + 0x8000_0000;
}

/** A field is a site if what is in its register comes from phys_base, or gets it added. */
export function judgePhysical(image: RecoverImage, fields: readonly Field[], physBase: PhysAddr, ledger: Ledger): void {
  for (const field of fields) {
    if (meetsPhysBase(image, field, physBase)) ledger.site('physical', 'abs32', field.place);
    else ledger.number('physical');
  }
}

/**
 * A kernel whose direct map has a fixed place, without RANDOMIZE_MEMORY, adds that to a symbol's physical address before phys_base: `lm_alias(symbol)` is one MOVABS. Other numbers of 64 bits have such a lower half
 * by chance, 122 in Debian's 6.12, and meet no phys_base.
 */
export function judgeSums(image: RecoverImage, sums: Later['sums'], physBase: PhysAddr, ledger: Ledger): void {
  for (const field of sums) {
    const { part, place, list } = field;
    if (meetsPhysBase(image, field, physBase)) ledger.site('physical', list, place);
    else if (list === 'abs64') ledger.number('physical');
    else if (!ledger.isSite(list, place))
      // The PVH entry has such ones.
      ledger.doubt('physical', list, place, BigInt(part.view.getInt32(place - part.start, true)));
  }
}

function meetsPhysBase(image: RecoverImage, field: Field, physBase: PhysAddr): boolean {
  for (const term of termsOf(image, field)) if (term === physBase) return true;
  return false;
}

/** The places of variables that are in the sum that a field is in: loaded into its register or added before, or added after it. */
function* termsOf(image: RecoverImage, { part, instruction }: Field): Generator<PhysAddr> {
  const [first] = instructionsFrom(part, instruction, 1);
  const source = first?.sourceRegister ?? -1;
  const result = first?.writtenRegister ?? -1;
  const variable = (decoder: Decoder): PhysAddr | undefined =>
    decoder.isWide && (decoder.opcode === ADD_FROM_MEMORY || decoder.opcode === MOV_FROM_MEMORY)
      ? (ripTarget(part, decoder) ?? absoluteTarget(part, decoder))
      : undefined;
  for (const before of instructionsBefore(image, part, instruction, WINDOW)) {
    const written = before.writtenRegister;
    if (written !== source) continue;
    const term = variable(before);
    if (term !== undefined) yield term;
    if (!before.isAddition) break;
  }
  // The sum may be copied before something is added to it.
  const copies = new Set([result]);
  let isFirst = true;
  for (const next of instructionsFrom(part, instruction, WINDOW, 'jumps')) {
    if (isFirst) {
      isFirst = false;
      continue;
    }
    const written = next.writtenRegister;
    if (next.isRegisterMove && copies.has(next.sourceRegister)) copies.add(written);
    else if (copies.has(written)) {
      const term = next.opcode === ADD_FROM_MEMORY ? variable(next) : undefined;
      if (term !== undefined) yield term;
      if (!next.isAddition) copies.delete(written);
      if (copies.size === 0) break;
    }
  }
}
