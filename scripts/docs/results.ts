/**
 * The results that the documentation shows: docs/results/*.json, one file for each bench script or experiment. docs/results/README.md has the format.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { STUB_PROGRAM } from '../../src/stub/assembled.ts';

export type Cell = string | number | null;

export interface Column {
  readonly name: string;
  readonly align?: 'right';
  /** Digits after the point; without it, as many as each number has. */
  readonly digits?: number;
  /** Follows each number of the column: `%`, ` ns`. */
  readonly suffix?: string;
}

export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
}

export interface Results {
  /** The command that measures it; null where what was measured was not kept. */
  readonly script: string | null;
  readonly machine: string;
  /** `2026-11`, or with the day. */
  readonly date: string;
  /**
   * The stub that the figures were measured with, as `stubHash` names it; EARLIER where it is known to differ from today's and its hash was not
   * recorded; null where the figures do not depend on it.
   */
  readonly stub: string | null;
  readonly note: string;
  readonly values?: Readonly<Record<string, number>>;
  readonly tables?: Readonly<Record<string, Table>>;
}

export const EARLIER = 'earlier';

const FOLDER = new URL('../../docs/results/', import.meta.url);

export function resultsFiles(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .toSorted();
}

export function resultsText(name: string): string {
  return readFileSync(new URL(`${name}.json`, FOLDER), 'utf8');
}

/** The first 12 hex digits of the SHA-256 of the stub. */
export function stubHash(): string {
  return createHash('sha256').update(STUB_PROGRAM).digest('hex').slice(0, 12);
}

/** Reads each file once, and knows which ones were asked for. Throws where a name is in no file. */
export class ResultsReader {
  readonly #files = new Map<string, Results>();

  get used(): string[] {
    return [...this.#files.keys()].toSorted();
  }

  file(name: string): Results {
    let results = this.#files.get(name);
    if (results === undefined) {
      if (!resultsFiles().includes(name)) throw new RangeError(`there is no docs/results/${name}.json`);
      results = JSON.parse(resultsText(name)) as Results;
      this.#files.set(name, results);
    }
    return results;
  }

  table(name: string, table: string): Table {
    const found = this.file(name).tables?.[table];
    if (found === undefined) throw new RangeError(`docs/results/${name}.json has no table ${JSON.stringify(table)}`);
    return found;
  }

  value(name: string, value: string): number {
    const found = this.file(name).values?.[value];
    if (found === undefined) throw new RangeError(`docs/results/${name}.json has no value ${JSON.stringify(value)}`);
    return found;
  }

  /** A cell, by the first cell of its row and the name of its column. */
  cell(name: string, table: string, row: string, column: string): Cell {
    const { columns, rows } = this.table(name, table);
    const index = columns.findIndex((each) => each.name === column);
    const found = rows.find(([first]) => first === row);
    if (index < 0 || found === undefined)
      throw new RangeError(`docs/results/${name}.json: table ${table} has no ${row}, ${column}`);
    return found[index] ?? null;
  }

  /** A cell that must hold a number. */
  number(name: string, table: string, row: string, column: string): number {
    const cell = this.cell(name, table, row, column);
    if (typeof cell !== 'number')
      throw new RangeError(`docs/results/${name}.json: ${table}, ${row}, ${column} is no number`);
    return cell;
  }
}

/** The text of a results file: every row and every value on a line of its own, so that a diff shows what changed. */
export function formatResults({ values, tables, ...about }: Results): string {
  const lines = Object.entries(about).map(([key, value]) => `  ${json(key)}: ${json(value)}`);
  if (values !== undefined) {
    const list = Object.entries(values).map(([key, value]) => `    ${json(key)}: ${json(value)}`);
    lines.push(`  "values": {\n${list.join(',\n')}\n  }`);
  }
  if (tables !== undefined) {
    const list = Object.entries(tables).map(
      ([key, { columns, rows }]) =>
        `    ${json(key)}: {\n      "columns": [\n${jsonLines(columns)}\n      ],\n      "rows": [\n${jsonLines(rows)}\n      ]\n    }`,
    );
    lines.push(`  "tables": {\n${list.join(',\n')}\n  }`);
  }
  return `{\n${lines.join(',\n')}\n}\n`;
}

function jsonLines(list: readonly unknown[]): string {
  return list.map((each) => `        ${json(each)}`).join(',\n');
}

function json(value: unknown): string {
  return JSON.stringify(value);
}
