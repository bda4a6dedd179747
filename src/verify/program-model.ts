/**
 * A model of the stub in TypeScript: what it does to the kernel's image. It follows the assembly in src/stub step by step, so that the two can be
 * compared, and uses nothing of `convert` or relocs/tables/apply.ts. It leaves out what concerns only the machine (traps, page tables, entropy); the
 * slot is an argument.
 */
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { ENTRY_BYTES, PARAMS } from '../segment/layout.ts';
import { TABLE_READERS } from './table/formats.ts';

/** Low half of __START_KERNEL_map. */
const START_KERNEL_MAP_LOW = 0x8000_0000;

/** Guest memory from physical address `base` on. */
export interface GuestMemory {
  readonly bytes: Uint8Array;
  readonly base: PhysAddr;
}

/** Runs from e_entry, on memory that holds all segments of a converted kernel whose bytes are proved. Returns the slide of `slot`. */
export function simulateProgram({ bytes, base }: GuestMemory, entry: PhysAddr, slot: number): Slide {
  const view = viewOf(bytes);
  const u64 = (address: PhysAddr): number => Number(view.getBigUint64(address - base, true));

  // The hook: JMP rel32 to the program. The parameters are directly before the program.
  const program = entry + 5 + view.getInt32(entry + 1 - base, true);
  const params = program - PARAMS.size;
  // enter.ts: undo the hook.
  const saved = bytes.subarray(params + PARAMS.entry_bytes - base).subarray(0, ENTRY_BYTES);
  bytes.set(saved, u64(params + PARAMS.entry) - base);
  // entropy.ts, emitChooseSlide: the part after the slot is chosen.
  const slide = BigInt(slot) * view.getBigUint64(params + PARAMS.slot_align - base, true);
  // relocate.ts.
  const [start, end] = [params + u64(params + PARAMS.table), params + u64(params + PARAMS.table_end)];
  const format = view.getUint32(params + PARAMS.table_format - base, true);
  const table = TABLE_READERS.get(format)!(bytes.subarray(start - base, end - base), 0, { sitesAtMost: bytes.length });
  const at = (site: number): number => site - START_KERNEL_MAP_LOW - base;
  const low = Number(BigInt.asUintN(32, slide));
  for (const site of table.abs32) view.setUint32(at(site), view.getUint32(at(site), true) + low, true);
  for (const site of table.inverse32) view.setUint32(at(site), view.getUint32(at(site), true) - low, true);
  for (const site of table.abs64) view.setBigUint64(at(site), view.getBigUint64(at(site), true) + slide, true);
  return Number(slide);
}
