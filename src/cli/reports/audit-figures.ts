/**
 * The two figures of an audit's page: the number of boots in each range of slides, and the number of slots by how often they were taken. Both also
 * show what chance would give.
 */
import { count as thousands } from '../../base/text.ts';
import { KERNEL_IMAGE_SIZE, MIB } from '../../base/addresses.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { NARROW, round, steps, svg } from '../html/svg.ts';

const HEIGHT = 260;
const MARGIN = { left: 44, right: 12, top: 12, bottom: 44 };
/** Narrower bars cannot be told from their neighbours. */
const BAR_AT_LEAST = 7;

interface Bar {
  readonly label: string;
  readonly value: number;
  /** What chance would give, and two standard deviations of it; undefined if the slots are not known. */
  readonly expected?: { readonly value: number; readonly spread: number } | undefined;
}

interface Figure {
  readonly title: string;
  readonly width: number;
  readonly bars: readonly Bar[];
  /** `at`: the position, in bars from the left. */
  readonly ticks: readonly { readonly at: number; readonly text: string }[];
  readonly below: string;
}

/** Boots by slide. If the image's slots are known, the band is where 95% of the bars should end. */
export function drawHistogram(slides: readonly number[], slots: Slots | undefined, width: number): string {
  const align = slots?.align ?? 2 * MIB;
  const total = slots?.count ?? KERNEL_IMAGE_SIZE / align;
  // The last bar has the slots left over, so fewer boots are expected in it.
  const perBar = Math.ceil(total / barsIn(width));
  const values = Array.from({ length: Math.ceil(total / perBar) }, () => 0);
  // A slide above all slots is a finding of the summary; it has no bar.
  for (const slide of slides) if (slide < total * align) values[Math.floor(slide / align / perBar)]!++;
  const megabytes = (slot: number): string => thousands((slot * align) / MIB);
  const bars = values.map((value, i): Bar => {
    const [first, end] = [i * perBar, Math.min(total, (i + 1) * perBar)];
    return {
      label: `${megabytes(first)} to ${megabytes(end)} MiB: ${thousands(value)} boots`,
      value,
      expected: slots && spread(slides.length, (end - first) / total),
    };
  });
  const ticks = steps(0, (total * align) / MIB, width < NARROW ? 4 : 8).map((at) => ({
    at: (at * MIB) / align / perBar,
    text: thousands(at),
  }));
  return draw({ title: 'Boots by slide', width, bars, ticks, below: 'slide, MiB' });
}

/** Slots by the number of boots that took them, compared with the binomial distribution. `counts`: the boots of each slot. */
export function drawRepetitions(counts: ArrayLike<number>, width: number): string {
  const seen = Array.from(counts);
  const boots = seen.reduce((a, b) => a + b, 0);
  const chances = binomial(boots, 1 / seen.length);
  const likely = (p: number): boolean => p * seen.length >= 0.5;
  const least = Math.min(...seen, chances.findIndex(likely));
  const most = Math.max(...seen, chances.findLastIndex(likely));
  const perBar = Math.ceil((most - least + 1) / barsIn(width));
  const values = Array.from({ length: Math.ceil((most - least + 1) / perBar) }, () => 0);
  for (const times of seen) values[Math.floor((times - least) / perBar)]!++;
  const bars = values.map((value, i): Bar => {
    const from = least + i * perBar;
    const p = chances.slice(from, from + perBar).reduce((a, b) => a + b, 0);
    const times = perBar === 1 ? thousands(from) : `${thousands(from)} to ${thousands(from + perBar - 1)}`;
    return { label: `${thousands(value)} slots: ${times} boots`, value, expected: spread(seen.length, p) };
  });
  const ticks = steps(least, most + 1, width < NARROW ? 6 : 12).map((times) => ({
    at: (times - least + 0.5) / perBar,
    text: thousands(times),
  }));
  return draw({ title: 'Slots by how many boots took them', width, bars, ticks, below: 'boots that took the slot' });
}

/** The number of bars that can be told apart. */
function barsIn(width: number): number {
  return Math.floor((width - MARGIN.left - MARGIN.right) / BAR_AT_LEAST);
}

/** Mean and two standard deviations of a binomial count. */
function spread(n: number, p: number): NonNullable<Bar['expected']> {
  return { value: n * p, spread: 2 * Math.sqrt(n * p * Math.max(0, 1 - p)) };
}

/** P(X = k) for k from 0 until it is negligible, by recurrence in logarithms: (1 − p)^n would underflow for large n. */
function binomial(n: number, p: number): number[] {
  if (p >= 1) return Array.from({ length: n + 1 }, (_, k) => (k === n ? 1 : 0));
  const list: number[] = [];
  let log = n * Math.log1p(-p);
  const mean = n * p;
  for (let k = 0; k <= n; k++) {
    list.push(Math.exp(log));
    if (k > mean && log < -40) break;
    log += Math.log((n - k) / (k + 1)) + Math.log(p) - Math.log1p(-p);
  }
  return list;
}

function draw({ title, width, bars, ticks, below }: Figure): string {
  const plot = {
    width: width - MARGIN.left - MARGIN.right,
    height: HEIGHT - MARGIN.top - MARGIN.bottom,
  };
  const tops = bars.map(({ value, expected }) =>
    Math.max(value, expected === undefined ? 0 : expected.value + expected.spread),
  );
  const most = Math.max(1, ...tops);
  const grid = steps(0, most, 4);
  const top = 2 * grid.at(-1)! - grid.at(-2)!;
  const y = (value: number): number => round(MARGIN.top + plot.height * (1 - value / top));
  const pitch = plot.width / bars.length;
  const x = (index: number): number => round(MARGIN.left + pitch * index);
  const parts: string[] = [];
  for (const value of [...grid, top]) {
    parts.push(
      `<line class="grid" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${y(value)}" y2="${y(value)}"/>`,
      `<text class="end" x="${MARGIN.left - 6}" y="${y(value) + 4}">${thousands(value)}</text>`,
    );
  }
  const gap = pitch > 4 ? 1 : 0;
  bars.forEach(({ label, value, expected }, i) => {
    const box = `x="${x(i)}" width="${round(pitch - gap)}"`;
    if (expected !== undefined) {
      const high = y(expected.value + expected.spread);
      const low = y(Math.max(0, expected.value - expected.spread));
      parts.push(`<rect class="band" x="${x(i)}" width="${round(pitch)}" y="${high}" height="${round(low - high)}"/>`);
    }
    parts.push(
      `<rect class="bar" ${box} y="${y(value)}" height="${round(y(0) - y(value))}"><title>${label}</title></rect>`,
    );
  });
  // After the bars, so that they do not hide it.
  bars.forEach(({ expected }, i) => {
    if (expected === undefined) return;
    parts.push(
      `<line class="expected" x1="${x(i)}" x2="${x(i + 1)}" y1="${y(expected.value)}" y2="${y(expected.value)}"/>`,
    );
  });
  for (const { at, text } of ticks)
    parts.push(`<text class="middle" x="${x(at)}" y="${HEIGHT - MARGIN.bottom + 16}">${text}</text>`);
  parts.push(`<text class="middle" x="${MARGIN.left + plot.width / 2}" y="${HEIGHT - 8}">${below}</text>`);
  return svg({ title, width, height: HEIGHT }, parts);
}
