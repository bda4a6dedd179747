/** What the tests of shuffled kernels share: a kernel with its debug vmlinux, and what its guest must say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { openByteSource } from '../../src/node/files/byte-source.ts';
import type { OpenByteSource } from '../../src/node/files/byte-source.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { findModule } from '../../scripts/kernels/debian.ts';
import type { BootResult } from '../../src/node/qemu/qemu.ts';
import { planShuffle } from '../../src/shuffle/index.ts';
import type { Plan, Shuffled } from '../../src/shuffle/index.ts';
import { fetchDebugKernel } from '../debug-kernel.ts';
import { hashSystemMap, packShuffleGuest, readShuffleGuest } from '../guest/shuffle.ts';

export interface ShuffleLane {
  readonly image: Uint8Array;
  readonly debug: OpenByteSource;
  readonly plan: Plan;
  /** Empty without a module: the guest program loads one. */
  readonly initrd: Uint8Array;
}

/** Paths. */
export interface ShuffleFiles {
  /** The kernel that boots. */
  readonly image: string;
  /** The unstripped vmlinux of the same build. */
  readonly debug: string;
  /** The map of that one's link. */
  readonly map?: string | undefined;
  /** A module of the same build that needs no other. */
  readonly module?: string | undefined;
  /** Find references without relocations. */
  readonly recover?: boolean | undefined;
}

const MODULE = 'loop';

/** The lane, or why this machine's distribution has no such kernel. */
export async function prepareShuffle(series: '6.1' | '6.12' = '6.1'): Promise<ShuffleLane | string> {
  const fetched = await fetchDebugKernel(series);
  if (typeof fetched === 'string') return fetched;
  const { kernel, vmlinux } = fetched;
  const module = await findModule(kernel, MODULE);
  assert.ok(module, `${kernel.name} has no ${MODULE}`);
  return openShuffle({ image: kernel.image, debug: vmlinux, module, recover: series === '6.12' });
}

export async function openShuffle({
  image: path,
  debug: vmlinux,
  map,
  module,
  recover,
}: ShuffleFiles): Promise<ShuffleLane> {
  const read = (file: string): Uint8Array => new Uint8Array(readFileSync(file));
  const image = read(path);
  const debug = await openByteSource(vmlinux);
  const linkMap = map === undefined ? undefined : read(map);
  const plan = await planShuffle(image, { codecs: nodeCodecs, debug, map: linkMap, recover });
  const initrd = module === undefined ? new Uint8Array() : packShuffleGuest(read(module));
  return { image, debug, plan, initrd };
}

/** How to boot shuffled kernels, and what they are compared with. */
export const GUEST = {
  /** A guest of two CPUs that share less than one of the host's is no soft lockup of the kernel's making. */
  append: 'nowatchdog',
  /**
   * The guest's CPUs take turns in one thread. With a thread for each, QEMU 7.2 may run an old translation of code that another CPU has patched, and with it
   * a breakpoint that is not there any more: 4 of 32 boots of a 6.12 with two CPUs, converted and not shuffled, ended in "Oops: int3" while functions
   * were traced or static keys toggled; with one thread none of 64.
   */
  extra: ['-accel', 'tcg,thread=single'],
  /**
   * Without CMPXCHG16B. QEMU 7.2 gets the flags wrong that an interrupt saves behind it, when the conditional jump that follows leads to another page; whether
   * one does is up to the layout. Where kmem_cache_alloc had it, 28 of 69 boots ended in a double fault, none of 65 in QEMU 10.0, and without the
   * instruction none of 25.
   */
  cpu: 'max,-cx16',
} as const;

const EFAULT = 14n;

/** Everything in the guest worked, and kallsyms there is the System.map that the writer gave. */
export function checkShuffledGuest(result: BootResult, shuffled: Shuffled, cpus: number): void {
  const { console, end } = result;
  const guest = readShuffleGuest(console);
  assert.ok(guest.has('end'), `${end}: ${console.slice(-2000)}`);
  const { lines, names, pairs } = hashSystemMap(Buffer.from(shuffled.symbols()!).toString('latin1'));
  assert.deepEqual(guest.get('kallsyms'), [lines, 0n, names, pairs]);
  assert.deepEqual(
    guest.get('efault'),
    Array.from({ length: 5 }, () => EFAULT),
  );
  assert.deepEqual(guest.get('module'), [0n, 1n]);
  // Errors of tracing one function and all, and calls of the one.
  assert.deepEqual(guest.get('functions'), [0n, 0n, 6n]);
  const [added, enabled, hits = 0n] = guest.get('kprobe')!;
  assert.deepEqual([added, enabled], [0n, 0n]);
  assert.ok(hits >= 3n, `${hits} kprobe hits`);
  assert.deepEqual(guest.get('events'), [0n, 0n, 5n]);
  assert.deepEqual(guest.get('cpus'), [(1n << BigInt(cpus)) - 1n]);
  assert.match(console, /Checked W\+X mappings: passed/);
  assert.doesNotMatch(console, /WARNING: |BUG: |Oops/);
  assert.match(console, /Kernel panic - not syncing: sysrq triggered crash/);
}
