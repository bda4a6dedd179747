/** The kernel image as a map: one square for each 64 KiB, darker when it has more relocations. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import type { MapRegion } from '../../measure/bench/map.ts';
import type { BenchSummary } from '../../measure/bench/summary.ts';
import { escape } from '../html/page.ts';
import { round, svg } from '../html/svg.ts';
import { placeLegend } from '../html/svg-bars.ts';
import { size } from '../text.ts';

/** A range of the map under one title: a section, or several small ones. */
export interface MapStretch {
  readonly title: string;
  readonly start: number;
  readonly bytes: number;
  readonly cells: readonly number[];
  readonly relocations: number;
}

/** A section smaller than this many cells shares a stretch with its neighbours. */
const CELLS_AT_LEAST = 8;
const SQUARE = { size: 8, pitch: 9 };
const LINE = { words: 11, top: 16, below: 10 };

/** The colour of a cell, by the number of its relocations. Each step is a factor of four; 16 would be one relocation in each page of a cell. */
const DENSITIES = [
  { below: 1, colour: 'd0', text: 'none' },
  { below: 64, colour: 'd1', text: 'to 63' },
  { below: 256, colour: 'd2', text: 'to 255' },
  { below: 1024, colour: 'd3', text: 'to 1,023' },
  { below: Infinity, colour: 'd4', text: 'more' },
] as const;

/** In order of their addresses; small neighbours are joined. */
export function stretchesOf({ cell, regions }: BenchSummary['map']): readonly MapStretch[] {
  const stretches: MapStretch[] = [];
  const small: MapRegion[] = [];
  const add = (group: readonly MapRegion[]): void => {
    if (group.length === 0) return;
    const cells = group.flatMap((region) => region.cells);
    stretches.push({
      title: titleOf(group.map(({ name }) => name)),
      start: group[0]!.start,
      bytes: cells.length * cell,
      cells,
      relocations: cells.reduce((a, b) => a + b, 0),
    });
  };
  for (const region of regions) {
    if (region.cells.length < CELLS_AT_LEAST) {
      small.push(region);
      continue;
    }
    add(small.splice(0));
    add([region]);
  }
  add(small);
  return stretches;
}

function titleOf(names: readonly (string | undefined)[]): string {
  const known = names.filter((name) => name !== undefined);
  if (known.length === 0) return 'between sections';
  return known.length === 1 ? known[0]! : `${known[0]!} to ${known.at(-1)!}`;
}

export function drawMap(map: BenchSummary['map'], width: number): string {
  const legend = placeLegend(
    DENSITIES.map(({ colour, text }) => ({ colour, text })),
    width,
  );
  const columns = Math.floor(width / SQUARE.pitch);
  const parts: string[] = [...legend.parts];
  let y = legend.height;
  for (const { title, start, bytes, cells, relocations } of stretchesOf(map)) {
    parts.push(
      `<text class="name" x="0" y="${y + LINE.words}">${escape(title)}</text>`,
      `<text class="end" x="${width}" y="${y + LINE.words}">${count(relocations)} in ${size(bytes)}</text>`,
    );
    y += LINE.top;
    cells.forEach((inside, i) => {
      const at = start + i * map.cell;
      const colour = DENSITIES.find(({ below }) => inside < below)!.colour;
      const [column, row] = [i % columns, Math.floor(i / columns)];
      parts.push(
        `<rect class="${colour}" x="${column * SQUARE.pitch}" y="${round(y + row * SQUARE.pitch)}" width="${SQUARE.size}" height="${SQUARE.size}"><title>${hex(at)}: ${count(inside)}</title></rect>`,
      );
    });
    y += Math.ceil(cells.length / columns) * SQUARE.pitch + LINE.below;
  }
  return svg({ title: 'Relocations over the kernel image, by section', width, height: y }, parts);
}
