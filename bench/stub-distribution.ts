/**
 * Claim: the stub's choice of a slot is uniform, whichever source of entropy it has: with a million choices of each kind, chi-square and the collision
 * test both stay above p = 1e-6 on either side, and no choice is outside the range.
 *
 *     node --import tsx bench/stub-distribution.ts [CHOICES]
 *
 * Each source alone, by this machine's CPU in a process and by QEMU's in a guest (scripts/draws/distribution.ts). A seed alone costs a fault or a
 * thousand port reads a choice: it takes minutes where the others take seconds.
 */
import { drawInGuest, drawInProcess, ENTROPY_SOURCES, guestHas } from '../scripts/draws/distribution.ts';
import type { Draws, EntropySource } from '../scripts/draws/distribution.ts';
import { estimateEntropy, testCollisions, testUniformity } from '../src/measure/statistics/statistics.ts';
import { report } from './claims.ts';
import { machine } from './measure.ts';

const CHOICES = Number(process.argv[2] ?? 1_000_000);
/** Debian's 6.12 cloud kernel. */
const SLOTS = { align: 0x20_0000, count: 480 };
const P_AT_LEAST = 1e-6;

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
