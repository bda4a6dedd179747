/** Facts that several summaries report, in the same words everywhere. */
import { KERNEL_IMAGE_SIZE, MIB } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { count, short } from '../../base/text.ts';
import type { ImageLimit } from '../../kernel/image-limit.ts';
import type { PhysicalAlign } from '../../kernel/physical-align.ts';
import { size } from '../text.ts';

/** "6.12.1-amd64": the version without the builder's name and the date. */
export function release(version: string | undefined): string {
  return short(version?.split(' ')[0] ?? 'version unknown');
}

/** "6.12.1-amd64 (bzimage, zstd)". */
export function kernelAndFile(summary: {
  readonly kernelVersion?: string | undefined;
  readonly input: string;
  readonly compression?: string | undefined;
}): string {
  const { kernelVersion, input, compression } = summary;
  return `${release(kernelVersion)} (${compression === undefined ? input : `${input}, ${compression}`})`;
}

/** The relocations of all three lists. */
export function countSites(sites: {
  readonly abs64: number;
  readonly inverse32: number;
  readonly abs32: number;
}): number {
  return sites.abs64 + sites.inverse32 + sites.abs32;
}

/** "480, every 2 MiB up to 0x3be00000: 8.91 bits of entropy". */
export function slotsAndEntropy(slots: {
  readonly count: number;
  readonly align: number;
  readonly largest: number;
  readonly bits: number;
}): string {
  if (slots.count === 1) return '1: the kernel can never move';
  return `${count(slots.count)}, every ${slots.align / MIB} MiB up to ${hex(slots.largest)}: ${slots.bits.toFixed(2)} bits of entropy`;
}

const ALIGN_SOURCES = {
  least: 'the least that every kernel allows',
  option: 'by --align; the kernel allows 2 MiB',
  converted: 'by the parameters of the conversion',
} as const;

const PHYSICAL_ALIGN_SOURCES: Readonly<Record<PhysicalAlign['source'], string>> = {
  'setup-header': 'setup header',
  note: 'note XEN_ELFNOTE_PHYS32_RELOC',
};

/** "2 MiB, the least that every kernel allows; CONFIG_PHYSICAL_ALIGN, the step of its own decompressor, is 16 MiB (setup header)". */
export function stepRow(slots: {
  readonly align: number;
  readonly alignSource: keyof typeof ALIGN_SOURCES;
  readonly physicalAlign?: PhysicalAlign | null;
}): [label: string, value: string] {
  const { align, alignSource, physicalAlign } = slots;
  const own =
    physicalAlign == null
      ? ''
      : `; CONFIG_PHYSICAL_ALIGN, the step of its own decompressor, is ${physicalAlign.bytes / MIB} MiB (${PHYSICAL_ALIGN_SOURCES[physicalAlign.source]})`;
  return ['step', `${align / MIB} MiB, ${ALIGN_SOURCES[alignSource]}${own}`];
}

/** A row for what is not as in every distribution's kernel; otherwise none. */
export function limitRows({ limit }: { readonly limit: ImageLimit }): [label: string, value: string][] {
  const mib = `the kernel maps ${limit.bytes / MIB} MiB`;
  if (limit.source === 'assumed') return [['limit', `assumed: ${mib}; its page tables were not found`]];
  if (limit.bytes === KERNEL_IMAGE_SIZE) return [];
  return [
    ['limit', `${mib}: it was built without CONFIG_RANDOMIZE_BASE`],
    ['stays', 'its direct map, vmalloc, vmemmap and modules, where they are documented: only its image moves'],
  ];
}

/** Of a vmlinux of more than 2 GiB. */
export function leftOutOf(bytes: number): string {
  return `the debug sections are left out (${size(bytes)}), as by strip -g: kslide keeps up to 2 GiB in memory`;
}

/** What was refuted, where, and what is there. */
export function describeOffence(offence: {
  readonly check: string;
  readonly what: string;
  readonly offset: number;
  readonly found: string;
  readonly expected: string;
}): string {
  const { check, what, offset, found, expected } = offence;
  return `refuted by ${check}: ${short(what, 300)} at offset ${hex(offset)} is ${short(found, 300)}, expected ${short(expected, 300)}`;
}

/** A row for sites that were left out; none if there were none. */
export function noteSitesRow({ noteSites }: { readonly noteSites: number }): [string, string][] {
  if (noteSites === 0) return [];
  return [
    [
      'left out',
      `${count(noteSites)} ${noteSites === 1 ? 'site' : 'sites'} in notes, which would tell every user the slide (/sys/kernel/notes)`,
    ],
  ];
}
