import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { oneLine } from '../base/text.ts';

const STDERR = 2;

/** One line of progress on standard error, rewritten in place, and only when standard error is a terminal. */
export class Progress {
  readonly #on: boolean;

  constructor(quiet: boolean) {
    this.#on = !quiet && isatty(STDERR);
  }

  show(text: string): void {
    if (!this.#on) return;
    try {
      writeSync(STDERR, `\r\x1b[K${oneLine(text)}`);
    } catch {
      // A terminal that is gone or busy misses a line of progress, and nothing else.
    }
  }

  clear(): void {
    this.show('');
  }
}

/** Does `work`, and takes its line of progress away when it has ended or failed. */
export async function withProgress<T>(quiet: boolean, work: (progress: Progress) => Promise<T>): Promise<T> {
  const progress = new Progress(quiet);
  try {
    return await work(progress);
  } finally {
    progress.clear();
  }
}
