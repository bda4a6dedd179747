// The command line in one file, dist/kslide.cjs. Why one file, and CommonJS: CONTRIBUTING.md.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

await build({
  absWorkingDir: path('..'), // the bundle holds paths relative to this, and no others,
  preserveSymlinks: true, // also where node_modules is a link
  entryPoints: [path('../src/cli/main.ts')],
  outfile: path('../dist/kslide.cjs'),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  minifyWhitespace: true,
  minifySyntax: true,
  external: ['iced-x86'],
  supported: { 'dynamic-import': false },
  logLevel: 'warning',
});
