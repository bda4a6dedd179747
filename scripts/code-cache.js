// The last step of the build: keeps what V8 compiled for one conversion, for bin/load.js. The kernel is a small one of test/make-vmlinux.ts, with
// zstd inside. (All that can be compiled is 1.4 MB instead of 0.5, and makes a conversion 8 ms slower: measured.)
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { devNull } from 'node:os';
import { fileURLToPath } from 'node:url';
import { cacheOf, load } from '../bin/load.js';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const file = path('../dist/kslide.cjs');
const script = load(file, { cached: false });
const bundle = { exports: {} };
script.runInThisContext()(bundle.exports, createRequire(file), bundle);
const exitCode = await bundle.exports.main(['convert', path('warm-up.bzimage'), '-o', devNull, '--quiet']);
if (exitCode !== 0) throw new Error(`the warm-up ended with ${exitCode}`);
writeFileSync(cacheOf(file), script.createCachedData());
