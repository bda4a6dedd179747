/**
 * Claims: the plan of Debian's 6.1 cloud kernel takes at most 6 s and 2 GiB; a layout from it at most 0.4 s as a process of its own and 400 MB, and at most
 * 0.2 s in one that has the kernel open. And what a layout is worth: how often the same function is at the same address in two of them.
 *
 *     npm run build && node --import tsx bench/shuffle.ts [--record] [IMAGE VMLINUX]
 *
 * IMAGE and VMLINUX: another kernel, and the unstripped vmlinux of its build.
 *
 * There is no peer to race: the published fork of Firecracker shuffles only kernels built for it. Times are medians, each process on one CPU (taskset).
 * First it is checked that a layout from the plan is proved by verify --shuffled.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeCodecs } from '../src/node/codecs.ts';
import { layOut, sizeClasses } from '../src/shuffle/layout/layout.ts';
import { layoutEntropy } from '../src/shuffle/layout/entropy.ts';
import { decodePlan, openShuffler, planShuffle } from '../src/shuffle/index.ts';
import type { Plan } from '../src/shuffle/index.ts';
import { countFunctions } from '../src/shuffle/summary.ts';
import { openByteSource } from '../src/node/files/byte-source.ts';
import { takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { claims, NOT_RUN, report, reportTime } from './claims.ts';
import { machine, peakMemory, race } from './measure.ts';

const ROUNDS = 15;
const ONE_CPU = ['taskset', '-c', '0'];
const LAYOUTS = 400;
const MB = 1e6;

const kslide = fileURLToPath(new URL('../bin/kslide.js', import.meta.url));
const script = fileURLToPath(new URL('../scripts/build-relocs-debug-vmlinux.sh', import.meta.url));
const { record, rest } = takeRecordOption();
const [bzImage = '', debug = ''] = rest.length > 1 ? rest : fetchDebian('6.1');
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));

try {
  process.stdout.write(`${machine()}\n${bzImage}\n`);
  await bench();
} finally {
  rmSync(folder, { recursive: true });
}

function fetchDebian(series: '6.1' | '6.12'): [image: string, vmlinux: string] {
  const fetched = spawnSync('sh', [script, series], { encoding: 'utf8' });
  if (fetched.status !== 0) {
    process.stderr.write(fetched.stderr);
    process.exit(NOT_RUN);
  }
  const vmlinux = fetched.stdout.trim().split('\n').at(-1)!;
  const release = basename(vmlinux).replace(/^vmlinux-/, '');
  return [join(vmlinux, '../../../../../..', `linux-image-${release}/boot/vmlinuz-${release}`), vmlinux];
}

async function bench(): Promise<void> {
  const [vmlinux, planFile, output] = [join(folder, 'vmlinux'), join(folder, 'plan'), join(folder, 'out')];
  const node = [process.execPath, kslide];
  const run = (...args: string[]): void => void execFileSync(process.execPath, [kslide, ...args], { stdio: 'ignore' });
  run('extract', bzImage, '-o', vmlinux);
  const planning = [...node, 'shuffle', bzImage, '--debug', debug, '--plan-out', planFile, '--quiet'];
  const laying = [...node, 'shuffle', vmlinux, '--plan', planFile, '-o', output, '--quiet'];
  execFileSync(planning[0]!, planning.slice(1));
  execFileSync(laying[0]!, laying.slice(1));
  run('verify', '--shuffled', bzImage, output, '--debug', debug); // throws when it is refuted

  const [plans] = race([{ args: [...ONE_CPU, ...planning], output: planFile }], 3);
  reportTime({ what: 'plan, whole process', measured: plans!.median, atMost: 6000, unit: 'ms' });
  const memory = { planning: peakMemory(planning), laying: 0 };
  report({ what: 'plan, memory', measured: memory.planning / MB, atMost: 2147, unit: 'MB' });
  const [layouts] = race([{ args: [...ONE_CPU, ...laying], output }], ROUNDS);
  reportTime({ what: 'layout, whole process', measured: layouts!.median, atMost: 400, unit: 'ms' });
  memory.laying = peakMemory(laying);
  report({ what: 'layout, memory', measured: memory.laying / MB, atMost: 400, unit: 'MB' });

  const plan = decodePlan(new Uint8Array(readFileSync(planFile)));
  const shuffler = await openShuffler(new Uint8Array(readFileSync(vmlinux)), { codecs: nodeCodecs, plan });
  const times: number[] = [];
  for (let round = 0; round < 15; round++) {
    const { user, system } = process.cpuUsage();
    shuffler.shuffle({ seed: Uint8Array.of(round) });
    const now = process.cpuUsage();
    times.push((now.user + now.system - user - system) / 1000);
  }
  const opened = times.toSorted((one, other) => one - other)[Math.floor(times.length / 2)]!;
  reportTime({ what: 'layout, kernel open, processor', measured: opened, atMost: 200, unit: 'ms' });
  worth(plan);
  if (record !== undefined) await recordAll(plan, { planning: plans!.median, laying: layouts!.median, opened, memory });
}

interface Costs {
  /** Milliseconds. */
  readonly planning: number;
  readonly laying: number;
  readonly opened: number;
  /** Bytes. */
  readonly memory: { readonly planning: number; readonly laying: number };
}

