/** The stub's apply step as a function that this machine runs: its place in the program, and the harness around it (apply-table.c). */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PhysAddr, Slide } from '../src/base/addresses.ts';
import { Reader } from '../src/base/bytes.ts';
import { PARAMS, SCRATCH } from '../src/segment/layout.ts';
import { assembleStub, stubSteps } from '../src/stub/program.ts';
import { RELOCATED } from '../src/stub/relocate.ts';

export interface ApplyJob {
  /** What `convert` adds: parameters, program, table. */
  readonly segment: Uint8Array;
  /** The same table in the kernel's format, for the loop on the other side. */
  readonly kernelTable: Uint8Array;
  readonly image: Uint8Array;
  /** Where the image is linked. */
  readonly base: PhysAddr;
  readonly slide: Slide;
  readonly rounds: number;
  /** What the step is told of the processor; this machine's by default. */
  readonly cpu?: StepCpu;
}

/** CPUID leaf 0 ECX, leaf 1 ECX, leaf 7 EBX. */
export interface StepCpu {
  readonly vendor: number;
  readonly leaf1: number;
  readonly leaf7: number;
}

/** Nanoseconds of one round. */
export interface ApplyTime {
  readonly state: 'cold' | 'warm';
  readonly stub: number;
  readonly loop: number;
  /** While one of the two ran, the system ran something else on its processor. */
  readonly isDisturbed: boolean;
}

/** Compiles the harness into `folder`. */
export function compileHarness(folder: string): string {
  const program = join(folder, 'apply-table');
  const source = fileURLToPath(new URL('apply-table.c', import.meta.url));
  execFileSync('gcc', ['-O2', '-fno-strict-aliasing', '-o', program, source]);
  return program;
}

/** Runs both sides, and throws unless they made the same image: it is then in `folder`/out. */
export function runHarness(harness: string, folder: string, job: ApplyJob): ApplyTime[] {
  const file = (name: string, bytes: Uint8Array): string => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const { start, end } = applyStep();
  const scratch = new Reader(job.segment).u64AsNumber(PARAMS.scratch, 'scratch memory');
  const args = [
    file('segment', job.segment),
    start,
    end,
    scratch,
    scratch + SCRATCH.size,
    file('table', job.kernelTable),
    file('image', job.image),
    job.base,
    job.slide,
    job.rounds,
    join(folder, 'out'),
    SCRATCH.cpu_vendor,
    ...(job.cpu === undefined ? [] : [job.cpu.vendor, job.cpu.leaf1, job.cpu.leaf7]),
  ];
  const output = execFileSync(harness, args.map(String), { encoding: 'utf8', timeout: 300_000 });
  return output
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [state, stub, loop, ...disturbed] = line.split(' ');
      const isDisturbed = disturbed.includes('1');
      return { state: state as ApplyTime['state'], stub: Number(stub), loop: Number(loop), isDisturbed };
    });
}

/** Offsets in the segment: from the step's first instruction to the first one after it. */
function applyStep(): { start: number; end: number } {
  const start = stubSteps().find(({ step }) => step === 'relocate')!.offset;
  const end = assembleStub().labels.get(RELOCATED)!;
  return { start: PARAMS.size + start, end: PARAMS.size + end };
}
