/**
 * What the boot tests share: real kernels of this distribution, converted, and boots that bring the guest's report back.
 *
 * A boot takes two to six seconds under TCG, and QEMU is busy all the time: as many run at once as there are processors, at most four. In the lane that
 * limit holds for all of its files together, of which two run at a time: while one prepares a kernel or compares memory, the other boots.
 *
 * A machine without QEMU or without any kernel fails. A kernel that this release of the distribution does not have is skipped, by name.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { physToVirt, START_KERNEL_MAP } from '../../src/base/addresses.ts';
import type { VirtAddr } from '../../src/base/addresses.ts';
import { convert } from '../../src/convert.ts';
import type { ConvertSummary } from '../../src/convert.ts';
import { hex } from '../../src/base/errors.ts';
import { readInput } from '../../src/kernel/input.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import type { GuestReport } from '../../src/node/qemu/console.ts';
import { openSuite } from '../../scripts/kernels/apt-suite.ts';
import { fetchKernel, findModule } from '../../scripts/kernels/debian.ts';
import type { KernelPackage, KernelWish } from '../../scripts/kernels/debian.ts';
import { EnvironmentError } from '../../src/node/errors.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu/qemu.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { packGuest } from '../guest/init.ts';
import type { GuestModule } from '../guest/init.ts';

export const ENTRIES = ['pvh', 'linux64'] as const;
export const PMD = 0x20_0000;
export const PARALLEL = Math.min(4, availableParallelism());

/** A folder that the files of one run of the lane share (scripts/test.sh). Undefined where a file is run by itself. */
const LANE = process.env['KSLIDE_BOOT_LANE'];

export interface SlideRequest extends KernelWish {
  /** Of Debian, when another than this machine's. */
  readonly suite?: string | undefined;
}

/**
 * From old to new. Debian 12 has the series named, 13 the latter of them; what Ubuntu calls current is neither. From elsewhere in Debian come
 * the oldest kernel there is, 5.10, and the newest: since 6.15 with two lists of relocations, and with startup_64 in .init.text.
 */
const WISHES: readonly SlideRequest[] = [
  { suite: 'bullseye', flavour: 'cloud' },
  { series: '6.1', flavour: 'cloud' },
  { series: '6.1', flavour: 'generic' },
  { series: '6.12', flavour: 'cloud' },
  { series: '6.12', flavour: 'generic' },
  { flavour: 'cloud' },
  { flavour: 'generic' },
  { suite: 'trixie-backports', flavour: 'cloud' },
];

/** Modules that need no other, where they are modules: large ones with data of all kinds first. Two of them are loaded. */
const MODULES = ['loop', 'crc-itu-t', 'dummy', 'crc7', 'isofs'];

export interface Found {
  /** From old to new, no package twice. */
  readonly packages: readonly KernelPackage[];
  /** Those of them that are this machine's release's. */
  readonly own: readonly KernelPackage[];
  /** One reason for each kernel that apt does not know. */
  readonly lacking: readonly string[];
}

/** A kernel, or the reason why apt knows none. */
type Answer = { readonly kernel: KernelPackage } | { readonly lacking: string };

async function ask(wish: SlideRequest): Promise<Answer> {
  try {
    const apt = wish.suite === undefined ? undefined : await openSuite(wish.suite);
    return { kernel: await fetchKernel(wish, { apt, onStep: (text) => console.error(text) }) };
  } catch (error) {
    if (!(error instanceof EnvironmentError) || error.problem !== 'no-kernel') throw error;
    return { lacking: error.what };
  }
}

const nameOf = ({ suite, series, flavour }: SlideRequest): string => `${suite ?? ''} ${series ?? ''} ${flavour}`;

/** All answers by wish. Asking apt takes 12 s, so the lane asks once, before its first file. */
export async function askForAll(): Promise<Record<string, Answer>> {
  const answers: Record<string, Answer> = {};
  for (const wish of WISHES) answers[nameOf(wish)] = await ask(wish);
  return answers;
}

