/** What `kslide inspect` found, for people. For programs it is the object itself, as JSON. */
import { hex } from '../../base/errors.ts';
import { count, short } from '../../base/text.ts';
import type { Inspection, RelocationFacts } from '../../inspect.ts';
import { STUB_FLAGS } from '../../segment/layout.ts';
import { rows, size, table } from '../text.ts';
import { countSites, limitRows, slotsAndEntropy, stepRow } from './facts.ts';

/** At most this many sections are listed; a -ffunction-sections build has tens of thousands. */
const MOST_SECTIONS = 24;

export type Row = readonly [label: string, value: string];
/** Lines of cells; the first line is the titles. */
export type Table = readonly (readonly string[])[];

/** The same for the terminal and for the page in a browser, which set it differently. */
export interface InspectionText {
  readonly kernel: readonly Row[];
  readonly segments: Table;
  /** Of a kernel with relocations. */
  readonly relocations?: {
    readonly sections: Table;
    readonly sites: readonly Row[];
    /** The picture of `map` in characters, and what it is. */
    readonly map: readonly Row[];
    readonly forms: Table;
  };
}

export function reportInspect(inspection: Inspection): string {
  const { kernel, segments, relocations } = describeInspection(inspection);
  const parts = [rows(kernel), table(segments)];
  if (relocations !== undefined) {
    const { sections, sites, map, forms } = relocations;
    parts.push(table(sections), rows([...sites, ...map]), table(forms));
  }
  return parts.join('\n');
}

export function describeInspection(inspection: Inspection): InspectionText {
  const { relocations } = inspection;
  return {
    kernel: describeKernel(inspection),
    segments: segmentTable(inspection),
    ...(relocations !== null && {
      relocations: {
        sections: sectionTable(relocations),
        sites: describeSites(relocations),
        map: describeMap(relocations),
        forms: formTable(relocations),
      },
    }),
  };
}

function describeKernel(inspection: Inspection): Row[] {
  const { image, slots, converted } = inspection;
  const { linux64, pvh } = image.entries;
  return [
    ['kernel', short(inspection.kernelVersion ?? 'version unknown', 200)],
    ['file', describeFile(inspection)],
    ...(inspection.setup?.payload.note ? ([['payload', inspection.setup.payload.note]] as const) : []),
    ['vmlinux', describeVmlinux(inspection)],
    [
      'image',
      `physical ${hex(image.start)} to ${hex(image.end)} (${size(image.end - image.start)}), linked at ${image.vaddr}`,
    ],
    ['entries', `linux64 ${hex(linux64)}, ${pvh === null ? 'no pvh' : `pvh ${hex(pvh)}`}`],
    ['notes', describeNotes(inspection)],
    ['slots', slotsAndEntropy(slots)],
    stepRow(slots),
    ...limitRows(slots),
    ['converted', converted === null ? 'no' : describeConverted(converted)],
    ['relocations', describeRelocations(inspection)],
  ];
}

function describeFile({ input, setup, compression, sizes }: Inspection): string {
  const file = `${input}, ${size(sizes.input)}`;
  if (setup === null) return file;
  const payload = `${compression ?? 'uncompressed'} payload of ${size(setup.payload.bytes)}`;
  const preferred = setup.prefAddress === null ? '' : `, preferred address ${hex(setup.prefAddress)}`;
  const init = setup.initSize === null ? '' : `, init_size ${size(setup.initSize)}`;
  return `${file}; ${payload}; boot protocol ${setup.protocol}${preferred}${init}`;
}

function describeVmlinux({ sizes, sections, buildId }: Inspection): string {
  const has = (there: boolean, what: string): string => `${there ? '' : 'no '}${what}`;
  const facts = [
    size(sizes.vmlinux),
    `${count(sections.count)} sections`,
    has(sections.symbols, 'symbols'),
    has(sections.debug, 'debug information'),
    has(sections.rela, '.rela sections'),
    ...(sizes.behind > 0 ? [`${size(sizes.behind)} after it`] : []),
    buildId === null ? 'no build id' : `build id ${short(buildId)}`,
  ];
  return facts.join(', ');
}

/** The notes that boot loaders read, and the number of the others. */
function describeNotes({ notes }: Inspection): string {
  if (notes.length === 0) return 'none';
  const shown = notes.flatMap(({ name, words }) => (words === null ? [] : [`${name} ${words.map(hex).join(' ')}`]));
  const others = notes.length - shown.length;
  return [...shown, ...(others > 0 ? [`${count(others)} others`] : [])].join(', ');
}

function describeConverted({
  layout,
  flags,
  segment,
  slots,
  table: { format, bytes },
}: NonNullable<Inspection['converted']>): string {
  return (
    `yes: ${size(segment.bytes)} at physical ${hex(segment.paddr)} (${size(segment.memory)} in memory), layout ${layout}, ` +
    `table of ${count(bytes)} bytes in the ${format.replaceAll('_', ' ')} form, ${count(slots.count)} slots` +
    (flags & STUB_FLAGS.despite_kaslr_flag ? '; relocates even when a decompressor has set KASLR_FLAG' : '')
  );
}

