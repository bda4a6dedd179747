/**
 * Debian's cloud kernels with their debug vmlinux, for the boot lane: 6.1, the one kernel of Debian 12 that still has all its `.rela` sections, 310 MB to
 * fetch; and 6.12, which has none, 330 MB.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, openPackage } from '../scripts/kernels/debian.ts';
import type { KernelPackage } from '../scripts/kernels/debian.ts';

export interface DebugKernel {
  readonly kernel: KernelPackage;
  /** Path of the vmlinux of the same build. */
  readonly vmlinux: string;
}

const SCRIPT = fileURLToPath(new URL('../scripts/build-relocs-debug-vmlinux.sh', import.meta.url));
const NO_SUCH_PACKAGE = 3;

/** The kernel, or why this machine's distribution has none. */
export async function fetchDebugKernel(series: '6.1' | '6.12' = '6.1'): Promise<DebugKernel | string> {
  const fetched = spawnSync('sh', [SCRIPT, series], { encoding: 'utf8', timeout: 900_000 });
  if (fetched.status === NO_SUCH_PACKAGE) return fetched.stderr.trim().split('\n').at(-1)!;
  assert.equal(fetched.status, 0, fetched.stderr);
  const vmlinux = fetched.stdout.trim().split('\n').at(-1)!;
  const name = `linux-image-${basename(vmlinux).replace(/^vmlinux-/, '')}`;
  const kernel = await openPackage(cacheFolder(), name);
  assert.ok(kernel, `${name} is not in the cache`);
  return { kernel, vmlinux };
}
