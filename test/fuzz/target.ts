/**
 * What a fuzz target is. Each file in targets/ has one, as its default export; the file's name is the target's name. README.md says how to add one.
 */
import type { FieldAt } from './fields.ts';

export interface Target {
  /** Valid inputs, or nearly valid ones, that mutations start from. The same ones in each run. */
  readonly seeds: () => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /**
   * Reads one input. Returns a word for what came out, such as `proved`; words that have not been seen before make the input a seed of this run. May throw what
   * the program refuses bad input with (see `isRefusal`). Any other error is a find, and so is a failed assertion about the result.
   */
  readonly run: (input: Uint8Array) => string | Promise<string>;
  /** Where the input's numbers are. Called for inputs that are mutated already, so it must not trust them. */
  readonly fields?: (input: Uint8Array) => readonly FieldAt[];
  /** Makes checksums right again, in place or in a new array, so that mutated bytes get past them. Applied to most inputs. */
  readonly repair?: (input: Uint8Array) => Uint8Array;
  /** For text: pieces that mean something to the reader. They are inserted and put in the place of each other. */
  readonly words?: readonly string[];
  /** The longest input, in bytes. */
  readonly longest?: number;
  /** What one execution may allocate in typed arrays, in bytes. */
  readonly memory?: (length: number) => number;
  /** How many executions a test of the unit lane makes: about a second of them. */
  readonly executions: number;
}

/** Unless a target says otherwise. */
export const LONGEST = 1 << 16;
const MIB = 1 << 20;

/** Linear in the input. The constant part is room for tables that readers allocate once. */
export function memoryLimit({ memory }: Target, length: number): number {
  return memory?.(length) ?? 32 * MIB + 64 * length;
}

/** What one execution may take, in milliseconds: linear as well. */
export function timeLimit(length: number): number {
  return 1000 + (1000 * length) / MIB;
}
