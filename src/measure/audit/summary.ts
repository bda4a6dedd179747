/**
 * What the boots of an audit show, and what is wrong with the kernel's slides.
 *
 * Findings, of which each one causes exit code 1:
 *
 *     failed            a boot did not reach the kernel's panic, or printed no slide
 *     not-randomized    a kernel printed that its offset is "disabled", and its file shows that it cannot have moved
 *     misaligned        a slide is not a multiple of the image's alignment
 *     out-of-range      a slide is above the image's largest
 *     constant          four or more boots all have the same slide (only where the range is not known), or the image has only one slot
 *     uneven, too-even  chi-square: p below 1e-6, at either end
 *     collisions        the collision test: p below 1e-6, at either end
 *     incomplete        there are fewer boots than were asked for
 *
 * At 1e-6 a good kernel is accused in one of 250,000 audits (four tails), and a kernel that lost a bit of entropy is found with some 200 boots. With
 * fewer than bootsNeeded says, nothing found means nothing: the verdict is then `not-enough-boots`, and the exit code is 1 as well. Where boots do not tell
 * their slide, nothing found means nothing either: `undecided`, exit code 1.
 */
import { hex } from '../../base/errors.ts';
import { largestSlide } from '../../kaslr/slots.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { hasFailed } from './audit.ts';
import type { AuditMachine, AuditRecord } from './record.ts';
import {
  bootsNeeded,
  commonDivisor,
  estimateEntropy,
  testCollisions,
  testUniformity,
} from '../statistics/statistics.ts';
import type { CollisionTest, EntropyEstimate, UniformityTest } from '../statistics/statistics.ts';

export const P_AT_LEAST = 1e-6;
/** With 480 slots, four boots agree by chance in one of 10^8 audits. */
const CONSTANT_FROM = 4;

export type AuditFindingCode =
  | 'failed'
  | 'not-randomized'
  | 'misaligned'
  | 'out-of-range'
  | 'constant'
  | 'uneven'
  | 'too-even'
  | 'collisions'
  | 'incomplete';

export interface AuditFinding {
  readonly code: AuditFindingCode;
  readonly text: string;
}

/** The shape of `kslide audit --json`. Sizes and slides are in bytes, times in milliseconds; null means that a value cannot be known. */
export interface AuditSummary {
  /** SHA-256 of the image. */
  readonly image: string;
  readonly slots: { readonly count: number; readonly align: number; readonly largest: number } | null;
  readonly boots: {
    /** Null when results were merged: no number was asked for. */
    readonly asked: number | null;
    readonly done: number;
    readonly failed: number;
    /** Those that ended well, and did not tell their slide. */
    readonly unknown: number;
    readonly byEntry: Readonly<Record<string, number>>;
    readonly medianMs: number;
  };
  readonly machines: readonly (AuditMachine & { readonly boots: number })[];
  /** Of the boots that did not fail; null when all failed. */
  readonly slides: {
    readonly distinct: number;
    readonly least: number;
    readonly greatest: number;
    /** Greatest common divisor of the slides; 0 if all are 0. */
    readonly alignment: number;
  } | null;
  readonly uniformity: UniformityTest | null;
  readonly collisions: CollisionTest | null;
  readonly entropy: EntropyEstimate | null;
  /** The boots that it takes to find a kernel that lost one bit of entropy; where the range is not known, one that never moves. */
  readonly needed: number;
  readonly verdict: AuditVerdict;
  readonly findings: readonly AuditFinding[];
}

export type AuditVerdict = 'found' | 'undecided' | 'not-enough-boots' | 'nothing-found';

/** `records`: at least one, all of the same image. `asked`: the number of boots that the user asked for. */
export function summarizeAudit(records: readonly AuditRecord[], asked?: number): AuditSummary {
  const first = records[0];
  if (first === undefined) throw new RangeError('an audit without boots');
  const slots = first.slots ?? undefined;
  const failed = records.filter(hasFailed);
  const randomized = slidesOf(records);
  const counts = slots === undefined ? undefined : countBySlot(randomized, slots);
  const tests = runTests(randomized, counts, slots);
  const findings = [...judgeBoots(records, failed, asked), ...judgeSlides(randomized, slots), ...judgeTests(tests)];
  const needed = slots === undefined ? CONSTANT_FROM : slots.count === 1 ? 1 : bootsNeeded(slots.count, P_AT_LEAST);
  const unknown = records.filter((record) => record.slide === 'unknown' && !hasFailed(record)).length;
  const enough = randomized.length >= needed ? 'nothing-found' : 'not-enough-boots';
  const unlessFound = unknown > 0 ? 'undecided' : enough;
  return {
    image: first.image,
    slots: slots === undefined ? null : { ...slots, largest: largestSlide(slots) },
    boots: {
      asked: asked ?? null,
      done: records.length,
      failed: failed.length,
      unknown,
      byEntry: tally(records.map(({ entry }) => entry)),
      medianMs: median(records.map(({ ms }) => ms)),
    },
    machines: tallyMachines(records),
    slides: describeSlides(randomized),
    ...tests,
    needed,
    verdict: findings.length > 0 ? 'found' : unlessFound,
    findings,
  };
}

