/** What `npm publish` would send, and the Debian package: built twice, in folders of different names, from the files of this working tree. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
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
import { gzipSync } from 'node:zlib';
import { COMMANDS } from '../src/cli/main.ts';
import { makeBzImage } from './bzimage/make-image.ts';
import { makeVmlinux } from './make-vmlinux.ts';
import { DATA_AT, link, makeRecoverKernel } from './recover/make-kernel.ts';
import { build } from 'esbuild';
import { coreCodecs } from '../src/codecs/formats.ts';
import { convert } from '../src/convert.ts';
import { Browser } from './cli/browser.ts';

const repository = fileURLToPath(new URL('..', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'kslide-package-'));
after(() => rmSync(root, { recursive: true }));

interface Package {
  readonly folder: string;
  readonly sha256: string;
  readonly files: readonly string[];
  readonly unpackedSize: number;
  /** The Debian package. */
  readonly deb: string;
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
  // With a umask that says nothing of what is packed.
  const debs = execFileSync(
    'sh',
    ['-c', 'umask 077; exec node --import tsx packaging/deb.ts "$0"', join(folder, 'deb')],
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, SOURCE_DATE_EPOCH: '1700000000' },
    },
  );
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
    deb: debs.trim(),
  };
}

const built = buildIn('one');
const read = (path: string): string => readFileSync(join(built.folder, path), 'utf8');

test('two builds in different folders give the same bytes', () => {
  const other = buildIn('in/another-folder');
  assert.equal(other.sha256, built.sha256);
  assert.ok(readFileSync(other.deb).equals(readFileSync(built.deb)), 'the Debian packages differ');
});

