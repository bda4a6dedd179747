/** The report of `kslide bench --html`: the facts of the text report as figures, each with a table of its numbers. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import { PHASES } from '../../measure/bench/measure.ts';
import type { Phase } from '../../measure/bench/measure.ts';
import { STUB_STEPS } from '../../stub/program.ts';
import type { BenchRow, BenchSummary, StubCount } from '../../measure/bench/summary.ts';
import { colours, definitions, escape, figure, folded, htmlTable, page } from '../html/page.ts';
import { amount, benchAnswer, benchFacts, million, overPlain, percent, rowOf, spread } from './bench.ts';
import { drawMap, stretchesOf } from './bench-map.ts';
import { countSites } from './facts.ts';
import { drawBars } from '../html/svg-bars.ts';
import { size } from '../text.ts';
import { version } from '../version.ts';

/** The same summary gives the same page. */
export function reportBenchPage(summary: BenchSummary): string {
  const { kernel, unit } = summary;
  return page({
    heading: 'What KASLR costs at boot',
    subject: kernel.version ?? 'a kernel of unknown version',
    body: [
      `<p class="answer">${escape(benchAnswer(summary))}.</p>`,
      folded('How it was measured', definitions(benchFacts(summary))),
      bootSection(summary),
      ...(unit === 'instructions' ? [phaseSection(summary), kaslrSection(summary)] : []),
      stubSection(summary),
      sizeSection(summary),
      mapSection(summary),
    ].join('\n'),
    footer: `Made by kslide ${version} with QEMU ${escape(summary.guest.qemu)}.`,
    style: STYLE,
  });
}

const PHASE_TITLES: Readonly<Record<Phase, string>> = {
  loader: 'loader',
  decompressor: 'decompressor',
  stub: 'kslide',
  kernel: 'kernel',
};

function bootSection({ rows, unit, point }: BenchSummary): string {
  const to = point === 'init' ? 'the first instruction of /init' : "the guest's own end";
  const seen = PHASES.filter((phase) => rows.some(({ phases }) => phases?.[phase] !== undefined));
  const draw = (width: number): string =>
    drawBars(
      {
        title: 'Cost of a boot by phase',
        bars: rows.map((row) => ({
          title: row.title,
          own: row.table !== null,
          text: amount(row.median, unit),
          parts:
            row.phases === null
              ? [{ colour: kernelColour(row), value: row.median, label: amount(row.median, unit) }]
              : PHASES.flatMap((phase) => {
                  const value = row.phases?.[phase];
                  if (value === undefined) return [];
                  const colour = phase === 'kernel' ? kernelColour(row) : `p-${phase}`;
                  return [{ colour, value, label: `${PHASE_TITLES[phase]}: ${amount(value, unit)}` }];
                }),
          range: row.boots.length < 2 ? undefined : [row.least, row.most],
        })),
        legend: [
          ...seen.map((phase) => ({ colour: `p-${phase}`, text: PHASE_TITLES[phase] })),
          { colour: 'p-own', text: "kernel, in kslide's rows" },
        ],
        axis: (value) => (unit === 'instructions' ? count(value / 1e6) : count(value / 1e3)),
        below: unit === 'instructions' ? 'million guest instructions' : 'milliseconds',
      },
      width,
    );
  const line = isOnce(rows)
    ? 'there was one boot of each, so no spread is known.'
    : 'the thin line goes from the least to the most of all boots.';
  const caption =
    unit === 'instructions'
      ? `From power-on to ${to}. A bar shows the median of each phase; ${line} kslide's own phase is drawn wider than its share, because it would be too narrow to see.`
      : `From power-on to ${to}. A bar shows the median; ${line}`;
  return figure(
    'A boot of each kind',
    caption,
    draw,
    htmlTable(
      isOnce(rows) ? 'Whole boots, one of each' : 'Medians of whole boots',
      ['', unit === 'instructions' ? 'instructions' : 'time', 'spread', 'over vmlinux'],
      rows.map((row) => [row.title, amount(row.median, unit), spread(row), overPlain(row)]),
    ),
  );
}

const kernelColour = ({ table }: BenchRow): string => (table === null ? 'p-kernel' : 'p-own');

/** One boot has no spread, and a median of one is a single measurement. */
function isOnce(rows: BenchSummary['rows']): boolean {
  return rows.every(({ boots }) => boots.length < 2);
}

function phaseSection({ rows }: BenchSummary): string {
  const cell = (row: BenchRow, phase: Phase): string => {
    const value = row.phases?.[phase];
    if (value === undefined) return '';
    return value < 1_000_000 ? count(value) : million(value);
  };
  return folded(
    'By phase',
    htmlTable(
      'Guest instructions, the median of each phase by itself',
      ['', ...PHASES.map((phase) => PHASE_TITLES[phase])],
      rows.map((row) => [row.title, ...PHASES.map((phase) => cell(row, phase))]),
    ),
  );
}

function kaslrSection({ kaslr, rows }: BenchSummary): string {
  if (kaslr.length === 0) return '';
  return folded(
    'What randomizing costs',
    htmlTable(
      "Compared with the same image booted with nokaslr. The kernel's own part is the work that it does in addition when it is told that it was moved (it randomizes direct map, vmalloc and vmemmap); it is the same whatever moved the kernel. It is a difference of medians: a value smaller than the difference between boots means nothing",
      ['', 'relocation', 'part of the boot', "the kernel's own", 'boots differ by'],
      kaslr.map((cost) => {
        const row = rowOf(cost, rows);
        const differ = row.boots.length < 2 ? 'not known' : million(row.most - row.least);
        return [row.title, million(cost.relocation), percent(cost.share), million(cost.inKernel), differ];
      }),
    ),
  );
}