/** In the folder of the lane. */
export const ANSWERS = 'kernels.json';
let answers: Record<string, Answer> | undefined;

async function answerTo(wish: SlideRequest): Promise<Answer> {
  if (LANE !== undefined) answers ??= JSON.parse(readFileSync(join(LANE, ANSWERS), 'utf8')) as Record<string, Answer>;
  return answers?.[nameOf(wish)] ?? ask(wish);
}

export async function findKernels(): Promise<Found> {
  const packages = new Map<string, KernelPackage>();
  const own = new Map<string, KernelPackage>();
  const lacking: string[] = [];
  for (const wish of WISHES) {
    const answer = await answerTo(wish);
    if ('lacking' in answer) {
      lacking.push(answer.lacking);
      continue;
    }
    packages.set(answer.kernel.name, answer.kernel);
    if (wish.suite === undefined) own.set(answer.kernel.name, answer.kernel);
  }
  assert.ok(own.size > 0, lacking.join('; '));
  return { packages: [...packages.values()], own: [...own.values()], lacking };
}

/** One kernel that this machine's release must have. */
export async function findKernel(wish: KernelWish): Promise<KernelPackage> {
  const answer = await answerTo(wish);
  assert.ok('kernel' in answer, 'lacking' in answer ? answer.lacking : '');
  return answer.kernel;
}

/** Two kernels as different as this release of the distribution has them, for what does not need all of them. */
export function oldestAndNewest({ own }: Found): KernelPackage[] {
  const cloud = own.filter(({ name }) => name.includes('cloud'));
  const small = cloud.length > 0 ? cloud : own;
  return [...new Set([small[0]!, small.at(-1)!])];
}

export interface Kernel {
  readonly name: string;
  /** The vmlinux in the package, as it is. */
  readonly original: Uint8Array;
  /** And through `convert`. */
  readonly converted: Uint8Array;
  readonly summary: ConvertSummary;
  /** Link address of _text, virtual. */
  readonly text: VirtAddr;
  /** The guest's initramfs loads so many modules of the same package. */
  readonly modules: number;
  readonly initrd: Uint8Array;
}

/** One conversion a process: about half a second each. */
export async function prepare(found: KernelPackage): Promise<Kernel> {
  const image = await readFile(found.image);
  const { vmlinux } = await readInput(image, { codecs: nodeCodecs });
  const { elf, imageStart } = readVmlinux(vmlinux);
  const converted = await convert(image, { codecs: nodeCodecs });
  const modules = await readModules(found);
  return {
    name: found.name,
    original: elf.bytes,
    converted: converted.bytes(),
    summary: converted.summary,
    text: physToVirt(imageStart),
    modules: modules.length,
    initrd: packGuest(modules),
  };
}

async function readModules(found: KernelPackage): Promise<GuestModule[]> {
  assert.ok(found.modules, `${found.name} has no modules`);
  const modules: GuestModule[] = [];
  for (const name of MODULES) {
    const path = await findModule(found, name);
    if (path !== undefined && modules.length < 2) modules.push({ name: basename(path), data: await readFile(path) });
  }
  assert.ok(modules.length > 0, `${found.name} has none of ${MODULES.join(' ')}`);
  return modules;
}

let free = PARALLEL;
const waiting: (() => void)[] = [];

/** When it is its turn. Not within another turn: that would wait for itself. */
export async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
  else free--;
  const leave = await takePlace();
  try {
    return await work();
  } finally {
    leave();
    const next = waiting.shift();
    if (next === undefined) free++;
    else next();
  }
}

/**
 * One of the lane's places for guests: a link that names the process that has it. A process that was killed leaves its link; whoever finds it
 * removes it. Two who do so at once may both go on: a guest too many for a while.
 */
