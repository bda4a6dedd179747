/**
 * Generated parts of Markdown pages. A table stands between two comments, and a figure in a sentence does as well:
 *
 *     <!-- table: boot/6.12 -->               <!-- = apply.cold -->0.78<!-- end -->
 *
 *     | … |
 *
 *     <!-- end -->
 *
 * What is between them is written anew each time. A line may not begin with a figure's comment: Markdown would take the line for HTML.
 */
import type { Cell, Column, Table } from './results.ts';

export interface Generated {
  /** Markdown of a table, without a line feed at its end. */
  table(name: string): string;
  figure(name: string): string;
}

const TABLE = /<!-- table: (\S+) -->\n[^]*?<!-- end -->/g;
const FIGURE = /<!-- = (\S+) -->([^\n<]*)<!-- end -->/g;

/** The page with everything between its comments written anew. Throws where a comment has no partner, or begins a line that must not begin so. */
export function renderPage(page: string, generated: Generated): string {
  const text = page
    .replaceAll(TABLE, (_, name: string) => `<!-- table: ${name} -->\n\n${generated.table(name)}\n\n<!-- end -->`)
    .replaceAll(FIGURE, (_, name: string) => `<!-- = ${name} -->${generated.figure(name)}<!-- end -->`);
  const begun = text.match(/<!-- (table:|=) /g)?.length ?? 0;
  const whole = (text.match(TABLE)?.length ?? 0) + (text.match(FIGURE)?.length ?? 0);
  const ended = text.match(/<!-- end -->/g)?.length ?? 0;
  if (begun !== whole || ended !== whole) throw new RangeError(`${begun} marks, of which ${whole} are whole`);
  const line = /^[ >*+-]*(\d+\. *)?<!-- = .*/m.exec(text)?.[0];
  if (line !== undefined) throw new RangeError(`a line begins with a figure's comment: ${line.slice(0, 60)}`);
  return text;
}

/** The page without what is generated. */
export function withoutGenerated(page: string): string {
  return page.replaceAll(TABLE, '').replaceAll(FIGURE, '');
}

/** As oxfmt formats a table. */
export function formatTable({ columns, rows }: Table): string {
  const cells = rows.map((row) => columns.map((column, i) => formatCell(row[i] ?? null, column)));
  const widths = columns.map(({ name }, i) => Math.max(3, ...[name, ...cells.map((row) => row[i]!)].map(widthOf)));
  const line = (texts: readonly string[]): string =>
    `| ${texts.map((text, i) => (columns[i]!.align === 'right' ? padding(text, widths[i]!) + text : text + padding(text, widths[i]!))).join(' | ')} |`;
  const rule = columns.map(({ align }, i) =>
    align === 'right' ? `${'-'.repeat(widths[i]! - 1)}:` : '-'.repeat(widths[i]!),
  );
  return [line(columns.map(({ name }) => name)), `| ${rule.join(' | ')} |`, ...cells.map(line)].join('\n');
}

export function formatCell(cell: Cell, { digits, suffix = '' }: Omit<Column, 'name'> = {}): string {
  if (cell === null) return '';
  if (typeof cell === 'string') return cell.replaceAll('|', String.raw`\|`);
  return formatNumber(cell, digits) + suffix;
}

/** 1,593.7; without `digits` as many as the number has. */
export function formatNumber(value: number, digits?: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 6 });
}

function padding(text: string, width: number): string {
  return ' '.repeat(width - widthOf(text));
}

/** Characters, not UTF-16 units. */
function widthOf(text: string): number {
  return [...text].length;
}
