/**
 * Everything that docs/results holds: its name, the script that measures it with `--record`, and what the script needs. `npm run record` (scripts/record.ts) goes
 * through this list, and a test compares it with the files.
 */
import { changedParts } from './program.ts';
import { MAKERS, resultsFiles, resultsText } from './results.ts';
import type { Maker, Results } from './results.ts';

export interface Measurement {
  /** Of the file in docs/results, without its maker. */
  readonly name: string;
  readonly script: string;
  /** There is a file for each maker of processors. Such figures are times: they want a quiet machine. */
  readonly byMaker?: true;
  /** The script reports claims. */
  readonly claims?: true;
  /** What the script needs that nothing here can fetch by itself. */
  readonly needs?: string;
  /** `npm run build` first. */
  readonly build?: true;
  /** About how long it takes on two cores. */
  readonly minutes: number;
}

export const MEASUREMENTS: readonly Measurement[] = [
  // Of the files alone: exact, and the same on every machine.
  { name: 'table-encodings', script: 'bench/table-encodings.ts', claims: true, minutes: 1 },
  { name: 'table-sizes', script: 'bench/table-sizes.ts', minutes: 1 },
  { name: 'page-sharing', script: 'bench/page-sharing.ts', minutes: 1 },
  // Times.
  { name: 'apply-table', script: 'bench/apply-table.ts', byMaker: true, claims: true, minutes: 5 },
  { name: 'apply-slide', script: 'bench/apply-slide.ts', byMaker: true, claims: true, minutes: 2 },
  { name: 'convert', script: 'bench/convert.ts', byMaker: true, claims: true, build: true, minutes: 2 },
  { name: 'codecs', script: 'bench/codecs.ts', byMaker: true, claims: true, minutes: 2 },
  { name: 'randomize', script: 'bench/randomize.ts', byMaker: true, claims: true, build: true, minutes: 1 },
  { name: 'relocs', script: 'bench/relocs.ts', byMaker: true, claims: true, build: true, minutes: 10 },
  { name: 'shuffle-costs', script: 'bench/shuffle.ts', byMaker: true, claims: true, build: true, minutes: 5 },
  { name: 'shuffle', script: 'bench/shuffle.ts', build: true, minutes: 5 },
  {
    name: 'node-versions',
    script: 'bench/node-versions.ts',
    byMaker: true,
    claims: true,
    build: true,
    needs: 'NODE …',
    minutes: 3,
  },
  // Boots in QEMU.
  { name: 'kernel-randomization', script: 'bench/kernel-randomization.ts', claims: true, minutes: 2 },
  { name: 'boot', script: 'bench/boot.ts', claims: true, minutes: 60 },
  { name: 'stub', script: 'bench/boot.ts', minutes: 60 },
  { name: 'bzimage-boot', script: 'bench/bzimage-boot.ts', minutes: 30 },
  { name: 'stub-distribution', script: 'bench/stub-distribution.ts', claims: true, minutes: 20 },
  { name: 'audit', script: 'bench/audit.ts', minutes: 120 },
  { name: 'bzimage', script: 'scripts/try-bzimage.ts', minutes: 180 },
  { name: 'matrix', script: 'scripts/matrix.ts', minutes: 900 },
  { name: 'try-kernels', script: 'scripts/try-kernels.ts', needs: 'KERNEL …', minutes: 10 },
  { name: 'built-kernels', script: 'scripts/try-built-kernels.ts', needs: 'scripts/build-kernels.sh', minutes: 60 },
  { name: 'slots', script: 'scripts/try-slots.ts', needs: 'scripts/build-kernels.sh firecracker-6.1', minutes: 20 },
  {
    name: 'function-sections',
    script: 'bench/function-sections.ts',
    needs: 'sh scripts/try-function-sections.sh',
    minutes: 1,
  },
  // Of kernels and inputs that are not booted.
  { name: 'recover', script: 'scripts/try-recover.ts', needs: 'KERNEL …', minutes: 5 },
  { name: 'judge', script: 'scripts/try-judge.ts', needs: 'KERNEL …', minutes: 5 },
  { name: 'fuzz', script: 'test/fuzz/main.ts', minutes: 60 },
];

/** What was measured by programs that were not kept: docs/performance.md has it in its appendix. */
export const NOT_KEPT = ['apply-experiments', 'apply-experiments-zen', 'convert-phases'];

/** Why a measurement has to be made on this maker's processors; undefined where docs/results has it of today's program. `today`: the hash that a part of the program has. */
export function whyToMeasure(
  { name, byMaker }: Measurement,
  maker: Maker,
  today?: (part: string) => string,
): string | undefined {
  const file = byMaker ? `${name}.${maker}` : name;
  if (!resultsFiles().includes(file)) return byMaker ? `never measured on ${MAKERS[maker]}` : 'never measured';
  const { program } = JSON.parse(resultsText(file)) as Results;
  const changed = changedParts(program, today);
  return changed.length === 0 ? undefined : `of an earlier ${changed.join(', ')}`;
}
