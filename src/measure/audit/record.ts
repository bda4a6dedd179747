/**
 * One boot of an audit, as a line of its result file. Each line is complete by itself: the files of several machines can be merged by concatenating
 * them, and judged without the image.
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../../base/addresses.ts';
import type { Slide } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { InputFileError } from '../../node/errors.ts';
import type { BootEnd } from '../../node/qemu/qemu.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { readLines } from '../ndjson.ts';
import type { Lines } from '../ndjson.ts';

export const AUDIT_ENTRIES = ['pvh', 'linux64'] as const;
export type AuditEntry = (typeof AUDIT_ENTRIES)[number];

const ENDS: readonly BootEnd[] = ['panic', 'poweroff', 'reset', 'timeout', 'aborted', 'qemu-error'];

/** Where a boot ran. Without the host's name, because result files are meant to be shared. */
export interface AuditMachine {
  readonly cpu: string;
  readonly cpus: number;
  readonly accel: 'tcg' | 'kvm';
  /** QEMU's version: `7.2.22`. */
  readonly qemu: string;
  readonly guest: { readonly memoryMib: number; readonly cpu: string; readonly append: string };
}

export interface AuditRecord {
  /** A random name of the run and the number of the boot in it: unique across runs and machines. */
  readonly id: string;
  /** SHA-256 of the image file, in hex. */
  readonly image: string;
  /** The slides that the image may take, from its own parameters; null if it is not a converted kernel. */
  readonly slots: Slots | null;
  readonly entry: AuditEntry;
  /** Counts from 1 in each result file. */
  readonly boot: number;
  /**
   * `disabled` when the kernel was not randomized, by its own word and its file's. `unknown` when it says "disabled", but may have moved, and does not tell
   * where. null when it printed no slide.
   */
  readonly slide: Slide | 'disabled' | 'unknown' | null;
  readonly end: BootEnd;
  readonly ms: number;
  /** When it ended, ISO 8601, UTC. */
  readonly at: string;
  readonly machine: AuditMachine;
  /** The end of the console's output, if the boot failed. */
  readonly tail?: string | undefined;
}

/** Drops an incomplete last line. Throws InputFileError for a file that is not an audit's result file. */
export async function readAuditFile(path: string): Promise<Lines<AuditRecord>> {
  const lines = await readLines(path, (json) => (isAuditRecord(json) ? json : undefined));
  const [first] = lines.values;
  if (first !== undefined) expectSameKernel(path, lines.values, first);
  return lines;
}

/** What is the same in all boots of one image. */
type AuditedKernel = Pick<AuditRecord, 'image' | 'slots'>;

/**
 * Throws InputFileError at the first line that is about another image than `kernel`, or about the same image with other slots: one of the two lines is
 * wrong, so nothing can be judged by them.
 */
export function expectSameKernel(path: string, records: readonly AuditRecord[], kernel: AuditedKernel): void {
  for (const [index, { image, slots }] of records.entries()) {
    if (image !== kernel.image)
      throw new InputFileError(path, `line ${index + 1} audits another image: ${image}, not ${kernel.image}`);
    if (slots?.count !== kernel.slots?.count || slots?.align !== kernel.slots?.align) {
      const problem = `has ${describeSlots(slots)}, expected ${describeSlots(kernel.slots)}, as the same image has elsewhere`;
      throw new InputFileError(path, `line ${index + 1} ${problem}`);
    }
  }
}

function describeSlots(slots: Slots | null): string {
  return slots === null ? 'no slots' : `${slots.count} slots of ${hex(slots.align)}`;
}

/**
 * The boots of several files, each once. Throws InputFileError when a file is about another image than the first, or when the same boot has two
 * different results.
 */
export async function mergeAuditFiles(paths: readonly string[]): Promise<AuditRecord[]> {
  const byId = new Map<string, AuditRecord>();
  let first: AuditRecord | undefined;
  for (const path of paths) {
    const { values } = await readAuditFile(path);
    first ??= values[0];
    if (first !== undefined) expectSameKernel(path, values, first);
    for (const [index, record] of values.entries()) {
      const known = byId.get(record.id);
      if (known !== undefined && (known.slide !== record.slide || known.end !== record.end)) {
        throw new InputFileError(
          path,
          `line ${index + 1}: boot ${record.id} has a different result in an earlier line or file`,
        );
      }
      byId.set(record.id, known ?? record);
    }
  }
  return [...byId.values()];
}

function isAuditRecord(json: unknown): json is AuditRecord {
  if (!isObject(json)) return false;
  const { id, image, slots, entry, boot, slide, end, ms, at, machine, tail } = json;
  return (
    typeof id === 'string' &&
    typeof image === 'string' &&
    /^[0-9a-f]{64}$/.test(image) &&
    (slots === null || isSlots(slots)) &&
    AUDIT_ENTRIES.some((name) => name === entry) &&
    isCount(boot) &&
    (slide === null || slide === 'disabled' || slide === 'unknown' || (isCount(slide) && slide < KERNEL_IMAGE_SIZE)) &&
    ENDS.some((name) => name === end) &&
    isCount(ms) &&
    typeof at === 'string' &&
    isMachine(machine) &&
    (tail === undefined || typeof tail === 'string')
  );
}

function isMachine(json: unknown): boolean {
  if (!isObject(json) || !isObject(json['guest'])) return false;
  const { cpu, cpus, accel, qemu, guest } = json;
  const texts = [cpu, qemu, guest['cpu'], guest['append']];
  return (
    texts.every((text) => typeof text === 'string') &&
    isCount(cpus) &&
    isCount(guest['memoryMib']) &&
    (accel === 'tcg' || accel === 'kvm')
  );
}

/** Slots that fit into 1 GiB. So there are at most 512, for which the summary allocates an array. */
function isSlots(json: unknown): boolean {
  if (!isObject(json)) return false;
  const { count, align } = json;
  if (!isCount(count) || !isCount(align) || align < PMD_SIZE || align > KERNEL_IMAGE_SIZE) return false;
  return Number.isInteger(Math.log2(align)) && count >= 1 && count * align <= KERNEL_IMAGE_SIZE;
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === 'object' && json !== null;
}

function isCount(json: unknown): json is number {
  return Number.isSafeInteger(json) && (json as number) >= 0;
}
