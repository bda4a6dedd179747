/** Figures that stand in sentences, by name: `<!-- = table.ratio -->0.158<!-- end -->`. Each comes out of a results file or out of the code's constants. */
import { ENTRY_BYTES, PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { STUB_PROGRAM } from '../../src/stub/assembled.ts';
import { formatCell, formatNumber } from './markdown.ts';
import { changedParts, STUB } from './program.ts';
import { MAKERS, readByMaker } from './results.ts';
import type { Rendered, Results, ResultsReader } from './results.ts';

type Figure = (results: ResultsReader) => string;

/**
 * A figure in a sentence: `0.78`; `0.81 (AMD) and 0.78 (Intel)` where makers' processors differ; and
 * `1.62 (Intel, earlier program)` where it was measured with another program than today's. `today`: the hash that a part of the program has.
 */
export function renderFigure(name: string, today: (part: string) => string): Rendered {
  const figure = FIGURES[name];
  if (figure === undefined) throw new RangeError(`there is no figure ${name}`);
  const readings = readByMaker(figure);
  const texts = readings.map(({ maker, value, from }) => {
    const notes: string[] = maker === undefined ? [] : [MAKERS[maker]];
    const earlier = STOCK.has(name)
      ? undefined
      : earlierOf(
          from.used.map((file) => from.opened(file)),
          today,
        );
    if (earlier !== undefined) notes.push(earlier);
    return notes.length === 0 ? value : `${value} (${notes.join(', ')})`;
  });
  return { text: texts.join(' and '), files: readings.flatMap(({ from }) => from.used) };
}

function earlierOf(files: readonly Results[], today: (part: string) => string): string | undefined {
  const changed = files.flatMap(({ program }) => changedParts(program, today));
  if (changed.length === 0) return undefined;
  return changed.includes(STUB) ? 'earlier stub' : 'earlier program';
}

/** Of the kernel as it was given, of `cp` and of Node, in which nothing is kslide's: no change of ours changes them. */
const STOCK = new Set([
  'boot.zstd.decompressor',
  'boot.lz4.decompressor',
  'boot.zstd.bzimage-over-vmlinux',
  'boot.lz4.bzimage-over-vmlinux',
  'boot.zstd.with-tests',
  'boot.decompressors',
  'bzimage.stock',
  'randomize.cp',
  'randomize.node',
  'slots.count',
  'slots.bits',
  'audit.note',
  'matrix.note',
]);

export const FIGURES: Readonly<Record<string, Figure>> = {
  // Whole boots, in guest instructions. Debian's 6.12 cloud kernel is compressed with zstd, its 6.1 with lz4.
  'boot.zstd.decompressor': (from) => formatNumber(decompressorShare(from, '6.12'), 0),
  'boot.lz4.decompressor': (from) => formatNumber(decompressorShare(from, '6.1'), 0),
  'boot.zstd.bzimage-over-vmlinux': (from) => overVmlinux(from, '6.12'),
  'boot.lz4.bzimage-over-vmlinux': (from) => overVmlinux(from, '6.1'),
  'boot.zstd.with-tests': (from) => `${from.value('boot', 'with tests: bzImage over vmlinux, percent')}%`,
  'boot.lz4.converted': (from) => `${formatNumber(from.number('boot', '6.1', CONVERTED, 'to /init'), 1)} M`,
  'boot.spread': (from) => `${from.number('boot', '6.12', CONVERTED, 'spread')}%`,
  'boot.zstd.kslide-one-in': (from) => kslideOneIn(from, '6.12'),
  'boot.lz4.kslide-one-in': (from) => kslideOneIn(from, '6.1'),
  'boot.decompressors': (from) => {
    const [zstd, lz4] = ['6.12', '6.1'].map((kernel) => from.number('boot', kernel, 'bzImage', 'decompressor'));
    return (zstd! / lz4!).toFixed(1);
  },
  'kernel.randomized': (from) => formatNumber(from.value('kernel-randomization', 'randomized')),
  'kernel.nokaslr': (from) => formatNumber(from.value('kernel-randomization', 'nokaslr')),

  // The stub.
  'stub.instructions': (from) => formatNumber(steps(from, 'in all', '6.12, compact')),
  'stub.millions': (from) => millions(from, '6.12, compact'),
  'stub.millions-lz4': (from) => millions(from, '6.1, compact'),
  'stub.a-relocation': (from) => perRelocation(from, '6.12, compact', 2),
  'stub.a-relocation-roughly': (from) => perRelocation(from, '6.12, compact', 1),
  'stub.a-relocation-kernel-roughly': (from) => perRelocation(from, "6.12, kernel's format", 1),
  'apply.cold': (from) => ratio(from, 'cold'),
  'apply.warm': (from) => ratio(from, 'warm'),

  // The table's size.
  'table.sites': (from) => formatNumber(from.number('table-sizes', 'sizes', 'sites', '6.12')),
  'table.sites-lz4': (from) => formatNumber(from.number('table-sizes', 'sizes', 'sites', '6.1')),
  'table.ratio-generic': (from) => from.value('table-encodings', "generic: of the kernel's").toFixed(3),
  'table.ratio-rt': (from) => from.value('table-encodings', "PREEMPT_RT: of the kernel's").toFixed(3),
  'table.ratio-5.10': (from) => from.value('table-encodings', "5.10 cloud: of the kernel's").toFixed(3),
  'table.kernel': (from) => formatNumber(from.number('table-sizes', 'sizes', "the kernel's table", '6.12')),
  'table.compact': (from) => formatNumber(from.number('table-sizes', 'sizes', 'the compact table', '6.12')),
  'file.added': (from) => {
    const table = from.number('table-sizes', 'sizes', 'the compact table', '6.12');
    return `${Math.round((table + besideTable(from)) / 1000)} kB`;
  },
  'file.beside-table': (from) => `${Math.round(besideTable(from) / 1000)} kB`,
  'table.ratio': (from) => tableRatio(from, '6.12').toFixed(3),
  'table.ratio-lz4': (from) => tableRatio(from, '6.1').toFixed(3),
  'table.times': (from) => (1 / tableRatio(from, '6.12')).toFixed(1),

  // Slides.
  'slots.count': (from) => formatNumber(from.value('stub-distribution', 'slots')),
  'slots.bits': (from) => Math.log2(from.value('stub-distribution', 'slots')).toFixed(1),

  // What was booted, in the words of the script.
  'audit.note': (from) => sentencePart(from.file('audit').note),
  'matrix.note': (from) => sentencePart(from.file('matrix').note),

  // `shuffle`.
  'shuffle.functions': (from) => formatNumber(from.value('shuffle', 'functions')),
  'shuffle.moving': (from) => formatNumber(from.value('shuffle', 'functions that move')),
  'shuffle.bits': (from) => from.value('shuffle', 'bits, median').toFixed(1),
  'shuffle.fixed': (from) => formatNumber(from.number('shuffle', 'stays', 'fixed range', 'functions')),
  'shuffle.tied': (from) => formatNumber(from.number('shuffle', 'stays', 'tied to fixed code', 'functions')),
  'recover.functions': (from) => formatNumber(from.value('shuffle', 'recover: functions')),
  'recover.moving': (from) => formatNumber(from.value('shuffle', 'recover: functions that move')),
  'recover.bits': (from) => from.value('shuffle', 'recover: bits, median').toFixed(1),
  'sections.functions': (from) => sections(from, 'functions that move').row.split('of ')[1]!,
  'sections.moving': (from) => sections(from, 'functions that move').cell,
  'sections.bits': (from) => sections(from, 'bits for the median function').cell,
  'sections.bits-99': (from) => sections(from, 'bits for 99%').cell,
  'sections.runs': (from) => sections(from, 'runs').cell.split(', ')[0]!,
  'sections.largest-run': (from) => sections(from, 'runs').cell.split('of ')[1]!,

  // `randomize`.
  'randomize.times': (from) => from.value('randomize', 'of cp and node together').toFixed(2),
  'randomize.ms': (from) => `${from.value('randomize', 'randomize, ms')} ms`,
  'randomize.cp': (from) => `${from.value('randomize', 'cp, ms')}`,
  'randomize.node': (from) => `${from.value('randomize', 'node -e 0, ms')}`,
  'randomize.image': (from) => `${from.value('randomize', 'an image in a process that stays, ms of CPU time')} ms`,
  'apply-slide.times': (from) =>
    `${from.value('apply-slide', 'least of C')} to ${from.value('apply-slide', 'most of C')}`,

  // A rebuilt bzImage, to /init.
  'bzimage.stock': (from) => rebuilt(from, 'stock'),
  'bzimage.compressed': (from) => rebuilt(from, 'compressed'),
  'bzimage.table-at-end': (from) => rebuilt(from, 'table at the end'),
  'bzimage.uncompressed': (from) => rebuilt(from, 'uncompressed'),

  // Out of the code.
  'code.params': () => `${PARAMS.size} bytes`,
  'code.stub': () => `${formatNumber(STUB_PROGRAM.length)} bytes`,
  'code.scratch': () => `${SCRATCH.size / 1024} KiB`,
  'code.log': () => `${(SCRATCH.size - SCRATCH.log) / 1024} KiB`,
  'code.entry': () => `${ENTRY_BYTES} bytes`,
};

/** Without the point at its end. */
function sentencePart(note: string): string {
  return note.replace(/\.$/, '');
}

const CONVERTED = 'kslide, compact';

function decompressorShare(from: ResultsReader, kernel: string): number {
  const part = from.number('boot', kernel, 'bzImage', 'decompressor');
  return (100 * part) / from.number('boot', kernel, 'bzImage', 'to /init');
}

function overVmlinux(from: ResultsReader, kernel: string): string {
  return `${from.cell('boot', kernel, 'bzImage', 'over vmlinux')}`.slice(1);
}

/** Of how many instructions of a boot one is kslide's, to the nearest ten. */
function kslideOneIn(from: ResultsReader, kernel: string): string {
  const [whole, part] = ['to /init', 'kslide'].map((column) => from.number('boot', kernel, CONVERTED, column));
  return formatNumber(Math.round(whole! / part! / 10) * 10);
}

function steps(from: ResultsReader, row: string, column: string): number {
  return Number(from.cell('stub', 'steps', row, column));
}

function millions(from: ResultsReader, column: string): string {
  return (steps(from, 'in all', column) / 1e6).toFixed(3);
}

function perRelocation(from: ResultsReader, column: string, digits: number): string {
  return steps(from, 'for each relocation', column).toFixed(digits);
}

/** Of the 6.12 kernel, whose rows are the last ones. */
function ratio(from: ResultsReader, state: string): string {
  const { columns, rows } = from.table('apply-table', 'apply');
  const row = rows.findLast((each) => each[1] === state)!;
  return Number(row[columns.findIndex(({ name }) => name === 'medians, stub / loop')]).toFixed(2);
}

function besideTable(from: ResultsReader): number {
  return from.number('table-sizes', 'sizes', 'what `convert` adds beside the table', '6.12');
}

function tableRatio(from: ResultsReader, kernel: string): number {
  const [compact, whole] = ['the compact table', "the kernel's table"].map((row) =>
    from.number('table-sizes', 'sizes', row, kernel),
  );
  return compact! / whole!;
}

/** Of the kernel whose sections were kept. */
function sections(from: ResultsReader, start: string): { readonly row: string; readonly cell: string } {
  const found = from.table('function-sections', 'forms').rows.find(([first]) => `${first}`.startsWith(start))!;
  return { row: `${found[0]}`, cell: formatCell(found[1]!) };
}

function rebuilt(from: ResultsReader, form: string): string {
  return `${from.value('bzimage-boot', form).toFixed(1)} M`;
}
