/**
 * The kernel's tables of PC-relative fields, read by their formats. `.rela` sections name the same fields, where the file has any.
 *
 * Each field is an s32 relative to its own place. include/asm-generic/vmlinux.lds.h and arch/x86/kernel/vmlinux.lds.S say which sections there are. The targets
 * show whether a table has the expected format: in a table of code, every field must lead to code. Where kernels differ in the size of an
 * entry, the size for which that holds is the right one.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { inAnyRange } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import type { DebugKernel } from './debug-kernel.ts';
import type { ImageBytes } from './kernel-image.ts';

interface TableFormat {
  /** Sections of that name, or the range between two symbols. */
  readonly where: string | RegExp | readonly [string, string];
  /** The possible sizes of an entry in bytes; the first that fits is taken. */
  readonly sizes: readonly number[];
  /** Offsets in an entry of fields that refer to code. */
  readonly code?: readonly number[];
  /** Offsets in an entry of fields that refer to code or data. */
  readonly any?: readonly number[];
}

const LIST = { sizes: [4], code: [0] } as const;

const FORMATS: readonly TableFormat[] = [
  // struct bug_entry: place, file, line, flags; one more pointer since 6.19.
  { where: '__bug_table', sizes: [12, 16], code: [0] },
  // struct alt_instr: instruction, replacement, feature and flags, two lengths.
  { where: '.altinstructions', sizes: [14, 12], code: [0, 4] },
  { where: '.smp_locks', ...LIST },
  { where: '.retpoline_sites', ...LIST },
  { where: '.return_sites', ...LIST },
  { where: '.call_sites', ...LIST },
  { where: '.ibt_endbr_seal', ...LIST },
  { where: '.cfi_sites', ...LIST },
  { where: /^runtime_/, ...LIST },
  // struct kernel_symbol: value, name, namespace.
  { where: '__ksymtab', sizes: [12], any: [0] },
  { where: '__ksymtab_gpl', sizes: [12], any: [0] },
  // struct pci_fixup: vendor, device, class, class_shift, hook.
  { where: '.pci_fixup', sizes: [16], code: [12] },
  // struct jump_entry: instruction, target, key.
  { where: ['__start___jump_table', '__stop___jump_table'], sizes: [16], code: [0, 4] },
  // struct static_call_site and struct static_call_tramp_key.
  { where: ['__start_static_call_sites', '__stop_static_call_sites'], sizes: [8], code: [0] },
  { where: ['__start_static_call_tramp_key', '__stop_static_call_tramp_key'], sizes: [8], code: [0] },
  { where: ['__initcall_start', '__initcall_end'], ...LIST },
  { where: ['__con_initcall_start', '__con_initcall_end'], ...LIST },
  { where: ['__start___tracepoints_ptrs', '__stop___tracepoints_ptrs'], sizes: [4], any: [0] },
];

export interface TableField {
  readonly place: PhysAddr;
  readonly target: PhysAddr;
}

export interface KnownTables {
  readonly fields: readonly TableField[];
  /** Where the tables lie. */
  readonly extents: readonly Range[];
}

/** Throws KernelImageError for a table that has another format. */
export function readKnownTables(debug: DebugKernel, image: ImageBytes): KnownTables {
  return readTables(debug, image, (where, { start }) => {
    throw new KernelImageError({
      code: 'unsupported',
      what: `table ${where}`,
      found: `a field at ${hex(start)} or later that leads to no code`,
      expected: 'the format that it has up to Linux 7.3',
    });
  });
}

/** The same, without the tables that have another format. */
export function readTablesOfKnownFormat(debug: DebugKernel, image: ImageBytes): KnownTables {
  return readTables(debug, image, () => {});
}

function readTables(
  debug: DebugKernel,
  image: ImageBytes,
  onOtherFormat: (where: string, extent: Range) => void,
): KnownTables {
  const sections = debug.loadedSections();
  const isCode = inAnyRange(sections.filter(({ executable }) => executable));
  const fields: TableField[] = [];
  const extents: Range[] = [];
  for (const format of FORMATS) {
    for (const extent of extentsOf(debug, sections, format)) {
      const found = readTable(image, extent, format, isCode);
      if (found === undefined) {
        onOtherFormat(typeof format.where === 'string' ? format.where : String(format.where), extent);
        continue;
      }
      for (const field of found) fields.push(field);
      extents.push(extent);
    }
  }
  return { fields, extents };
}

function extentsOf(
  debug: DebugKernel,
  sections: readonly (Range & { readonly name: string })[],
  { where }: TableFormat,
): Range[] {
  if (typeof where === 'string') return sections.filter(({ name }) => name === where);
  if (where instanceof RegExp) return sections.filter(({ name }) => where.test(name));
  const [start, end] = where.map((name) => debug.find(name));
  return start === undefined || end === undefined || end <= start ? [] : [{ start, end }];
}

function readTable(
  image: ImageBytes,
  { start, end }: Range,
  { sizes, code = [], any = [] }: TableFormat,
  isCode: (place: PhysAddr) => boolean,
): TableField[] | undefined {
  const offset = image.at(start, end - start, 'table');
  next: for (const size of sizes) {
    if ((end - start) % size !== 0) continue;
    const fields: TableField[] = [];
    for (let entry = start; entry < end; entry += size) {
      for (const at of [...code, ...any]) {
        const place = entry + at;
        const value = image.view.getInt32(offset + place - start, true);
        if (value === 0) continue; // no target, or the padding of a table that fills pages
        const target = place + value;
        if (code.includes(at) && !isCode(target)) continue next;
        fields.push({ place, target });
      }
    }
    return fields;
  }
  return undefined;
}