function stubSection({ stubs }: BenchSummary): string {
  const title = (stub: StubCount): string => `${stub.table} table`;
  const draw = (width: number): string =>
    drawBars(
      {
        title: "kslide's own instructions by step",
        bars: stubs.map((stub) => ({
          title: title(stub),
          text: `${count(stub.instructions)}, ${stub.perRelocation.toFixed(2)} per relocation`,
          parts: STUB_STEPS.flatMap((step) => {
            const value = stub.steps[step];
            return value === undefined ? [] : [{ colour: `s-${step}`, value, label: `${step}: ${count(value)}` }];
          }),
        })),
        legend: STUB_STEPS.map((step) => ({ colour: `s-${step}`, text: step })),
        axis: (value) => count(value / 1000),
        below: 'thousand guest instructions',
      },
      width,
    );
  const line = (label: string, value: (stub: StubCount) => string): string[] => [label, ...stubs.map(value)];
  return figure(
    'kslide by itself',
    'The code that runs between the loader and the kernel, counted exactly. The number is the same in every boot: it does not depend on random numbers.',
    draw,
    numbers(
      'Guest instructions',
      ['', ...stubs.map(title)],
      [
        ...STUB_STEPS.map((step) => line(step, ({ steps }) => count(steps[step] ?? 0))),
        line('total', ({ instructions }) => count(instructions)),
        line('in a second boot', ({ again }) => count(again)),
        line('per relocation', ({ perRelocation }) => perRelocation.toFixed(2)),
        line('total with nokaslr', ({ nokaslr }) => count(nokaslr)),
      ],
    ),
  );
}

function sizeSection({ rows, stubs, kernel }: BenchSummary): string {
  const { abs64, inverse32, abs32 } = kernel.relocations;
  const total = countSites(kernel.relocations);
  const draw = (width: number): string =>
    drawBars(
      {
        title: 'Size of the relocation table',
        bars: stubs.map(({ table: name, tableBytes }) => ({
          title: `${name} table`,
          text: `${size(tableBytes)}, ${(tableBytes / total).toFixed(2)} bytes per relocation`,
          parts: [{ colour: 'p-kernel', value: tableBytes, label: size(tableBytes) }],
        })),
        legend: [],
        axis: (value) => count(value / 1000),
        below: 'kB',
      },
      width,
    );
  const images = rows.filter(({ nokaslr }) => !nokaslr);
  return figure(
    'The relocation table',
    `${count(abs64)} sites of 64 bits, ${count(abs32)} of 32 bits, and ${count(inverse32)} of 32 bits that are moved in the opposite direction.`,
    draw,
    numbers(
      'Size of each image: of the file, of the part that a loader reads into memory, and of the table',
      ['', 'file', 'loaded', 'table'],
      images.map((row) => [
        row.title,
        size(row.file),
        size(row.loaded),
        row.table === null ? '' : size(stubs.find(({ table: name }) => name === row.table)!.tableBytes),
      ]),
    ),
  );
}

function mapSection({ map }: BenchSummary): string {
  return figure(
    'Where the relocations are',
    `Each square is ${size(map.cell)} of the image, coloured by the number of relocations in it. Neighbouring sections of less than half a megabyte are shown together.`,
    (width) => drawMap(map, width),
    numbers(
      'Relocations by section; a square that crosses a border counts where its middle is',
      ['', 'from', 'size', 'relocations'],
      stretchesOf(map).map(({ title, start, bytes, relocations }) => [
        title,
        hex(start),
        size(bytes),
        count(relocations),
      ]),
    ),
  );
}

function numbers(...table: Parameters<typeof htmlTable>): string {
  return folded('Numbers', htmlTable(...table));
}

const LIGHT =
  '--p-loader:#8a949e;--p-decompressor:#d9822b;--p-stub:#c2255c;--p-kernel:#2f6db5;--p-own:#1f7a5c;--d0:#eceff2;--d1:#bcd4ee;--d2:#7fb0e2;--d3:#3d7cc4;--d4:#123e75';
const DARK =
  '--p-loader:#7d8893;--p-decompressor:#e39a4e;--p-stub:#f06595;--p-kernel:#6ba4e0;--p-own:#4dba93;--d0:#232a32;--d1:#27486b;--d2:#34699f;--d3:#5b9bdd;--d4:#c3e0ff';

/** For each custom property there is a class of the same name. */
const CLASSES = LIGHT.split(';').map((property) => property.slice(2, property.indexOf(':')));

const STYLE = `${colours(LIGHT, DARK)}${CLASSES.map((name) => `.${name}{fill:var(--${name})}`).join('')}
.s-set-up{fill:var(--p-loader)}
.s-entropy{fill:var(--p-decompressor)}
.s-paging{fill:var(--p-stub)}
.s-relocate{fill:var(--p-kernel)}
.s-leave{fill:var(--ink)}
svg text.name{fill:var(--ink)}
svg text.own{fill:var(--p-own);font-weight:600}
.range{stroke:var(--ink);fill:none}
`;