/** Two files: what is exact, of 6.1 and of 6.12 without relocations, and the times. */
async function recordAll(plan: Plan, { planning, laying, opened, memory }: Costs): Promise<void> {
  const parts = ['src/shuffle/analyse', 'src/shuffle/plan', 'src/shuffle/layout', 'src/shuffle/read'];
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  const mb = (bytes: number): string => `${(bytes / MB).toFixed(0)} MB`;
  record!('shuffle-costs', {
    machine: 'processor',
    byMaker: true,
    parts: [...parts, 'src/shuffle/shuffle.ts', 'src/shuffle/rewrite.ts'],
    before: 'npm run build',
    note: `${basename(bzImage)} with its debug vmlinux; medians, each process on one CPU.`,
    claims,
    tables: {
      costs: tableOf(
        ['what', 'time', 'memory'],
        [
          [
            'the analysis (`--plan-out`), whole process',
            `${seconds(planning)} (6 s)`,
            `${mb(memory.planning)} (2 GiB)`,
          ],
          ['a layout from a plan, whole process', `${seconds(laying)} (0.4 s)`, `${mb(memory.laying)} (400 MB)`],
          ['a layout where the kernel is open already (`openShuffler`)', `${seconds(opened)} (0.2 s)`, null],
        ],
      ),
    },
  });
  const [image, vmlinux] = fetchDebian('6.12');
  const source = await openByteSource(vmlinux);
  const recovered = await planShuffle(new Uint8Array(readFileSync(image)), {
    codecs: nodeCodecs,
    debug: source,
    recover: true,
  });
  source.close();
  const of = (each: Plan): { functions: number; moved: number; bits: number } => {
    const { all, moved } = countFunctions(each);
    return { functions: all, moved, bits: Number(layoutEntropy(each, sizeClasses(each)).bits.median.toFixed(1)) };
  };
  const [known, found] = [of(plan), of(recovered)];
  record!('shuffle', {
    machine: 'any',
    parts,
    before: 'npm run build',
    note: `${basename(bzImage)} with its debug vmlinux; the last values are of ${basename(image)} with --recover.`,
    values: {
      functions: known.functions,
      'functions that move': known.moved,
      'bits, median': known.bits,
      'recover: functions': found.functions,
      'recover: functions that move': found.moved,
      'recover: bits, median': found.bits,
    },
    tables: {
      stays: tableOf(
        ['reason', 'functions'],
        Object.entries(plan.facts.staying).map(([reason, functions]): Cell[] => [reason, functions]),
      ),
    },
  });
}

/** Collisions of addresses over many layouts. Their rate is what a guess made from one layout has for a chance in another. */
function worth(plan: Plan): void {
  const classes = sizeClasses(plan);
  const layouts = Array.from({ length: LAYOUTS }, (_, seed) =>
    layOut(plan, Uint8Array.of(seed & 255, seed >> 8, 77), classes),
  );
  const pairs = (LAYOUTS * (LAYOUTS - 1)) / 2;
  const byRun: { functions: number; rate: number }[] = [];
  let [collisions, moved, still] = [0, 0, 0];
  for (const { first, count } of plan.runs) {
    let [inRun, functions] = [0, 0];
    for (let unit = first; unit < first + count; unit++) {
      const addresses = Uint32Array.from(layouts, (placed) => placed[unit]!).toSorted();
      let same = 0;
      for (let from = 0, to = 0; from < LAYOUTS; from = to) {
        while (to < LAYOUTS && addresses[to] === addresses[from]) to++;
        same += ((to - from) * (to - from - 1)) / 2;
      }
      if (same === pairs) still += plan.functions[unit]!;
      inRun += (same / pairs) * plan.functions[unit]!;
      functions += plan.functions[unit]!;
    }
    byRun.push({ functions, rate: inRun / Math.max(1, functions) });
    collisions += inRun;
    moved += functions;
  }
  const { bits: places, runs } = layoutEntropy(plan, classes);
  const bits = (rate: number): string => (-Math.log2(rate)).toFixed(1);
  process.stdout.write(
    `  places: ${places.median.toFixed(1)} bits for the median function, ${places.mean.toFixed(1)} on average, ${places.hundredth.toFixed(1)} or more for 99%, the least ${places.least.toFixed(1)}\n` +
      `  runs: ${runs.count}, the largest of ${runs.largest}, the median of ${runs.median}\n`,
  );
  process.stdout.write(
    `  ${moved} functions in ${plan.runs.length} runs, ${LAYOUTS} layouts; ${still} never moved\n` +
      `  one function, two layouts, same address: once in ${Math.round(moved / collisions)} (${bits(collisions / moved)} bits), all functions alike\n`,
  );
  for (const least of [1, 8, 12, 14]) {
    const functions = byRun
      .filter(({ rate }) => rate === 0 || -Math.log2(rate) >= least)
      .reduce((sum, run) => sum + run.functions, 0);
    process.stdout.write(`  in runs with ${least} bits or more by that measure: ${functions} functions\n`);
  }
}
