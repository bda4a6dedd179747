#!/usr/bin/env node
// All of the command line is one CommonJS file, dist/kslide.cjs: each further module would cost a millisecond before anything is done. Beside it
// lies what V8 made of it when it was built (scripts/code-cache.js), which saves 12 ms of compiling (measured). V8 takes that only from a build by the
// same version of itself, and compiles otherwise. This file is CommonJS too (package.json here says so): Node's loader of ESM takes 4 ms to start.
'use strict';
const { join } = require('node:path');
const { load } = require('./load.js');

load(join(__dirname, '../dist/kslide.cjs'))
  .exports.main(process.argv.slice(2))
  .then((exitCode) => {
    process.exitCode = exitCode;
    // When nothing is left to do, standard output that a pipe has not taken included: without this Node takes itself apart first, for 9 ms.
    if (process.getActiveResourcesInfo().length === 0) process.exit();
  });
