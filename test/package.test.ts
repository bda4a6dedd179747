/** What `npm publish` would send: built twice, in folders of different names, from the files of this working tree. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { COMMANDS } from '../src/cli/main.ts';
import { coreCodecs } from '../src/codecs/formats.ts';
import { convert } from '../src/convert.ts';
import { Browser } from './cli/browser.ts';
import { makeVmlinux } from './make-vmlinux.ts';

const repository = fileURLToPath(new URL('..', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'kslide-package-'));
after(() => rmSync(root, { recursive: true }));

interface Package {
  readonly folder: string;
  readonly sha256: string;
  readonly files: readonly string[];
  readonly unpackedSize: number;
}

/** Everything that the build and the package need; node_modules is shared. */
function buildIn(name: string): Package {
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  for (const entry of readdirSync(repository)) {
    if (/^(\.git|node_modules|dist|test|bench)$/.test(entry)) continue;
    cpSync(join(repository, entry), join(folder, entry), { recursive: true });
  }
  symlinkSync(join(repository, 'node_modules'), join(folder, 'node_modules'));
  const npm = (...args: string[]): string =>
    execFileSync('npm', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  npm('run', 'build');
  const [packed] = JSON.parse(npm('pack', '--json', '--ignore-scripts')) as [
    { readonly filename: string; readonly files: readonly { readonly path: string }[]; readonly unpackedSize: number },
  ];
  return {
    folder,
    sha256: createHash('sha256')
      .update(readFileSync(join(folder, packed.filename)))
      .digest('hex'),
    files: packed.files.map(({ path }) => path),
    unpackedSize: packed.unpackedSize,
  };
}

const built = buildIn('one');
const read = (path: string): string => readFileSync(join(built.folder, path), 'utf8');

test('two builds in different folders give the same bytes', () => {
  assert.equal(buildIn('in/another-folder').sha256, built.sha256);
});

test('only what a user runs or reads is in it', () => {
  const allowed =
    /^(package\.json|README\.md|CHANGELOG\.md|LICENSE|bin\/[\w.]+|docs\/.+|packaging\/container\/.+|dist\/.+\.(c?js|d\.ts)|dist\/kslide\.html)$/;
  assert.deepEqual(
    built.files.filter((path) => !allowed.test(path)),
    [],
  );
  for (const path of [
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
    'bin/kslide.js',
    'dist/cli/kslide.cjs',
    'dist/cli/convert.cjs',
    'dist/kslide.html',
    'docs/design.md',
  ])
    assert.ok(built.files.includes(path), path);
  // 600 files and 5 MB in November 2026, with room to grow by a sixth; and the page for browsers with its picture, 0.3 MB.
  assert.ok(built.files.length < 700, `${built.files.length} files`);
  assert.ok(built.unpackedSize < 6_200_000, `${built.unpackedSize} bytes`);
});

test('every door of "exports" is there, with its types, and can be imported', async () => {
  const { exports: doors } = JSON.parse(read('package.json')) as {
    readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string }>>;
  };
  for (const [name, door] of Object.entries(doors)) {
    for (const path of [door.types, door.default]) assert.ok(built.files.includes(path.slice(2)), `${name}: ${path}`);
    assert.notDeepEqual(Object.keys((await import(join(built.folder, door.default))) as object), [], name);
  }
});

test('every relative import leads to a file of the package', () => {
  for (const path of built.files.filter((file) => /\.(js|d\.ts)$/.test(file) && file.startsWith('dist/'))) {
    for (const [, target = ''] of read(path).matchAll(/^(?:import|export) .*?from '(\.[^']+)';$/gm)) {
      const file = join(dirname(path), path.endsWith('.d.ts') ? target.replace(/\.[jt]s$/, '.d.ts') : target);
      assert.ok(built.files.includes(file), `${path}: ${target}`);
    }
  }
});

test('it holds no path of the machine that built it, and names no source map', () => {
  for (const path of built.files) {
    const text = read(path);
    for (const folder of [built.folder, root, repository.slice(0, -1)])
      assert.ok(!text.includes(folder), `${path} holds ${folder}`);
    assert.ok(!text.includes('sourceMappingURL='), path);
  }
});

test('the command line of the package runs', () => {
  const output = execFileSync(process.execPath, [join(built.folder, 'bin/kslide.js'), '--version'], {
    encoding: 'utf8',
  });
  assert.equal(output.trim(), (JSON.parse(read('package.json')) as { readonly version: string }).version);
  // As from the sources: every command has its bundle, and the one for --help finds them all.
  for (const args of [['--help'], ['help', 'convert'], ...Object.keys(COMMANDS).map((name) => [name, '--help'])]) {
    const run = (...command: string[]): string =>
      execFileSync(process.execPath, [...command, ...args], { encoding: 'utf8', cwd: repository });
    const source = run('--import', 'tsx', join(repository, 'test/cli/kslide.ts'));
    assert.equal(run(join(built.folder, 'bin/kslide.js')), source, args.join(' '));
  }
  const scripts = built.files.filter((path) => path.startsWith('dist/cli/') && !path.endsWith('.cjs'));
  assert.deepEqual(scripts, [], 'the command line is in the bundles only');
});

const noBrowser = Browser.isInstalled()
  ? false
  : 'no chromium; scripts/test-setup.sh installs it where it is a package';

describe('the door `kslide` in a browser', { skip: noBrowser }, async () => {
  const browser = noBrowser === false ? await Browser.start() : undefined;
  after(() => browser?.close());
  const server = createServer(({ url = '/' }, response) => {
    const file = join(built.folder, 'dist', url);
    const isScript = url.endsWith('.js') && existsSync(file);
    response.writeHead(isScript || url === '/' ? 200 : 404, {
      'content-type': isScript ? 'text/javascript' : 'text/html',
    });
    response.end(isScript ? readFileSync(file) : '<!doctype html><title>a page</title>');
  });
  if (noBrowser === false) await once(server.listen(0, '127.0.0.1'), 'listening');
  after(() => server.close());
  const address = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

  const kernel = makeVmlinux();
  const expected = (await convert(kernel, { codecs: coreCodecs })).bytes();
  /** Converts and proves; what it needs is in the module at `url`. */
  const use = (url: string): string => `(async () => {
    const { convert, verify, coreCodecs } = await import(${JSON.stringify(url)});
    const kernel = Uint8Array.from(atob(${JSON.stringify(Buffer.from(kernel).toString('base64'))}), (c) => c.charCodeAt(0));
    const bytes = (await convert(kernel, { codecs: coreCodecs })).bytes();
    const { verdict } = await verify(kernel, bytes, { codecs: coreCodecs });
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    return { verdict, sha256: Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('') };
  })()`;
  const right = { verdict: 'proved', sha256: createHash('sha256').update(expected).digest('hex') };

  test('as modules, as they are in the package', async () => {
    await browser!.open(address());
    assert.deepEqual(await browser!.evaluate(use('/index.js')), right);
  });

  test('bundled by its name, without a warning', async () => {
    const { outputFiles, warnings } = await build({
      stdin: { contents: "export * from 'kslide'", resolveDir: built.folder },
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
      logLevel: 'silent',
    });
    assert.deepEqual(warnings, []);
    writeFileSync(join(built.folder, 'dist/bundled.js'), outputFiles[0]!.contents);
    await browser!.open(address());
    assert.deepEqual(await browser!.evaluate(use('/bundled.js')), right);
  });
});
