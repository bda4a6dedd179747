/** One line of progress on standard error, rewritten in place, and only when standard error is a terminal. */
export class Progress {
  readonly #on: boolean;

  constructor(quiet: boolean) {
    this.#on = !quiet && process.stderr.isTTY === true;
  }

  show(text: string): void {
    if (this.#on) process.stderr.write(`\r\x1b[K${text}`);
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
