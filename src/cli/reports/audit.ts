/** The summary of `kslide audit`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import type { AuditSummary } from '../../measure/audit/summary.ts';
import { rows } from '../text.ts';

export function reportAudit(summary: AuditSummary): string {
  return rows(auditRows(summary));
}

/** The rows of both the text report and the HTML page; the verdict is last. */
export function auditRows(summary: AuditSummary): (readonly [label: string, value: string])[] {
  const { boots, slots, slides, uniformity, collisions, entropy, findings } = summary;
  const list: (readonly [string, string])[] = [['sha256', summary.image]];
  const entries = Object.entries(boots.byEntry).map(([entry, number]) => `${count(number)} by ${entry}`);
  list.push([
    'boots',
    `${count(boots.done)} done, ${count(boots.failed)} failed; ${entries.join(', ')}; median ${seconds(boots.medianMs)}`,
  ]);
  for (const { cpu, cpus, accel, qemu, guest, boots: number } of summary.machines) {
    const words = guest.append === '' ? '' : `, ${JSON.stringify(guest.append)}`;
    list.push([
      'on',
      `${cpu}, ${cpus} CPUs, QEMU ${qemu} (${accel}): ${guest.memoryMib} MiB, ${guest.cpu}${words} (${count(number)})`,
    ]);
  }
  if (slides !== null) {
    const of = slots === null ? '' : ` of ${count(slots.count)} possible`;
    const every = slots === null ? hex(slides.alignment) : `${hex(slides.alignment)} (slots: ${hex(slots.align)})`;
    list.push([
      'slides',
      `${count(slides.distinct)} different${of}, ${hex(slides.least)} to ${hex(slides.greatest)}, multiples of ${every}`,
    ]);
  }
  if (uniformity !== null) {
    const { chiSquare, degrees, bins, slotsPerBin, pUneven } = uniformity;
    const per = slotsPerBin === 1 ? 'a slot each' : `${slotsPerBin} slots each`;
    list.push([
      'uniform?',
      `chi-square ${chiSquare.toFixed(1)} with ${degrees} degrees of freedom (${bins} bins, ${per}): p = ${probability(pUneven)}`,
    ]);
  }
  if (uniformity === null && slots !== null) list.push(['uniform?', 'too few boots to tell']);
  if (collisions !== null) {
    const { seen, expected, deviation, pMore, pFewer } = collisions;
    list.push([
      'collisions',
      `${count(seen)}, expected ${expected.toFixed(1)} ± ${deviation.toFixed(1)}: p = ${probability(Math.min(1, 2 * Math.min(pMore, pFewer)))}`,
    ]);
  }
  if (entropy !== null) list.push(['entropy', describeEntropy(entropy)]);
  if (summary.verdict === 'nothing-found') list.push(['verdict', 'nothing found']);
  if (summary.verdict === 'undecided') list.push(['verdict', `cannot be judged: ${untold(summary)}`]);
  if (summary.verdict === 'not-enough-boots')
    list.push(['verdict', `not enough boots to tell (${count(summary.needed)} needed)`]);
  for (const { text } of findings) list.push(['FOUND', text]);
  return list;
}

/** Of a verdict that is `undecided`. */
export function untold({ boots }: AuditSummary): string {
  return `${count(boots.unknown)} of ${count(boots.done)} boots do not tell their slide: the kernel says "Kernel Offset: disabled", which a kernel that moved may say too, and shows no address in /proc/kallsyms`;
}

function describeEntropy({ ideal, shannon, collision, minimumAtLeast }: NonNullable<AuditSummary['entropy']>): string {
  const uniform = ideal === undefined ? '' : `${ideal.toFixed(2)} bits if uniform; `;
  const pairs = collision === undefined ? 'no two boots agree' : `${collision.toFixed(2)} by collisions`;
  return `${uniform}measured ${pairs}, ${shannon.toFixed(2)} by Shannon (low with few boots), at least ${minimumAtLeast.toFixed(2)} min-entropy (99%)`;
}

function probability(p: number): string {
  return p < 0.001 ? p.toExponential(1) : p.toFixed(3);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
