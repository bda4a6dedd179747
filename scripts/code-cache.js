// The last step of the build: keeps what V8 compiled for one conversion, and for moving one kernel on the host, for bin/load.js. The kernel,
// warm-up.bzimage, is a small one of test/make-vmlinux.ts with zstd inside (test/warm-up.test.ts makes it). All that can be compiled is 1.4 MB instead of
// 0.5, and makes a conversion 8 ms slower: measured.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { devNull, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheOf, load } from '../bin/load.js';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const file = path('../dist/kslide.cjs');
const { script, exports: bundle } = load(file, { cached: false });
const folder = mkdtempSync(join(tmpdir(), 'kslide-build-'));
try {
  const [kernel, vmlinux, relocs] = [path('warm-up.bzimage'), join(folder, 'vmlinux'), join(folder, 'relocs')];
  for (const args of [
    ['convert', kernel, '-o', devNull, '--quiet'],
    ['extract', kernel, '-o', vmlinux, '--relocs-out', relocs],
    ['randomize', vmlinux, '--relocs', relocs, '-o', join(folder, 'moved'), '--quiet'],
  ]) {
    const exitCode = await bundle.main(args);
    if (exitCode !== 0) throw new Error(`the warm-up ended with ${exitCode}: ${args[0]}`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
writeFileSync(cacheOf(file), script.createCachedData());
