/** What the added segment must be, and the checks of its parts: `program`, `parameters`, `slots`. The table is checked in table.ts. */
import { KERNEL_IMAGE_SIZE, PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { alignUp } from '../base/bytes.ts';
import { PARAMETERS, PARAMS, PARAMS_MAGIC, SCRATCH } from '../segment/layout.ts';
import { hex } from '../base/errors.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import { looksUpItsEnd } from './image-limit.ts';
import { FORMS, isStep } from './original.ts';
import type { Form, Original } from './original.ts';
import { formatsFor } from './table/formats.ts';

/** The added segment as it must be. `table`, `scratch` and `memsz` count from its start. */
export interface ExpectedSegment {
  readonly offset: FileOffset;
  readonly paddr: PhysAddr;
  readonly filesz: number;
  readonly memsz: number;
  readonly program: Uint8Array;
  readonly table: number;
  readonly scratch: number;
}

/** The program follows the parameters; the table follows it, 16-aligned; the scratch memory starts on the next page. */
export function describeSegment(
  { offset, filesz }: Pick<ExpectedSegment, 'offset' | 'filesz'>,
  paddr: PhysAddr,
  program: Uint8Array,
): ExpectedSegment {
  const scratch = alignUp(filesz, PAGE_SIZE);
  return {
    offset,
    paddr,
    filesz,
    memsz: scratch + SCRATCH.size,
    program,
    table: alignUp(PARAMS.size + program.length, 16),
    scratch,
  };
}

/** Only this version's program is accepted: it is the one that was tested. */
export function checkProgram(file: Evidence, { offset, program }: ExpectedSegment): void {
  file.expectBytes("byte of this version's program", offset + PARAMS.size, program);
}

/** Checks all parameters except the saved bytes, which `checkHook` checks, and the slots. Returns the table's format. */
export function checkParameters(file: Evidence, { kernel, form, table }: Original, segment: ExpectedSegment): number {
  const { offset } = segment;
  file.expectBytes('parameters: magic', offset + PARAMS.magic, Uint8Array.from(PARAMS_MAGIC));
  file.expectFields('parameters', offset, PARAMETERS, {
    link_base: segment.paddr,
    entry: kernel.entry,
    image_start: kernel.imageStart,
    segment_size: segment.memsz,
    scratch: segment.scratch,
    table: segment.table,
    table_end: segment.filesz,
  });
  const format = Number(file.read('parameters', offset, PARAMETERS, 'table_format'));
  const allowed = formatsFor(form.atEnd ? table.lists : undefined);
  if (!allowed.includes(format)) {
    const expected = `one of ${allowed.join(', ')}`;
    return refute('parameters: table_format', offset + PARAMS.table_format, { found: format, expected });
  }
  const [at, length] = PARAMETERS.table_format;
  file.accept(offset + at, offset + at + length);
  checkFlags(file, form, offset);
  const [last, width] = PARAMETERS.flags;
  file.expectZeros('reserved byte of the parameters', offset + last + width, offset + PARAMS.size);
  return format;
}

/** The flags change what the program does, so each form has one value. The two vmlinux forms are the only ones that a reader may confuse. */
function checkFlags(file: Evidence, form: Form, offset: FileOffset): void {
  const found = file.read('parameters', offset, PARAMETERS, 'flags');
  if (form.name === 'direct' && found === BigInt(FORMS.extracted.flags)) {
    const expected = `${hex(form.flags)}; this is what a vmlinux has that was taken out of a bzImage (verify --extracted)`;
    refute('parameters: flags', offset + PARAMS.flags, { found, expected });
  }
  file.expectFields('parameters', offset, PARAMETERS, { flags: form.flags });
}

/**
 * There must be one slot for each multiple of the alignment by which the image can move and still end within what the kernel's page tables map. With one more, a
 * slide would not boot; with one less, entropy is lost.
 */
export function checkSlots(file: Evidence, original: Original, { offset }: ExpectedSegment): void {
  const found = file.read('parameters', offset, PARAMETERS, 'slot_align');
  if (found !== BigInt(original.slotAlign) && isStep(found)) {
    const expected = `${hex(original.slotAlign)}; this is what \`--align\` writes (verify --align ${hex(found)})`;
    refute('parameters: slot_align', offset + PARAMS.slot_align, { found, expected });
  }
  file.expectFields('parameters', offset, PARAMETERS, {
    slot_align: original.slotAlign,
    slot_count: countSlots(original),
  });
}

/** Counts one by one; the writer (kaslr/slots.ts) divides. */
export function countSlots({ kernel, slotAlign, limit }: Original): number {
  const full = limit === KERNEL_IMAGE_SIZE && looksUpItsEnd(kernel);
  let count = 0;
  for (let end = kernel.imageEnd; full ? end < limit : end <= limit; end += slotAlign) count++;
  return count;
}
