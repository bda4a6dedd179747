import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { oneLine } from '../base/text.ts';
import { nodeCodecs, tellingNodeCodecs } from '../node/codecs.ts';

const STDERR = 2;
/** Before that the pace is not known well enough to say how much time is left. */
const EARLIEST_MS = 500;

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

  /** For work that knows which part of it is done: "decoding the kernel: 43%, about 2 s left". The part is of 1. */
  parts(what: string): (part: number) => void {
    let first: { readonly part: number; readonly at: number } | undefined;
    return (part) => {
      first ??= { part, at: performance.now() };
      const elapsed = performance.now() - first.at;
      const done = part - first.part;
      const left = elapsed < EARLIEST_MS || done <= 0 ? '' : `, about ${duration((elapsed * (1 - part)) / done)} left`;
      this.show(`${what}: ${Math.floor(part * 100)}%${left}`);
    };
  }

  /** Decoders that show how far they are. */
  codecs(): typeof nodeCodecs {
    if (!this.#on) return nodeCodecs;
    let told = 1;
    let show: (part: number) => void;
    return tellingNodeCodecs((part) => {
      // The next payload.
      if (part <= told) show = this.parts('decoding the kernel');
      told = part;
      show(part);
    });
  }
}

/** "12 s", "3 min", "2.5 h". */
export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
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
