/**
 * RELR, ELF's own compact form of relative relocations (System V ABI, "Relocation", SHT_RELR): an address, then bitmaps. `inspect` compares its size
 * with the other forms; nothing in kslide reads it.
 *
 * The format consists of 8-byte words. An even word is the address of a site. The odd words after it are bitmaps: the first has a bit for each of the
 * next 63 words of memory, the second for the 63 after those, and so on, until a bitmap would have no site. RELR cannot express more: sites are
 * 8 bytes wide, at even addresses, and the same value is added to all.
 */
import { tableEntryToVirt } from '../base/addresses.ts';
import { Writer } from '../base/bytes.ts';

const WORD = 8;
/** Words of memory that one bitmap covers. */
const SPAN = 63;

/** The 64-bit sites that linkers put into RELR: those at multiples of 8. */
export function sitesForRelr(abs64: Uint32Array): Uint32Array {
  return abs64.filter((entry) => entry % WORD === 0);
}

/** `entries`: from `sitesForRelr`, ascending. */
export function encodeRelr(entries: Uint32Array): Uint8Array {
  const out = new Writer(new Uint8Array(entries.length * WORD));
  let length = 0;
  const emit = (low: number, high: number): void => {
    out.u32(length, low);
    out.u32(length + 4, high);
    length += WORD;
  };
  for (let index = 0; index < entries.length;) {
    const address = entries[index++]!;
    emit(address, Number(tableEntryToVirt(address) >> 32n));
    for (let base = address + WORD; ; base += SPAN * WORD) {
      let [low, high] = [1, 0]; // bit 0 marks a bitmap
      for (; index < entries.length && entries[index]! < base + SPAN * WORD; index++) {
        const bit = (entries[index]! - base) / WORD + 1;
        if (bit < 32) low |= 1 << bit;
        else high |= 1 << (bit - 32);
      }
      if (low === 1 && high === 0) break;
      emit(low, high);
    }
  }
  return out.bytes.subarray(0, length);
}
