/**
 * Claim: the stub's choice of a slot is uniform, whichever source of entropy it has: with a million choices of each kind, chi-square and the collision
 * test both stay above p = 1e-6 on either side, and no choice is outside the range.
 *
 *     node --import tsx bench/stub-distribution.ts [--record] [CHOICES]
 *
 * Each source alone, by this machine's CPU in a process and by QEMU's in a guest (scripts/draws/distribution.ts). A seed alone costs a fault or a
 * thousand port reads a choice: it takes minutes where the others take seconds.
 */
import { processorHere, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { drawInGuest, drawInProcess, ENTROPY_SOURCES, guestHas } from '../scripts/draws/distribution.ts';
import type { Draws, EntropySource } from '../scripts/draws/distribution.ts';
import { estimateEntropy, testCollisions, testUniformity } from '../src/measure/statistics/statistics.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { claims, report } from './claims.ts';
import { machine } from './measure.ts';

const { record, rest } = takeRecordOption();
const CHOICES = Number(rest[0] ?? 1_000_000);
/** Debian's 6.12 cloud kernel. */
const SLOTS = { align: 0x20_0000, count: 480 };
const P_AT_LEAST = 1e-6;

const NAMES: Readonly<Record<EntropySource, string>> = {
  all: 'all sources',
  rdseed: 'RDSEED alone',
  rdrand: 'RDRAND alone',
  tsc: 'TSC alone',
  seed: "boot loader's seed alone",
};
const rows: Cell[][] = [];

function judge(source: EntropySource, where: string, { counts, outside, dry, milliseconds }: Draws): void {
  const uniform = testUniformity(counts)!;
  const { pMore, pFewer } = testCollisions(counts);
  const { minimumAtLeast } = estimateEntropy(counts, SLOTS.count);
  const chosen = counts.reduce((a, b) => a + b, 0);
  process.stdout.write(
    `${source.padEnd(7)} ${where.padEnd(8)} ${chosen.toString().padStart(9)} choices, ${dry} without entropy, ${outside} outside; ` +
      `slots ${Math.min(...counts)} to ${Math.max(...counts)} times; chi-square ${uniform.chiSquare.toFixed(1)} of ${uniform.degrees}, ` +
      `p = ${uniform.pUneven.toFixed(4)}; min-entropy ≥ ${minimumAtLeast.toFixed(2)} of ${Math.log2(SLOTS.count).toFixed(2)} bits; ` +
      `${(milliseconds / 1000).toFixed(1)} s\n`,
  );
  rows.push([
    NAMES[source],
    where,
    chosen,
    outside,
    `${Math.min(...counts)} to ${Math.max(...counts)}`,
    Number(uniform.chiSquare.toFixed(1)),
    Number(uniform.pUneven.toFixed(4)),
    `≥ ${minimumAtLeast.toFixed(2)} of ${Math.log2(SLOTS.count).toFixed(2)} bits`,
  ]);
  const p = Math.min(uniform.pUneven, uniform.pEven, pMore, pFewer);
  report({
    what: `${source} alone, in a ${where}: least p of chi-square and collisions`,
    measured: p,
    atLeast: P_AT_LEAST,
  });
  report({ what: `${source} alone, in a ${where}: choices outside the range`, measured: outside, atMost: 0 });
}

process.stdout.write(`${machine()}\n`);
for (const source of ENTROPY_SOURCES) {
  judge(source, 'process', await drawInProcess(source, { slots: SLOTS, draws: CHOICES }));
  if (guestHas(source)) judge(source, 'guest', await drawInGuest(source, { slots: SLOTS, draws: CHOICES }));
}
record?.('stub-distribution', {
  machine: `${processorHere()}; guests: QEMU ${await qemuVersion()} (TCG)`,
  parts: ['src/stub/entropy.ts'],
  note: `${SLOTS.count} slots; chi-square has ${SLOTS.count - 1} degrees of freedom.`,
  claims,
  values: { slots: SLOTS.count },
  tables: {
    sources: tableOf(
      [
        'entropy from',
        'where',
        'choices',
        'outside the range',
        'how often each slot came',
        { name: 'chi-square', digits: 1 },
        { name: 'p', digits: 4 },
        'min-entropy, 99%',
      ],
      rows,
    ),
  },
});
