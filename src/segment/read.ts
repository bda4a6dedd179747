/**
 * Finds the segment that kslide added to a kernel, and reads its parameters and its table. This does not use section names, so it also recognizes a
 * file that was stripped. `verify` decides by itself what the segment must hold.
 */
import { KERNEL_IMAGE_SIZE, START_KERNEL_MAP, PMD_SIZE } from '../base/addresses.ts';
import type { Slide } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { readFields, readNumber } from '../elf/fields.ts';
import { segmentBytes } from '../elf/read.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import type { Slots } from '../kaslr/slots.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { PARAMETERS, PARAMS, PARAMS_MAGIC, TABLE_FORMAT } from './layout.ts';
import { TABLE_DECODERS } from './table.ts';

/** The segment that kslide added to this file, in any version: a PT_LOAD that starts with the parameters' magic. Undefined for ELF32. */
export function findSegment({ bytes, header, segments }: ElfFile): Segment | undefined {
  if (header.bits !== 64) return undefined;
  const magic = PARAMS_MAGIC.slice(0, -1); // the last byte is the version
  return segments.find(
    ({ type, offset, filesz }) =>
      type === PT_LOAD && filesz >= PARAMS.size && magic.every((byte, index) => bytes[offset + index] === byte),
  );
}

/** What kslide made of a kernel. */
export type KernelKind = 'plain' | 'self-relocating' | 'moved';

export function kindOfKernel(elf: ElfFile): KernelKind {
  const segment = findSegment(elf);
  if (segment === undefined) return 'plain';
  const format = readNumber(new Reader(elf.bytes), segment.offset, PARAMETERS.table_format, 'table_format');
  return format === TABLE_FORMAT.none ? 'moved' : 'self-relocating';
}

/** The slides of a kernel that the host has moved: the virtual one from the parameters, the physical one from where the image is loaded. */
export function readSlides(elf: ElfFile, segment: Segment): { readonly virt: Slide; readonly phys: Slide } {
  const virt = readNumber(new Reader(elf.bytes), segment.offset, PARAMETERS.virt_slide, 'virt_slide');
  const image = elf.segments.find(({ type, vaddr }) => type === PT_LOAD && vaddr >= START_KERNEL_MAP);
  return { virt, phys: image === undefined ? 0 : image.paddr - Number(image.vaddr - START_KERNEL_MAP) };
}

/** A self-relocating kernel's segment. */
export interface AddedSegment {
  readonly segment: Segment;
  /** The version of the segment's layout. Always the one that this kslide writes: `readSegment` refuses others. */
  readonly layout: number;
  /** STUB_FLAGS. */
  readonly flags: number;
  readonly slots: Slots;
  /** `offset` in the file. */
  readonly table: { readonly format: string; readonly offset: number; readonly bytes: number };
  readonly sites: Sites;
}

/** Undefined for a kernel that was not converted. Throws KernelImageError for another layout, and for invalid parameters or an invalid table. */
export function readSegment(elf: ElfFile): AddedSegment | undefined {
  const segment = findSegment(elf);
  if (segment === undefined) return undefined;
  const { offset: origin } = segment;
  const [layout, ours] = [elf.bytes[origin + PARAMS_MAGIC.length - 1]!, PARAMS_MAGIC.at(-1)!];
  if (layout !== ours) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'layout of the segment that kslide added',
      offset: origin + PARAMS_MAGIC.length - 1,
      found: layout,
      expected: ours,
    });
  }
  const values = readFields(elf.bytes, origin, PARAMETERS);
  const decoder = TABLE_DECODERS.get(Number(values.table_format));
  if (decoder === undefined) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'parameters: table_format',
      offset: origin + PARAMS.table_format,
      found: values.table_format,
      expected: `one of ${[...TABLE_DECODERS.keys()].join(', ')}`,
    });
  }
  const start = Number(values.table);
  const length = Number(values.table_end) - start;
  const what = 'relocation table of the added segment';
  const bytes = new Reader(segmentBytes(elf, segment), origin).slice(start, length, what);
  return {
    segment,
    layout,
    flags: Number(values.flags),
    slots: readSlots(elf, segment),
    table: { format: decoder.name, offset: origin + start, bytes: length },
    sites: decoder.read(bytes, origin + start, sitesAtMost(elf)),
  };
}

/** How many sites the bytes that the file loads have room for: no two share a byte, and the narrowest has 4. */
function sitesAtMost({ bytes, segments }: ElfFile): number {
  const loaded = segments.reduce((sum, { type, filesz }) => (type === PT_LOAD ? sum + filesz : sum), 0);
  return Math.ceil(Math.min(loaded, bytes.length) / 4);
}

/** The slots that the program chooses from. Throws KernelImageError for numbers that no kernel can have. */
export function readSlots({ bytes }: ElfFile, { offset }: Segment): Slots {
  const reader = new Reader(bytes);
  const count = readNumber(reader, offset, PARAMETERS.slot_count, 'slot_count');
  const align = readNumber(reader, offset, PARAMETERS.slot_align, 'slot_align');
  expectBetween('slot_align', offset + PARAMS.slot_align, align, PMD_SIZE, KERNEL_IMAGE_SIZE, '2 MiB to 1 GiB');
  const most = KERNEL_IMAGE_SIZE / align;
  expectBetween('slot_count', offset + PARAMS.slot_count, count, 1, most, `1 to ${most}`);
  return { count, align };
}

function expectBetween(
  what: string,
  offset: number,
  found: number,
  least: number,
  most: number,
  expected: string,
): void {
  if (found >= least && found <= most) return;
  throw new KernelImageError({ code: 'bad-value', what, offset, found, expected });
}
