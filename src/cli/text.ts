/** How numbers, sizes and tables look in text output. */

import { oneLine, short } from '../base/text.ts';

/** A row may hold a list. Names in it are cut where they enter it. */
const LONGEST_VALUE = 2000;

/** Bytes in decimal units with three significant digits: "57.6 MB". */
export function size(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? `${bytes} bytes` : `${value.toPrecision(3)} ${units[unit]}`;
}

/** One line for each label and value, with the values aligned. */
export function rows(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([label]) => label.length));
  return pairs.map(([label, value]) => `${oneLine(label).padEnd(width)}  ${short(value, LONGEST_VALUE)}\n`).join('');
}

/** Lines of cells; each column is as wide as its widest cell. The first column is left-aligned, the others, mostly numbers, right-aligned. */
export function table(given: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  const lines = given.map((line) => line.map((cell) => short(cell)));
  for (const line of lines)
    line.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, cell.length)));
  const align = (cell: string, column: number): string =>
    column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!);
  return lines.map((line) => `${line.map(align).join('  ').trimEnd()}\n`).join('');
}
