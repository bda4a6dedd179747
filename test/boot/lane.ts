/**
 * What the boot tests share: real kernels of this distribution, converted, and boots that bring the guest's report back.
 *
 * A boot takes about two seconds under TCG, and QEMU is busy all the time: as many run at once as there are processors, at most four.
 * The limit holds within a process, so the lane runs one file after the other (--test-concurrency=1). Nothing here skips: a machine
 * without QEMU or without kernels fails.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { physToVirt, START_KERNEL_MAP } from '../../src/addresses.ts';
import type { VirtAddr } from '../../src/addresses.ts';
import { convert } from '../../src/convert.ts';
import type { ConvertSummary } from '../../src/convert.ts';
import { hex } from '../../src/errors.ts';
import { readInput } from '../../src/input.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import type { GuestReport } from '../../src/node/console.ts';
import { fetchKernel, findModule } from '../../src/node/debian.ts';
import type { Flavour } from '../../src/node/debian.ts';
import { boot } from '../../src/node/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu.ts';
import { readVmlinux } from '../../src/vmlinux.ts';
import { packGuest } from '../guest/init.ts';
import type { GuestModule } from '../guest/init.ts';

export const ENTRIES = ['pvh', 'linux64'] as const;
export const PMD = 0x20_0000;
export const PARALLEL = Math.min(4, availableParallelism());

/** Modules of the same package that need no other: one with per-cpu data, work queues and a device, one with a table and a function. */
const MODULES = ['loop', 'crc-itu-t'];

export interface Kernel {
  readonly name: string;
  /** The vmlinux in the package, as it is. */
  readonly original: Uint8Array;
  /** And through `convert`. */
  readonly converted: Uint8Array;
  readonly summary: ConvertSummary;
  /** Link address of _text, virtual. */
  readonly text: VirtAddr;
  /** The guest's initramfs, with MODULES of the same package. */
  readonly initrd: Uint8Array;
}

/** One conversion a process: about half a second each. */
export async function prepare(series: string, flavour: Flavour): Promise<Kernel> {
  const found = await fetchKernel({ series, flavour }, { onStep: (text) => console.error(text) });
  const image = await readFile(found.image);
  const { vmlinux } = await readInput(image, { codecs: nodeCodecs });
  const { elf, imageStart } = readVmlinux(vmlinux);
  const converted = await convert(image, { codecs: nodeCodecs });
  const modules = await Promise.all(
    MODULES.map(async (name): Promise<GuestModule> => {
      const path = await findModule(found, name);
      assert.ok(path, `${found.name} has no module ${name}`);
      return { name: basename(path), data: await readFile(path) };
    }),
  );
  return {
    name: found.name,
    original: elf.bytes,
    converted: converted.bytes(),
    summary: converted.summary,
    text: physToVirt(imageStart),
    initrd: packGuest(modules),
  };
}

let free = PARALLEL;
const waiting: (() => void)[] = [];

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
  else free--;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) free++;
    else next();
  }
}

/** Boots the converted kernel, or `image`, when it is its turn. */
export function bootInTurn({ converted: image }: Kernel, options: Partial<BootOptions> = {}): Promise<BootResult> {
  return inTurn(() => boot({ image, timeoutMs: 60_000, ...options }));
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
  return { ...result, guest, moved: Number(guest.text - kernel.text) };
}

/** A slide that `convert` may choose. */
export function checkSlide({ summary }: Kernel, slide: number | undefined): asserts slide is number {
  assert.ok(slide !== undefined, 'no slide');
  assert.equal(slide % PMD, 0, `slide ${hex(slide)} is not a multiple of 2 MiB`);
  assert.ok(slide >= 0 && slide <= summary.slots.largest, `slide ${hex(slide)} is past ${hex(summary.slots.largest)}`);
}

/** At most two of `values` are alike: with 480 slots, four boots have three alike once in 50,000 times. */
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
