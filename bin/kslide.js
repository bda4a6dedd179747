#!/usr/bin/env node
// All of the command line is one CommonJS file, dist/kslide.cjs (CONTRIBUTING.md, "The build", says why). This file is CommonJS too, by the package.json
// beside it: Node takes 4 ms to start its loader of ES modules.
'use strict';
// From Node 22.8 on, V8's compiled code is kept between runs. Older versions compile the bundle each time.
require('node:module').enableCompileCache?.();

require('../dist/kslide.cjs')
  .main(process.argv.slice(2))
  .then((exitCode) => {
    process.exitCode = exitCode;
    // Exit at once when nothing is pending. Standard output that a pipe has not yet taken counts as pending. Node's own way out takes 9 ms longer.
    if (process.getActiveResourcesInfo().length === 0) process.exit();
  });
