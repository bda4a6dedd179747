/** What a bench measured, as plain data: the shape of `kslide bench --json`. Several boots are summarized by their median. */
import type { StubTableName } from '../../segment/table.ts';
import type { MapRegion } from './map.ts';
import { CELL } from './map.ts';
import { PHASES } from './measure.ts';
import type { MeasuredBoot, Phase, Point } from './measure.ts';
import type { StubStep } from '../../stub/program.ts';
import { PLAIN } from './subject.ts';
import type { Subject, Variant } from './subject.ts';
import { wouldNotBoot } from './guest.ts';

export interface BenchGuest {
  readonly accel: 'tcg' | 'kvm';
  /** `auto` was asked for, and KVM cannot run this kernel here. */
  readonly fellBack: boolean;
  readonly qemu: string;
  readonly memoryMib: number;
  readonly append: string;
  /** The user gave an initramfs. */
  readonly ownInitrd: boolean;
}

export interface BenchRow {
  readonly name: string;
  readonly title: string;
  /** It is a bzImage, which a decompressor unpacks. */
  readonly decompressor: boolean;
  /** The table format of a converted kernel; null for a stock kernel. */
  readonly table: StubTableName | null;
  readonly nokaslr: boolean;
  /** The cost of each boot from power-on, in the summary's unit, in the order of their seeds. */
  readonly boots: readonly number[];
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** The median of each phase by itself, so they need not add up to `median`. Null when time was measured. */
  readonly phases: Partial<Record<Phase, number>> | null;
  /** `median` minus that of the plain vmlinux. */
  readonly overPlain: number;
  /** Bytes. */
  readonly file: number;
  readonly loaded: number;
}

export interface StubCount {
  readonly table: StubTableName;
  readonly tableBytes: number;
  /** Exact count of guest instructions from the first arrival at startup_64, where the hook is, to the second. */
  readonly instructions: number;
  /** The same in another boot with another seed. */
  readonly again: number;
  readonly perRelocation: number;
  readonly steps: Partial<Record<StubStep, number>>;
  /** With `nokaslr` on the command line. */
  readonly nokaslr: number;
}

export interface KaslrCost {
  /** The name of the row that this is about. */
  readonly of: string;
  /** The stub, and what a decompressor does in addition to a boot with nokaslr: it chooses two slides, and in a stock bzImage relocates the kernel. */
  readonly relocation: number;
  /** `relocation` as a part of the row's median. */
  readonly share: number;
  /** What the kernel does in addition once KASLR_FLAG is set: it randomizes its direct map, vmalloc and vmemmap areas. A difference of medians. */
  readonly inKernel: number;
}

export interface BenchSummary {
  readonly kernel: {
    readonly version: string | null;
    readonly entry: 'pvh' | 'linux64';
    readonly relocations: { readonly abs64: number; readonly inverse32: number; readonly abs32: number };
  };
  readonly guest: BenchGuest;
  readonly unit: 'instructions' | 'microseconds';
  readonly point: Point;
  readonly rows: readonly BenchRow[];
  readonly stubs: readonly StubCount[];
  /** Empty when time was measured. */
  readonly kaslr: readonly KaslrCost[];
  readonly map: { readonly cell: number; readonly regions: readonly MapRegion[] };
}

export interface BenchResults {
  readonly subject: Subject;
  readonly guest: BenchGuest;
  /** One list for each variant of the subject, all of the same length. */
  readonly boots: readonly (readonly MeasuredBoot[])[];
  readonly stubs: readonly StubCount[];
  readonly map: readonly MapRegion[];
}

/** Throws KernelImageError when the boots did not all end at the same point. */
export function summarizeBench({ subject, guest, boots, stubs, map }: BenchResults): BenchSummary {
  const plain = subject.variants.findIndex(({ name }) => name === PLAIN);
  const point = boots[plain]![0]!.point;
  subject.variants.forEach(({ title }, i) => {
    const other = boots[i]!.find((boot) => boot.point !== point);
    if (other !== undefined) throw wouldNotBoot(title, named(other.point), `${named(point)}, as the vmlinux`);
  });
  const plainMedian = median(boots[plain]!.map(({ total }) => total));
  const rows = subject.variants.map((variant, i) => makeRow(variant, boots[i]!, plainMedian));
  const { abs64, inverse32, abs32 } = subject.relocations;
  return {
    kernel: {
      version: subject.version ?? null,
      entry: subject.entry,
      relocations: { abs64: abs64.length, inverse32: inverse32.length, abs32: abs32.length },
    },
    guest,
    unit: guest.accel === 'tcg' ? 'instructions' : 'microseconds',
    point,
    rows,
    stubs,
    kaslr: rows.flatMap((row) => kaslrCost(row, rows)),
    map: { cell: CELL, regions: map },
  };
}

function named(point: Point): string {
  return point === 'init' ? 'at /init' : 'at its end';
}

function makeRow(
  { name, title, decompressor, stub, nokaslr, image, loaded }: Variant,
  boots: readonly MeasuredBoot[],
  plainMedian: number,
): BenchRow {
  const totals = boots.map(({ total }) => total);
  return {
    name,
    title,
    decompressor,
    table: stub?.table ?? null,
    nokaslr,
    boots: totals,
    median: median(totals),
    least: Math.min(...totals),
    most: Math.max(...totals),
    phases: medianPhases(boots),
    overPlain: median(totals) - plainMedian,
    file: image.length,
    loaded,
  };
}

function medianPhases(boots: readonly MeasuredBoot[]): BenchRow['phases'] {
  const medians: Partial<Record<Phase, number>> = {};
  for (const phase of PHASES) {
    const counts = boots.flatMap(({ phases }) => phases?.[phase] ?? []);
    if (counts.length > 0) medians[phase] = median(counts);
  }
  return Object.keys(medians).length === 0 ? null : medians;
}

/** Compares a row with the same image booted with nokaslr. */
function kaslrCost(row: BenchRow, rows: readonly BenchRow[]): readonly KaslrCost[] {
  const without = rows.find(({ name }) => name === `${row.name}-nokaslr`);
  if (without?.phases == null || row.phases === null) return [];
  const more = (phase: Phase): number => (row.phases?.[phase] ?? 0) - (without.phases?.[phase] ?? 0);
  const relocation = (row.phases.stub ?? 0) + more('decompressor');
  return [{ of: row.name, relocation, share: relocation / row.median, inKernel: more('kernel') }];
}

/** For an even number of values, the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.floor(half)]! + sorted[Math.ceil(half) - 1]!) / 2;
}
