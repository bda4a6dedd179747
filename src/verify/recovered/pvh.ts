/**
 * The PVH entry: code of 32 bits without paging, whose addresses are physical, up to its far jump; and then code of 64 bits up to the jump to startup_64, whose numbers may be physical too. Its GDT's
 * descriptor is in data.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import type { OpenDisassembler } from './disassembler.ts';
import type { Judgement } from './judgement.ts';
import { stretchAt } from './sections.ts';
import type { JudgedImage, Stretch } from './sections.ts';

/** 5.10 to 7.3 have up to 40 instructions of 32 bits, and 70 of 64. */
const AT_MOST = 128;
const FAR_JUMP = 0xea;
const FAR_RETURN = 0xcb;
const LONGEST = 15;

/** Judges it, and returns where the code of 32 bits is; undefined without such an entry. */
export function judgePvh(
  image: JudgedImage,
  judgement: Judgement,
  open: OpenDisassembler,
): { start: PhysAddr; end: PhysAddr } | undefined {
  const { pvhEntry: entry } = image.kernel;
  const stretch = entry === undefined ? undefined : stretchAt(image, entry);
  if (entry === undefined || stretch?.content !== 'code') return undefined;
  const first = entry - stretch.start;
  const code = stretch.bytes.subarray(first, first + AT_MOST * LONGEST * 2);
  const place: Stretch = { ...stretch, start: entry, end: entry + code.length, bytes: code };
  const end = judge32(image, judgement, place, stretch, open);
  if (end === undefined) return undefined;
  judge64(image, judgement, { place, stretch }, end, open);
  return { start: entry, end: entry + end };
}

interface Field {
  readonly at: number;
  readonly isDistance: boolean;
}

/** Returns the offset after the far jump; undefined if there is none: then the entry is of another kind, and nothing is judged. */
function judge32(
  image: JudgedImage,
  judgement: Judgement,
  { bytes, start }: Stretch,
  { view, start: origin }: Stretch,
  open: OpenDisassembler,
): number | undefined {
  const disassembler = open(bytes, 32);
  const fields: Field[] = [];
  const tables = new Set<PhysAddr>();
  let end: number | undefined;
  let at = 0;
  for (let left = AT_MOST; left > 0 && end === undefined; left--) {
    const next = disassembler.step(at);
    if (next < 0) break;
    const { displacement, displacementSize, immediate, immediateSize } = disassembler.constants();
    if (immediateSize === 4 && !isNearBranch(bytes, at)) fields.push({ at: immediate, isDistance: false });
    if (displacementSize === 4) {
      // ModRM with mod 0 and r/m 5 is an address; with a register it is a distance from where the code runs.
      const isDistance = (bytes[displacement - 1]! & 0xc7) !== 0x05 && bytes[displacement - 2] !== 0x8e;
      const isMoffs = bytes[displacement - 1]! >= 0xa0 && bytes[displacement - 1]! <= 0xa3 && displacement === at + 1;
      fields.push({ at: displacement, isDistance: isDistance && !isMoffs });
      const value = view.getInt32(start - origin + displacement, true);
      if (disassembler.loadsDescriptor()) tables.add(value).add(start + value);
      if (bytes[at] === 0x8d) tables.add(start + value);
    }
    if (bytes[at] === FAR_JUMP || bytes[at] === FAR_RETURN) end = next;
    at = next;
  }
  disassembler.free();
  if (end === undefined) return undefined;
  for (const field of fields) {
    const value = view.getUint32(start - origin + field.at, true);
    if (value < image.low || value > image.high) continue;
    if (field.isDistance) judgement.number('pvh', 'abs32', start + field.at);
    else judgement.site('abs32', start + field.at, 'a physical address in the PVH entry');
  }
  for (const table of tables) judgeTable(image, judgement, table);
  return end;
}

function isNearBranch(bytes: Uint8Array, at: number): boolean {
  const byte = bytes[at];
  return byte === 0xe8 || byte === 0xe9 || (byte === 0x0f && (bytes[at + 1]! & 0xf0) === 0x80);
}

function judge64(
  image: JudgedImage,
  judgement: Judgement,
  { place, stretch }: { readonly place: Stretch; readonly stretch: Stretch },
  from: number,
  open: OpenDisassembler,
): void {
  const { bytes, start } = place;
  const disassembler = open(bytes);
  let at = from;
  for (let left = AT_MOST; left > 0 && at < bytes.length; left--) {
    const next = disassembler.step(at);
    if (next < 0) break;
    const isJump = bytes[at] === 0xe9 || bytes[at] === 0xeb || (bytes[at] === 0xff && (bytes[at + 1]! & 0x38) === 0x20);
    const { immediate, immediateSize } = disassembler.constants();
    if (immediateSize === 4 && !disassembler.isBranch()) {
      const value = stretch.view.getUint32(start - stretch.start + immediate, true);
      if (value >= image.low && value <= image.high)
        judgement.site('abs32', start + immediate, 'a physical address in the PVH entry');
    }
    if (isJump) break;
    at = next;
  }
  disassembler.free();
}

/** A GDT is at most so large, and right after its descriptor. */
const GDT_AT_MOST = 0x100;
const NEAR = 0x40;

/** A descriptor: the limit, 2 bytes, then the physical address. */
function judgeTable(image: JudgedImage, judgement: Judgement, place: PhysAddr): void {
  const stretch = stretchAt(image, place, 6);
  if (stretch === undefined || stretch.content === 'code') return;
  const limit = stretch.view.getUint16(place - stretch.start, true);
  const base = stretch.view.getUint32(place - stretch.start + 2, true);
  const isLimit = limit > 0 && limit <= GDT_AT_MOST && (limit % 8 === 0 || limit % 8 === 7);
  if (isLimit && base >= place && base <= place + NEAR)
    judgement.site('abs32', place + 2, "the base of the PVH entry's GDT");
}
