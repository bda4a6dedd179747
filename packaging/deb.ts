/**
 * Writes dist/kslide_VERSION_all.deb, with dpkg-deb alone:
 *
 *     npm run deb [-- FOLDER]
 *
 * Builds from what `npm run build` has made. The same sources, Node and dpkg give the same bytes: all files have one time, which is SOURCE_DATE_EPOCH or
 * the last commit's, and root as their owner.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { readCommandLine } from './manual/commands.ts';
import { renderBash, renderFish, renderZsh } from './manual/completions.ts';
import { renderManPage } from './manual/man-page.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Manifest {
  readonly version: string;
  readonly author: { readonly name: string; readonly email: string };
  readonly homepage: string;
}

/** A file of the package. Contents are bytes, or the target of a symbolic link. */
type Entry = { readonly mode: number; readonly bytes: Uint8Array } | { readonly target: string };
/** By path, without a slash in front. */
type Contents = Map<string, Entry>;

const LIBRARY = 'usr/lib/kslide';
const DOCS = 'usr/share/doc/kslide';
const PLAIN = 0o644;
const PROGRAM = 0o755;

async function main(folder: string): Promise<string> {
  const manifest = JSON.parse(read('package.json')) as Manifest;
  const epoch = readEpoch();
  const contents: Contents = new Map();

  addProgram(contents);
  addDisassembler(contents);
  // The page for browsers.
  contents.set('usr/share/kslide/kslide.html', plain(read('dist/kslide.html')));
  await addManual(contents, epoch);
  addDocs(contents, manifest, epoch);
  const conffiles = addHooks(contents);
  const control = controlFiles(contents, conffiles, manifest);

  return pack(contents, control, { epoch, file: join(folder, `kslide_${manifest.version}_all.deb`) });
}

/** Seconds since 1970. */
function readEpoch(): number {
  const given = process.env['SOURCE_DATE_EPOCH'];
  const text = given ?? execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: ROOT, encoding: 'utf8' }).trim();
  if (!/^\d{1,11}$/.test(text)) throw new RangeError(`SOURCE_DATE_EPOCH is ${JSON.stringify(text)}, expected seconds`);
  return Number(text);
}

