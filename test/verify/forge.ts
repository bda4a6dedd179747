/**
 * Converted kernels that are wrong and yet agree with themselves: put together by the writer from parts that were changed first, so that every
 * offset, size and address follows.
 */
import { joinParts, Reader, Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { addSegment } from '../../src/elf/write.ts';
import type { NewSegment } from '../../src/elf/write.ts';
import { slotsOf } from '../../src/kaslr/slots.ts';
import type { Slots } from '../../src/kaslr/slots.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { buildHook } from '../../src/segment/build.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { buildSegment } from '../../src/segment/build.ts';
import { assembleStub } from '../../src/stub/program.ts';
import { encodeStubTable } from '../../src/segment/table.ts';
import type { StubTableName } from '../../src/segment/table.ts';
import { examine } from '../../src/verify/verify.ts';
import type { Examination } from '../../src/verify/verify.ts';
import { readOriginal } from '../../src/verify/original.ts';
import type { Original } from '../../src/verify/original.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import type { VmlinuxOptions } from '../make-vmlinux.ts';

export const program = assembleStub().code;

export function original(options: VmlinuxOptions = {}): Promise<Original> {
  return readOriginal(makeVmlinux(options), { codecs: coreCodecs });
}

export function examined(kernel: Original, converted: Uint8Array): Examination {
  return examine(kernel, converted, { program });
}

export interface Forgery {
  readonly table?: Partial<RelocationTable>;
  readonly tableBytes?: Uint8Array;
  readonly format?: StubTableName;
  readonly slots?: Slots;
  /** In the file. */
  readonly offset?: number;
  readonly segment?: (segment: NewSegment) => NewSegment;
  /** Once more, over the parameters as they were made for the segment. */
  readonly params?: (params: Writer, segment: NewSegment) => void;
  readonly hook?: (segment: NewSegment) => Uint8Array;
}

/** Without any changes, what `convert` writes. */
export function forge({ kernel, table, limit }: Original, forgery: Forgery = {}): Uint8Array {
  const encoded = encodeStubTable({ ...table, ...forgery.table }, forgery.format ?? 'compact');
  const stubTable = { ...encoded, bytes: forgery.tableBytes ?? encoded.bytes };
  const slots = forgery.slots ?? slotsOf({ imageEnd: kernel.imageEnd, limit });
  const { offset } = forgery;
  const built = buildSegment(kernel, program, slots, stubTable, { offset });
  const segment = forgery.segment?.(built) ?? built;
  forgery.params?.(new Writer(segment.content[0]!), segment);
  const hook = forgery.hook?.(segment) ?? buildHook(kernel.entry, segment.paddr);
  return joinParts(addSegment(kernel.elf, segment, [{ offset: kernel.entryOffset, bytes: hook }]));
}

/** The segment elsewhere in memory, and the parameters knowing it. */
export function movedTo(paddr: number): Forgery {
  return {
    segment: (segment) => ({ ...segment, paddr }),
    params: (params) => params.u64(PARAMS.link_base, paddr),
  };
}

/** Inserts bytes at `offset`; the rest follows them. */
export function inserted(bytes: Uint8Array, offset: number, ...values: number[]): Uint8Array {
  return joinParts([bytes.subarray(0, offset), Uint8Array.from(values), bytes.subarray(offset)]);
}

export function field(bytes: Uint8Array, offset: number): number {
  return new Reader(bytes).u64AsNumber(offset, 'field');
}