const SOURCES: Readonly<Record<RelocationFacts['source'], string>> = {
  'relocs-file': 'from --relocs',
  behind: 'from the table after the vmlinux',
  rela: 'from its .rela sections',
  reserved: 'from the section that --keep fills',
  converted: 'from the table of the converted kernel',
};

function describeRelocations({ input, relocations }: Inspection): string {
  if (relocations === null) {
    return input === 'vmlinux'
      ? 'none here: see the bzImage of the same build, its vmlinux.unstripped (since 6.15), or its vmlinux.relocs (--relocs); or convert --recover, which cannot be proved'
      : 'none: built without CONFIG_RANDOMIZE_BASE; convert --recover takes them from the image, which cannot be proved';
  }
  const { source, lists, total } = relocations;
  return `${count(countSites(total.sites))} ${SOURCES[source]}, ${lists === 3 ? 'three' : 'two'} lists`;
}

function segmentTable({ segments }: Inspection): string[][] {
  return [
    ['segment', 'flags', 'offset', 'virtual', 'physical', 'in file', 'in memory', 'align'],
    ...segments.map(({ type, flags, offset, vaddr, paddr, filesz, memsz, align }) => [
      type,
      flags,
      hex(offset),
      vaddr,
      hex(paddr),
      hex(filesz),
      hex(memsz),
      hex(align),
    ]),
  ];
}

const SITE_TITLES = ['64-bit', 'inverse 32-bit', '32-bit', 'cache lines', 'pages'];

function sectionTable({ sections, total }: RelocationFacts): string[][] {
  const line = (name: string, start: string, { sites, lines, pages }: RelocationFacts['total']): string[] => [
    name,
    start,
    ...[sites.abs64, sites.inverse32, sites.abs32, lines, pages].map(count),
  ];
  const least = sections.map(({ sites }) => countSites(sites)).toSorted((a, b) => b - a)[MOST_SECTIONS - 1] ?? 0;
  const listed = sections.filter((section) => countSites(section.sites) >= least).slice(0, MOST_SECTIONS);
  const left = sections.length - listed.length;
  return [
    ['sites in section', 'at', ...SITE_TITLES],
    ...listed.map((section) => line(section.name ?? '(none)', hex(section.start), section)),
    ...(left > 0 ? [[`${count(left)} more sections`]] : []),
    line('all', '', total),
  ];
}

function describeSites({ placement, rela }: RelocationFacts): Row[] {
  const { abs64 } = placement;
  const list: Row[] = [
    [
      '64-bit sites',
      `${share(abs64.aligned, abs64.sites)} at multiples of 8, ${share(abs64.adjacent, abs64.sites)} directly after the previous one`,
    ],
  ];
  for (const [label, { sites, aligned, byteGaps, wordGaps }] of [
    ['32-bit sites', placement.abs32],
    ['inverse sites', placement.inverse32],
  ] as const) {
    if (sites === 0) continue;
    const gaps = `${share(byteGaps, sites)} within 0xff of the previous one, ${share(wordGaps, sites)} within 0xffff`;
    list.push([label, `${share(aligned, sites)} at multiples of 4, ${gaps}`]);
  }
  if (rela !== null) {
    const types = rela.types.slice(0, 6).map(({ type, entries }) => `${type} ${count(entries)}`);
    list.push(['.rela types', types.join(', ')]);
  }
  return list;
}

function describeMap({ map }: RelocationFacts): Row[] {
  return [
    ['map', drawMap(map.counts)],
    [
      '',
      `from ${hex(map.start)}, ${hex(map.cell)} bytes per character, at most ${count(Math.max(...map.counts))} sites in one`,
    ],
  ];
}

/** No sites, and eight heights. */
const BARS = '·▁▂▃▄▅▆▇█';

function drawMap(counts: readonly number[]): string {
  const most = Math.max(...counts);
  return counts.map((sites) => BARS[Math.ceil((sites / most) * 8)] ?? BARS[0]).join('');
}

function share(part: number, all: number): string {
  if (part === 0) return 'none';
  if (part === all) return 'all';
  // Rounded down, so that only `all` reads as 100%.
  const hundredths = Math.floor((part / all) * 10_000);
  return `${(hundredths / 100).toFixed(hundredths < 9990 ? 1 : 2)}%`;
}

/** The size of each way to store the relocations, compared with the kernel's own table. */
function formTable({ forms }: RelocationFacts): string[][] {
  const { rela, relaWithoutPcRelative, relaOfSites, kernelTable, relr, compact } = forms;
  const line = (title: string, bytes: number | undefined): string[] =>
    bytes === undefined
      ? [title, 'not in this file', '']
      : [title, count(bytes), `${(bytes / kernelTable).toFixed(2)} ×`];
  return [
    ['stored as', 'bytes', 'ratio'],
    line('.rela sections, whole', rela?.bytes),
    line('.rela sections without PC-relative entries', relaWithoutPcRelative?.bytes),
    line('an Elf64_Rela for each site', relaOfSites.bytes),
    line("the kernel's table", kernelTable),
    line(
      `RELR for ${count(relr.sites)} sites, the table for ${count(relr.rest.entries)}`,
      relr.bytes + relr.rest.bytes,
    ),
    line('the compact table', compact),
  ];
}