/** The bundles, and what picks one of them. */
function addProgram(contents: Contents): void {
  // Debian's Node, whatever else PATH has: the package depends on that one.
  const start = read('bin/kslide.js').replace(/^#!.*/, '#!/usr/bin/node');
  contents.set(`${LIBRARY}/bin/kslide.js`, { mode: PROGRAM, bytes: utf8(start) });
  contents.set(`${LIBRARY}/bin/package.json`, plain(read('bin/package.json')));
  const bundles = readdirSync(join(ROOT, 'dist/cli')).filter((name) => name.endsWith('.cjs'));
  for (const name of bundles) contents.set(`${LIBRARY}/dist/cli/${name}`, plain(read(`dist/cli/${name}`)));
  contents.set('usr/bin/kslide', { target: '../lib/kslide/bin/kslide.js' });
}

/** iced-x86 reads its WebAssembly from beside its own file, so it is no part of a bundle. `shuffle` and `verify` of recovered tables load it. */
function addDisassembler(contents: Contents): void {
  const from = join(ROOT, 'node_modules/iced-x86');
  for (const name of ['package.json', 'iced_x86.js', 'iced_x86_bg.wasm'])
    contents.set(`${LIBRARY}/node_modules/iced-x86/${name}`, { mode: PLAIN, bytes: readFileSync(join(from, name)) });
}

async function addManual(contents: Contents, epoch: number): Promise<void> {
  const line = await readCommandLine();
  const date = new Date(epoch * 1000).toISOString().slice(0, 10);
  const page = renderManPage(line, { readme: read('README.md'), date, docs: `/${DOCS}` });
  contents.set('usr/share/man/man1/kslide.1.gz', compressed(page));
  contents.set('usr/share/bash-completion/completions/kslide', plain(renderBash(line)));
  contents.set('usr/share/zsh/vendor-completions/_kslide', plain(renderZsh(line)));
  contents.set('usr/share/fish/vendor_completions.d/kslide.fish', plain(renderFish(line)));
}

/** docs/results are the data that the figures in the pages come from; nobody reads them here. */
function addDocs(contents: Contents, { version, author }: Manifest, epoch: number): void {
  const pages = readdirSync(join(ROOT, 'docs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length))
    .filter((path) => !path.startsWith('docs/results/'));
  for (const path of ['README.md', 'CHANGELOG.md', ...pages])
    contents.set(`${DOCS}/${path}`, { mode: PLAIN, bytes: readFileSync(join(ROOT, path)) });
  const licences = ['LICENSE', 'node_modules/commander/LICENSE', 'node_modules/iced-x86/LICENSE.txt'].map(read);
  contents.set(`${DOCS}/copyright`, plain(renderCopyright(licences)));
  const date = new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
  const changes = `kslide (${version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- ${author.name} <${author.email}>  ${date}\n`;
  contents.set(`${DOCS}/changelog.gz`, compressed(changes));
}

const GRANT = 'Permission is hereby granted, free of charge, to any person obtaining';

function renderCopyright(licences: readonly string[]): string {
  const [own, commander, iced] = licences.map((text) => {
    const holders = /^Copyright \(c\) (.*)$/im.exec(text)?.[1];
    if (holders === undefined || !text.includes(GRANT))
      throw new RangeError(`not an MIT licence: ${text.slice(0, 80)}`);
    return holders;
  });
  const terms = licences[0]!.slice(licences[0]!.indexOf(GRANT));
  const paragraphs = terms
    .trimEnd()
    .split('\n')
    .map((row) => ` ${row === '' ? '.' : row}`);
  return `${[
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: kslide',
    '',
    ...[
      ['*', own],
      [`${LIBRARY}/dist/cli/*`, `${own}\n ${commander} (commander, in each of these files)`],
      [`${LIBRARY}/node_modules/iced-x86/*`, iced],
    ].flatMap(([files, holders]) => [`Files: ${files}`, `Copyright: ${holders}`, 'License: Expat', '']),
    'License: Expat',
    ...paragraphs,
  ].join('\n')}\n`;
}

/** What keeps a converted kernel for each kernel that is installed. Returns the files that belong to the machine's administrator. */
function addHooks(contents: Contents): string[] {
  const conffiles = new Map([
    ['etc/default/kslide', plain(read('packaging/debian/default'))],
    ['etc/kernel/postinst.d/zz-kslide', program(read('packaging/debian/kernel-postinst'))],
    ['etc/kernel/postrm.d/zz-kslide', program(read('packaging/debian/kernel-postrm'))],
  ]);
  for (const [path, entry] of conffiles) contents.set(path, entry);
  contents.set(`${LIBRARY}/kernel-hook`, program(read('packaging/kernel/kernel-hook')));
  contents.set('usr/lib/kernel/install.d/95-kslide.install', program(read('packaging/kernel/kernel-install-plugin')));
  return [...conffiles.keys()];
}

function controlFiles(contents: Contents, conffiles: readonly string[], manifest: Manifest): Contents {
  const { version, author, homepage } = manifest;
  const sums: string[] = [];
  let kilobytes = 0;
  for (const [path, entry] of contents) {
    if ('target' in entry) continue;
    kilobytes += Math.ceil(entry.bytes.length / 1024);
    sums.push(`${createHash('md5').update(entry.bytes).digest('hex')}  ${path}\n`);
  }
  const control = read('packaging/debian/control')
    .replaceAll('@VERSION@', version)
    .replaceAll('@MAINTAINER@', `${author.name} <${author.email}>`)
    .replaceAll('@HOMEPAGE@', homepage)
    .replaceAll('@SIZE@', `${kilobytes}`);
  return new Map([
    ['DEBIAN/control', plain(control)],
    ['DEBIAN/conffiles', plain(conffiles.map((path) => `/${path}\n`).join(''))],
    ['DEBIAN/md5sums', plain(sums.toSorted((a, b) => (a.slice(34) < b.slice(34) ? -1 : 1)).join(''))],
    ['DEBIAN/postrm', program(read('packaging/debian/postrm'))],
  ]);
}

function pack(
  contents: Contents,
  control: Contents,
  { epoch, file }: { readonly epoch: number; readonly file: string },
): string {
  const stage = mkdtempSync(join(tmpdir(), 'kslide-deb-'));
  try {
    const folders = new Set(['.', 'var/lib/kslide']);
    mkdirSync(join(stage, 'var/lib/kslide'), { recursive: true });
    folders.add('var').add('var/lib');
    for (const [path, entry] of [...contents, ...control]) {
      for (let folder = dirname(path); folder !== '.'; folder = dirname(folder)) folders.add(folder);
      mkdirSync(join(stage, dirname(path)), { recursive: true });
      if ('target' in entry) symlinkSync(entry.target, join(stage, path));
      else writeFileSync(join(stage, path), entry.bytes);
      // Not by the umask.
      if ('mode' in entry) chmodSync(join(stage, path), entry.mode);
      lutimesSync(join(stage, path), epoch, epoch);
    }
    // After the last file in each.
    for (const folder of folders) {
      chmodSync(join(stage, folder), PROGRAM);
      lutimesSync(join(stage, folder), epoch, epoch);
    }
    mkdirSync(dirname(file), { recursive: true });
    // One thread, because xz with several writes other bytes, and xz by name, because Ubuntu's default is another compression.
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', stage, file], {
      env: { ...process.env, SOURCE_DATE_EPOCH: `${epoch}`, DPKG_DEB_THREADS_MAX: '1' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
  return file;
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function plain(text: string): Entry {
  return { mode: PLAIN, bytes: utf8(text) };
}

function program(text: string): Entry {
  return { mode: PROGRAM, bytes: utf8(text) };
}

function compressed(text: string): Entry {
  return { mode: PLAIN, bytes: gzipSync(text, { level: 9 }) };
}

const [folder = join(ROOT, 'dist')] = process.argv.slice(2);
process.stdout.write(`${await main(folder)}\n`);
