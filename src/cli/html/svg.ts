/**
 * What the figures of all reports share. A figure is SVG without scripts, as text.
 *
 * A figure is drawn for a width in CSS pixels and not scaled, so that its letters have the size of the text around it. Colours are CSS classes of the
 * page's style sheet.
 */
import { escape } from './page.ts';

/** Figures narrower than this, for phones, have fewer numbers on their axis. */
export const NARROW = 500;

export interface Frame {
  /** What the figure shows, for readers who cannot see it. */
  readonly title: string;
  readonly width: number;
  readonly height: number;
}

export function svg({ title, width, height }: Frame, parts: readonly string[]): string {
  return `<svg role="img" aria-label="${escape(title)}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${parts.join('')}</svg>`;
}

/** Round numbers at equal distances, from `least` to below `end`: roughly `about` of them, and at least two if `least` is 0. */
export function steps(least: number, end: number, about: number): number[] {
  const wanted = Math.max(1, (end - least) / about);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 2.5, 5, 10]
    .map((factor) => factor * power)
    .find((size) => size >= wanted && Number.isInteger(size))!;
  const first = Math.ceil(least / step);
  const length = Math.max(least === 0 ? 2 : 1, Math.ceil(end / step) - first);
  return Array.from({ length }, (_, i) => (first + i) * step);
}

/** A tenth of a pixel is enough. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
