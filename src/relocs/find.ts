/**
 * Finds a kernel's relocations. In this order: a table in a file of its own (`--relocs`), a table after the ELF file (as in a bzImage's payload), the
 * `.rela` sections that a vmlinux from a build tree or a debug package still has, and the reserved section that `relocs --keep` has filled.
 *
 * Where there are two of them, they must agree. Whatever is found must fit the image (plausible.ts) and be whole (complete.ts).
 */
import { tableEntryToPhys, tableEntryToVirt } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { findSection, sectionName } from '../elf/read.ts';
import type { KernelInput } from '../kernel/input.ts';
import type { OpenedKernel } from '../kernel/open.ts';
import { fileOffsetOf } from '../kernel/vmlinux.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { isPadding, readTableOf, startsLikeTable } from './after-elf.ts';
import type { FoundTable } from './after-elf.ts';
import { checkComplete } from './complete.ts';
import { boundsOf, checkPlausible, int32At, isAddress, perCpuSegment } from './plausible.ts';
import type { ReadBytes, Thoroughness } from './plausible.ts';
import { memorySource } from './tool/byte-source.ts';
import { collectRelocations, hasRelocations } from './tool/collect.ts';
import { describeLeft, findLeftSections } from './tool/relocated-text.ts';
import type { LeftSections } from './tool/relocated-text.ts';
import { readSectionTable } from './tool/sections.ts';
import { leaveOutNotes } from './note-sites.ts';
import { findFilledSection, readFilledSection } from './reserved-section.ts';
import { checkSites, differencesOf } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

/** `behind`: the table after the ELF file. The name stays, because `inspect --json` prints it. */
export type RelocationSource = 'relocs-file' | 'behind' | 'rela' | 'reserved';

type OwnSource = Exclude<RelocationSource, 'relocs-file'>;

type Given = Pick<KernelInput, 'kind' | 'relocs'>;

/** Undefined for a kernel that was built without relocations or stripped of them. */
export function locateRelocations(kernel: Vmlinux, { relocs }: Pick<Given, 'relocs'>): RelocationSource | undefined {
  return relocs === undefined ? locateOwn(kernel, ownSources(kernel)) : 'relocs-file';
}

/** What follows a file that has its relocations in itself may be anything, unless it starts as a table does. */
function locateOwn({ trailer }: Vmlinux, [first]: readonly OwnSource[]): OwnSource | undefined {
  return first ?? (isPadding(trailer) ? undefined : 'behind');
}

/** All tables that the file itself has. */
function ownSources(kernel: Vmlinux): OwnSource[] {
  const sources: OwnSource[] = [];
  if (startsLikeTable(kernel.trailer)) sources.push('behind');
  if (hasRela(kernel)) sources.push('rela');
  else if (findFilledSection(kernel.elf) !== undefined) sources.push('reserved');
  return sources;
}

/**
 * Whether the file has relocation sections, of which one applies to its code (relocated-text.ts). A file without section headers has none, and `hasRelocations`
 * may refuse it.
 */
export function hasRela(kernel: Vmlinux): boolean {
  const { elf } = kernel;
  if (elf.header.shnum === 0 || !hasRelocations(elf.bytes)) return false;
  return findLeftRela(kernel) === undefined;
}

function findLeftRela({ elf }: Vmlinux): LeftSections | undefined {
  if (elf.header.shnum === 0) return undefined;
  return findLeftSections(readSectionTable(memorySource(elf.bytes)), findSection(elf, '.text')?.index ?? -1);
}

export interface FoundRelocations extends FoundTable {
  readonly source: RelocationSource;
}

export interface ReadOptions {
  /** The kernel's relocations, if the caller has read them already. */
  readonly known?: RelocationTable | undefined;
  /** For a file that is not in memory: `kernel.elf.bytes` then need hold no more than the headers. */
  readonly read?: ReadBytes | undefined;
  /** Undefined: `samples`. */
  readonly thoroughness?: Thoroughness | undefined;
}

/**
 * Returns the relocations of an opened kernel. Every site has been checked to be inside the image, so they can be applied without further checks; and they are this
 * kernel's, as far as its image shows. Throws KernelImageError: `no-relocations` with a hint where to find them, or another code if they are broken.
 */
export function readRelocations(opened: OpenedKernel, options: ReadOptions = {}): RelocationTable {
  return readCheckedRelocations(opened, options).table;
}

/** The same, with where they were found and what was ignored there. */
export function readCheckedRelocations({ input, kernel }: OpenedKernel, options: ReadOptions = {}): FoundRelocations {
  const { known, read = readerOf(kernel) } = options;
  const found =
    known === undefined
      ? findChecked(kernel, input, read)
      : ({ source: 'relocs-file', table: known, ignored: undefined } as const);
  checkTable(found.table, kernel, options);
  return found;
}

