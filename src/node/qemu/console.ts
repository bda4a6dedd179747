/**
 * Reads the output of a guest's serial console.
 *
 * Two programs write to it: the kernel, whose panic prints the slide (arch/x86/kernel/setup.c, dump_kernel_offset), and kslide's guest programs
 * (kallsyms-guest.ts, test/guest), whose lines begin with MARKER. Firmware, other CPUs and printk may interrupt a line anywhere. So nothing here depends on where a line
 * begins, and each number of the guest program has exactly 16 digits: a line that another one interrupts is not found, rather than misread.
 */
import { isPossibleSlide } from '../../base/addresses.ts';
import type { PhysAddr, Slide, VirtAddr } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import { KERNEL_OFFSET, readKernelOffset } from './kernel-offset.ts';

/** Before everything that the guest program prints. */
export const MARKER = 'kslide-guest: ';

export interface GuestReport {
  /** Address of _text, from /proc/kallsyms. */
  readonly text: VirtAddr | undefined;
  /** The loadable program headers of /proc/kcore: direct map, vmalloc, vmemmap, kernel text, in no order. */
  readonly kcore: readonly { readonly start: VirtAddr; readonly size: bigint }[];
  /** CPUs that the program may run on. */
  readonly cpus: number | undefined;
  /** What finit_module returned for each module, in the order given: 0 or a negative errno. */
  readonly modules: readonly number[];
  /** Where the loaded modules lie, from /proc/modules. */
  readonly moduleAddresses: ReadonlyMap<string, VirtAddr>;
  /** Where the kernel's code lies in memory, from /proc/iomem. */
  readonly physicalText: PhysAddr | undefined;
  /** The guest program reached its end. */
  readonly done: boolean;
}

export interface ConsoleReport {
  /** The slide from the address of _text, or as a panic prints it. Undefined if the console holds neither, or the two disagree. */
  readonly slide: Slide | undefined;
  /** What a panic prints about KASLR, which is the state of KASLR_FLAG. */
  readonly kaslr: 'on' | 'off' | undefined;
  /** Linux's release, from its first line: `6.12.117+deb12-cloud-amd64`. */
  readonly release: string | undefined;
  /** `panic` if the kernel panicked; `poweroff` if it announced a power-off, restart or halt, or the guest program reached its end. */
  readonly end: 'panic' | 'poweroff' | undefined;
  /** The reason, as printed after "Kernel panic - not syncing: ". */
  readonly panic: string | undefined;
  readonly guest: GuestReport;
}

const HEX64 = '([0-9a-f]{16})(?![0-9a-f])';
const line = (pattern: string): RegExp => new RegExp(MARKER + pattern, 'g');

const first = (text: string, pattern: RegExp): string | undefined => pattern.exec(text)?.[1];
const address = (digits: string): bigint => BigInt(`0x${digits}`);

function parsedHex(digits: string | undefined): number | undefined {
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

function countBits(value: bigint): number {
  return value.toString(2).replaceAll('0', '').length;
}

function guestReport(text: string): GuestReport {
  const all = (pattern: string): string[][] => [...text.matchAll(line(pattern))].map(([, ...groups]) => groups);
  const [textAddress] = all(`text=${HEX64}`).flat();
  const [cpuMask] = all(`cpus=${HEX64}`).flat();
  const modules = all(`module=${HEX64}`).map(([result = '']) => Number(BigInt.asIntN(64, address(result))));
  // A line of /proc/modules as it is, without MARKER: name, size, users, dependents, state, address.
  const live = [...text.matchAll(/(?<!\w)(\w{1,64}) \d{1,20} \d{1,10} \S{1,4096} Live 0x([0-9a-f]{16})/g)];
  return {
    text: textAddress === undefined ? undefined : address(textAddress),
    kcore: all(`kcore ${HEX64} ${HEX64}`).map(([start = '', size = '']) => ({
      start: address(start),
      size: address(size),
    })),
    cpus: cpuMask === undefined ? undefined : countBits(address(cpuMask)),
    modules,
    moduleAddresses: new Map(live.map(([, name = '', digits = '']) => [name, address(digits)])),
    physicalText: parsedHex(first(text, /(?<![0-9a-f])([0-9a-f]{8,16})-[0-9a-f]{8,16} : Kernel code/)),
    done: line('done').test(text),
  };
}

/** What a panic says. `disabled` says nothing of where the kernel runs: a kernel that the host has moved says the same. */
function offsetOfPanic(text: string): { slide?: Slide; kaslr?: 'on' | 'off' } {
  const found = KERNEL_OFFSET.exec(text);
  if (found === null) return {};
  const [, disabled, value = '', base = ''] = found;
  if (disabled !== undefined) return { kaslr: 'off' };
  try {
    return { slide: readKernelOffset(value, base, found.index), kaslr: 'on' };
  } catch (error) {
    if (error instanceof KernelImageError) return { kaslr: 'on' };
    throw error;
  }
}

/** From the address of _text that the guest program saw. */
function offsetSeen(text: VirtAddr | undefined, linkedText: VirtAddr | undefined): Slide | undefined {
  if (text === undefined || linkedText === undefined) return undefined;
  const slide = Number(text - linkedText);
  return isPossibleSlide(slide) ? slide : undefined;
}

/** `linkedText` is the address that _text is linked at, if known. With it, the address that the guest program saw gives the slide too. */
export function parseConsole(text: string, linkedText?: VirtAddr): ConsoleReport {
  const guest = guestReport(text);
  const panic = first(text, /Kernel panic - not syncing: ([^\r\n]*)/);
  const said = offsetOfPanic(text);
  const seen = offsetSeen(guest.text, linkedText);
  const agree = seen === undefined || said.slide === undefined || seen === said.slide;
  const poweroff = guest.done || /reboot: (?:Power down|Restarting system|System halted)/.test(text);
  return {
    slide: agree ? (seen ?? said.slide) : undefined,
    kaslr: said.kaslr,
    release: first(text, /Linux version (\S+)/),
    end: panic === undefined ? (poweroff ? 'poweroff' : undefined) : 'panic',
    panic,
    guest,
  };
}
