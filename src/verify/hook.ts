/** The checks `original-bytes` and `hook`: the original's own bytes, and the five of them that became a jump. */
import type { FileOffset } from '../base/addresses.ts';
import { physToTableEntry, tableEntryToVirt } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { LISTS } from '../relocs/tables/kernel-table.ts';
import { EHDR_SIZE, PHDR_SIZE } from '../elf/fields.ts';
import type { Layout } from '../elf/fields.ts';
import { ENTRY_BYTES, PARAMETERS, PARAMS } from '../segment/layout.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import type { ExpectedSegment } from './segment.ts';

/** JMP rel32 (SDM vol. 2, JMP): relative to the next instruction. */
const JMP_REL32 = 0xe9;
const HOOK = { opcode: [0, 1], displacement: [1, 4] } as const satisfies Layout;
const HOOK_SIZE = 5;

/** Every byte of the original except what other checks cover: the ELF header, the program headers if they did not move, and the hook. */
export function checkOriginalBytes(file: Evidence, { kernel }: Original, phoff: FileOffset): void {
  const { bytes, header } = kernel.elf;
  const elsewhere = [
    { start: 0, end: EHDR_SIZE[64] },
    { start: phoff, end: phoff + (header.phnum + 1) * PHDR_SIZE[64] },
    { start: kernel.entryOffset, end: kernel.entryOffset + HOOK_SIZE },
    { start: bytes.length, end: bytes.length },
  ];
  let at = 0;
  for (const { start, end } of elsewhere.toSorted((a, b) => a.start - b.start)) {
    if (start > bytes.length) break;
    file.expectBytes('byte of the original', at, bytes.subarray(at, start));
    at = Math.max(at, end);
  }
}

/** The first bytes at e_entry are a jump to the program. The parameters hold the bytes that the program puts back there. */
export function checkHook(file: Evidence, original: Original, segment: ExpectedSegment): void {
  const { kernel, entryBytes, form } = original;
  const target = segment.paddr + PARAMS.size;
  file.expectFields('hook', kernel.entryOffset, HOOK, {
    opcode: JMP_REL32,
    displacement: (target - (kernel.entry + HOOK_SIZE)) >>> 0,
  });
  const saved = new Reader(entryBytes).u64(0, 'entry_bytes');
  file.expectFields('parameters', segment.offset, PARAMETERS, { entry_bytes: saved });
  if (form.atEnd) checkHookUnmoved(original);
}

/** The decompressor applies this table while the hook is in place, and the program later puts the saved bytes back unmoved. */
function checkHookUnmoved({ kernel, table }: Original): void {
  const from = physToTableEntry(kernel.entry);
  for (const { name, width } of LISTS) {
    const site = table[name].find((entry) => entry + width > from && entry < from + ENTRY_BYTES);
    if (site === undefined) continue;
    refute(`hook, in the form table-at-end`, kernel.entryOffset, {
      found: `a site at ${hex(tableEntryToVirt(site))}, which the decompressor moves before the hook is undone`,
      expected: `none in the ${ENTRY_BYTES} bytes at the entry`,
    });
  }
}
