/**
 * Boots one guest in QEMU, and returns what it printed and how it ended.
 *
 * The machine is small and always the same: serial console on a pipe, no display, no network, no monitor, nothing from the user's QEMU configuration. Every
 * command line has these options:
 *
 * - `console=ttyS0 panic=-1`. A reset ends QEMU (-no-reboot), so a panic ends it at once.
 * - `no_timer_check`, which Linux sets itself under KVM and Hyper-V. On a busy host the timer's ticks come late; the kernel takes that for broken wiring and
 *   panics ("IO-APIC + timer doesn't work!"; measured on 6.1 and 6.12, with and without the stub).
 * - On microvm also `reboot=t`. Nothing else resets that machine: a kernel that restarts ends up in the firmware, which runs the ELF header of the kernel's
 *   file as code. Usually that is soon a triple fault, but whether it is depends on e_shoff.
 *
 * Machine type, measured on QEMU 7.2 with TCG, Debian 6.1 and 6.12, from power-on to the final panic: microvm 1.1 to 1.3 s, pc 1.2 to 1.5,
 * q35 1.3 to 1.6. But on microvm one boot in eight hangs, because the kernel cannot calibrate its clocks against the PIT. CPU models differ by less than the
 * noise; `max` is everything that TCG can emulate.
 */
import { readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { Slide, VirtAddr } from '../../base/addresses.ts';
import { physToVirt } from '../../base/addresses.ts';
import { readSetupHeader } from '../../bzimage/header.ts';
import type { ElfFile } from '../../elf/read.ts';
import { linkedText } from '../../kernel/slide-of-file.ts';
import { expectBootable } from './boot-check.ts';
import { slideByFile } from './kallsyms-guest.ts';
import { parseConsole } from './console.ts';
import type { ConsoleReport } from './console.ts';
import { buildLinux64Loader } from './linux64-loader.ts';
import type { Linux64Options } from './linux64-loader.ts';
import { runProgram } from '../processes/run-program.ts';
import type { Ended } from '../processes/run-program.ts';
import { makePipe } from '../processes/real-pipe.ts';
import { openUnnamedFile } from '../files/temporary-file.ts';

/** A file, or its contents. */
export type FileOrBytes = string | Uint8Array;

export interface BootOptions {
  /** A vmlinux. With `pvh` also a bzImage, which QEMU boots its own way. */
  readonly image: FileOrBytes;
  /** `pvh` is QEMU's own way to boot an ELF kernel; `linux64` wraps it in kslide's own loader (linux64-loader.ts). */
  readonly entry?: 'pvh' | 'linux64' | undefined;
  /** Only for `linux64`: where and how the loader starts the kernel. */
  readonly linux64?: Linux64Options | undefined;
  /** Comes after `console=ttyS0 panic=-1 no_timer_check`, so it overrides them. */
  readonly append?: string | undefined;
  readonly initrd?: FileOrBytes | undefined;
  readonly memoryMib?: number | undefined;
  readonly cpus?: number | undefined;
  /** QEMU's -cpu: `max,-rdrand,-rdseed`. */
  readonly cpu?: string | undefined;
  /** QEMU's -machine. */
  readonly machine?: string | undefined;
  /** `auto` is KVM if the guest prints something under it, else TCG. That /dev/kvm can be opened proves nothing. */
  readonly accel?: 'tcg' | 'kvm' | 'auto' | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Further arguments for QEMU, after all others. */
  readonly extra?: readonly string[] | undefined;
  /** The console as it comes. */
  readonly onConsole?: ((text: string) => void) | undefined;
}

/**
 * `panic` and `poweroff`: the kernel or the guest program said so, and QEMU ended. `reset`: QEMU ended with exit code 0 and the guest had said neither, as
 * after a triple fault. `qemu-error`: QEMU failed, see `errors`.
 */
export type BootEnd = 'panic' | 'poweroff' | 'reset' | 'timeout' | 'aborted' | 'qemu-error';

export interface BootResult {
  readonly end: BootEnd;
  readonly console: string;
  readonly report: ConsoleReport;
  /** What the kernel or the guest program printed; or else, from a kernel that says that its KASLR is off, what its file tells. Undefined if unknown. */
  readonly slide: Slide | undefined;
  readonly accel: 'tcg' | 'kvm';
  /** Wall time of QEMU, start to end. */
  readonly milliseconds: number;
  /** What QEMU wrote to standard error. */
  readonly errors: string;
}

const QEMU = 'qemu-system-x86_64';
const DEFAULT = { memoryMib: 256, cpus: 1, cpu: 'max', machine: 'pc', accel: 'tcg', timeoutMs: 120_000 } as const;
/** A guest that really runs under KVM prints within a fraction of this. Under TCG it takes 0.3 s. */
const KVM_SILENCE_MS = 5_000;

/** What the kernel's file tells of where it runs. */
interface FileFacts {
  /** Where _text is linked. */
  readonly text: VirtAddr | undefined;
  /** The slide with which it runs when its KASLR is off. */
  readonly slide: () => Promise<Slide | undefined>;
}

/** `elf`: the file itself, or undefined for a bzImage, which is unpacked only when the slide is asked for. */
function factsOf(bytes: Uint8Array, elf: ElfFile | undefined): FileFacts {
  const slide = async (): Promise<Slide | undefined> => slideByFile(bytes, elf);
  if (elf !== undefined) return { text: linkedText(elf), slide };
  const { prefAddress } = readSetupHeader(bytes);
  return { text: prefAddress === undefined ? undefined : physToVirt(prefAddress), slide };
}

/** The files that QEMU's arguments name: by their path, or as inherited descriptors for bytes that are in memory here. */
class Files {
  readonly handles: FileHandle[] = [];

  async pathOf(file: FileOrBytes): Promise<string> {
    if (typeof file === 'string') return file;
    // Not a pipe: QEMU seeks in kernels. The child's descriptors 0 to 2 are its standard streams. runProgram adds these after them, in order.
    this.handles.push(await openUnnamedFile(file));
    return `/dev/fd/${2 + this.handles.length}`;
  }

  async close(): Promise<void> {
    await Promise.all(this.handles.map((handle) => handle.close()));
  }
}

async function qemuArguments(options: BootOptions, image: FileOrBytes, files: Files): Promise<string[]> {
  const args = [
    '-nodefaults',
    '-no-user-config',
    '-no-reboot',
    '-display',
    'none',
    '-monitor',
    'none',
    '-serial',
    'stdio',
  ];
  args.push('-machine', options.machine ?? DEFAULT.machine, '-cpu', options.cpu ?? DEFAULT.cpu);
  args.push('-smp', String(options.cpus ?? DEFAULT.cpus), '-m', `${options.memoryMib ?? DEFAULT.memoryMib}M`);
  args.push('-kernel', await files.pathOf(image));
  const reboot = options.machine?.startsWith('microvm') === true ? 'reboot=t ' : '';
  args.push('-append', `console=ttyS0 panic=-1 no_timer_check ${reboot}${options.append ?? ''}`.trimEnd());
  if (options.initrd !== undefined) args.push('-initrd', await files.pathOf(options.initrd));
  return [...args, ...(options.extra ?? [])];
}

function endOf(run: Ended, report: ConsoleReport): BootEnd {
  if (run.by === 'abort') return 'aborted';
  if (run.by === 'timeout') return 'timeout';
  if (run.code !== 0) return 'qemu-error';
  return report.end ?? 'reset';
}

/**
 * Boots `image`, and waits until the guest ends or its time is up.
 *
 * Throws KernelImageError if the image cannot be booted by that entry, and EnvironmentError if QEMU is not installed. How the guest ended
 * is never an exception.
 */
export async function boot(options: BootOptions): Promise<BootResult> {
  const bytes = typeof options.image === 'string' ? await readFile(options.image) : options.image;
  const elf = expectBootable(bytes, {
    entry: options.entry ?? 'pvh',
    memoryMib: options.memoryMib ?? DEFAULT.memoryMib,
    physicalSlide: options.linux64?.physicalSlide ?? 0,
  });
  const facts = factsOf(bytes, elf);
  const image = options.entry === 'linux64' ? buildLinux64Loader(bytes, options.linux64) : options.image;

  const files = new Files();
  try {
    const args = await qemuArguments(options, image, files);
    const run = async (accel: 'tcg' | 'kvm', signal?: AbortSignal, onOutput?: (text: string) => void): Promise<Ended> =>
      runProgram(QEMU, [...args, '-accel', accel], {
        pipe: await makePipe(),
        timeoutMs: options.timeoutMs ?? DEFAULT.timeoutMs,
        signal,
        files: files.handles.map(({ fd }) => fd),
        onOutput,
      });
    const result = async (ended: Ended, accel: 'tcg' | 'kvm'): Promise<BootResult> => {
      const report = parseConsole(ended.output, facts.text);
      const { output: console, errors, milliseconds } = ended;
      const slide = report.slide ?? (report.kaslr === 'off' ? await facts.slide() : undefined);
      return { end: endOf(ended, report), console, report, slide, accel, milliseconds, errors };
    };

    const accel = options.accel ?? DEFAULT.accel;
    if (accel !== 'auto') return result(await run(accel, options.signal, options.onConsole), accel);
    const tried = await runWhileAlive((signal, onOutput) => run('kvm', signal, onOutput), options);
    if (tried.output !== '' || options.signal?.aborted === true) return result(tried, 'kvm');
    return result(await run('tcg', options.signal, options.onConsole), 'tcg');
  } finally {
    await files.close();
  }
}

/** Ends a run that has not printed anything for KVM_SILENCE_MS from its start. */
async function runWhileAlive(
  run: (signal: AbortSignal, onOutput: (text: string) => void) => Promise<Ended>,
  { signal, onConsole }: BootOptions,
): Promise<Ended> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), KVM_SILENCE_MS);
  try {
    return await run(signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]), (text) => {
      clearTimeout(timer);
      onConsole?.(text);
    });
  } finally {
    clearTimeout(timer);
  }
}