async function takePlace(): Promise<() => void> {
  if (LANE === undefined) return () => {};
  for (;;) {
    for (let place = 0; place < PARALLEL; place++) {
      const path = join(LANE, `guest-${place}`);
      try {
        symlinkSync(`${process.pid}`, path);
        return () => rmSync(path, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        if (isLeft(path)) rmSync(path, { force: true });
      }
    }
    await sleep(20);
  }
}

function isLeft(path: string): boolean {
  try {
    return !existsSync(`/proc/${readlinkSync(path)}`);
  } catch {
    return false; // its holder has just removed it
  }
}

/** Boots the converted kernel, or `image`, when it is its turn. */
export function bootInTurn(kernel: Kernel | undefined, options: Partial<BootOptions> = {}): Promise<BootResult> {
  const image = options.image ?? kernel?.converted;
  assert.ok(image);
  return inTurn(() => boot({ timeoutMs: 300_000, ...options, image }));
}

export interface GuestBoot extends BootResult {
  readonly guest: GuestReport;
  /** Where _text is, less where it is linked: from /proc/kallsyms, not from a panic. */
  readonly moved: number;
}

/** The same with the guest program, which must come to its end. */
export async function run(kernel: Kernel, options: Partial<BootOptions> = {}): Promise<GuestBoot> {
  const result = await bootInTurn(kernel, { initrd: kernel.initrd, ...options });
  const { guest } = result.report;
  const tail = result.console.slice(-1500);
  assert.ok(guest.done, `${kernel.name}: ${result.end} after ${result.milliseconds} ms ${result.errors}\n${tail}`);
  assert.ok(guest.text, 'no _text in /proc/kallsyms');
  assert.deepEqual(
    guest.modules,
    Array.from({ length: kernel.modules }, () => 0),
    'a module did not load',
  );
  assert.equal(guest.moduleAddresses.size, kernel.modules);
  return { ...result, guest, moved: Number(guest.text - kernel.text) };
}

/** A slide that `convert` may choose. */
export function checkSlide({ summary }: Kernel, slide: number | undefined): asserts slide is number {
  assert.ok(slide !== undefined, 'no slide');
  assert.equal(slide % PMD, 0, `slide ${hex(slide)} is not a multiple of 2 MiB`);
  assert.ok(slide >= 0 && slide <= summary.slots.largest, `slide ${hex(slide)} is past ${hex(summary.slots.largest)}`);
}

/** At most two of `values` are alike: with 480 slots, three boots have all alike once in 230,000 times. */
export function checkRandom(what: string, values: readonly (number | bigint)[]): void {
  assert.ok(new Set(values).size >= values.length - 1, `${what}: ${values.map(hex).join(' ')}`);
}

/** What the kernel randomizes by itself once KASLR_FLAG is set (arch/x86/mm/kaslr.c), in that order in the address space. */
export interface Bases {
  readonly directMap: VirtAddr;
  readonly vmalloc: VirtAddr;
  readonly vmemmap: VirtAddr;
}

/** Without it (Documentation/arch/x86/x86_64/mm.rst). */
export const FIXED: Bases = {
  directMap: 0xffff_8880_0000_0000n,
  vmalloc: 0xffff_c900_0000_0000n,
  vmemmap: 0xffff_ea00_0000_0000n,
};

/** The lowest of them, without what is below 1 GiB: bases are multiples of that, and regions begin a little above. */
function baseOf(region: string, starts: readonly VirtAddr[]): VirtAddr {
  const [first] = starts.toSorted((a, b) => (a < b ? -1 : 1));
  assert.ok(first, `${region} is missing in /proc/kcore`);
  return first & ~0x3fff_ffffn;
}

/** /proc/kcore names no region; vmalloc is the only one of many TiB. */
export function basesOf({ kcore }: GuestReport): Bases {
  const vmalloc = kcore.find(({ size }) => size > 1n << 43n)?.start;
  assert.ok(vmalloc, 'vmalloc is missing in /proc/kcore');
  const starts = kcore.map(({ start }) => start).filter((start) => start < START_KERNEL_MAP);
  return {
    directMap: baseOf(
      'the direct map',
      starts.filter((start) => start < vmalloc),
    ),
    vmalloc,
    vmemmap: baseOf(
      'vmemmap',
      starts.filter((start) => start > vmalloc),
    ),
  };
}
