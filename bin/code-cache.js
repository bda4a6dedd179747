// The last step of the build: all functions of the command line compiled, not only those that start it, and kept for bin/load.js.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { cacheOf, load } from './load.js';

const file = fileURLToPath(new URL('../dist/kslide.cjs', import.meta.url));
setFlagsFromString('--no-lazy');
const script = load(file, { cached: false });
// V8 keeps its flags with a cache, and refuses one with others.
setFlagsFromString('--lazy');
writeFileSync(cacheOf(file), script.createCachedData());
