/**
 * Tables of the documentation. `FILE/TABLE` is a table of a results file as it is there; the others are put together here, from results or from the
 * code's constants.
 */
import { PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { FIGURES } from './figures.ts';
import { formatNumber, formatTable } from './markdown.ts';
import { EARLIER } from './results.ts';
import type { Results, ResultsReader, Table } from './results.ts';

/** Markdown of the table, and a line where its figures come from another stub than today's. `today`: see `stubHash`. */
export function renderTable(name: string, from: ResultsReader, today: string): string {
  const [file = '', table] = name.split('/');
  const view = VIEWS[name];
  if (view === undefined && table === undefined) throw new RangeError(`there is no table ${name}`);
  const shown = view === undefined ? from.table(file, table!) : view.table(from);
  const about = view === undefined ? from.file(file) : view.file === undefined ? undefined : from.file(view.file);
  const note = about === undefined ? '' : stubNote(about, today);
  return note === '' ? formatTable(shown) : `${formatTable(shown)}\n\n${note}`;
}

/** Says so where the results were measured with another stub than today's; else nothing. */
export function stubNote({ stub }: Results, today: string): string {
  if (stub === null || stub === today) return '';
  return `Measured with an earlier stub (${stub === EARLIER ? 'its hash was not recorded' : stub}).`;
}

interface View {
  readonly table: (from: ResultsReader) => Table;
  /** The results file, of which the table says with which stub it was measured. */
  readonly file?: string;
}

export const VIEWS: Readonly<Record<string, View>> = {
  summary: { table: summary },
  'whole-boot': { table: wholeBoot, file: 'boot' },
  'shuffle-stays': { table: shuffleStays, file: 'shuffle' },
  segment: { table: segment },
  parameters: { table: parameters },
};

/** docs/performance.md at a glance. */
function summary(from: ResultsReader): Table {
  const over = (row: string): string =>
    ['6.12', '6.1'].map((kernel) => `${from.cell('boot', kernel, row, 'over vmlinux')}`).join(' and ');
  const figure = (name: string): string => FIGURES[name]!(from);
  return {
    columns: ['what', 'result', 'command'].map((name) => ({ name })),
    rows: [
      [
        'a boot with KASLR by kslide, more than the plain vmlinux; Debian 6.12 and 6.1',
        over('kslide, compact'),
        '`kslide bench`',
      ],
      ['a boot with KASLR by the bzImage, the same', over('bzImage'), '`kslide bench`'],
      ['the stub, instructions for each relocation', figure('stub.a-relocation'), '`kslide bench`'],
      ["the relocation table's size / the kernel's own table", figure('table.ratio'), '`bench/table-encodings.ts`'],
      ["the time to apply it / the kernel's loop, cold caches", figure('apply.cold'), '`bench/apply-table.ts`'],
      ['the same, warm caches', figure('apply.warm'), '`bench/apply-table.ts`'],
      ['the time to convert a kernel', '[README](../README.md#speed)', '`bench/convert.ts`'],
    ],
  };
}

function wholeBoot(from: ResultsReader): Table {
  const row = (title: string, name: string, kaslr: string, file: string): string[] => [
    title,
    kaslr,
    `${formatNumber(from.number('boot', '6.12', name, 'to /init'), 1)} M`,
    `${from.cell('boot', '6.12', name, 'over vmlinux') ?? ''}`,
    `${from.value('boot', `${file}, MB`).toFixed(1)} MB`,
  ];
  return {
    columns: ['boot', 'KASLR', 'instructions', 'over the plain vmlinux', 'file'].map((name) => ({ name })),
    rows: [
      row('bzImage', 'bzImage', 'yes', 'bzImage'),
      row('vmlinux', 'vmlinux', 'no', 'vmlinux'),
      row('vmlinux through `convert`', 'kslide, compact', 'yes', 'converted'),
    ],
  };
}

function shuffleStays(from: ResultsReader): Table {
  const { columns, rows } = from.table('shuffle', 'stays');
  const words: Readonly<Record<string, string>> = {
    'fixed range':
      'between linker symbols that the kernel compares addresses with: noinstr, sched, cpuidle, lock, kprobes, entry, irqentry, static calls, thunks; and mitigations that depend on their address (SRSO, retbleed, ITS, BHI)',
    'tied to fixed code': 'a branch of two bytes, a fall-through or an address in padding ties it to code that stays',
    'linker symbol': 'a linker symbol at its start or end: a reference to that address could mean either',
    'unknown size': 'a function symbol without a size',
    'doubtful reference':
      'only [without relocations](#without-relocations): something may be a reference to it, or it is uncertain what a reference to it means',
    undecodable:
      'instructions or relocations that are not what they should be. Everything that any four of its bytes could reach as a displacement stays as well',
  };
  return {
    columns: [...columns, { name: 'what' }],
    rows: rows.map(([reason, functions]) => [reason!, functions!, words[reason as string]!]),
  };
}

function segment(): Table {
  return {
    columns: ['offset in the segment', 'what', 'section'].map((name) => ({ name })),
    rows: [
      ['0', `parameters, ${PARAMS.size} bytes`, '`.kslide.params`'],
      [hex(PARAMS.size), 'stub', '`.kslide.text`'],
      ['next multiple of 16', 'table, up to the end of the bytes in the file', '`.kslide.table`'],
      [
        'next multiple of 4,096',
        `scratch memory, ${SCRATCH.size / 1024} KiB, not in the file: state, stack, page tables and log`,
        '`.kslide.bss`',
      ],
    ],
  };
}

/** Each field ends where the next one begins. */
function parameters(): Table {
  const { size: end, ...offsets } = PARAMS;
  const what: Readonly<Record<keyof typeof offsets, string>> = {
    magic: '`4b 53 4c 49 44 45 00`, and the version of this layout, 1',
    link_base: 'address of the segment; the address where it runs minus this one is the physical slide',
    entry: 'address of `startup_64`; the stub adds the physical slide in place, and jumps there at its end',
    entry_bytes: 'the original bytes at the entry, of which the hook replaces the first 5',
    image_start: "address of the image's first byte",
    segment_size: '`p_memsz`',
    slot_count: 'the number of slides: 0, `slot_align`, … `(slot_count − 1) × slot_align`',
    slot_align: 'the step of the slides: 2 MiB, or what `--align` said; a power of two',
    scratch: 'offset of the scratch memory',
    table: 'offset of the table',
    table_end: "offset of the table's end",
    table_format: "0: the kernel's; 1: compact; 2: the kernel's, with two lists; 255: none (`randomize`)",
    flags: 'bit 0: relocate although `KASLR_FLAG` is set (`bzimage`)',
    virt_slide: 'in a kernel that the host has moved, its virtual slide; otherwise 0',
  };
  const names = Object.keys(what) as (keyof typeof what)[];
  const last = offsets.virt_slide + 8;
  const row = (name: keyof typeof what, i: number): string[] => {
    const next = i + 1 < names.length ? offsets[names[i + 1]!] : last;
    return [hex(offsets[name]), `${next - offsets[name]}`, `\`${name}\``, what[name]];
  };
  return {
    columns: ['offset', 'size', 'name', 'what'].map((name) => ({ name })),
    rows: [...names.map(row), [hex(last), `${end - last}`, null, 'zero']],
  };
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}
