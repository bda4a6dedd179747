/**
 * What samples of two sides say, taken by turns on a machine that does other work too.
 *
 * The side that is compared with (the loop) is the same in every round, so how far it varies is the machine's doing. The rule: it is steady if of the
 * rounds that were not disturbed half are within STEADY of its median, and the medians of the runs are within STEADY of each other. If it is not steady, or
 * fewer than half of the rounds are left, what was measured decides nothing.
 */
export const STEADY = 0.1;

export interface Round {
  readonly stub: number;
  readonly loop: number;
  readonly isDisturbed: boolean;
}

export interface Side {
  readonly median: number;
  readonly least: number;
}

export interface Judgement {
  readonly stub: Side;
  readonly loop: Side;
  /** The stub's time by the loop's: the medians', the least times', and the medians' of the runs where it is least and greatest. */
  readonly medians: number;
  readonly least: number;
  readonly leastRun: number;
  readonly greatestRun: number;
  readonly disturbed: number;
  readonly rounds: number;
  /** Why it decides nothing. */
  readonly unknown: string | undefined;
}

export function judge(runs: readonly (readonly Round[])[]): Judgement {
  const rounds = runs.flat();
  const quiet = runs.map((run) => run.filter(({ isDisturbed }) => !isDisturbed)).filter((run) => run.length > 0);
  const kept = quiet.flat();
  // With none left the figures are of all rounds, and decide nothing.
  const [used, usedRuns] = kept.length > 0 ? [kept, quiet] : [rounds, runs];
  const stub = side(used.map((round) => round.stub));
  const loops = used.map((round) => round.loop);
  const loop = side(loops);
  const ratios = usedRuns.map((run) => median(run.map((round) => round.stub)) / median(run.map((round) => round.loop)));
  const disturbed = rounds.length - kept.length;
  const loopOfRuns = usedRuns.map((run) => median(run.map((round) => round.loop)));
  return {
    stub,
    loop,
    medians: stub.median / loop.median,
    least: stub.least / loop.least,
    leastRun: Math.min(...ratios),
    greatestRun: Math.max(...ratios),
    disturbed,
    rounds: rounds.length,
    unknown: whyUnknown(rounds.length, disturbed, loops, loopOfRuns),
  };
}

function whyUnknown(
  rounds: number,
  disturbed: number,
  loops: readonly number[],
  loopOfRuns: readonly number[],
): string | undefined {
  if (2 * disturbed > rounds) return `${disturbed} of ${rounds} rounds were disturbed`;
  const middle = median(loops);
  const off = median(loops.map((loop) => Math.abs(loop - middle) / middle));
  if (off > STEADY)
    return `the loop itself varies too much: half of its rounds are ${percent(off)} or more from its median`;
  const [quickest, slowest] = [Math.min(...loopOfRuns), Math.max(...loopOfRuns)];
  if (slowest > quickest * (1 + STEADY))
    return `the loop itself varies too much: from run to run by ${percent(slowest / quickest - 1)}`;
  return undefined;
}

function side(times: readonly number[]): Side {
  return { median: median(times), least: Math.min(...times) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}
