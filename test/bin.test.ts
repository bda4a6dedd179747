/** bin/, with stand-ins for the bundles: which is loaded, and how the process ends. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { version } from '../src/cli/version.ts';

const root = mkdtempSync(join(tmpdir(), 'kslide-bin-'));
after(() => rmSync(root, { recursive: true }));
cpSync(fileURLToPath(new URL('../bin', import.meta.url)), join(root, 'bin'), { recursive: true });
mkdirSync(join(root, 'dist/cli'), { recursive: true });

/** What `main` does, given its arguments as `args`, for a reader that takes nothing until the pipe has long been full. */
function run(
  main: string,
  args: readonly string[] = [],
  environment = {},
  where = '2>&1 | { sleep 0.2; cat; }',
): { readonly code: number; readonly output: string } {
  writeFileSync(join(root, 'dist/cli/kslide.cjs'), `exports.main = async (args) => { ${main} };`);
  const script = `{ "$@"; echo $? > "$0"; } ${where}`;
  const code = join(root, 'code');
  const command = [process.execPath, join(root, 'bin/kslide.js'), ...args];
  const options = { encoding: 'utf8', maxBuffer: 1 << 24, env: { ...process.env, ...environment } } as const;
  const output = execFileSync('sh', ['-c', script, code, ...command], options);
  return { code: Number(readFileSync(code, 'utf8')), output };
}

test('arguments and exit code are passed on', () => {
  assert.deepEqual(run(`process.stdout.write(args.join()); return 7;`, ['a', 'b']), { code: 7, output: 'a,b' });
  assert.deepEqual(run('return 0;'), { code: 0, output: '' });
});

test('a command has a bundle of its own; all else is for the one that has all commands', () => {
  writeFileSync(
    join(root, 'dist/cli/own.cjs'),
    `exports.main = async (args) => { process.stdout.write('own ' + args.join()); return 0; };`,
  );
  const main = `process.stdout.write('all ' + args.join()); return 0;`;
  assert.equal(run(main, ['own', '--help']).output, 'own own,--help');
  for (const args of [[], ['--help'], ['other'], ['kslide'], ['../cli/own'], ['own.cjs'], ['-', 'own']])
    assert.equal(run(main, args).output, `all ${args.join()}`);
});

test('the process ends when its work is done, and not before all is written', () => {
  const { code, output } = run(`process.stdout.write('x'.repeat(1e6)); return 3;`);
  assert.deepEqual([code, output.length], [3, 1e6]);
  const late = `setTimeout(() => process.stdout.write('late'), 100); return 0;`;
  assert.deepEqual(run(late), { code: 0, output: 'late' });
  const listener = `process.on('exit', (code) => require('node:fs').writeSync(1, 'exit ' + code)); return 5;`;
  assert.deepEqual(run(listener), { code: 5, output: 'exit 5' });
});

test('what nobody has caught is one line without source, and exit code 70; a stream that fails is 3', () => {
  for (const main of [
    `throw new TypeError('an\\n odd one');`,
    `setTimeout(() => { throw new TypeError('an\\n odd one'); }, 10); return 0;`,
    `Promise.reject(new TypeError('an\\n odd one')); return new Promise((done) => setTimeout(done, 1000));`,
  ]) {
    const { code, output } = run(main);
    assert.match(output, /^kslide: internal error, please report it: TypeError: an odd one at [^\n]*\n$/);
    assert.ok(!output.includes('async (args)'));
    assert.equal(code, 70);
    assert.deepEqual(run(main, [], {}, '>/dev/full 2>&1'), { code: 3, output: '' });
  }
  const reject = 'return Promise.reject(undefined);';
  assert.match(run(reject).output, /^kslide: internal error, please report it: .*undefined.*\n$/);
  const write = `process.stdout.write('x'.repeat(1e6)); return 0;`;
  for (const [where, error] of [
    ['2>&1 >/dev/full | cat', 'ENOSPC'],
    ['2>"$0.err" | true; cat "$0.err"', 'EPIPE'],
  ] as const)
    assert.deepEqual(run(write, [], {}, where), { code: 3, output: `kslide: output failed: ${error}\n` });
});

test("packages and Node's modules can be required, and a missing package is an error", () => {
  const main = `process.stdout.write(typeof new (require('node:events').EventEmitter)().emit); return 0;`;
  assert.deepEqual(run(main), { code: 0, output: 'function' });
  assert.equal(run(`try { require('no-such-package'); return 0; } catch { return 4; }`).code, 4);
});

test("the compile cache is asked for before the bundle is loaded, where Node has one and the home is the user's own", () => {
  const preload = join(root, 'preload.cjs');
  const home = join(root, 'home');
  mkdirSync(home);
  const environment = { NODE_OPTIONS: `--require ${preload}`, HOME: home };
  const main = `process.stdout.write('main'); return 0;`;
  writeFileSync(preload, `require('node:module').enableCompileCache = (path) => process.stdout.write(path + ',');`);
  assert.deepEqual(run(main, [], environment), { code: 0, output: `${home}/.cache/kslide/compiled,main` });
  // What lies in a folder of another user must not run here. 1 is the user of a root that tries this, 0 that of anybody else.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) chownSync(home, 1, 1);
  for (const other of [isRoot ? home : '/', join(root, 'no-such-folder'), ''])
    assert.deepEqual(run(main, [], { ...environment, HOME: other }), { code: 0, output: 'main' });
  if (isRoot) chownSync(home, 0, 0);
  writeFileSync(preload, `require('node:module').enableCompileCache = undefined;`);
  assert.deepEqual(run(main, [], environment), { code: 0, output: 'main' });
});

test('what is installed as kslide is that', () => {
  const { bin, version: named } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    readonly bin: { readonly kslide: string };
    readonly version: string;
  };
  assert.deepEqual([bin.kslide, named], ['bin/kslide.js', version]);
});
