/** One line of progress on standard error, rewritten in place, and only when a person is watching. */
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
