/** `kslide boot IMAGE`: one boot in QEMU; shows the console and the slide that the kernel took. */
import { MIB } from '../../base/addresses.ts';
import type { Command } from 'commander';
import { hex } from '../../base/errors.ts';
import { kallsymsInitramfs } from '../../node/qemu/kallsyms-guest.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../node/qemu/qemu.ts';
import { EXIT, UsageError } from '../failure.ts';
import { interruptible } from '../../node/signals.ts';
import { integer, readAccel, readEntry, readTimeout, SHARED } from '../options.ts';
import { readIfGiven, readKernel } from '../paths.ts';
import { print, printJson, remark } from '../print.ts';

interface BootArguments {
  readonly entry: string;
  readonly append?: string;
  readonly initrd?: string;
  readonly memory: string;
  readonly cpus: string;
  readonly cpu?: string;
  readonly machine?: string;
  readonly accel: string;
  readonly phys?: string;
  readonly timeout: string;
  readonly json?: true;
  readonly quiet?: true;
}

export default function addBoot(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('boot')
    .description('boot a kernel in QEMU and show its console and the slide that it took')
    .argument('<IMAGE>', 'vmlinux, or with --entry pvh a bzImage')
    .option(...SHARED.entry)
    .option(...SHARED.append)
    .option(
      '--initrd <FILE>',
      'initramfs; without one the kernel panics, and prints its slide when it does (where it cannot, an /init of kslide reads /proc/kallsyms)',
    )
    .option(...SHARED.memory)
    .option('--cpus <N>', 'guest CPUs', '1')
    .option('--cpu <MODEL>', "QEMU's -cpu")
    .option('--machine <TYPE>', "QEMU's -machine")
    .option(...SHARED.accel)
    .option('--phys <BYTES>', 'linux64 only: load the kernel this far above its physical link address')
    .option('--timeout <SECONDS>', 'stop a guest that runs longer', '120')
    .option('--json', 'print the result as JSON instead of the console')
    .option('-q, --quiet', 'do not show the console')
    .action(async (image: string, options: BootArguments) => setExitCode(await run(image, options)));
}

async function run(image: string, options: BootArguments): Promise<number> {
  const entry = readEntry(options.entry);
  const physicalSlide = options.phys === undefined ? undefined : integer('--phys', options.phys);
  if (physicalSlide !== undefined && entry !== 'linux64') throw new UsageError('--phys needs --entry linux64');
  if (physicalSlide !== undefined && physicalSlide % (2 * MIB) !== 0)
    throw new UsageError('--phys must be a multiple of 2 MiB');
  const console = new ConsolePrinter();
  const bytes = await readKernel(image, { quiet: options.quiet });
  const ask: BootOptions = {
    image: bytes,
    entry,
    ...(physicalSlide === undefined ? {} : { linux64: { physicalSlide } }),
    append: options.append,
    // Where the file cannot tell the slide of a kernel that says "disabled", the guest reads it from /proc/kallsyms.
    initrd: (await readIfGiven(options.initrd)) ?? (await kallsymsInitramfs(bytes)),
    memoryMib: integer('--memory', options.memory, 16),
    cpus: integer('--cpus', options.cpus, 1),
    cpu: options.cpu,
    machine: options.machine,
    accel: readAccel(options.accel),
    timeoutMs: readTimeout(options.timeout),
    ...(options.quiet || options.json ? {} : { onConsole: (text: string) => console.print(text) }),
  };
  const result = await interruptible((signal) => boot({ ...ask, signal: AbortSignal.any([signal, console.failed]) }));
  await console.done();
  const { end, slide, milliseconds, accel } = result;
  const seconds = (milliseconds / 1000).toFixed(1);
  if (options.json) {
    const json = {
      image,
      entry,
      accel,
      end,
      slide: slide ?? null,
      milliseconds: Math.round(milliseconds),
      release: result.report.release ?? null,
    };
    await printJson(json);
  } else {
    const where = slide === undefined ? unknownSlide(result, options) : `slide ${hex(slide)}`;
    await print(`${options.quiet ? '' : '\n'}${where}; ended by ${end} after ${seconds} s (${accel})\n`);
  }
  if (end === 'qemu-error') await remark(`QEMU failed: ${result.errors.trim().split('\n')[0] ?? ''}`);
  // A guest that printed its slide and ended has done what was asked. Any other end is a finding, or QEMU's failure.
  if (end === 'qemu-error') return EXIT.environment;
  return end === 'panic' || end === 'poweroff' ? EXIT.done : EXIT.finding;
}

function unknownSlide({ report }: BootResult, { initrd }: BootArguments): string {
  if (report.kaslr !== 'off') return 'no slide seen';
  const hint =
    initrd === undefined
      ? ', and it shows no address in /proc/kallsyms'
      : '; without --initrd, kslide reads /proc/kallsyms there';
  return `slide unknown: the kernel says that its KASLR is disabled, not where it runs${hint}`;
}

/** Prints the console in the order in which it comes. When that fails, `failed` ends the guest, because nobody sees it, and `done` throws the reason. */
class ConsolePrinter {
  readonly #failed = new AbortController();
  #printing = Promise.resolve();
  #held = '';

  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  print(text: string): void {
    // A line may end in the next piece: its carriage return is shown with its newline, or not at all.
    const all = this.#held + text;
    const end = all.endsWith('\r') ? all.length - 1 : all.length;
    this.#held = all.slice(end);
    this.#printing = this.#printing.then(() => print(all.slice(0, end)));
    this.#printing.catch(() => this.#failed.abort());
  }

  async done(): Promise<void> {
    await this.#printing;
  }
}
