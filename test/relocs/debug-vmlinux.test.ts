/**
 * A whole kernel: Debian's debug vmlinux against the table that Debian's own build made of it, at the end of the bzImage's payload.
 *
 * The packages are large, so this takes what scripts/build-relocs-debug-vmlinux.sh has put into the cache, and is skipped where it has not run.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readInput } from '../../src/input.ts';
import { openByteSource } from '../../src/node/byte-source.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { cacheFolder } from '../../src/node/debian.ts';
import { collectRelocations, encodeRelocationTable } from '../../src/relocs/index.ts';
import { readVmlinux } from '../../src/vmlinux.ts';

interface Kernel {
  readonly release: string;
  readonly vmlinux: string;
  readonly bzImage: string;
}

function findKernels(): Kernel[] {
  const cache = cacheFolder();
  const packages = existsSync(cache) ? readdirSync(cache) : [];
  return packages
    .flatMap((name) => /^linux-image-(.*)-dbg$/.exec(name)?.[1] ?? [])
    .map((release) => ({
      release,
      vmlinux: join(cache, `linux-image-${release}-dbg/usr/lib/debug/boot/vmlinux-${release}`),
      bzImage: join(cache, `linux-image-${release}/boot/vmlinuz-${release}`),
    }))
    .filter(({ vmlinux, bzImage }) => existsSync(vmlinux) && existsSync(bzImage));
}

const kernels = findKernels();
const skip =
  kernels.length === 0 && 'no debug vmlinux in the cache: run scripts/build-relocs-debug-vmlinux.sh (310 MB)';

test('the debug vmlinux gives the table that the bzImage of the same build carries', { skip }, async () => {
  for (const { release, vmlinux, bzImage } of kernels) {
    const source = await openByteSource(vmlinux);
    const table = encodeRelocationTable(collectRelocations(source));
    source.close();
    const input = await readInput(new Uint8Array(await readFile(bzImage)), { codecs: nodeCodecs });
    assert.deepEqual(Buffer.from(table), Buffer.from(readVmlinux(input.vmlinux).trailer), release);
  }
});
