/**
 * Tables of the documentation. `FILE/TABLE` is a table of a results file as it is there; the others are put together here, from results or from the
 * code's constants.
 */
import { PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { AIMS, verdictOf } from './claim.ts';
import type { Aim, Verdict } from './claim.ts';
import { FIGURES, renderFigure } from './figures.ts';
import { formatNumber, formatTable } from './markdown.ts';
import { MEASUREMENTS } from './measurements.ts';
import { changedParts, programNote } from './program.ts';
import { MAKERS, makersOf, NoRunError, readByMaker, ResultsReader, resultsFiles } from './results.ts';
import type { Cell, Maker, Rendered, Results, Table } from './results.ts';

/** The hash that a part of the program has today. */
type Today = (part: string) => string;

/**
 * Markdown of the table, with the machine and the date where the figures are of a machine, and a line where they come from another program than today's. One table for each
 * maker of processors where its file is one of several.
 */
export function renderTable(name: string, today: Today): Rendered {
  const [file = '', table] = name.split('/');
  const view = VIEWS[name];
  if (view === undefined && table === undefined) throw new RangeError(`there is no table ${name}`);
  const source = view === undefined ? file : view.file;
  const files: string[] = [];
  const figure = (figureName: string): string => {
    const rendered = renderFigure(figureName, today);
    files.push(...rendered.files);
    return rendered.text;
  };
  const blocks: string[] = [];
  const read = (from: ResultsReader): Table =>
    view === undefined ? from.table(file, table!) : view.table({ from, figure, today, files });
  for (const { maker, value, from } of readByMaker(read)) {
    files.push(...from.used);
    const about = source === undefined ? undefined : from.file(source);
    const note = about === undefined ? '' : programNote(about.program, today);
    // Of experiments that were not kept the page says once on what they ran.
    const isOfAny = about === undefined || about.machine === 'any' || about.script === null;
    if (isOfAny) {
      blocks.push(formatTable(value), note);
    } else if (maker === undefined) {
      blocks.push(formatTable(value), `${whereMeasured(about)}${note === '' ? '' : ` ${note}`}`);
    } else {
      blocks.push(
        `${MAKERS[maker]}: ${about.machine}; ${about.date}, kslide ${about.version}.`,
        formatTable(value),
        note,
      );
    }
  }
  return { text: blocks.filter((block) => block !== '').join('\n\n'), files };
}

function whereMeasured({ machine, date, version }: Results): string {
  return `On ${machine}; ${date}, kslide ${version}.`;
}

interface ViewSources {
  readonly from: ResultsReader;
  readonly figure: (name: string) => string;
  readonly today: Today;
  /** Names of results files that were read without `from`. */
  readonly files: string[];
}

interface View {
  readonly table: (sources: ViewSources) => Table;
  /** The results file, of which the table says with which program it was measured. */
  readonly file?: string;
}

export const VIEWS: Readonly<Record<string, View>> = {
  summary: { table: summary },
  claims: { table: claims },
  'whole-boot': { table: ({ from }) => wholeBoot(from), file: 'boot' },
  'shuffle-stays': { table: ({ from }) => shuffleStays(from), file: 'shuffle' },
  segment: { table: segment },
  parameters: { table: parameters },
};

interface Summarized {
  readonly what: string;
  readonly aim?: Aim;
  /** Which of the script's claims this is: it may be unknown, because of other work. */
  readonly claim?: RegExp;
  readonly measured: (from: ResultsReader) => number;
  /** Of the kernel as it was given: no change of ours changes it. */
  readonly stock?: true;
  /** Three digits by default. */
  readonly text?: (measured: number) => string;
  readonly file: string;
  readonly command: string;
}

const overVmlinux =
  (kernel: string, row: string) =>
  (from: ResultsReader): number =>
    Number.parseFloat(`${from.cell('boot', kernel, row, 'over vmlinux')}`);
const percent = (value: number): string => `+${value}%`;
const threeDigits = (value: number): string => value.toPrecision(value < 0.2 ? 3 : value < 1 ? 2 : 3);
const figureOf =
  (name: string) =>
  (from: ResultsReader): number =>
    Number(FIGURES[name]!(from));

const SUMMARY: readonly Summarized[] = [
  ...['6.12', '6.1'].flatMap((kernel): Summarized[] => [
    {
      what: `a boot with KASLR by kslide, more than the plain vmlinux; Debian ${kernel}`,
      measured: overVmlinux(kernel, 'kslide, compact'),
      text: percent,
      file: 'boot',
      command: '`kslide bench`',
    },
    {
      what: `a boot with KASLR by the bzImage, the same`,
      measured: overVmlinux(kernel, 'bzImage'),
      stock: true,
      text: percent,
      file: 'boot',
      command: '`kslide bench`',
    },
  ]),
  {
    what: 'the stub, instructions for each relocation',
    aim: AIMS.stubInstructions,
    measured: figureOf('stub.a-relocation'),
    file: 'stub',
    command: '`kslide bench`',
  },
  {
    what: "the relocation table's size / the kernel's own table",
    aim: AIMS.tableRatio,
    measured: figureOf('table.ratio'),
    file: 'table-sizes',
    command: '`bench/table-sizes.ts`',
  },
  {
    what: "the time to apply it / the kernel's loop, cold caches",
    aim: AIMS.applyCold,
    claim: /6\.12.*\bcold\b/,
    measured: figureOf('apply.cold'),
    file: 'apply-table',
    command: '`bench/apply-table.ts`',
  },
  {
    what: 'the same, warm caches',
    aim: AIMS.applyWarm,
    claim: /6\.12.*\bwarm\b/,
    measured: figureOf('apply.warm'),
    file: 'apply-table',
    command: '`bench/apply-table.ts`',
  },
  {
    what: "the time to convert Debian's 6.12 kernel / `extract-vmlinux`'s time",
    aim: AIMS.convert,
    claim: /6\.12.*: time, of extract-vmlinux's$/,
    measured: (from) => from.number('convert', 'convert', 'Debian 6.12 cloud', "of extract-vmlinux's"),
    file: 'convert',
    command: '`bench/convert.ts`',
  },
];

/** docs/performance.md at a glance. A claim is unknown where no figure is of today's program. */
function summary({ today, files }: ViewSources): Table {
  const rows = SUMMARY.map(({ what, aim, measured, text = threeDigits, stock, claim, file, command }): Cell[] => {
    const results: string[] = [];
    const verdicts: string[] = [];
    const readings = readByMaker((from) => ({ number: measured(from), about: from.file(file) }));
    for (const { maker, value, from } of readings) {
      files.push(...from.used);
      const where = maker === undefined ? '' : ` (${MAKERS[maker]})`;
      const isEarlier = stock !== true && changedParts(value.about.program, today).length > 0;
      results.push(`${text(value.number)}${where}${isEarlier ? ', by an earlier program' : ''}`);
      const recorded = claim && value.about.claims?.find((each) => claim.test(each.what));
      const isOpen = isEarlier || recorded?.unknown !== undefined;
      const verdict = aim === undefined ? undefined : verdictOf({ what, measured: value.number, ...aim });
      if (verdict !== undefined) verdicts.push(`${isOpen ? 'unknown' : verdict}${where}`);
    }
    if (aim !== undefined && readings[0]!.maker !== undefined)
      for (const maker of makersWithout(file)) verdicts.push(`unknown (${MAKERS[maker]})`);
    return [what, aim === undefined ? null : targetText(aim), results.join('; '), verdicts.join(', ') || null, command];
  });
  return { columns: ['what', 'aim', 'result', 'verdict', 'command'].map((name) => ({ name })), rows };
}

function targetText({ atMost }: Aim): string {
  return `at most ${atMost}`;
}

function makersWithout(file: string): Maker[] {
  const known = makersOf(file);
  return (Object.keys(MAKERS) as Maker[]).filter((maker) => !known.includes(maker));
}

/** A row for each script that makes claims, and for each maker where they are of times. */
function claims({ today, files }: ViewSources): Table {
  const columns = ['claims of', 'on', 'met', 'missed', 'unknown'].map((name) => ({ name }));
  const rows: Cell[][] = [];
  for (const { name, script, byMaker } of MEASUREMENTS.filter((each) => each.claims)) {
    for (const maker of byMaker ? (Object.keys(MAKERS) as Maker[]) : [undefined]) {
      const from = new ResultsReader(maker);
      const about = resultsIn(from, name);
      files.push(...from.used);
      const on = about === undefined ? MAKERS[maker!] : `${about.machine}; ${about.date}`;
      const isEarlier = about !== undefined && changedParts(about.program, today).length > 0;
      const list = about?.claims ?? [];
      const of = (verdict: Verdict): number => list.filter((claim) => verdictOf(claim) === verdict).length;
      const unknown =
        about === undefined
          ? 'not measured'
          : about.claims === undefined
            ? 'not recorded'
            : isEarlier
              ? `all: of an earlier program, which met ${of('met')} and missed ${of('missed')}`
              : `${of('unknown')}`;
      const isKnown = about?.claims !== undefined && !isEarlier;
      rows.push([`\`${script}\``, on, isKnown ? of('met') : null, isKnown ? of('missed') : null, unknown]);
    }
  }
  return { columns, rows };
}

function resultsIn(from: ResultsReader, name: string): Results | undefined {
  // Of no processor yet.
  if (!resultsFiles().includes(name) && makersOf(name).length === 0) return undefined;
  try {
    return from.file(name);
  } catch (error) {
    if (error instanceof NoRunError) return undefined;
    throw error;
  }
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
    // A reason that kept no function is not in the results.
    rows: Object.entries(words).map(([reason, what]) => [
      reason,
      rows.find(([name]) => name === reason)?.[1] ?? 0,
      what,
    ]),
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
