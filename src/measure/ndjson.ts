/**
 * Files with one JSON value per line, appended to as results arrive. When the writing process is killed, its file can still be used.
 *
 * Each line is written by one write(2), and nothing is buffered after its newline. So SIGKILL or a full disk can leave at most one last line without
 * a newline. Readers drop that line. Anything else that cannot be read is an error, because this code did not write it.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { InputFileError, isSystemError, outputError, OutputFileError } from '../node/errors.ts';
import { readInputFile } from '../node/files/input-file.ts';
import { resolveTarget } from '../node/files/target.ts';

export interface Lines<T> {
  readonly values: readonly T[];
  /** Bytes up to the end of the last whole line. */
  readonly length: number;
  /** Whether an incomplete last line was dropped. */
  readonly torn: boolean;
}

/** `read` turns parsed JSON into a value, or returns undefined if it is something else. Throws InputFileError with the line's number. */
export async function readLines<T>(path: string, read: (json: unknown) => T | undefined): Promise<Lines<T>> {
  const bytes = await readInputFile(path, { mayGrow: true });
  const length = bytes.lastIndexOf(0x0a) + 1;
  // Line by line: all of it need not fit into a string, which has 512 MiB at most.
  const values: T[] = [];
  for (let at = 0; at < length;) {
    const end = bytes.indexOf(0x0a, at);
    const value = end - at > LONGEST_LINE ? undefined : read(parsed(bytes.subarray(at, end)));
    if (value === undefined)
      throw new InputFileError(path, `line ${values.length + 1} is not a result that kslide wrote`);
    values.push(value);
    at = end + 1;
  }
  return { values, length, torn: length < bytes.length };
}

/** A result has 2,000 characters of console at most, of up to 6 bytes each. The rest is the user's command line. */
const LONGEST_LINE = 0x1_0000;
/** Neither a byte order mark nor bytes that are no UTF-8 are what kslide wrote. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parsed(line: Uint8Array): unknown {
  try {
    return JSON.parse(UTF8.decode(line));
  } catch {
    return undefined;
  }
}

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;

/**
 * An open file that grows by lines. Its methods throw OutputFileError or DiskError. A new file is its owner's only, because results tell slides; one that is
 * continued keeps its permissions.
 */
export class LineFile {
  readonly #path: string;
  readonly #fd: number;

  /** Keeps the first `length` bytes of an existing file, drops the rest and appends. Without `length` the file must not exist. */
  constructor(path: string, length?: number) {
    this.#path = path;
    this.#fd = this.#try(() => openLines(path, length));
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
      throw isSystemError(error) ? outputError(this.#path, error) : error;
    }
  }
}

/** Another user's link at that name is not followed (target.ts), and what is no file is not opened for long: opening a FIFO would wait. */
function openLines(path: string, length: number | undefined): number {
  const target = resolveTarget(path);
  if ('fd' in target) throw new OutputFileError(path, 'is no file that can be continued');
  const { directory, name } = target;
  try {
    const flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
    const fd = openSync(directory.at(name), length === undefined ? flags | O_CREAT | O_EXCL : flags, 0o600);
    try {
      if (!fstatSync(fd).isFile()) throw new OutputFileError(path, 'is no file that can be continued');
      if (length !== undefined) ftruncateSync(fd, length);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } finally {
    directory.close();
  }
}
