#!/usr/bin/env node
// All of the command line is one CommonJS file, dist/kslide.cjs: each further module would cost a millisecond before anything is done. Beside it
// lies what V8 made of it when it was built (scripts/code-cache.js), which saves 12 ms of compiling (measured). V8 takes that only from a build by the
// same version of itself, and compiles otherwise.
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import { load } from './load.js';

const file = fileURLToPath(new URL('../dist/kslide.cjs', import.meta.url));
const bundle = { exports: {} };
load(file).runInThisContext()(bundle.exports, createRequire(file), bundle);
process.exitCode = await bundle.exports.main(process.argv.slice(2));
