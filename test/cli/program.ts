/**
 * The command line from the sources, as tests start it: one bundle, made anew by each test file that asks for it (0.3 s) and gone with its process. A start
 * takes 0.15 s; that of kslide.ts under tsx takes 0.7 s, and the tests make hundreds. test/package.test.ts compares what the sources, the bundles of
 * the package and the library give.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const directory = mkdtempSync(join(tmpdir(), 'kslide-program-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

/** iced-x86 reads its WebAssembly from beside its own file. */
const iced = createRequire(import.meta.url).resolve('iced-x86');
const bundle = join(directory, 'kslide.cjs');
await build({
  stdin: {
    contents: `import { main } from './main.ts';
      main(process.argv.slice(2)).then((exitCode) => { process.exitCode = exitCode; });`,
    resolveDir: fileURLToPath(new URL('../../src/cli', import.meta.url)),
    loader: 'ts',
  },
  outfile: bundle,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  keepNames: true,
  alias: { 'iced-x86': iced },
  external: [iced],
  preserveSymlinks: true,
  logLevel: 'warning',
});

/** Arguments of Node, before the command's own. */
export const KSLIDE: readonly string[] = [bundle];
