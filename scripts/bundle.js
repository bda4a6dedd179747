// Bundles the command line: dist/cli/COMMAND.cjs for each command of src/cli/commands, with all that the command needs in the one file, and
// dist/cli/kslide.cjs for `kslide --help`, which asks the others. CONTRIBUTING.md, "The build", says why.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const cli = path('../src/cli');

/** In the order of `--help`. */
const list = readFileSync(`${cli}/main.ts`, 'utf8').matchAll(
  /^ {2}(\w+): \(\) => import\('\.\/commands\/\1\.ts'\),$/gm,
);
const names = Array.from(list, ([, name]) => name);

/** Entries by the name of their output. */
const entries = {
  kslide: `import { run } from './run.ts';
    export const main = (args) => run(args, { ${names.map((name) => `${name}: async () => require('./${name}.cjs').command`).join()} });`,
};
for (const name of names) {
  entries[name] = `import { run } from './run.ts';
    import * as command from './commands/${name}.ts';
    export { command };
    export const main = (args) => run(args, { ${name}: async () => command });`;
}

for (const [name, contents] of Object.entries(entries)) {
  await build({
    absWorkingDir: path('..'), // bundles hold paths relative to this, and no others,
    preserveSymlinks: true, // also where node_modules is a link
    stdin: { contents, resolveDir: cli, sourcefile: `${name}.entry.ts`, loader: 'ts' },
    outfile: path(`../dist/cli/${name}.cjs`),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    minifyWhitespace: true,
    minifySyntax: true,
    minifyIdentifiers: true,
    keepNames: true, // of functions, for the stack of a bug report
    external: ['iced-x86', './*.cjs'],
    supported: { 'dynamic-import': false },
    logLevel: 'warning',
  });
}
