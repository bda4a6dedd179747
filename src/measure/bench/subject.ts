/** What a bench compares: one kernel, in every form in which it can be booted, and the places that its boots pass. */
import { PMD_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import type { Encoders } from '../../codecs/formats.ts';
import { isBzImage } from '../../bzimage/header.ts';
import { findPeSection, isPe } from '../../bzimage/pe.ts';
import { convert } from '../../convert.ts';
import { extract } from '../../extract.ts';
import { rebuildBzImage } from '../../rebuild.ts';
import type { RebuildOptions } from '../../rebuild.ts';
import { readInput } from '../../kernel/input.ts';
import type { InputOptions } from '../../kernel/input.ts';
import { countRelocations } from '../../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { findRelocations } from '../../relocs/find.ts';
import { ENTRY_BYTES } from '../../segment/layout.ts';
import { STUB_TABLES } from '../../segment/table.ts';
import type { StubTableName } from '../../segment/table.ts';
import { readVmlinux } from '../../kernel/vmlinux.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

/** The name of what all others are compared with: always there. */
export const PLAIN = 'vmlinux';

/** An image to boot. What it passes on its way is in `decompressor` and `stub`; everything else follows from them. */
export interface Variant {
  /** Stable: `bzimage`, `vmlinux`, `kslide-compact`, and `-nokaslr` behind where the command line says so. */
  readonly name: string;
  readonly title: string;
  /** A bzImage: something unpacks the kernel, and puts it somewhere. */
  readonly decompressor: boolean;
  /** A kernel that `convert` has made. */
  readonly stub: StubPlace | undefined;
  readonly nokaslr: boolean;
  readonly image: Uint8Array;
  /** What stands at startup_64 when the boot comes there. */
  readonly entryBytes: Uint8Array;
  /** Bytes that a loader puts into memory: all of a bzImage, what PT_LOAD segments have in the file of a vmlinux. */
  readonly loaded: number;
}

export interface StubPlace {
  readonly table: StubTableName;
  readonly tableBytes: number;
  /** Where the added segment is linked. */
  readonly segment: PhysAddr;
}

export interface Subject {
  readonly version: string | undefined;
  readonly plain: Vmlinux;
  /** PVH where the kernel has it, as QEMU boots an ELF kernel. */
  readonly entry: 'pvh' | 'linux64';
  readonly relocations: RelocationTable;
  readonly relocationCount: number;
  /** CONFIG_PHYSICAL_ALIGN: the decompressor places the kernel at multiples of it. */
  readonly align: number;
  readonly variants: readonly Variant[];
}

export interface SubjectOptions extends InputOptions {
  /** Given, a bzImage is also rebuilt in all forms. */
  readonly encoders?: Encoders | undefined;
}

/** Throws KernelImageError for what `convert` or, where it is asked for, `rebuildBzImage` does not take. */
export async function readSubject(file: Uint8Array, options: SubjectOptions): Promise<Subject> {
  const input = await readInput(file, options);
  const plain = readVmlinux(input.vmlinux);
  const relocations = findRelocations(plain, input);
  const images: Image[] = [];
  const bzImage = bzImageOf(file);
  if (bzImage !== undefined) images.push(describeBzImage(bzImage, plain));
  images.push(describeVmlinux({ name: PLAIN, title: 'vmlinux' }, plain));
  for (const table of STUB_TABLES) {
    const { summary, bytes } = await convert(file, { ...options, table });
    const stub = { table, tableBytes: summary.sizes.table, segment: summary.segment.paddr };
    images.push(
      describeVmlinux({ name: `kslide-${table}`, title: `kslide, ${table} table` }, readVmlinux(bytes()), stub),
    );
  }
  if (bzImage !== undefined && options.encoders !== undefined)
    images.push(...(await rebuildAll(bzImage, { ...options, encoders: options.encoders })));
  return {
    version: input.kernelVersion?.split(' ')[0],
    plain,
    entry: plain.pvhEntry === undefined ? 'linux64' : 'pvh',
    relocations,
    relocationCount: countRelocations(relocations),
    align: input.header?.kernelAlignment ?? PMD_SIZE,
    variants: images.flatMap(withAndWithoutKaslr),
  };
}

/** bzImages around the converted kernel, in the forms that `rebuildBzImage` has. */
const REBUILT = [
  { name: 'kslide-bzimage', title: 'kslide, bzImage', how: {} },
  { name: 'kslide-bzimage-table-at-end', title: 'kslide, bzImage, table at the end', how: { tableAtEnd: true } },
  { name: 'kslide-bzimage-uncompressed', title: 'kslide, bzImage, uncompressed', how: { uncompressed: true } },
] as const;

async function rebuildAll(bzImage: Uint8Array, options: RebuildOptions): Promise<Image[]> {
  const images: Image[] = [];
  for (const { name, title, how } of REBUILT) {
    const { bytes, summary } = await rebuildBzImage(bzImage, { ...options, ...how });
    const { vmlinux } = await extract(bytes, options);
    const entryBytes = entryBytesOf(readVmlinux(vmlinux));
    const stub = {
      table: summary.tableFormat,
      tableBytes: summary.sizes.table,
      segment: summary.segment.paddr,
    };
    images.push({ name, title, decompressor: true, stub, image: bytes, entryBytes, loaded: bytes.length });
  }
  return images;
}

/** The bzImage itself, or the one in a UKI; undefined for a vmlinux. */
function bzImageOf(file: Uint8Array): Uint8Array | undefined {
  if (isBzImage(file)) return file;
  return isPe(file) ? findPeSection(file, '.linux') : undefined;
}

type Image = Omit<Variant, 'nokaslr'>;

function describeBzImage(image: Uint8Array, plain: Vmlinux): Image {
  return {
    name: 'bzimage',
    title: 'bzImage',
    decompressor: true,
    stub: undefined,
    image,
    entryBytes: entryBytesOf(plain),
    loaded: image.length,
  };
}

function describeVmlinux(words: Pick<Image, 'name' | 'title'>, kernel: Vmlinux, stub?: StubPlace): Image {
  const loaded = kernel.loads.reduce((sum, { filesz }) => sum + filesz, 0);
  const image = kernel.elf.bytes;
  return { ...words, decompressor: false, stub, image, entryBytes: entryBytesOf(kernel), loaded };
}

function entryBytesOf({ elf, entryOffset }: Vmlinux): Uint8Array {
  return elf.bytes.subarray(entryOffset, entryOffset + ENTRY_BYTES);
}

/** A plain vmlinux does not care. */
function withAndWithoutKaslr(image: Image): readonly Variant[] {
  const plain = { ...image, nokaslr: false };
  if (!image.decompressor && image.stub === undefined) return [plain];
  return [plain, { ...image, name: `${image.name}-nokaslr`, title: `${image.title}, nokaslr`, nokaslr: true }];
}
