/**
 * The option `--record` of every script that measures: it writes the script's figures to docs/results, with the machine, the date, the package's version
 * and the hashes of the parts of the program that the figures depend on. `npm run docs` then writes the pages. `--record=FOLDER` writes to another folder.
 *
 *     const { record, rest } = takeRecordOption();
 *     …
 *     record?.('page-sharing', { machine: 'any', parts: ['src/relocs/tables'], note: '…', tables: { pages } });
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { version } from '../../src/cli/version.ts';

import type { Claim } from './claim.ts';
import { changedParts, programOf } from './program.ts';
import { formatResults, MAKERS, resultsFiles, resultsText } from './results.ts';
import type { Cell, Column, Maker, Results, Table } from './results.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const OPTION = '--record';

export interface Recording {
  /**
   * What the figures depend on beside the program. `any`: no machine changes them. `processor`: times, on this one. Otherwise the emulator and its
   * machine, as `QEMU 7.2.22 (TCG), 256 MiB`.
   */
  readonly machine: string;
  /** Times that the aims are for: the file is this maker's, and the other maker's stays. */
  readonly byMaker?: boolean;
  /** Parts of the program that the figures depend on (program.ts). */
  readonly parts: readonly string[];
  /** What has to be run before the script. */
  readonly before?: string;
  /** Arguments that the command needs. */
  readonly args?: string;
  readonly note: string;
  readonly claims?: readonly Claim[];
  readonly values?: Readonly<Record<string, number>>;
  readonly tables?: Readonly<Record<string, Table>>;
}

/** Writes docs/results/NAME.json, or NAME.MAKER.json. */
export type RecordResults = (name: string, recording: Recording) => void;

/** `record` is undefined where the option was not given. `rest`: the other arguments. */
export function takeRecordOption(args: readonly string[] = process.argv.slice(2)): {
  readonly record: RecordResults | undefined;
  readonly rest: string[];
} {
  const isOption = (arg: string): boolean => arg === OPTION || arg.startsWith(`${OPTION}=`);
  const option = args.find(isOption);
  const rest = args.filter((arg) => !isOption(arg));
  if (option === undefined) return { record: undefined, rest };
  const folder = option === OPTION ? join(ROOT, 'docs/results') : option.slice(OPTION.length + 1);
  return { record: (name, recording) => write(folder, name, recording), rest };
}

function write(folder: string, name: string, recording: Recording): void {
  const { machine, byMaker = false, parts, before, args, note, claims, values, tables } = recording;
  const command = ['node --import tsx', relative(ROOT, process.argv[1]!), OPTION, args].filter(Boolean).join(' ');
  const text = formatResults({
    script: before === undefined ? command : `${before} && ${command}`,
    machine: machine === 'processor' ? describeMachine() : machine,
    date: today(),
    version,
    program: programOf(parts),
    note,
    ...(claims === undefined ? {} : { claims }),
    ...(values === undefined ? {} : { values }),
    ...(tables === undefined ? {} : { tables }),
  });
  const file = join(folder, byMaker ? `${name}.${makerHere()}.json` : `${name}.json`);
  writeFileSync(`${file}.tmp`, text);
  renameSync(`${file}.tmp`, file);
  process.stdout.write(`recorded: ${relative(ROOT, file)}\n`);
}

export function today(): string {
  return new Date().toISOString().slice(0, 10);
}

/**
 * `AMD EPYC (family 25, model 1), 2 CPUs, load 0.1, Node 20.20.2`. The load is that of the last minute: what else was running. With real-time priority (chrt -r) the
 * measured programs went first.
 */
export function describeMachine(): string {
  // proc(5): `policy` is the 39th field after the name, which ends with the last parenthesis.
  const policy = Number(readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)!.split(' ')[38]);
  const priority = policy === SCHED_FIFO || policy === SCHED_RR ? ' at real-time priority' : '';
  const load = `load ${loadavg()[0]!.toFixed(1)}${priority}`;
  return `${processorHere()}, ${cpus().length} CPUs, ${load}, Node ${process.versions.node}`;
}

const SCHED_FIFO = 1;
const SCHED_RR = 2;

/** Models of processors in the cloud often have no number: family and model tell them apart. */
export function processorHere(): string {
  const [name, family, model] = ['model name', 'cpu family', 'model'].map(cpuinfo);
  return `${name} (family ${family}, model ${model})`;
}

export function makerHere(): Maker {
  const vendor = cpuinfo('vendor_id');
  const maker = ({ AuthenticAMD: 'amd', GenuineIntel: 'intel' } as const)[vendor];
  if (maker === undefined)
    throw new Error(`results are recorded on processors of ${Object.values(MAKERS).join(' and ')}, not of ${vendor}`);
  return maker;
}

function cpuinfo(field: string): string {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  return new RegExp(`^${field}\\s*: (.*)$`, 'm').exec(text)?.[1]?.trim() ?? 'unknown';
}

/** A table whose columns have no more than a name, or are written out. */
export function tableOf(columns: readonly (string | Column)[], rows: readonly (readonly Cell[])[]): Table {
  return { columns: columns.map((column) => (typeof column === 'string' ? { name: column } : column)), rows };
}

/** The rows of a table whose columns were measured one after the other; `names` are the first cells of the rows. */
export function rowsOf(names: readonly string[], columns: readonly (readonly Cell[])[]): Cell[][] {
  return names.map((name, i) => [name as Cell].concat(columns.map((cells) => cells[i]!)));
}

/**
 * The rows of `docs/results/NAME.json`, with `rows` instead of all that begin with the same cells, in the order of their first cells. For tables that are measured a few rows at a time. Rows of
 * another program than today's, or with other columns, are left out. `hashOf`: the hash that a part of the program has.
 */
export function withEarlierRows(
  name: string,
  table: string,
  rows: readonly (readonly Cell[])[],
  hashOf?: (part: string) => string,
): (readonly Cell[])[] {
  const known = resultsFiles().includes(name) ? (JSON.parse(resultsText(name)) as Results) : undefined;
  const isOfToday = known !== undefined && changedParts(known.program, hashOf).length === 0;
  const earlier = isOfToday ? (known.tables?.[table]?.rows ?? []) : [];
  const width = rows[0]?.length;
  const alike = earlier.filter((row) => row.length === width);
  const names = new Set(rows.map(([first]) => String(first)));
  const others = alike.filter(([first]) => !names.has(String(first)));
  return [...others, ...rows].toSorted(([a], [b]) => NAMES.compare(String(a), String(b)));
}

/** 6.1 before 6.12. */
const NAMES = new Intl.Collator('en', { numeric: true });

/** The column of a count or a size. */
export const rightAligned = (name: string, more: Omit<Column, 'name' | 'align'> = {}): Column => ({
  name,
  align: 'right',
  ...more,
});
