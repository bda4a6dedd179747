/**
 * What the pictures of the documentation share: one SVG file each, without scripts, that a forge can show as an image. Its colours follow the
 * reader's colour scheme, it brings its own background, and a title and a description are there for readers who do not see it.
 */
import { colours, escape } from '../../src/cli/html/page.ts';

export const WIDTH = 860;

export interface Picture {
  readonly title: string;
  readonly description: string;
  readonly height: number;
  readonly style?: string;
  readonly parts: readonly string[];
}

export function drawPicture({ title, description, height, style = '', parts }: Picture): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title description" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">`,
    `<title id="title">${escape(title)}</title>`,
    `<desc id="description">${escape(description)}</desc>`,
    `<style>\n${colours(LIGHT, DARK)}${STYLE}${style}</style>`,
    `<rect class="page" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** `kind`: classes. */
export function box(kind: string, { x, y, width, height }: Box): string {
  return `<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${height}"/>`;
}

export function text(kind: string, x: number, y: number, words: string): string {
  return `<text class="${kind}" x="${x}" y="${y}">${escape(words)}</text>`;
}

export function path(kind: string, d: string): string {
  return `<path class="${kind}" d="${d}"/>`;
}

const LIGHT =
  '--page:#fff;--ink:#1b1f24;--soft:#59636e;--rule:#d5dae0;--kernel:#e3e8ee;--kernel-edge:#b4bec9;--added:#d3e4f8;--added-edge:#2f6db5;--hook:#b3470b;--bar-loader:#59636e;--bar-decompressor:#c9762f;--bar-stub:#1a7f37;--bar-kernel:#2f6db5';
const DARK =
  '--page:#14181d;--ink:#e6e9ec;--soft:#9aa4af;--rule:#333b44;--kernel:#262e37;--kernel-edge:#4d5966;--added:#1b3553;--added-edge:#6ba4e0;--hook:#f0a36b;--bar-loader:#9aa4af;--bar-decompressor:#e09a55;--bar-stub:#56d364;--bar-kernel:#5590cf';

const STYLE = `.page{fill:var(--page);stroke:var(--rule)}
text{fill:var(--ink);font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.soft{fill:var(--soft)}
.bold{font-weight:600}
.heading{font-size:14px;font-weight:600}
.middle{text-anchor:middle}
.end{text-anchor:end}
`;
