/**
 * The PVH entry: 32-bit code without paging, so its addresses are physical, then a few instructions in 64-bit mode. Its GDT is found from the LGDT.
 *
 * Until 6.11 every address in it is a link address and a site. Since 6.12 it finds out where it runs, and one or two operands are left, which hold its link address; since 7.0 none.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { Decoder } from '../../x86/decoder.ts';
import { partAt } from '../image.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';

const LONG_JUMP = 0xea;
const FAR_RETURN = 0xcb;
const LGDT = 0x101;
/** 5.10 to 7.3 have up to 40 instructions before they enter 64-bit mode, and up to 70 after that. */
const AT_MOST = 128;

export interface PvhCode {
  /** The 32-bit code. */
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

/** Undefined for a kernel without a PVH entry, or one whose entry does not enter 64-bit mode as all known ones do. */
export function judgePvh(image: RecoverImage, ledger: Ledger): PvhCode | undefined {
  const entry = image.kernel.pvhEntry;
  const part = entry === undefined ? undefined : image.code.find(({ start, end }) => entry >= start && entry < end);
  if (entry === undefined || part === undefined) return undefined;
  const decoder = new Decoder(part.bytes, 32);
  let at = entry - part.start;
  const fields: number[] = [];
  const descriptors = new Set<PhysAddr>();
  let end = -1;
  for (let left = AT_MOST; left > 0 && end < 0 && decoder.decode(at); left--) {
    at = decoder.next;
    if (decoder.immediateSize === 4) fields.push(decoder.immediate);
    if (decoder.displacementSize === 4) {
      // With a base register it is a distance from where the code runs.
      if (decoder.mod === 0 && decoder.sib < 0) fields.push(decoder.displacement);
      const displacement = part.view.getInt32(decoder.displacement, true);
      if (decoder.opcode === LGDT) descriptors.add(displacement);
      descriptors.add(entry + displacement);
    }
    if (decoder.opcode === LONG_JUMP || decoder.opcode === FAR_RETURN) end = at;
  }
  if (end < 0) return undefined;
  for (const field of fields) judge(image, part, field, ledger);
  judge64(image, part, end, ledger);
  for (const place of descriptors) judgeDescriptor(image, place, ledger);
  return { start: entry, end: part.start + end };
}

function judge({ start, end }: RecoverImage, part: Part, field: number, ledger: Ledger): void {
  const value = part.view.getUint32(field, true);
  if (value >= start && value <= end) ledger.site('pvh', 'abs32', part.start + field);
}

/** From the far jump's target, right after it, to the jump to startup_64. The sweep meets this code too; it takes no physical numbers. */
function judge64(image: RecoverImage, part: Part, start: number, ledger: Ledger): void {
  const decoder = new Decoder(part.bytes);
  let at = start;
  for (let left = AT_MOST; left > 0 && decoder.decode(at); left--) {
    at = decoder.next;
    const isJump = decoder.opcode === 0xe9 || decoder.opcode === 0xeb || (decoder.opcode === 0xff && decoder.reg === 4);
    const isBranch = isJump || decoder.opcode === 0xe8 || (decoder.opcode >= 0x180 && decoder.opcode <= 0x18f);
    if (decoder.immediateSize === 4 && !isBranch) judge(image, part, decoder.immediate, ledger);
    if (isJump) return;
  }
}

/** A GDT's descriptor: limit, then the physical address of the table, which lies right after it. */
function judgeDescriptor(image: RecoverImage, place: PhysAddr, ledger: Ledger): void {
  const part = partAt(image, place, 6);
  if (part === undefined) return;
  const at = place - part.start;
  const limit = part.view.getUint16(at, true);
  const base = part.view.getUint32(at + 2, true);
  if ((limit + 1) % 8 !== 0 && limit % 8 !== 0) return;
  if (limit === 0 || limit > 0x100 || base < place || base > place + 0x40) return;
  ledger.site('pvh-gdt', 'abs32', place + 2);
}
