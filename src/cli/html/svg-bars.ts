/** Horizontal bars, one below the other. Each has its title above it, and its value at its end; a value too long for that is above it as well. */
import { escape } from './page.ts';
import { NARROW, round, steps, svg } from './svg.ts';

export interface BarPart {
  /** The CSS class that gives its colour. */
  readonly colour: string;
  readonly value: number;
  readonly label: string;
}

export interface Bar {
  readonly title: string;
  /** Whether its title has a colour of its own. */
  readonly own?: boolean | undefined;
  /** The whole bar's value, as text. */
  readonly text: string;
  readonly parts: readonly BarPart[];
  /** The least and the most of several measurements. */
  readonly range?: readonly [least: number, most: number] | undefined;
}

export interface Bars {
  readonly title: string;
  readonly bars: readonly Bar[];
  /** Colours and their meanings; empty when all bars have the same colour. */
  readonly legend: readonly { readonly colour: string; readonly text: string }[];
  readonly axis: (value: number) => string;
  readonly below: string;
}

const MARGIN = { left: 1, right: 16, bottom: 40 };
const LEGEND = { height: 28, swatch: 12 };
const BAR = { pitch: 44, words: 14, top: 20, height: 14 };
/** Even the smallest part can be seen. */
const LEAST_WIDTH = 3;
/** The average width of a letter at the figures' font size, 12 px. */
const LETTER = 6.6;
/** Values that take more of the width are not at the ends of their bars, which would be too short. */
const SHARE_OF_VALUES = 0.25;
const GAP = 8;

export function drawBars({ title, bars, legend, axis, below }: Bars, width: number): string {
  const keys = placeLegend(legend, width);
  const top = legend.length === 0 ? 4 : keys.height;
  const height = top + bars.length * BAR.pitch + MARGIN.bottom;
  const longest = Math.max(...bars.map(({ text }) => text.length)) * LETTER;
  const isAtEnds = longest <= width * SHARE_OF_VALUES;
  const right = MARGIN.right + (isAtEnds ? longest : 0);
  const plotWidth = width - MARGIN.left - right;
  const wholes = bars.map(({ parts, range }) => Math.max(sum(parts), range?.[1] ?? 0));
  const end = Math.max(1, ...wholes) * 1.02;
  const x = (value: number): number => round(MARGIN.left + (value / end) * plotWidth);
  const parts: string[] = [...keys.parts];
  const floor = top + bars.length * BAR.pitch;
  for (const tick of steps(0, end, width < NARROW ? 3 : 6)) {
    parts.push(
      `<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="${top}" y2="${floor}"/>`,
      `<text class="${tick === 0 ? 'start' : 'middle'}" x="${x(tick)}" y="${floor + 16}">${axis(tick)}</text>`,
    );
  }
  bars.forEach((bar, i) => {
    const y = top + i * BAR.pitch;
    const value = isAtEnds
      ? `<text x="${round(x(wholes[i]!) + GAP)}" y="${y + BAR.top + BAR.height - 3}">${escape(bar.text)}</text>`
      : `<text class="end" x="${width - MARGIN.right}" y="${y + BAR.words}">${escape(bar.text)}</text>`;
    parts.push(
      `<text class="name${bar.own ? ' own' : ''}" x="${MARGIN.left}" y="${y + BAR.words}">${escape(bar.title)}</text>`,
      value,
    );
    let from = 0;
    const placed = bar.parts.map((part) => {
      const start = x(from);
      from += part.value;
      return { part, start, long: Math.max(LEAST_WIDTH, round(x(from) - start)) };
    });
    // The narrowest last: a part that is drawn wider than its value must not be covered by its neighbour.
    for (const { part, start, long } of placed.toSorted((one, other) => other.long - one.long)) {
      parts.push(
        `<rect class="${part.colour}" x="${start}" width="${long}" y="${y + BAR.top}" height="${BAR.height}"><title>${escape(part.label)}</title></rect>`,
      );
    }
    if (bar.range === undefined) return;
    const middle = y + BAR.top + BAR.height / 2;
    const [least, most] = bar.range.map(x);
    parts.push(`<path class="range" d="M${least} ${middle - 4}v8m0-4H${most}m0-4v8"/>`);
  });
  parts.push(`<text class="middle" x="${MARGIN.left + plotWidth / 2}" y="${height - 6}">${escape(below)}</text>`);
  return svg({ title, width, height }, parts);
}

function sum(parts: readonly BarPart[]): number {
  return parts.reduce((total, { value }) => total + value, 0);
}

/** Places the legend on as many lines as it needs. */
export function placeLegend(
  legend: Bars['legend'],
  width: number,
): { readonly parts: readonly string[]; readonly height: number } {
  const parts: string[] = [];
  let [x, y] = [MARGIN.left, 0];
  for (const { colour, text } of legend) {
    const long = LEGEND.swatch + 6 + text.length * LETTER + 14;
    if (x + long > width && x > MARGIN.left) [x, y] = [MARGIN.left, y + LEGEND.height - 8];
    parts.push(
      `<rect class="${colour}" x="${round(x)}" y="${y}" width="${LEGEND.swatch}" height="${LEGEND.swatch}"/>`,
      `<text x="${round(x + LEGEND.swatch + 6)}" y="${y + 10}">${escape(text)}</text>`,
    );
    x += long;
  }
  return { parts, height: y + LEGEND.height };
}
