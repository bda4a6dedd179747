/** The picture of the image in memory: segments, what is in them, relocations, and what kslide added. Colours are classes of style.css. */
import { hex } from '../src/base/errors.ts';
import { count } from '../src/base/text.ts';
import { escape } from '../src/cli/html/page.ts';
import { NARROW, round, steps, svg } from '../src/cli/html/svg.ts';
import { placeLegend } from '../src/cli/html/svg-bars.ts';
import { size } from '../src/cli/text.ts';
import { KINDS } from './image-map.ts';
import type { ImageMap, Kind, Stretch } from './image-map.ts';

const MIB = 0x10_0000;
const MARGIN = { left: 1, right: 8 };
const ROW = { words: 12, top: 18, height: 22, pitch: 56 };
const HISTOGRAM = 44;
/** Even the smallest part can be seen. */
const LEAST_WIDTH = 3;
/** The average width of a letter, 12 px. */
const LETTER = 6.4;

/** `added` in words, with its size: "158 kB added". */
export function drawImageMap(map: ImageMap, added: string | undefined, width: number): string {
  const { start, sites } = map;
  const end = Math.max(map.end, map.added?.end ?? 0);
  const plot = width - MARGIN.left - MARGIN.right;
  const x = (address: number): number => round(MARGIN.left + ((address - start) / (end - start)) * plot);
  const box = (part: Stretch, y: number, height: number, style: string, title: string): string => {
    const left = Math.min(x(part.start), width - LEAST_WIDTH);
    const long = Math.max(style === 'added' ? LEAST_WIDTH : 0.5, round(x(part.end) - left));
    return `<rect class="${style}" x="${left}" y="${y}" width="${long}" height="${height}"><title>${escape(title)}</title></rect>`;
  };
  const present = (Object.keys(KINDS) as Kind[]).filter((kind) => map.contents.some((part) => part.kind === kind));
  const legend = placeLegend(
    [
      ...present.map((kind) => ({ colour: `k-${kind}`, text: KINDS[kind] })),
      ...(map.added === null
        ? []
        : [
            { colour: 'added', text: 'added by kslide' },
            { colour: 'hook', text: 'entry, with the jump to it' },
          ]),
    ],
    width,
  );
  const parts: string[] = [...legend.parts];
  let y = legend.height;
  const heading = (text: string): void => {
    parts.push(`<text class="name" x="${MARGIN.left}" y="${y + ROW.words}">${escape(text)}</text>`);
  };

  heading('segments that are loaded');
  if (map.added !== null && added !== undefined && width >= NARROW)
    parts.push(`<text class="end" x="${width - MARGIN.right}" y="${y + ROW.words}">${escape(added)}</text>`);
  const kslide = (): void => {
    if (map.added === null) return;
    parts.push(
      box(map.added, y + ROW.top, ROW.height, 'added', `added: ${hex(map.added.start)} to ${hex(map.added.end)}`),
      `<rect class="hook" x="${x(map.entry)}" y="${y + ROW.top}" width="${LEAST_WIDTH}" height="${ROW.height}"><title>entry: ${hex(map.entry)}</title></rect>`,
    );
  };
  let labelled = -Infinity;
  for (const part of map.segments) {
    const title = `${part.flags}, ${hex(part.start)} to ${hex(part.end)}, ${size(part.end - part.start)}`;
    if (part.filled > part.start)
      parts.push(box({ start: part.start, end: part.filled }, y + ROW.top, ROW.height, 'filled', title));
    if (part.end > part.filled)
      parts.push(box({ start: part.filled, end: part.end }, y + ROW.top, ROW.height, 'bss', `zeros: ${title}`));
    const [left, right] = [x(part.start), x(part.end)];
    if (right - left < part.flags.length * LETTER + 6 || left < labelled) continue;
    labelled = right;
    parts.push(`<text class="middle" x="${round((left + right) / 2)}" y="${y + ROW.top + 15}">${part.flags}</text>`);
  }
  kslide();
  y += ROW.pitch;

  if (map.contents.length > 0) {
    heading('what is in them');
    for (const part of map.contents)
      parts.push(
        box(
          part,
          y + ROW.top,
          ROW.height,
          `k-${part.kind}`,
          `${KINDS[part.kind]}, from ${hex(Math.floor(part.start))}`,
        ),
      );
    kslide();
    y += ROW.pitch;
  }

  if (sites !== null) {
    const most = Math.max(1, ...sites.counts);
    heading(`relocations: at most ${count(most)} in ${size(sites.cell)}`);
    sites.counts.forEach((inside, i) => {
      if (inside === 0) return;
      const from = Math.max(start, sites.start + i * sites.cell);
      const tall = round(Math.max(1, (inside / most) * HISTOGRAM));
      const cell = { start: from, end: sites.start + (i + 1) * sites.cell };
      parts.push(box(cell, round(y + ROW.top + HISTOGRAM - tall), tall, 'sites', `${count(inside)} from ${hex(from)}`));
    });
    y += ROW.top + HISTOGRAM + 12;
  }

  parts.push(`<line class="grid" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${y}" y2="${y}"/>`);
  // The last text must not be cut, nor run into the one before.
  const long = (end - start) / MIB;
  for (const tick of steps(0, Math.max(1, long), width < NARROW ? 4 : 8)) {
    const at = x(start + tick * MIB);
    if (at > width - 4 * LETTER) continue;
    parts.push(
      `<line class="grid" x1="${at}" x2="${at}" y1="${y}" y2="${y + 5}"/>`,
      `<text class="${tick === 0 ? 'start' : 'middle'}" x="${at}" y="${y + 18}">${tick}</text>`,
    );
  }
  parts.push(`<text class="middle" x="${round(width / 2)}" y="${y + 36}">MiB from physical ${hex(start)}</text>`);
  return svg({ title: describeMap(map, end), width, height: y + 44 }, parts);
}

/** For readers who cannot see it. */
function describeMap({ start, segments, contents, added }: ImageMap, end: number): string {
  const totals = (Object.keys(KINDS) as Kind[]).flatMap((kind) => {
    const bytes = contents.filter((part) => part.kind === kind).reduce((sum, part) => sum + part.end - part.start, 0);
    return bytes === 0 ? [] : [`${KINDS[kind]} about ${size(Math.round(bytes))}`];
  });
  const what = [`${segments.length} segments`, ...totals, ...(added === null ? [] : ["kslide's own part at the end"])];
  return `The kernel in memory, ${size(end - start)} from physical ${hex(start)}: ${what.join(', ')}`;
}
