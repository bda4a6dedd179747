/** The kernel that was converted: read once, with the same readers as everywhere, and everything that cannot be what was converted refused. */
import type { Codecs } from '../codecs/formats.ts';
import { PN_XNUM, SHT_STRTAB } from '../elf/constants.ts';
import { segmentBytes } from '../elf/read.ts';
import { KernelImageError } from '../base/errors.ts';
import { readInput } from '../kernel/open.ts';
import type { KernelInput } from '../kernel/open.ts';
import { findRelocations } from '../relocs/find.ts';
import { checkSites } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { ENTRY_BYTES, PARAMS_MAGIC, STUB_FLAGS } from '../segment/layout.ts';
import { fileOffsetOf, readVmlinux } from '../kernel/vmlinux.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { EHDR } from './fields.ts';

export interface Original {
  readonly input: KernelInput;
  readonly kernel: Vmlinux;
  /** Every site lies inside the image, and no two overlap. */
  readonly table: RelocationTable;
  /** CONFIG_PHYSICAL_ALIGN where a setup header tells it, else its least value. */
  readonly slotAlign: number;
  /** The ENTRY_BYTES at e_entry, the first of which the hook covers. */
  readonly entryBytes: Uint8Array;
  readonly form: Form;
}

/** What the conversion is for; it shows in two places. */
export interface Form {
  /** What the parameters' flags may be (STUB_FLAGS). */
  readonly flags: readonly number[];
  /** The segment ends the file, and its table is in the form that the kernel's decompressor reads. */
  readonly atEnd: boolean;
}

/** A file to boot directly, which may have come out of a bzImage: after a boot loader that sets no KASLR_FLAG, the flag says nothing. */
export const DIRECT: Form = { flags: [0, STUB_FLAGS.despite_kaslr_flag], atEnd: false };
/** In a bzImage: behind a decompressor with an empty table, behind one that reads the segment's, and behind none. */
export const FORMS = {
  compressed: { flags: [STUB_FLAGS.despite_kaslr_flag], atEnd: false },
  tableAtEnd: { flags: [0], atEnd: true },
  uncompressed: { flags: [0], atEnd: false },
} as const satisfies Record<string, Form>;

export interface OriginalOptions {
  readonly codecs: Codecs;
  /** A relocation table in the kernel's format, for a vmlinux that does not carry one; it goes before one that is carried. */
  readonly relocs?: Uint8Array | undefined;
}

/** CONFIG_PHYSICAL_ALIGN's default and least value (arch/x86/Kconfig): the kernel maps its image in pages of this size. */
const LEAST_ALIGN = 0x20_0000;

/** Throws KernelImageError when this is not a kernel, or none that can be converted. */
export async function readOriginal(bytes: Uint8Array, options: OriginalOptions): Promise<Original> {
  const input = await readInput(bytes, options);
  const kernel = readVmlinux(input.vmlinux);
  refuseConverted(kernel);
  refuseCrowded(kernel);
  const table = findRelocations(kernel, input);
  checkSites(table, kernel.loads);
  return {
    input,
    kernel,
    table,
    slotAlign: input.header?.kernelAlignment ?? LEAST_ALIGN,
    entryBytes: readEntry(kernel),
    form: DIRECT,
  };
}

function refuseConverted({ loads, elf }: Vmlinux): void {
  const magic = PARAMS_MAGIC.slice(0, -1); // whatever its version
  const startsLikeOurs = (bytes: Uint8Array): boolean => magic.every((byte, index) => bytes[index] === byte);
  if (!loads.some((load) => startsLikeOurs(segmentBytes(elf, load)))) return;
  throw new KernelImageError({
    code: 'already-converted',
    what: 'vmlinux',
    hint: 'the kernel that it was made from comes first, the converted one second',
  });
}

/** No number for one more program header, or no table for the new sections' names. */
function refuseCrowded({ elf: { header, sections } }: Vmlinux): void {
  if (header.phnum + 1 >= PN_XNUM) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'e_phnum',
      offset: EHDR.e_phnum[0],
      found: header.phnum,
      expected: 'room for one more program header',
    });
  }
  if (header.shnum > 0 && sections[header.shstrndx]?.type !== SHT_STRTAB) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'e_shstrndx',
      offset: EHDR.e_shstrndx[0],
      found: header.shstrndx,
      expected: 'the number of a SHT_STRTAB section',
    });
  }
}

function readEntry({ elf, loads, entry, entryOffset }: Vmlinux): Uint8Array {
  const last = ENTRY_BYTES - 1;
  if (fileOffsetOf(loads, entry + last) === entryOffset + last)
    return elf.bytes.subarray(entryOffset, entryOffset + ENTRY_BYTES);
  throw new KernelImageError({
    code: 'bad-value',
    what: 'e_entry',
    offset: EHDR.e_entry[0],
    found: entry,
    expected: `at least ${ENTRY_BYTES} bytes before its segment's end`,
  });
}
