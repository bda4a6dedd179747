/** The door `kslide/shuffle`: the core reaches neither it nor its disassembler, so that it bundles for a browser; and it exports what it should. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as door from '../../src/shuffle/index.ts';

const source = fileURLToPath(new URL('../../src/', import.meta.url));

/** All files that a file reaches by imports, types and dynamic ones included, and all packages. */
function reachedFrom(entry: string): { readonly files: Set<string>; readonly packages: Set<string> } {
  const files = new Set<string>([resolve(source, entry)]);
  const packages = new Set<string>();
  for (const path of files) {
    for (const [, name = ''] of readFileSync(path, 'utf8').matchAll(/\b(?:from|import)\s*\(?\s*['"]([\w./@-]+)['"]/g)) {
      if (name.startsWith('.')) files.add(resolve(dirname(path), name));
      else packages.add(name);
    }
  }
  return { files, packages };
}

test('the core reaches nothing of src/shuffle, and no package', () => {
  const { files, packages } = reachedFrom('index.ts');
  assert.ok(files.size > 50, `${files.size} files`);
  assert.deepEqual(
    [...files].map((path) => relative(source, path)).filter((path) => path.startsWith('shuffle/')),
    [],
  );
  assert.deepEqual([...packages], []);
});

test('the only package that the door reaches is the disassembler', () => {
  assert.deepEqual([...reachedFrom('shuffle/index.ts').packages], ['iced-x86']);
});

test('the door exports these names', () => {
  assert.deepEqual(Object.keys(door).toSorted(), [
    'decodePlan',
    'encodePlan',
    'loadOperandDisassembler',
    'openShuffler',
    'planShuffle',
    'shuffle',
    'verifyShuffled',
  ]);
});

test('package.json names the door', () => {
  const { exports } = JSON.parse(readFileSync(resolve(source, '../package.json'), 'utf8')) as {
    exports: Record<string, unknown>;
  };
  assert.deepEqual(exports['./shuffle'], { types: './dist/shuffle/index.d.ts', default: './dist/shuffle/index.js' });
});
