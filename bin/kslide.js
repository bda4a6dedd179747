#!/usr/bin/env node
// The command line is bundled, a file a command (scripts/bundle.js): a command starts by compiling only what it uses. This file is CommonJS, as are the
// bundles, by the package.json beside it: Node takes 4 ms to start its loader of ES modules.
'use strict';
const { existsSync, statSync, writeSync } = require('node:fs');
const { join } = require('node:path');
// From Node 22.8 on, V8's compiled code is kept between runs. Older versions compile the bundle each time. It is kept in our own home: Node's own choice is a
// folder in /tmp, which another user may have made, and what is in it would run here. The same goes for a home of another user, as sudo may leave it.
const { HOME } = process.env;
if (HOME && statSync(HOME, { throwIfNoEntry: false })?.uid === process.getuid?.())
  require('node:module').enableCompileCache?.(join(HOME, '.cache/kslide/compiled'));

// What no command has caught is a bug (exit code 70). Node would exit with 1, which means a finding, and print the line of the source where it happened: that
// is the whole bundle. A standard stream that fails is the environment's fault (3), and so is standard error when even this line cannot be written.
process.on('uncaughtException', (error) => {
  const isOutput = error?.syscall === 'write';
  const text = isOutput
    ? `output failed: ${error.code}`
    : `internal error, please report it: ${String(error?.stack ?? error).replace(/\s*\n\s*/g, ' ')}`;
  let exitCode = isOutput ? 3 : 70;
  try {
    writeSync(2, `kslide: ${text}\n`);
  } catch {
    exitCode = 3;
  }
  process.exit(exitCode);
});

const args = process.argv.slice(2);
const bundleOf = (name) => join(__dirname, '../dist/cli', `${name}.cjs`);
const isCommand = /^[a-z]+$/.test(args[0] ?? '') && existsSync(bundleOf(args[0]));

require(bundleOf(isCommand ? args[0] : 'kslide'))
  .main(args)
  .then((exitCode) => {
    process.exitCode = exitCode;
    // Exit at once when nothing is pending. Standard output that a pipe has not yet taken counts as pending. Node's own way out takes 9 ms longer.
    if (process.getActiveResourcesInfo().length === 0) process.exit();
  });
