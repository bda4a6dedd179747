/**
 * Options that several commands share: what `--help` says about them, and how their values are read.
 *
 * A command takes one with `.option(...SHARED.relocs)`. Where a command means something else by an option, it words the option itself.
 */
import type { BootOptions } from '../node/qemu/qemu.ts';
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import { UsageError } from './failure.ts';

export const SHARED = {
  input: ['<IN>', 'bzImage, UKI, or vmlinux with its relocations; - is standard input'],
  output: ['-o, --output <OUT>', 'vmlinux to write; - is standard output'],
  relocs: ['--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs), for a vmlinux that carries none"],
  align: ['--align <BYTES>', 'step of the slides, a power of two (default: 2 MiB, the least that a kernel allows)'],
  json: ['--json', 'print the summary as JSON'],
  quiet: ['-q, --quiet', 'print nothing'],
  html: ['--html <FILE>', 'write a report as one HTML page that needs no other file'],
  // Of commands that boot guests.
  entry: [
    '--entry <ENTRY>',
    'how the guest enters the kernel: pvh, or linux64 (the 64-bit Linux boot protocol)',
    'pvh',
  ],
  append: ['--append <WORDS>', 'words to add to the kernel command line'],
  memory: ['--memory <MIB>', 'guest memory', '256'],
  accel: ['--accel <ACCEL>', 'tcg (emulation), kvm, or auto: kvm if it can run a guest here', 'tcg'],
} as const;

/** Timers are int32 in milliseconds: a longer one would fire at once. */
const LONGEST_SECONDS = 2_000_000;
/** The list of all boots is made before the first one begins. */
export const MOST_BOOTS = 10_000_000;
const ENTRIES = ['pvh', 'linux64'] as const satisfies readonly BootOptions['entry'][];
const ACCELS = ['tcg', 'kvm', 'auto'] as const;

export function oneOf<T extends string>(option: string, allowed: readonly T[], value: string): T {
  const found = allowed.find((name) => name === value);
  if (found === undefined)
    throw new UsageError(`${option} is ${JSON.stringify(value)}, expected ${allowed.join(' or ')}`);
  return found;
}

/** Decimal or 0x hex, from `least` to `most`. */
export function integer(option: string, value: string, least = 0, most = Number.MAX_SAFE_INTEGER): number {
  const number = /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  throw new UsageError(`${option} is ${JSON.stringify(value)}, expected a whole number ${range}`);
}

/** `--align`: undefined if it was not given. */
export function readAlign(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const align = integer('--align', value, PMD_SIZE, KERNEL_IMAGE_SIZE);
  if (Number.isInteger(Math.log2(align))) return align;
  throw new UsageError(`--align is ${JSON.stringify(value)}, expected a power of two`);
}

export function readEntry(value: string): (typeof ENTRIES)[number] {
  return oneOf('--entry', ENTRIES, value);
}

export function readAccel(value: string): (typeof ACCELS)[number] {
  return oneOf('--accel', ACCELS, value);
}

/** `--timeout` is in seconds; the result in milliseconds. */
export function readTimeout(value: string): number {
  return integer('--timeout', value, 1, LONGEST_SECONDS) * 1000;
}
