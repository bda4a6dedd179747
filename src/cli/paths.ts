/** Paths that a command line names: contradictions among them are refused before anything is read or written. */
import { readInputFile, refuseSameFile } from '../node/files/input-file.ts';
import type { ReadOptions } from '../node/files/input-file.ts';
import { writeFileAtomic } from '../node/files/output-file.ts';
import type { WriteOptions } from '../node/files/output-file.ts';
import { isSameOutput, isStandardOutput } from '../node/files/target.ts';
import { UsageError } from './failure.ts';
import { remark } from './print.ts';
import type { Progress } from './progress.ts';
import { leftOutOf } from './reports/facts.ts';

/** Paths by what `--help` calls them; undefined where the option was not given. */
type NamedPaths = Readonly<Record<string, string | undefined>>;

/** Standard input can be read only once. */
export function refuseSharedStdin(inputs: NamedPaths): void {
  const [first, second] = Object.keys(inputs).filter((name) => inputs[name] === '-');
  if (second !== undefined) throw new UsageError(`${first} and ${second} both want standard input`);
}

/**
 * Standard output can have only one kind of contents: one output file, or JSON, or a report. A report moves to standard error when a file is written to
 * standard output, but not when standard output was redirected to that file, which the command then replaces.
 */
export function refuseSharedStdout(
  outputs: NamedPaths,
  { json, quiet }: { readonly json?: true | undefined; readonly quiet?: true | undefined },
): void {
  const names = Object.keys(outputs).filter((name) => isStandardOutput(outputs[name]));
  const [first, second] = [...(json ? ['--json'] : []), ...names.map((name) => `${name} ${outputs[name]}`)];
  if (second !== undefined) throw new UsageError(`${first} and ${second} both want standard output`);
  if (quiet && !json) return;
  for (const [name, path] of Object.entries(outputs))
    if (path !== undefined && !names.includes(name) && isSameOutput('-', path))
      throw new UsageError(`${name} ${path} is where standard output goes, and the report with it`);
}

/** No output may be the same file as another one, or be one of the input files, under any name. */
export function refuseOverwriting(inputs: readonly (string | undefined)[], outputs: NamedPaths): void {
  const given = Object.entries(outputs).flatMap(([name, path]) => (path === undefined ? [] : [{ name, path }]));
  for (const [i, { name, path }] of given.entries()) {
    const other = given.slice(0, i).find((earlier) => isSameOutput(earlier.path, path));
    if (other !== undefined) throw new UsageError(`${other.name} and ${name} name the same file`);
    for (const input of inputs) if (input !== undefined) refuseSameFile(input, path);
  }
}

interface ReadKernelOptions extends Pick<ReadOptions, 'spare' | 'onHead'> {
  readonly quiet?: boolean | undefined;
  /** Its line is taken away before anything is said. */
  readonly progress?: Progress | undefined;
}

/** A kernel, of which debug sections may be left out. Says so, unless `quiet`. */
export async function readKernel(
  path: string,
  { quiet, progress, ...options }: ReadKernelOptions = {},
): Promise<Uint8Array> {
  let leftOut = 0;
  const bytes = await readInputFile(path, { ...options, onLeftOut: (size) => (leftOut = size) });
  if (leftOut > 0 && !quiet) {
    progress?.clear();
    await remark(`${path === '-' ? 'standard input' : path}: ${leftOutOf(leftOut)}`);
  }
  return bytes;
}

/** The contents of a file that an option may name. */
export async function readIfGiven(path: string | undefined): Promise<Uint8Array | undefined> {
  return path === undefined ? undefined : readInputFile(path);
}

export async function writeText(path: string, text: string, options?: WriteOptions): Promise<void> {
  await writeFileAtomic(path, [new TextEncoder().encode(text)], options);
}
