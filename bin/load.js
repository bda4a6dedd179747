import { readFileSync } from 'node:fs';
import { Script } from 'node:vm';

export const cacheOf = (file) => file.replace(/\.cjs$/, '.v8');

/** A CommonJS file as a script that gives its function, of (exports, require, module); from its cache, if there is one that fits. */
export function load(file, { cached = true } = {}) {
  const source = `(function (exports, require, module) {${readFileSync(file, 'utf8')}\n})`;
  return new Script(source, { filename: file, cachedData: cached ? readCache(file) : undefined });
}

function readCache(file) {
  try {
    return readFileSync(cacheOf(file));
  } catch {
    return undefined;
  }
}
