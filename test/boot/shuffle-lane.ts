/** What the tests of shuffled kernels share: a kernel with its debug vmlinux, and what its guest must say. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openByteSource } from '../../src/node/byte-source.ts';
import type { OpenByteSource } from '../../src/node/byte-source.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { fetchKernel, findModule } from '../../src/node/debian.ts';
import type { BootResult } from '../../src/node/qemu.ts';
import { planShuffle } from '../../src/shuffle.ts';
import type { Plan, Shuffled } from '../../src/shuffle.ts';
import { hashSystemMap, packShuffleGuest, readShuffleGuest } from '../guest/shuffle.ts';

export interface ShuffleLane {
  readonly image: Uint8Array;
  readonly debug: OpenByteSource;
  readonly plan: Plan;
  readonly initrd: Uint8Array;
}

const SCRIPT = fileURLToPath(new URL('../../scripts/build-relocs-debug-vmlinux.sh', import.meta.url));
const NO_SUCH_PACKAGE = 3;
const MODULE = 'loop';

/** The lane, or why this machine's distribution has no such kernel. */
export async function prepareShuffle(): Promise<ShuffleLane | string> {
  const fetched = spawnSync('sh', [SCRIPT], { encoding: 'utf8', timeout: 900_000 });
  if (fetched.status === NO_SUCH_PACKAGE) return fetched.stderr.trim().split('\n').at(-1)!;
  assert.equal(fetched.status, 0, fetched.stderr);
  const vmlinux = fetched.stdout.trim().split('\n').at(-1)!;
  const release = basename(vmlinux).replace(/^vmlinux-/, '');
  const kernel = await fetchKernel({ series: '6.1', flavour: 'cloud' });
  assert.equal(kernel.release, release, 'the newest kernel and the newest debug package are of different builds');
  const module = await findModule(kernel, MODULE);
  assert.ok(module, `${kernel.name} has no ${MODULE}`);
  const image = new Uint8Array(
    readFileSync(join(vmlinux, '../../../../../..', `linux-image-${release}/boot/vmlinuz-${release}`)),
  );
  const debug = await openByteSource(vmlinux);
  const plan = await planShuffle(image, { codecs: nodeCodecs, debug });
  return { image, debug, plan, initrd: packShuffleGuest(new Uint8Array(readFileSync(module))) };
}

/** A guest of two CPUs that share less than one of the host's is no soft lockup of the kernel's making. */
export const APPEND = 'nowatchdog';

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
