// The command line in one file, dist/kslide.cjs; after tsc, because some of it is made by what tsc has built. Why one file, and CommonJS: CONTRIBUTING.md.
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
