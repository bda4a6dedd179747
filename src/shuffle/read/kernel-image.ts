/** The kernel to shuffle: without symbols, and seen by address. */
import { KERNEL_IMAGE_SIZE } from '../../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { copyOf, isZero, viewOf, Writer } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { SHT_RELA, SHT_SYMTAB } from '../../elf/constants.ts';
import { EHDR, writeFields } from '../../elf/fields.ts';
import type { Segment } from '../../elf/read.ts';
import { readVmlinux } from '../../kernel/vmlinux.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

/**
 * An unstripped vmlinux without what shuffling makes untrue: its symbols, its `.rela` sections, its debug information. Only the part up to the end of the
 * last segment is kept, without section headers. A stripped vmlinux, as in a bzImage, is returned unchanged.
 */
export function withoutSymbols(kernel: Vmlinux): Vmlinux {
  const { elf } = kernel;
  if (!elf.sections.some(({ type }) => type === SHT_SYMTAB || type === SHT_RELA)) return kernel;
  const end = elf.segments.reduce((last, { offset, filesz }) => Math.max(last, offset + filesz), 0);
  const writer = new Writer(copyOf(elf.bytes.subarray(0, end)));
  writeFields(writer, 0, EHDR[64], { e_shoff: 0, e_shnum: 0, e_shstrndx: 0 });
  return readVmlinux(writer.bytes);
}

/** Where a place in the image lies in the file, and what is stored there. */
export class ImageBytes {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly loads: readonly Segment[];
  #load: Segment | undefined;

  constructor({ elf, loads }: Vmlinux) {
    this.bytes = elf.bytes;
    this.view = viewOf(elf.bytes);
    this.loads = loads;
  }

  /** The file offset of `width` bytes at a place. Throws for a place that no segment loads from the file. */
  at(place: PhysAddr, width: number, what: string): FileOffset {
    const load = this.#load;
    if (load === undefined || width < 0 || place < load.paddr || place + width > load.paddr + load.filesz) {
      const found = this.loads.find(({ paddr, filesz }) => place >= paddr && place + width <= paddr + filesz);
      if (found === undefined || width < 0) {
        throw new KernelImageError({
          code: 'bad-value',
          what,
          found: place,
          expected: `${hex(width)} bytes that the kernel loads from its file`,
        });
      }
      this.#load = found;
    }
    return this.#load!.offset + (place - this.#load!.paddr);
  }

  /** A view of the bytes from one place to another. */
  range(start: PhysAddr, end: PhysAddr, what: string): Uint8Array {
    const at = this.at(start, end - start, what);
    return this.bytes.subarray(at, at + (end - start));
  }

  /** The number of entries in a table from one place to another. Throws for a table that ends before it starts, or inside an entry. */
  count(start: PhysAddr, end: PhysAddr, entry: number, what: string): number {
    const count = (end - start) / entry;
    if (count >= 0 && Number.isInteger(count)) return count;
    throw new KernelImageError({
      code: 'bad-value',
      what: `end of ${what}`,
      found: end,
      expected: `${hex(start)}, where it starts, and a multiple of ${entry} bytes`,
    });
  }

  /** Whether what the file loads there is zero. Looks only at bytes of the file, however far apart the places are. */
  isZero(start: PhysAddr, end: PhysAddr): boolean {
    return this.loads.every(({ offset, paddr, filesz }) => {
      const [from, to] = [Math.max(start, paddr), Math.min(end, paddr + filesz)];
      return from >= to || isZero(this.bytes.subarray(offset + from - paddr, offset + to - paddr));
    });
  }
}

/** The low half of a sign-extended virtual address, or of a physical one, as a place in the image; -1 when it is neither. */
export function placeOfLow(low: number): number {
  const place = low >= 0x8000_0000 ? low - 0x8000_0000 : low;
  return place <= KERNEL_IMAGE_SIZE ? place : -1;
}
