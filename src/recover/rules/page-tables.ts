/**
 * Entries of linked page tables that lead to other tables: physical link addresses with flags. What an entry of a page table of the kernel leads to is a page table, so all are found from
 * those that map the kernel's image, which have a shape of their own (kernel/image-limit.ts).
 */
import { PAGE_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import type { RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';

/** _KERNPG_TABLE and _PAGE_TABLE, the two sets of flags of an entry that leads to a table; they differ in the bit for user. */
const FLAGS = { mask: 0xffb, value: 0x063 } as const;

/** Returns the number of entries. */
export function judgePageTables({ data, start: low, end: high }: RecoverImage, ledger: Ledger): number {
  let count = 0;
  for (const { writable, view, start, bytes } of data) {
    if (!writable) continue;
    for (let at = (8 - (start % 8)) % 8; at + 8 <= bytes.length; at += 8) {
      const entry = view.getUint32(at, true);
      if ((entry & FLAGS.mask) !== FLAGS.value || view.getUint32(at + 4, true) !== 0) continue;
      const table: PhysAddr = entry - (entry % PAGE_SIZE);
      if (table < low || table >= high) continue;
      ledger.site('page-table', 'abs64', start + at);
      count++;
    }
  }
  return count;
}
