'use strict';
const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');

exports.cacheOf = (file) => file.replace(/\.cjs$/, '.v8');

/** Runs a CommonJS file, from its cache, if there is one that fits. Gives the script, for who makes the cache, and what the file exports. */
exports.load = (file, { cached = true } = {}) => {
  const source = `(function (exports, require, module) {${readFileSync(file, 'utf8')}\n})`;
  const script = new Script(source, { filename: file, cachedData: cached ? readCache(file) : undefined });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, requireLazily, module);
  return { script, exports: module.exports };
};

function readCache(file) {
  try {
    return readFileSync(exports.cacheOf(file));
  } catch {
    return undefined;
  }
}

/**
 * Node's own modules are loaded when something of them is used: one command uses few of those that all commands together import, and commander
 * imports child_process, with sockets and streams, for a kind of command that kslide does not have. (Not for modules that are functions
 * themselves, as events and assert: what is imported of those goes by its name.) Saves 10 ms, measured with `convert --help`.
 */
function requireLazily(name) {
  if (!name.startsWith('node:')) return require(name);
  return new Proxy({}, { get: (_, key) => require(name)[key] });
}
