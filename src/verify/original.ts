/**
 * The kernel that was converted. It is read once, with the readers that all of kslide uses. A kernel that `convert` could not have taken is refused.
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { Codecs } from '../codecs/formats.ts';
import { KernelImageError } from '../base/errors.ts';
import type { KernelInput } from '../kernel/input.ts';
import { openKernel } from '../kernel/open.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { locateRelocations, readRelocations } from '../relocs/find.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { ENTRY_BYTES, STUB_FLAGS } from '../segment/layout.ts';
import { hasCode, readClaim } from './claim.ts';
import { limitOf } from './image-limit.ts';
import { tableWithoutNotes } from './notes.ts';

/** A table that the original does not have: it was taken out of the converted file. */
export interface Claim {
  /** Why none could be taken out; then the table is empty. */
  readonly error: KernelImageError | undefined;
}

export interface Original {
  readonly input: KernelInput;
  readonly kernel: Vmlinux;
  /** Without sites in notes (notes.ts). Every site lies inside the image, and no two overlap. */
  readonly table: RelocationTable;
  /** How far apart the slots are: PMD_SIZE, or what the caller says. */
  readonly slotAlign: number;
  /** Where the image, slide included, must end: KERNEL_IMAGE_SIZE, as the kernel's page tables have it. */
  readonly limit: number;
  /** The ENTRY_BYTES at e_entry, the first of which the hook covers. */
  readonly entryBytes: Uint8Array;
  readonly form: Form;
  readonly claim?: Claim | undefined;
}

/** What the converted kernel is made for. Two things in the file depend on it. */
export interface Form {
  readonly name: FormName;
  /** The parameters' flags (STUB_FLAGS). */
  readonly flags: number;
  /** The added segment ends the file, and its table is in the format that the kernel's decompressor reads. */
  readonly atEnd: boolean;
}

/**
 * The forms by name. Each byte of a file has one right value in its form, so a verdict names the form.
 *
 * - `direct`: a vmlinux, as `convert` writes it;
 * - `extracted`: a vmlinux that was taken out of a `compressed` bzImage. It relocates although KASLR_FLAG is set, so it is another kernel than the
 *   `direct` one for a loader that sets the flag, and only counts as right if the caller asks for it;
 * - `table-at-end`: a bzImage whose decompressor reads the segment's table, or the vmlinux in it. It differs from `direct` in where the headers are;
 * - `compressed`: a bzImage with a decompressor that has an empty table;
 * - `uncompressed`: a bzImage without a decompressor.
 */
export const FORMS = {
  direct: { name: 'direct', flags: 0, atEnd: false },
  extracted: { name: 'extracted', flags: STUB_FLAGS.despite_kaslr_flag, atEnd: false },
  compressed: { name: 'compressed', flags: STUB_FLAGS.despite_kaslr_flag, atEnd: false },
  'table-at-end': { name: 'table-at-end', flags: 0, atEnd: true },
  uncompressed: { name: 'uncompressed', flags: 0, atEnd: false },
} as const satisfies { readonly [name in FormName]: Form & { readonly name: name } };

export type FormName = 'direct' | 'extracted' | 'compressed' | 'table-at-end' | 'uncompressed';

export interface OriginalOptions {
  readonly codecs: Codecs;
  /** A relocation table in the kernel's format, for a vmlinux that does not carry one; it takes precedence over one that the vmlinux carries. */
  readonly relocs?: Uint8Array | undefined;
  /** The step of the converted kernel's slides: a power of two from 2 MiB to 1 GiB. Undefined: 2 MiB, the least that a kernel allows. */
  readonly align?: number | undefined;
}

/** Whether slides can be so far apart: a power of two from 2 MiB to 1 GiB. */
export function isStep(align: bigint): boolean {
  return align >= PMD_SIZE && align <= KERNEL_IMAGE_SIZE && (align & (align - 1n)) === 0n;
}

/** Throws KernelImageError for a step that no kernel can have. */
export function expectStep(align = PMD_SIZE): void {
  if (Number.isInteger(align) && isStep(BigInt(align))) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'step of the slides',
    found: `${align}`,
    expected: 'a power of two from 2 MiB to 1 GiB',
  });
}

/**
 * Throws KernelImageError if this is not a kernel, or not one that can be converted. `converted`: where the table is taken from if the original has none. Undefined: that is refused.
 */
export async function readOriginal(
  bytes: Uint8Array,
  options: OriginalOptions,
  converted?: Uint8Array,
): Promise<Original> {
  const hint = 'the kernel that it was made from comes first, the converted one second';
  const opened = await openKernel(bytes, 'prove', { ...options, hint });
  const { input, kernel } = opened;
  const { elf, entryOffset } = kernel;
  const claimed =
    converted === undefined || locateRelocations(kernel, input) !== undefined || !hasCode(elf)
      ? undefined
      : readClaim(converted, kernel);
  const table = tableWithoutNotes(claimed?.table ?? readRelocations(opened, { thoroughness: 'all' }), kernel);
  return {
    input,
    kernel,
    table,
    slotAlign: options.align ?? PMD_SIZE,
    limit: limitOf(kernel, table),
    entryBytes: elf.bytes.subarray(entryOffset, entryOffset + ENTRY_BYTES),
    form: FORMS.direct,
    claim: claimed,
  };
}
