/** The words for failures that are no fault of the input, the same at the command line and on the page for browsers. */

/** What an engine throws when it cannot allocate. Undefined for every other error. */
export function outOfMemory(error: unknown): string | undefined {
  return error instanceof RangeError && /allocation failed/i.test(error.message) ? 'out of memory' : undefined;
}

/** An error that nobody expected, on one line. bin/kslide.js words what happens outside of a command the same way. */
export function describeBug(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `internal error, please report it: ${stack.replaceAll(/\s*\n\s*/g, ' ')}`;
}
