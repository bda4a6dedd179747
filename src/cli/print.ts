/**
 * What a command says on standard output. Nothing else in cli/ touches `process.stdout`, and this file does only when there is something to print:
 * creating it takes 1.4 ms, 2.6 when it is a pipe (measured), and `--quiet` needs none.
 */
let isGuarded = false;

export function print(text: string): void {
  guard();
  process.stdout.write(text);
}

export interface ResultOptions {
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
  /** Where the command writes its file: with `-`, standard output is the file's, and a text report goes to standard error. */
  readonly output?: string | undefined;
  /** What the user must know even when nothing else is printed: a line each on standard error. */
  readonly warnings?: readonly string[] | undefined;
}

/** The result of a command: as JSON, as text, or not at all. */
export function printResult(
  result: object,
  report: () => string,
  { json, quiet, output, warnings = [] }: ResultOptions,
): void {
  for (const warning of warnings) process.stderr.write(`kslide: warning: ${warning}\n`);
  if (json) print(`${JSON.stringify(result, null, 2)}\n`);
  else if (!quiet && output === '-') process.stderr.write(report());
  else if (!quiet) print(report());
}

/** A reader that closes the pipe early (`| head`) is not an error. */
function guard(): void {
  if (isGuarded) return;
  isGuarded = true;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}
