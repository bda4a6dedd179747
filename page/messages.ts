/** What the page and its worker say to each other. */
import type { Row, Table } from '../src/cli/reports/inspect.ts';
import type { ConvertSummary } from '../src/convert.ts';
import type { DoubtFacts } from '../src/recover/describe.ts';
import type { ImageMap } from './image-map.ts';

/** What a worker is for. One converts, and another proves: so the memory of the first is free before the second needs it. */
export type Order =
  | {
      readonly kind: 'convert';
      readonly file: File;
      /** For a kernel without a relocation table: `find` recovers it, and stops if there are doubts; `accept` leaves doubts as they are. */
      readonly recover?: 'find' | 'accept' | undefined;
    }
  | { readonly kind: 'prove'; readonly file: File; readonly made: Made };

/** A converted kernel that is not proved yet. */
export interface Made {
  /** The vmlinux. */
  readonly vmlinux: Blob;
  readonly summary: ConvertSummary;
  /** The relocations, if they were recovered. */
  readonly relocs: Uint8Array | undefined;
}

/** The steps in their order, as a user reads them. */
export const STEPS = {
  read: 'Reading the file',
  decode: 'Decompressing the kernel',
  look: 'Looking at the kernel',
  find: 'Finding the relocations in its image, which takes some seconds',
  convert: 'Converting it',
  reread: 'Reading and decompressing the original again, for the proof',
  prove: 'Checking every byte of the result',
} as const;
export type Step = keyof typeof STEPS;

/** What was found in the file. */
export interface Facts {
  readonly kernel: readonly Row[];
  readonly segments: Table;
  readonly relocations?:
    | { readonly sections: Table; readonly sites: readonly Row[]; readonly forms: Table }
    | undefined;
  readonly map: ImageMap;
}

export interface Verdict {
  /** One sentence. */
  readonly text: string;
  /** Whether the proof is whole: not for recovered relocations. */
  readonly whole: boolean;
  readonly checks: readonly { readonly name: string; readonly detail: string }[];
  readonly premises: readonly string[];
}

export interface Result {
  /** The vmlinux. */
  readonly file: Blob;
  readonly name: string;
  /** Of the file, in hex. Undefined where the browser has no crypto.subtle: for a page that came by http. */
  readonly sha256: string | undefined;
  readonly input: string;
  readonly rows: readonly Row[];
  readonly warnings: readonly string[];
  /** Paragraphs. */
  readonly randomness: readonly string[];
  /** The added segment, for the map. */
  readonly added: { readonly start: number; readonly end: number; readonly text: string };
  readonly verdict: Verdict;
}

export type Report =
  /** `done`: of this step, from 0 to 1; undefined while nothing tells it. */
  | { readonly kind: 'progress'; readonly step: Step; readonly done: number | undefined }
  | { readonly kind: 'facts'; readonly facts: Facts }
  | { readonly kind: 'made'; readonly made: Made }
  | { readonly kind: 'result'; readonly result: Result }
  /** `recoverable`: the kernel lacks only its relocations. */
  | { readonly kind: 'failure'; readonly message: string; readonly recoverable: boolean }
  | { readonly kind: 'doubts'; readonly message: string; readonly doubts: readonly DoubtFacts[] };
