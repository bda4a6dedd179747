/**
 * The table in a converted file whose original has none. `verify` takes it as the claimed one: given the table, each byte of the file has one right value again. Whether the table is right, only an
 * independent reading of the image can tell (recovered/).
 */
import { Reader } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import { SHF_EXECINSTR, SHT_NOBITS } from '../elf/constants.ts';
import { readElf } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { checkSites } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { PARAMETERS, PARAMS } from '../segment/layout.ts';
import { readFields } from '../elf/fields.ts';
import { formatsFor, TABLE_READERS } from './table/formats.ts';

export interface ClaimedTable {
  readonly table: RelocationTable;
  /** Why the file has no table that could be this kernel's; then `table` is empty, and the check `table` says why. */
  readonly error: KernelImageError | undefined;
}

/** Whether section headers say which bytes are code. Without them no table can be judged, and none is taken. */
export function hasCode({ sections }: ElfFile): boolean {
  return sections.some(({ flags, type, size }) => (flags & SHF_EXECINSTR) !== 0n && type !== SHT_NOBITS && size > 0);
}

/** From the last program header, where the checks will expect the added segment. Every site lies in the image, and no two overlap. */
export function readClaim(converted: Uint8Array, kernel: Vmlinux): ClaimedTable {
  const lists = kernel.loads.some(({ vaddr }) => vaddr === 0n) ? 3 : 2;
  try {
    const elf = readElf(converted);
    const segment = elf.segments.at(-1);
    if (segment === undefined) throw noSegment();
    const { offset } = segment;
    new Reader(converted).slice(offset, PARAMS.size, 'parameters');
    const { table, table_end: end, table_format: format } = readFields(converted, offset, PARAMETERS);
    const read = formatsFor(undefined).includes(Number(format)) ? TABLE_READERS.get(Number(format)) : undefined;
    if (read === undefined) throw noSegment();
    const [start, size] = [offset + Number(table), Number(end) - Number(table)];
    const bytes = new Reader(converted).slice(start, size, 'relocation table');
    // No two sites share a byte, and the narrowest has 4.
    const sitesAtMost = Math.ceil(kernel.loads.reduce((sum, { filesz }) => sum + filesz, 0) / 4);
    const { abs64, inverse32, abs32 } = read(bytes, start, { sitesAtMost });
    const claimed = { abs64, inverse32, abs32, lists } as const;
    checkSites(claimed, kernel.loads);
    return { table: claimed, error: undefined };
  } catch (error) {
    if (!(error instanceof KernelImageError)) throw error;
    const none = new Uint32Array();
    return { table: { abs64: none, inverse32: none, abs32: none, lists }, error };
  }
}

function noSegment(): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'added segment',
    found: 'none',
    expected: 'one with a table',
  });
}
