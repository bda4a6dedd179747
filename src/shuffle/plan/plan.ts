/**
 * A plan: everything that is known of a kernel before a layout is chosen. `analyse` makes it, plan files hold it, and `rewrite` goes by it. The names of these
 * fields, and their order, are part of the format of plan files (plan-file.ts).
 */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { ExtableData } from '../tables/extable.ts';
import type { KallsymsData } from '../tables/kallsyms.ts';
import type { McountData } from '../tables/mcount.ts';
import type { OrcData } from '../tables/orc.ts';
import type { Run } from '../analyse/units.ts';

/** By field: where it lies in the file, the owner of the place that it lies in, and the owner of its target (analyse/units.ts). */
export interface FieldColumns {
  readonly offsets: Uint32Array;
  readonly sites: Uint32Array;
  readonly targets: Uint32Array;
}

export interface Plan {
  /** The kernel that it was made from. */
  readonly kernel: { readonly buildId: string; readonly size: number; readonly checksum: number };
  /** Where .text lies in memory, and its offset in the file. */
  readonly text: { readonly start: PhysAddr; readonly end: PhysAddr; readonly offset: FileOffset };
  /** By unit: where it starts and ends, and the number of functions in it. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly functions: Uint32Array;
  readonly runs: readonly Run[];
  readonly relative32: FieldColumns;
  readonly relative64: FieldColumns;
  /** Absolute fields; `sites` is not used. */
  readonly absolute32: FieldColumns;
  readonly absolute64: FieldColumns;
  /** The kernel's relocation table, and the owner of each site. */
  readonly table: RelocationTable;
  readonly tableOwners: Readonly<Record<'abs64' | 'inverse32' | 'abs32', Uint32Array>>;
  readonly extable: ExtableData;
  readonly mcount: McountData | undefined;
  readonly kallsyms: KallsymsData | undefined;
  readonly orc: OrcData | undefined;
  /** For the summary. */
  readonly facts: PlanFacts;
}

export interface PlanFacts {
  readonly kernelVersion: string | undefined;
  readonly functions: number;
  /** Functions that stay, by reason. */
  readonly staying: Readonly<Record<string, number>>;
  readonly instructions: number;
  readonly relocations: number;
  readonly branches: { readonly resolved: number; readonly crossing: number; readonly short: number };
}