/** Throws KernelImageError for a table that cannot be applied to this kernel, is not its own or not whole. */
export function checkTable(
  table: RelocationTable,
  kernel: Vmlinux,
  { read, thoroughness = 'samples' }: ReadOptions = {},
): void {
  checkSites(table, kernel.loads);
  const image = { read: read ?? readerOf(kernel), inMemory: read === undefined };
  checkPlausible(table, kernel, image.read, thoroughness);
  checkComplete(table, kernel, image, thoroughness);
}

function readerOf({ elf: { bytes } }: Vmlinux): ReadBytes {
  return (offset, length) => bytes.subarray(offset, offset + length);
}

/** The relocations as they are, not checked against the image. Throws KernelImageError where two sources of them differ. */
export function findRelocations(kernel: Vmlinux, input: Given): RelocationTable {
  return findChecked(kernel, input, readerOf(kernel)).table;
}

function findChecked(kernel: Vmlinux, input: Given, read: ReadBytes): FoundRelocations {
  const own = ownSources(kernel);
  const source = input.relocs === undefined ? locateOwn(kernel, own) : 'relocs-file';
  if (source === undefined) throw noRelocations(kernel, input);
  const found = readFrom(source, kernel, input, read);
  // A bzImage built by kslide has an empty table, which is padding here.
  for (const other of own) {
    if (other === source) continue;
    // Relocs tools before 2024 took sites in notes, so tables of one build may differ there.
    const [here, there] = [found.table, readFrom(other, kernel, input, read).table].map(
      (table) => leaveOutNotes(table, kernel).table,
    ) as [RelocationTable, RelocationTable];
    expectAgreement(here, there, NAMES[source], NAMES[other]);
  }
  return { ...found, ignored: found.ignored ?? nameTrailer(source, kernel) };
}

function nameTrailer(source: RelocationSource, { trailer }: Vmlinux): string | undefined {
  if (source === 'behind' || trailer.length === 0 || startsLikeTable(trailer)) return undefined;
  return `${trailer.length} bytes after the ELF file that are no relocation table`;
}

/** Throws KernelImageError if the relocations there are broken. */
function readFrom(
  source: RelocationSource,
  kernel: Vmlinux,
  { relocs }: Pick<Given, 'relocs'>,
  read: ReadBytes,
): FoundRelocations {
  const { elf, trailer, loads } = kernel;
  const perCpu = perCpuSegment(kernel) !== undefined;
  if (source === 'rela' || source === 'reserved') {
    const table =
      source === 'rela' ? collectRelocations(elf.bytes) : readFilledSection(findFilledSection(elf)!, perCpu);
    return { source, table, ignored: undefined };
  }
  const bounds = boundsOf(kernel);
  const isSite = (entry: number): boolean => {
    const site = tableEntryToPhys(entry);
    const offset = site === undefined ? undefined : fileOffsetOf(loads, site);
    return offset !== undefined && isAddress(int32At(read(offset, 4), 0), bounds);
  };
  const context = { perCpu, isSite };
  return source === 'relocs-file'
    ? { source, ...readTableOf(relocs!, context) }
    : { source, ...readTableOf(trailer, { ...context, origin: elf.bytes.length }) };
}

const NAMES: Readonly<Record<RelocationSource, string>> = {
  'relocs-file': 'the relocation table that was given',
  behind: 'the table after the ELF file',
  rela: "the table in the file's .rela sections",
  reserved: "the table in the file's section for one",
};

/** Throws KernelImageError with the number of differences, and three of them. */
function expectAgreement(table: RelocationTable, other: RelocationTable, name: string, otherName: string): void {
  let count = 0;
  const examples: string[] = [];
  for (const { entry, isOnlyIn } of differencesOf(table, other))
    if (count++ < 3) examples.push(`${hex(tableEntryToVirt(entry))} in the ${isOnlyIn}`);
  if (count === 0) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: name,
    found: `not the same as ${otherName}: ${count === 1 ? '1 site is' : `${count} sites are`} in one of them only (${examples.join(', ')})`,
    expected: 'the same sites',
    hint: 'they are of different builds; leave one out',
  });
}

function noRelocations(kernel: Vmlinux, { kind }: Given): KernelImageError {
  const { elf } = kernel;
  const left = findLeftRela(kernel);
  const some = left !== undefined && left.count > 0;
  return new KernelImageError({
    code: 'no-relocations',
    what: some
      ? describeLeft(left, (index) => sectionName(elf, elf.sections[index]!))
      : kind === 'vmlinux'
        ? 'vmlinux'
        : 'payload',
    expected: kind === 'vmlinux' ? 'a table after the ELF file, or .rela sections' : 'a table after the ELF file',
    hint:
      kind === 'vmlinux'
        ? 'relocations of this kernel are in the bzImage of the same build, in its vmlinux.unstripped (since 6.15), or in its vmlinux.relocs (--relocs); convert and extract recover them from the image alone with --recover, and cannot prove them'
        : 'a kernel built without CONFIG_RANDOMIZE_BASE has none; convert --recover takes them from the image, and cannot prove them',
  });
}