/** Slides of the boots that did not fail. */
export function slidesOf(records: readonly AuditRecord[]): number[] {
  return records
    .filter((record) => !hasFailed(record))
    .map(({ slide }) => slide)
    .filter((slide) => typeof slide === 'number');
}

/** The number of boots in each slot. Slides outside all slots are not counted here: judgeSlides finds them. */
export function countBySlot(slides: readonly number[], { align, count }: Slots): Uint32Array {
  const counts = new Uint32Array(count);
  for (const slide of slides) if (slide % align === 0 && slide / align < count) counts[slide / align]!++;
  return counts;
}

type Tests = Pick<AuditSummary, 'uniformity' | 'collisions' | 'entropy'>;

function runTests(slides: readonly number[], counts: Uint32Array | undefined, slots: Slots | undefined): Tests {
  const seen = Object.values(tally(slides));
  const inSlots = counts?.some((count) => count > 0) ? counts : undefined;
  return {
    uniformity: (inSlots && testUniformity(inSlots)) ?? null,
    collisions: inSlots === undefined ? null : testCollisions(inSlots),
    entropy: slides.length < 2 ? null : estimateEntropy(seen, slots?.count),
  };
}

function describeSlides(slides: readonly number[]): AuditSummary['slides'] {
  if (slides.length === 0) return null;
  const sorted = slides.toSorted((a, b) => a - b);
  return {
    distinct: new Set(slides).size,
    least: sorted[0]!,
    greatest: sorted.at(-1)!,
    alignment: commonDivisor(slides),
  };
}

function judgeBoots(
  records: readonly AuditRecord[],
  failed: readonly AuditRecord[],
  asked: number | undefined,
): AuditFinding[] {
  const findings: AuditFinding[] = [];
  if (failed.length > 0) {
    const ends = Object.entries(tally(failed.map(({ end, slide }) => (slide === null ? `${end}, no slide` : end))));
    const which = ends.map(([end, times]) => `${times} × ${end}`).join('; ');
    findings.push({ code: 'failed', text: `${failed.length} of ${records.length} boots failed: ${which}` });
  }
  const disabled = records.filter(({ slide }) => slide === 'disabled').length;
  if (disabled > 0) {
    findings.push({
      code: 'not-randomized',
      text: `${disabled} of ${records.length} boots were not randomized: their kernel says "Kernel Offset: disabled"`,
    });
  }
  if (asked !== undefined && records.length < asked)
    findings.push({ code: 'incomplete', text: `stopped after ${records.length} of ${asked} boots` });
  return findings;
}

function judgeSlides(slides: readonly number[], slots: Slots | undefined): AuditFinding[] {
  if (slots === undefined) {
    if (slides.length < CONSTANT_FROM || new Set(slides).size > 1) return [];
    return [{ code: 'constant', text: `all ${slides.length} boots have the slide ${hex(slides[0]!)}` }];
  }
  const findings: AuditFinding[] = [];
  if (slots.count === 1) findings.push({ code: 'constant', text: 'the image has only one slot: it never moves' });
  const misaligned = slides.filter((slide) => slide % slots.align !== 0);
  if (misaligned.length > 0)
    findings.push({ code: 'misaligned', text: `not multiples of ${hex(slots.align)}: ${listed(misaligned)}` });
  const outside = slides.filter((slide) => slide > largestSlide(slots));
  if (outside.length > 0)
    findings.push({ code: 'out-of-range', text: `above ${hex(largestSlide(slots))}: ${listed(outside)}` });
  return findings;
}

function judgeTests({ uniformity, collisions }: Tests): AuditFinding[] {
  const findings: AuditFinding[] = [];
  if (uniformity !== null && uniformity.pUneven < P_AT_LEAST) {
    findings.push({
      code: 'uneven',
      text: `some slots come too often: chi-square p = ${uniformity.pUneven.toExponential(1)}`,
    });
  }
  if (uniformity !== null && uniformity.pEven < P_AT_LEAST) {
    findings.push({
      code: 'too-even',
      text: `slots come more evenly than chance allows: chi-square p = ${uniformity.pEven.toExponential(1)}`,
    });
  }
  if (collisions !== null && Math.min(collisions.pMore, collisions.pFewer) < P_AT_LEAST) {
    const { seen, expected, pMore, pFewer } = collisions;
    const p = Math.min(pMore, pFewer).toExponential(1);
    findings.push({
      code: 'collisions',
      text: `${seen} collisions where ${expected.toFixed(1)} are expected: p = ${p}`,
    });
  }
  return findings;
}

function listed(slides: readonly number[]): string {
  const shown = slides.slice(0, 5).map(hex).join(', ');
  return slides.length > 5 ? `${shown} and ${slides.length - 5} more` : shown;
}

function tally(values: readonly (string | number)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

function tallyMachines(records: readonly AuditRecord[]): AuditSummary['machines'] {
  const machines = new Map<string, AuditMachine & { boots: number }>();
  for (const { machine } of records) {
    const key = JSON.stringify(machine);
    const known = machines.get(key) ?? { ...machine, boots: 0 };
    known.boots++;
    machines.set(key, known);
  }
  return [...machines.values()];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
