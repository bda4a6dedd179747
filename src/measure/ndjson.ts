/**
 * Files with one JSON value per line, appended to as results arrive. When the writing process is killed, its file can still be used.
 *
 * Each line is written by one write(2), and nothing is buffered after its newline. So SIGKILL or a full disk can leave at most one last line without
 * a newline. Readers drop that line. Anything else that cannot be read is an error, because this code did not write it.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { DiskError, InputFileError, OutputFileError } from '../node/errors.ts';
import { readInputFile } from '../node/files/input-file.ts';

export interface Lines<T> {
  readonly values: readonly T[];
  /** Bytes up to the end of the last whole line. */
  readonly length: number;
  /** Whether an incomplete last line was dropped. */
  readonly torn: boolean;
}

/** Bytes. A result has one kilobyte, or some more with the end of a console's output. */
const LINE_AT_MOST = 1 << 20;

/** `read` turns parsed JSON into a value, or returns undefined if it is something else. Throws InputFileError with the line's number. */
export async function readLines<T>(path: string, read: (json: unknown) => T | undefined): Promise<Lines<T>> {
  const bytes = await readInputFile(path);
  const length = bytes.lastIndexOf(0x0a) + 1;
  // Line by line: all of it need not fit into a string, which has 512 MiB at most.
  const decoder = new TextDecoder();
  const values: T[] = [];
  for (let at = 0; at < length;) {
    const end = bytes.indexOf(0x0a, at);
    const value = end - at > LINE_AT_MOST ? undefined : read(parsed(decoder.decode(bytes.subarray(at, end))));
    if (value === undefined)
      throw new InputFileError(path, `line ${values.length + 1} is not a result that kslide wrote`);
    values.push(value);
    at = end + 1;
  }
  return { values, length, torn: length < bytes.length };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The path is right, but the machine could not write. */
const DISK_FAILURES = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EFBIG']);

/** An open file that grows by lines. Its methods throw OutputFileError or DiskError. */
export class LineFile {
  readonly #path: string;
  readonly #fd: number;

  /** Keeps the first `length` bytes of an existing file, drops the rest and appends. Without `length` the file must not exist. */
  constructor(path: string, length?: number) {
    this.#path = path;
    this.#fd = this.#try(() => openSync(path, length === undefined ? 'ax' : 'a', 0o666));
    if (length !== undefined) this.#try(() => ftruncateSync(this.#fd, length));
  }

  append(value: unknown): void {
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    this.#try(() => {
      for (let at = 0; at < line.length;) at += writeSync(this.#fd, line, at);
    });
  }

  close(): void {
    closeSync(this.#fd);
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      const { code = '', errno = 0 } = error as NodeJS.ErrnoException;
      const reason = getSystemErrorMap().get(errno)?.[1] ?? code;
      throw new (DISK_FAILURES.has(code) ? DiskError : OutputFileError)(this.#path, reason, error);
    }
  }
}
