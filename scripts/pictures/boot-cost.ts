/** What a boot costs as bzImage, as vmlinux and converted, out of docs/results/boot.json: bars by `kslide bench`'s own hand. */
import { drawBars } from '../../src/cli/html/svg-bars.ts';
import type { Bar, BarPart } from '../../src/cli/html/svg-bars.ts';
import { formatNumber } from '../docs/markdown.ts';
import { programNote } from '../docs/program.ts';
import type { ResultsReader } from '../docs/results.ts';
import { drawPicture, text, WIDTH } from './drawing.ts';

const MARGIN = 20;
const TOP = 44;

const KERNELS = [
  { table: '6.12', name: 'Debian 6.12 cloud (zstd)' },
  { table: '6.1', name: 'Debian 6.1 cloud (lz4)' },
];
const BOOTS = [
  { row: 'bzImage', name: 'bzImage', kaslr: 'KASLR' },
  { row: 'vmlinux', name: 'vmlinux', kaslr: 'no KASLR' },
  { row: 'kslide, compact', name: 'vmlinux through kslide convert', kaslr: 'KASLR' },
];
/** In the order in which they run. */
const PHASES = [
  { column: 'loader', colour: 'bar-loader', name: 'loader' },
  { column: 'decompressor', colour: 'bar-decompressor', name: 'decompressor' },
  { column: 'kslide', colour: 'bar-stub', name: 'kslide' },
  { column: 'kernel', colour: 'bar-kernel', name: 'kernel, to /init' },
];

export function drawBootCost(from: ResultsReader, today: (part: string) => string): string {
  const bars = KERNELS.flatMap(({ table, name }) =>
    BOOTS.map((boot): Bar => {
      const whole = from.number('boot', table, boot.row, 'to /init');
      const over = from.cell('boot', table, boot.row, 'over vmlinux');
      return {
        title: `${name} · ${boot.name} · ${boot.kaslr}`,
        text: `${formatNumber(whole, 1)} M${over === null ? '' : `, ${over}`}`,
        parts: PHASES.flatMap(({ column, colour, name: phase }): BarPart[] => {
          const value = from.cell('boot', table, boot.row, column);
          return typeof value === 'number' ? [{ colour, value, label: `${phase}: ${formatNumber(value)} M` }] : [];
        }),
      };
    }),
  );
  const chart = drawBars(
    {
      title: 'Guest instructions of a boot by phase',
      bars,
      legend: PHASES.map(({ colour, name }) => ({ colour, text: name })),
      axis: (value) => formatNumber(value),
      below: 'million guest instructions; percentages: more than vmlinux; kslide is drawn wider than it is, to be seen',
    },
    WIDTH - 2 * MARGIN,
  );
  const note = programNote(from.file('boot').program, today);
  const end = TOP + Number(/ height="(\d+)"/.exec(chart)![1]);
  const height = end + (note === '' ? 12 : 30);
  return drawPicture({
    title: 'What a boot costs: bzImage, vmlinux, and a vmlinux that kslide has converted',
    description: bars.map((bar) => `${bar.title}: ${bar.text}.`).join(' '),
    height,
    style: STYLE,
    parts: [
      text('heading', MARGIN, 28, 'A boot from power-on to the first instruction of /init'),
      `<g transform="translate(${MARGIN} ${TOP})">${chart}</g>`,
      ...(note === '' ? [] : [text('soft middle', WIDTH / 2, end + 14, note)]),
    ],
  });
}

const STYLE = `g text{paint-order:stroke;stroke:var(--page);stroke-width:3px}
.grid{stroke:var(--rule)}
.start,g .middle{fill:var(--soft)}
${PHASES.map(({ colour }) => `.${colour}{fill:var(--${colour})}`).join('\n')}
`;
