/**
 * The results that the documentation shows: docs/results/*.json, one file for each bench script or experiment. docs/results/README.md has the format.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Claim } from './claim.ts';
import type { Program } from './program.ts';

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
  /** Of the package. */
  readonly version: string;
  /** The parts of the program that the figures depend on, with the hashes that they had (program.ts), or EARLIER. Empty where no part matters. */
  readonly program: Program;
  readonly note: string;
  readonly claims?: readonly Claim[];
  readonly values?: Readonly<Record<string, number>>;
  readonly tables?: Readonly<Record<string, Table>>;
}

/** Times are measured on processors of each maker, and each maker's are in a file of its own: `convert.amd.json`. */
export const MAKERS = { amd: 'AMD', intel: 'Intel' } as const;
export type Maker = keyof typeof MAKERS;

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

/** The makers that have a file of these results: none where one file serves all. */
export function makersOf(name: string): Maker[] {
  const files = resultsFiles();
  return (Object.keys(MAKERS) as Maker[]).filter((maker) => files.includes(`${name}.${maker}`));
}

/** The maker whose results are read has none of these; another one has. */
export class NoRunError extends RangeError {
  constructor(name: string) {
    super(`docs/results has ${name} of other processors only`);
  }
}

/** The results of one maker's processors, or those that hold for all. Reads each file once, and knows which ones were asked for. Throws where a name is in no file. */
export class ResultsReader {
  readonly #files = new Map<string, Results>();
  readonly #maker: Maker | undefined;

  constructor(maker?: Maker) {
    this.#maker = maker;
  }

  get used(): string[] {
    return [...this.#files.keys()].toSorted();
  }

  /** `name`: of the file, without its maker. */
  file(name: string): Results {
    const makers = makersOf(name);
    if (makers.length > 0 && (this.#maker === undefined || !makers.includes(this.#maker))) throw new NoRunError(name);
    const file = makers.length > 0 ? `${name}.${this.#maker}` : name;
    let results = this.#files.get(file);
    if (results === undefined) {
      if (!resultsFiles().includes(file)) throw new RangeError(`there is no docs/results/${file}.json`);
      results = JSON.parse(resultsText(file)) as Results;
      this.#files.set(file, results);
    }
    return results;
  }

  /** One of `used`. */
  opened(file: string): Results {
    return this.#files.get(file)!;
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

/** What a page shows, and the results files that it comes from. */
export interface Rendered {
  readonly text: string;
  readonly files: readonly string[];
}

export interface Reading<T> {
  /** Undefined where the results are not of one maker's processors. */
  readonly maker: Maker | undefined;
  readonly value: T;
  readonly from: ResultsReader;
}

/**
 * What `read` makes of the results: once where they hold for all processors, and once for each maker of which there are some where they are of times. Throws where
 * there are none.
 */
export function readByMaker<T>(read: (from: ResultsReader) => T): Reading<T>[] {
  const readings: Reading<T>[] = [];
  let missing: NoRunError | undefined;
  for (const maker of Object.keys(MAKERS) as Maker[]) {
    const from = new ResultsReader(maker);
    try {
      const value = read(from);
      if (!from.used.some((file) => file.endsWith(`.${maker}`))) return [{ maker: undefined, value, from }];
      readings.push({ maker, value, from });
    } catch (error) {
      if (!(error instanceof NoRunError)) throw error;
      missing = error;
    }
  }
  if (readings.length === 0) throw missing!;
  return readings;
}

/** The text of a results file: every row and every value on a line of its own, so that a diff shows what changed. */
export function formatResults({ claims, values, tables, ...about }: Results): string {
  const lines = Object.entries(about).map(([key, value]) => `  ${json(key)}: ${json(value)}`);
  if (claims !== undefined)
    lines.push(`  "claims": [\n${claims.map((claim) => `    ${json(claim)}`).join(',\n')}\n  ]`);
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
