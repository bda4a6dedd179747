// The command line in one file, dist/kslide.cjs. Why one file, and CommonJS: CONTRIBUTING.md.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

await build({
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
