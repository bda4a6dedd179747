// Bundles the command line into one file, dist/kslide.cjs. Runs after tsc, because a part of the bundle is computed by what tsc has built. CONTRIBUTING.md
// says why it is one file, and why CommonJS.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { assembledStub } from '../dist/stub/assembled.js';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

/** src/stub/assembled.ts, as the bytes that it makes. */
const assembledBeforehand = {
  name: 'assembled beforehand',
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]src[/\\]stub[/\\]assembled\.ts$/ }, () => ({
      contents: `const code = Uint8Array.of(${assembledStub().join()}); export const assembledStub = () => code;`,
    }));
  },
};

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
  plugins: [assembledBeforehand],
  logLevel: 'warning',
});
