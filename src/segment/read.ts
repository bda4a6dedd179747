/**
 * What `convert` added to a kernel, read back: the parameters of its segment, and the table by the readers that `verify` has. Section names are
 * not asked, so a converted file that was stripped is one still.
 */
import { Reader } from '../base/bytes.ts';
import { segmentBytes } from '../elf/read.ts';
import type { Segment } from '../elf/read.ts';
import { KernelImageError } from '../base/errors.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { PARAMS, PARAMS_MAGIC, TABLE_FORMAT } from './layout.ts';
import { PARAMETERS, valuesAt } from '../verify/fields.ts';
import { TABLE_READERS } from '../verify/table.ts';
import type { Slots } from '../kaslr/slots.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';

export interface Added {
  readonly segment: Segment;
  /** The version of the segment's layout; the fields below are of the one that this kslide writes. */
  readonly layout: number;
  /** STUB_FLAGS. */
  readonly flags: number;
  readonly slots: Slots;
  /** `offset` in the file. */
  readonly table: { readonly format: string; readonly offset: number; readonly bytes: number };
  readonly sites: Sites;
}

/** Undefined for a kernel that was not converted. Throws KernelImageError: another layout, or parameters or a table that are broken. */
export function readAdded({ elf, loads }: Vmlinux): Added | undefined {
  const segment = loads.find((load) => startsLikeOurs(segmentBytes(elf, load)));
  if (segment === undefined) return undefined;
  const [layout, ours] = [elf.bytes[segment.offset + PARAMS_MAGIC.length - 1]!, PARAMS_MAGIC.at(-1)!];
  if (layout !== ours) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'layout of the segment that kslide added',
      offset: segment.offset + PARAMS_MAGIC.length - 1,
      found: layout,
      expected: ours,
    });
  }
  const values = valuesAt(elf.bytes, segment.offset, PARAMETERS);
  const start = Number(values.table);
  const bytes = new Reader(segmentBytes(elf, segment), segment.offset).slice(
    start,
    Number(values.table_end) - start,
    'relocation table of the added segment',
  );
  const format = Number(values.table_format);
  const read = TABLE_READERS.get(format);
  if (read === undefined) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'parameters: table_format',
      offset: segment.offset + PARAMS.table_format,
      found: format,
      expected: `one of ${[...TABLE_READERS.keys()].join(', ')}`,
    });
  }
  const offset = segment.offset + start;
  return {
    segment,
    layout,
    flags: Number(values.flags),
    slots: { count: Number(values.slot_count), align: Number(values.slot_align) },
    table: { format: formatName(format), offset, bytes: bytes.length },
    sites: read(bytes, offset),
  };
}

function startsLikeOurs(bytes: Uint8Array): boolean {
  const magic = PARAMS_MAGIC.slice(0, -1); // whatever its version
  return bytes.length >= PARAMS.size && magic.every((byte, index) => bytes[index] === byte);
}

function formatName(format: number): string {
  return Object.entries(TABLE_FORMAT).find(([, number]) => number === format)![0];
}

/** The kernel without what was added to it: the image that it has in memory. Throws KernelImageError when nothing is left. */
export function withoutAdded(kernel: Vmlinux, { segment }: Added): Vmlinux {
  const loads = kernel.loads.filter((load) => load !== segment);
  const last = loads.at(-1);
  if (last === undefined) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'program headers',
      found: 'the segment that kslide added alone',
      expected: 'a kernel beside it',
    });
  }
  return { ...kernel, loads, imageStart: loads[0]!.paddr, imageEnd: last.paddr + last.memsz };
}
