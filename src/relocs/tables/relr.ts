/**
 * RELR, the compact form of relative relocations that ELF has (System V ABI, "Relocation", SHT_RELR): an address, then bitmaps.
 *
 * Words of 8 bytes. An even word is the address of a site; the next words, which are odd, have a bit for each of the 63 words of memory that
 * follow, and the 63 after those, as long as any of them is a site. It can say no more than that: sites are 8 bytes wide, at even addresses, and what
 * is added is the same for all. For comparison only; nothing in kslide reads it.
 */
import { tableEntryToVirt } from '../../base/addresses.ts';
import { Writer } from '../../base/bytes.ts';

const WORD = 8;
/** Words of memory that one bitmap speaks for. */
const SPAN = 63;

/** The 64-bit sites that linkers put into RELR: aligned ones. */
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
      let [low, high] = [1, 0]; // bit 0: a bitmap
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