test('only what a user runs or reads is in it', () => {
  const allowed =
    /^(package\.json|README\.md|CHANGELOG\.md|LICENSE|bin\/[\w.]+|docs\/.+|packaging\/container\/.+|dist\/.+\.(c?js|d\.ts)|dist\/kslide\.html)$/;
  assert.deepEqual(
    built.files.filter((path) => !allowed.test(path) || path.startsWith('docs/results/')),
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
  // 600 files and 5.86 MB at the end of November 2026.
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

test('the README says which folders the pages name that are not in the package', () => {
  const pages = built.files.filter((path) => path.endsWith('.md') && path !== 'CHANGELOG.md');
  const folders = readdirSync(repository, { withFileTypes: true }).filter(
    (entry) => entry.isDirectory() && /^\w/.test(entry.name),
  );
  const absent = folders
    .map(({ name }) => name)
    .filter(
      (name) =>
        name !== 'node_modules' && name !== 'release' && !built.files.some((path) => path.startsWith(`${name}/`)),
    );
  const named = absent.filter((name) =>
    pages.some((path) => new RegExp(String.raw`(?<![\w./-])(\.\./)*${name}/\w`).test(read(path))),
  );
  const [, said = ''] =
    /^The pages name files in (.*), and commands such as .*in the repository, not in the packages\.$/m.exec(
      read('README.md'),
    ) ?? [];
  assert.deepEqual(
    Array.from(said.matchAll(/`(\w+)\/`/g), ([, name]) => name),
    named.toSorted(),
  );
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

/** Unpacked, and its kslide started by this Node. */
function unpackDeb(): string {
  const unpacked = join(root, 'deb');
  execFileSync('dpkg-deb', ['--extract', built.deb, unpacked]);
  return unpacked;
}

const { version, author, homepage } = JSON.parse(read('package.json')) as {
  readonly version: string;
  readonly author: { readonly name: string; readonly email: string };
  readonly homepage: string;
};

test('the Debian package: its name, its fields, its files with their owner and modes', () => {
  assert.match(built.deb, new RegExp(`/kslide_${version.replaceAll('.', String.raw`\.`)}_all\\.deb$`));
  const field = (name: string): string =>
    execFileSync('dpkg-deb', ['--field', built.deb, name], { encoding: 'utf8' }).trim();
  for (const [name, value] of [
    ['Package', 'kslide'],
    ['Version', version],
    ['Architecture', 'all'],
    ['Maintainer', `${author.name} <${author.email}>`],
    ['Homepage', homepage],
    ['Depends', 'nodejs (>= 20)'],
  ] as const)
    assert.equal(field(name), value);
  const rows = execFileSync('dpkg-deb', ['--contents', built.deb], { encoding: 'utf8' }).trimEnd().split('\n');
  const found = rows.map((row) => {
    const [mode = '', owner = '', , date = '', time = '', ...path] = row.split(/ +/);
    assert.equal(owner, 'root/root', row);
    assert.match(`${date} ${time}`, /^2023-11-1[45] /);
    return { mode, path: path.join(' ') };
  });
  const paths = (mode: string): string[] =>
    found.flatMap((entry) => (entry.mode === mode ? [entry.path] : [])).toSorted();
  assert.deepEqual(paths('lrwxrwxrwx'), ['./usr/bin/kslide -> ../lib/kslide/bin/kslide.js']);
  assert.deepEqual(paths('-rwxr-xr-x'), [
    './etc/kernel/postinst.d/zz-kslide',
    './etc/kernel/postrm.d/zz-kslide',
    './usr/lib/kernel/install.d/95-kslide.install',
    './usr/lib/kslide/bin/kslide.js',
    './usr/lib/kslide/kernel-hook',
  ]);
  const docs = '/usr/share/doc/kslide/';
  assert.deepEqual(
    paths('-rw-r--r--').filter((path) => !path.startsWith(`.${docs}docs/`)),
    [
      './etc/default/kslide',
      './usr/lib/kslide/bin/package.json',
      ...['kslide', ...Object.keys(COMMANDS)].map((name) => `./usr/lib/kslide/dist/cli/${name}.cjs`).toSorted(),
      ...['iced_x86.js', 'iced_x86_bg.wasm', 'package.json'].map(
        (name) => `./usr/lib/kslide/node_modules/iced-x86/${name}`,
      ),
      './usr/share/bash-completion/completions/kslide',
      ...['CHANGELOG.md', 'README.md', 'changelog.gz', 'copyright'].map((name) => `.${docs}${name}`),
      './usr/share/fish/vendor_completions.d/kslide.fish',
      './usr/share/kslide/kslide.html',
      './usr/share/man/man1/kslide.1.gz',
      './usr/share/zsh/vendor-completions/_kslide',
    ],
  );
  assert.deepEqual(
    paths('drwxr-xr-x').length,
    found.length - paths('lrwxrwxrwx').length - paths('-rwxr-xr-x').length - paths('-rw-r--r--').length,
  );
  assert.ok(paths('-rw-r--r--').includes(`.${docs}docs/design.md`));
  const control = execFileSync('dpkg-deb', ['--ctrl-tarfile', built.deb]);
  assert.match(
    execFileSync('tar', ['-tv'], { input: control, encoding: 'utf8' }),
    /^-rwxr-xr-x root\/root .* \.\/postrm$/m,
  );
  assert.equal(
    execFileSync('tar', ['-xO', './conffiles'], { input: control, encoding: 'utf8' }),
    '/etc/default/kslide\n/etc/kernel/postinst.d/zz-kslide\n/etc/kernel/postrm.d/zz-kslide\n',
  );
});

test('the Debian package runs: conversion, proof, the judge with its disassembler, and the hooks', () => {
  const unpacked = unpackDeb();
  const start = join(unpacked, 'usr/lib/kslide/bin/kslide.js');
  assert.equal(readFileSync(start, 'utf8').split('\n')[0], '#!/usr/bin/node');
  assert.equal(join(unpacked, 'usr/bin', readlinkSync(join(unpacked, 'usr/bin/kslide'))), start);
  const kslide = (...args: string[]): string => {
    const ran = spawnSync(process.execPath, [join(unpacked, 'usr/bin/kslide'), ...args], {
      encoding: 'utf8',
      cwd: root,
    });
    assert.equal(ran.status, 0, ran.stderr);
    return ran.stdout;
  };
  assert.equal(kslide('--version'), `${version}\n`);
  writeFileSync(join(root, 'vmlinuz'), makeBzImage({ payload: gzipSync(makeVmlinux()) }));
  kslide('convert', 'vmlinuz', '-o', 'vmlinux');
  assert.match(kslide('verify', 'vmlinuz', 'vmlinux'), /^proved/m);
  writeFileSync(join(root, 'bare'), makeRecoverKernel({ code: `48c7c7${link(DATA_AT)} 48c7c6${link(DATA_AT + 8)}` }));
  kslide('convert', 'bare', '--recover', '-o', 'recovered');
  assert.match(kslide('verify', 'bare', 'recovered'), /^consistent/m);

  // The hooks, on this root.
  rmSync(join(unpacked, 'usr/bin/kslide'));
  writeFileSync(join(unpacked, 'usr/bin/kslide'), `#!/bin/sh\nexec '${process.execPath}' '${start}' "$@"\n`);
  chmodSync(join(unpacked, 'usr/bin/kslide'), 0o755);
  const hook = (name: string): string => {
    const ran = spawnSync(join(unpacked, 'etc/kernel', name, 'zz-kslide'), ['6.12.0-test', join(root, 'vmlinuz')], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], KSLIDE_HOOK_ROOT: unpacked },
    });
    assert.equal(ran.status, 0);
    return ran.stderr;
  };
  assert.equal(hook('postinst.d'), '');
  const settings = join(unpacked, 'etc/default/kslide');
  writeFileSync(settings, readFileSync(settings, 'utf8').replace(/^KSLIDE_MAKE=$/m, 'KSLIDE_MAKE=vmlinux'));
  assert.match(hook('postinst.d'), /^kslide: made .* and verified it\.\n.* is vmlinux-6\.12\.0-test now\.\n$/);
  assert.ok(readFileSync(join(unpacked, 'var/lib/kslide/vmlinux')).equals(readFileSync(join(root, 'vmlinux'))));
  assert.match(hook('postrm.d'), /removed .*vmlinux-6\.12\.0-test\.\n$/);
  assert.deepEqual(readdirSync(join(unpacked, 'var/lib/kslide')), ['.lock']);
});

test('the Debian package holds no path of the machine that built it', () => {
  const bytes = execFileSync('dpkg-deb', ['--fsys-tarfile', built.deb], { maxBuffer: 1 << 26 });
  for (const path of [built.folder, root, repository.slice(0, -1)]) assert.ok(!bytes.includes(path), path);
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
