/** `kslide boot IMAGE`: one boot in QEMU, its console shown, and the slide that it took. */
import type { Command } from 'commander';
import { MIB } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { readInputFile } from '../../node/files/files.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions } from '../../node/qemu/qemu.ts';
import { integer, LONGEST_SECONDS, oneOf } from '../arguments.ts';
import { UsageError } from '../failure.ts';
import { interruptible } from '../interruptible.ts';
import { print } from '../print.ts';

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

const ENTRIES = ['pvh', 'linux64'] as const;
const ACCELS = ['tcg', 'kvm', 'auto'] as const;

export function addBoot(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('boot')
    .description('boot a kernel in QEMU, show its console and the slide that it took')
    .argument('<IMAGE>', 'vmlinux, or with --entry pvh a bzImage')
    .option('--entry <ENTRY>', 'pvh, or linux64: the 64-bit Linux boot protocol', 'pvh')
    .option('--append <WORDS>', 'further words on the kernel command line')
    .option('--initrd <FILE>', 'initramfs; without one the kernel panics, and says its slide')
    .option('--memory <MIB>', 'guest memory', '256')
    .option('--cpus <N>', 'guest CPUs', '1')
    .option('--cpu <MODEL>', "QEMU's -cpu")
    .option('--machine <TYPE>', "QEMU's -machine")
    .option('--accel <ACCEL>', 'tcg, kvm, or auto: kvm if a guest lives under it', 'tcg')
    .option('--phys <BYTES>', 'linux64 only: load that far above the physical link address')
    .option('--timeout <SECONDS>', 'end the guest after', '120')
    .option('--json', 'print the result as JSON instead of the console')
    .option('--quiet', 'do not show the console')
    .action(async (image: string, options: BootArguments) => setExitCode(await run(image, options)));
}

async function run(image: string, options: BootArguments): Promise<number> {
  const entry = oneOf('--entry', ENTRIES, options.entry);
  const physicalSlide = options.phys === undefined ? undefined : integer('--phys', options.phys);
  if (physicalSlide !== undefined && entry !== 'linux64') throw new UsageError('--phys needs --entry linux64');
  if (physicalSlide !== undefined && physicalSlide % (2 * MIB) !== 0)
    throw new UsageError('--phys must be a multiple of 2 MiB');
  const ask: BootOptions = {
    image: await readInputFile(image),
    entry,
    ...(physicalSlide === undefined ? {} : { linux64: { physicalSlide } }),
    append: options.append,
    initrd: options.initrd === undefined ? undefined : await readInputFile(options.initrd),
    memoryMib: integer('--memory', options.memory, 16),
    cpus: integer('--cpus', options.cpus, 1),
    cpu: options.cpu,
    machine: options.machine,
    accel: oneOf('--accel', ACCELS, options.accel),
    timeoutMs: integer('--timeout', options.timeout, 1, LONGEST_SECONDS) * 1000,
    ...(options.quiet || options.json ? {} : { onConsole: (text: string) => void print(text) }),
  };
  const result = await interruptible((signal) => boot({ ...ask, signal }));
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
    print(`${JSON.stringify(json, null, 2)}\n`);
  } else {
    const where = slide === undefined ? 'no slide seen' : `slide ${hex(slide)}`;
    print(`${options.quiet ? '' : '\n'}${where}; ended by ${end} after ${seconds} s (${accel})\n`);
  }
  if (end === 'qemu-error') process.stderr.write(`kslide: QEMU failed: ${result.errors.trim().split('\n')[0] ?? ''}\n`);
  // A guest that says its slide and ends has done what was asked; anything else is a finding, or QEMU's failure.
  if (end === 'qemu-error') return 3;
  return end === 'panic' || end === 'poweroff' ? 0 : 1;
}
