/** `kslide doctor`: what on this machine kslide can use, and how to get what is missing. */
import type { Command } from 'commander';
import { interruptible } from '../../node/signals.ts';
import { diagnose } from '../diagnose.ts';
import { EXIT } from '../failure.ts';
import { SHARED } from '../options.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportDoctor } from '../reports/doctor.ts';
import { version } from '../version.ts';

interface DoctorArguments {
  readonly json?: true;
  readonly quiet?: true;
}

export default function addDoctor(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('doctor')
    .description(
      'say what on this machine kslide can use, and how to get what is missing; exit code 1 if something is missing or a kernel is refused',
    )
    .argument('[KERNEL...]', 'kernels to try (default: those in /boot and /usr/lib/modules)')
    .option(...SHARED.json)
    .option('-q, --quiet', 'print nothing: the exit code is the answer')
    .action(async (kernels: string[], options: DoctorArguments) => setExitCode(await run(kernels, options)));
}

async function run(kernels: readonly string[], options: DoctorArguments): Promise<number> {
  const diagnosis = await withProgress(options.quiet === true, (progress) =>
    interruptible((signal) =>
      diagnose({ version, kernels, onStep: (what) => progress.show(`looking at ${what}`), signal }),
    ),
  );
  await printResult(diagnosis, () => reportDoctor(diagnosis), options);
  return diagnosis.findings.some(({ state }) => state === 'missing' || state === 'refused') ? EXIT.finding : EXIT.done;
}
