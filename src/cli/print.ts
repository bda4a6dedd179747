/** What a command says. Nothing else in cli/ writes to the standard streams, but for progress.ts. Each function throws DiskError when its text cannot be written. */
import { jsonText, lines, short } from '../base/text.ts';
import { isStandardOutput } from '../node/files/target.ts';
import { paint } from './colour.ts';
import { writeStandard } from '../node/files/standard-streams.ts';

/** On standard output. */
export async function print(text: string): Promise<void> {
  if (text !== '') await writeStandard('output', lines(text));
}

export async function printJson(value: object): Promise<void> {
  await print(`${jsonText(value, 2)}\n`);
}

/** A path may have 4,096 bytes; the stack of a bug of ours is shorter than this, too. */
const LONGEST_REMARK = 10_000;

/** One line on standard error. */
export async function remark(text: string): Promise<void> {
  await writeStandard('error', paint(`kslide: ${short(text, LONGEST_REMARK)}\n`, 'error'));
}

export interface ResultOptions {
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
  /** Where the command writes its file. When that is standard output, a text report goes to standard error. */
  readonly output?: string | undefined;
  /** What the user must know even when nothing else is printed: a line each on standard error. */
  readonly warnings?: readonly string[] | undefined;
}

/** The result of a command: as JSON, as text, or not at all. */
export async function printResult(
  result: object,
  report: () => string,
  { json, quiet, output, warnings = [] }: ResultOptions,
): Promise<void> {
  for (const warning of warnings) await remark(`warning: ${warning}`);
  if (json) await printJson(result);
  else if (!quiet) {
    const stream = isStandardOutput(output) ? 'error' : 'output';
    await writeStandard(stream, paint(lines(report()), stream));
  }
}
