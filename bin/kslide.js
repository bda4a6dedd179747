#!/usr/bin/env node
// All of the command line in one CommonJS file: each further module costs a millisecond before anything is done (CONTRIBUTING.md).
import { createRequire } from 'node:module';

const { main } = createRequire(import.meta.url)('../dist/kslide.cjs');
process.exitCode = await main(process.argv.slice(2));
