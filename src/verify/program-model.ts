/**
 * A model of the stub in TypeScript: what it does to the kernel's image. It follows the assembly in src/stub step by step, so that the two can be
 * compared, and uses nothing of `convert` or relocs/tables/apply.ts. It leaves out what concerns only the machine (traps, page tables, entropy); the
 * slot is an argument.
 */
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { ENTRY_BYTES, PARAMS } from '../segment/layout.ts';
import type { GuestMemory, MemoryPart } from './guest-memory.ts';
import { TABLE_READERS } from './table/formats.ts';

/** Low half of __START_KERNEL_map. */
const START_KERNEL_MAP_LOW = 0x8000_0000;

/** Runs from e_entry, on memory that holds all segments of a converted kernel whose bytes are proved. Returns the slide of `slot`. */
export function simulateProgram(memory: GuestMemory, entry: PhysAddr, slot: number): Slide {
  // The hook: JMP rel32 to the program. The parameters are directly before the program.
  const hooked = memory.part(entry, ENTRY_BYTES);
  const program = entry + 5 + hooked.view.getInt32(entry + 1 - hooked.start, true);
  const params = program - PARAMS.size;
  // The parameters, the program and the table are one segment's bytes.
  const segment = memory.part(params, PARAMS.size);
  const u64 = (field: number): number => Number(segment.view.getBigUint64(params + field - segment.start, true));
  const bytesAt = (from: PhysAddr, to: PhysAddr): Uint8Array =>
    segment.bytes.subarray(from - segment.start, to - segment.start);
  // enter.ts: undo the hook.
  const target = u64(PARAMS.entry);
  const undone = memory.part(target, ENTRY_BYTES);
  const saved = params + PARAMS.entry_bytes;
  undone.bytes.set(bytesAt(saved, saved + ENTRY_BYTES), target - undone.start);
  // entropy.ts, emitChooseSlide: the part after the slot is chosen.
  const slide = slot * u64(PARAMS.slot_align);
  // relocate.ts.
  const format = segment.view.getUint32(params + PARAMS.table_format - segment.start, true);
  const tableBytes = bytesAt(params + u64(PARAMS.table), params + u64(PARAMS.table_end));
  const table = TABLE_READERS.get(format)!(tableBytes, 0, { sitesAtMost: Infinity });
  let part: MemoryPart = segment;
  for (const site of table.abs32) {
    const address = site - START_KERNEL_MAP_LOW;
    part = memory.around(part, address, 4);
    part.view.setUint32(address - part.start, part.view.getUint32(address - part.start, true) + slide, true);
  }
  for (const site of table.inverse32) {
    const address = site - START_KERNEL_MAP_LOW;
    part = memory.around(part, address, 4);
    part.view.setUint32(address - part.start, part.view.getUint32(address - part.start, true) - slide, true);
  }
  const wide = BigInt(slide);
  for (const site of table.abs64) {
    const address = site - START_KERNEL_MAP_LOW;
    part = memory.around(part, address, 8);
    part.view.setBigUint64(address - part.start, part.view.getBigUint64(address - part.start, true) + wide, true);
  }
  return slide;
}
