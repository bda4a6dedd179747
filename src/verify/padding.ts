/** The bytes that only keep other things aligned. */
import type { FileOffset } from '../base/addresses.ts';
import { PHDR_SIZE } from '../elf/fields.ts';
import { PARAMS } from '../segment/layout.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import type { ExpectedSections } from './sections.ts';
import type { ExpectedSegment } from './segment.ts';

/** All of them zero: nothing can hide there. `phoff` lies after the section headers when the program headers had to move there. */
export function checkPadding(
  file: Evidence,
  { kernel: { elf }, form }: Original,
  segment: ExpectedSegment,
  { sections, phoff }: { readonly sections: ExpectedSections; readonly phoff: FileOffset },
): void {
  const programEnd = PARAMS.size + segment.program.length;
  const moved = phoff > sections.offset;
  const headersEnd = moved ? phoff + (elf.header.phnum + 1) * PHDR_SIZE[64] : sections.end;
  file.expectZeros('padding before the added segment', form.atEnd ? headersEnd : elf.bytes.length, segment.offset);
  file.expectZeros('padding before the table', segment.offset + programEnd, segment.offset + segment.table);
  file.expectZeros('padding before the section headers', sections.namesEnd, sections.offset);
  file.expectZeros('padding before the program headers', sections.end, phoff);
}
