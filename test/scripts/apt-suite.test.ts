/** Against an apt of our own: a shell script that says which mirror there is, and takes an update or not. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { openSuite } from '../../scripts/kernels/apt-suite.ts';

let root = '';
const path = process.env['PATH'];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kslide-suite-'));
  mkdirSync(join(root, 'bin'));
  process.env['PATH'] = `${join(root, 'bin')}:${path}`;
});

afterEach(() => {
  process.env['PATH'] = path;
  rmSync(root, { recursive: true });
});

/** `targets`: what `apt-get indextargets` says; `update`: what an update does in the shell. */
function install(targets: string, update: string): void {
  const file = join(root, 'bin', 'apt-get');
  writeFileSync(
    file,
    `#!/bin/sh\ncase "$*" in\nindextargets*) printf '${targets}' ;;\n*update) echo update >> '${root}/log'; ${update} ;;\nesac\n`,
  );
  chmodSync(file, 0o755);
}

const MIRRORS = 'Debian-Security http://security.example/\\nDebian http://mirror.example/debian/\\n';
const updates = (): number => readFileSync(join(root, 'log'), 'utf8').split('\n').length - 1;

test("lists of their own, from this machine's mirror, updated once", async () => {
  install(MIRRORS, 'true');
  const options = await openSuite('bullseye', root);
  const folder = join(root, 'suites', 'bullseye');
  assert.deepEqual(
    options.filter((option) => option.startsWith('Dir::')),
    [
      `Dir::Etc::sourcelist=${folder}/sources.list`,
      'Dir::Etc::sourceparts=-',
      `Dir::State::lists=${folder}/lists`,
      `Dir::Cache=${folder}`,
    ],
  );
  const source = readFileSync(join(folder, 'sources.list'), 'utf8');
  assert.match(source, /^deb \[arch=amd64 signed-by=\/\S+\] http:\/\/mirror\.example\/debian\/ bullseye main\n$/);
  assert.deepEqual(readdirSync(folder).toSorted(), ['archives', 'lists', 'sources.list']);
  assert.deepEqual(await openSuite('bullseye', root), options);
  assert.equal(updates(), 1);
});

test('old lists are renewed, and kept when that fails', async () => {
  install(MIRRORS, 'true');
  const options = await openSuite('bullseye', root);
  const age = (): void => utimesSync(join(root, 'suites', 'bullseye'), 0, 0);
  age();
  await openSuite('bullseye', root);
  assert.equal(updates(), 2);
  install(MIRRORS, 'exit 100');
  age();
  assert.deepEqual(await openSuite('bullseye', root), options);
  assert.equal(updates(), 3);
  assert.deepEqual(readdirSync(join(root, 'suites')), ['bullseye']);
});

test('a suite that is not there, and a machine that is not of Debian', async () => {
  install(MIRRORS, 'echo "E: no Release file" >&2; exit 100');
  const refused = { name: 'EnvironmentError', problem: 'no-kernel' };
  await assert.rejects(openSuite('buzz', root), { ...refused, what: 'apt has no suite buzz: E: no Release file' });
  assert.deepEqual(readdirSync(join(root, 'suites')), []);
  install('Ubuntu http://mirror.example/ubuntu/\\n', 'true');
  await assert.rejects(openSuite('buzz', root), refused);
});
