/** Against an apt of our own: three shell scripts first in PATH that know a few packages, so that every release of the world fits in here. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fetchKernel, findModule } from '../../scripts/kernels/debian.ts';
import { EnvironmentError } from '../../src/node/errors.ts';

interface World {
  /** Meta-packages and what they depend on. */
  readonly metas?: Record<string, string>;
  /** What `apt-cache search` lists. */
  readonly names?: readonly string[];
  /** What can be downloaded, and the files in it. */
  readonly packages?: Record<string, readonly string[]>;
  /** Nothing is known before `apt-get update`. */
  readonly stale?: boolean;
  /** What apt must be called with. */
  readonly options?: readonly string[];
}

let root = '';
let cache = '';
const path = process.env['PATH'];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kslide-apt-'));
  cache = join(root, 'cache');
});

afterEach(() => {
  process.env['PATH'] = path;
  rmSync(root, { recursive: true });
});

function script(name: string, body: string): void {
  const file = join(root, 'bin', name);
  writeFileSync(file, `#!/bin/sh\necho "${name} $*" >> '${root}/log'\n${body}\n`);
  chmodSync(file, 0o755);
}

function install({ metas = {}, names = [], packages = {}, stale = false, options = [] }: World): void {
  mkdirSync(join(root, 'bin'));
  if (!stale) writeFileSync(join(root, 'updated'), '');
  const known = `[ -e '${root}/updated' ] || exit 100`;
  const given = options.map((option) => `${option} `).join('');
  const depends = Object.entries(metas).map(
    ([meta, real]) => `'${given}depends ${meta}') echo ${meta}; printf '  Depends: %s\\n' '${real}' ;;`,
  );
  const search = `'${given}search --names-only ^linux-image-') printf '%s - Linux\\n' ${names.join(' ')} ;;`;
  script('apt-cache', `${known}\ncase "$*" in\n${depends.join('\n')}\n${search}\n*) exit 100 ;; esac`);
  const downloads = Object.keys(packages).map(
    (name) => `'${given}download ${name}') echo ${name} > ${name}_1_amd64.deb ;;`,
  );
  script(
    'apt-get',
    `case "$*" in\nupdate) touch '${root}/updated' ;;\n${downloads.join('\n')}\n*) echo "E: no network" >&2; exit 100 ;; esac`,
  );
  const unpacks = Object.entries(packages).map(([name, files]) => {
    const made = files.map((file) => `mkdir -p "$(dirname '${file}')" && echo x > '${file}'`).join(' && ');
    return `${name}) ${made} ;;`;
  });
  script('dpkg-deb', `case "$(cat "$2")" in\n${unpacks.join('\n')}\nesac`);
  script('sudo', 'shift; exec "$@"');
  process.env['PATH'] = `${join(root, 'bin')}:${path}`;
}

const log = (): string[] => readFileSync(join(root, 'log'), 'utf8').trimEnd().split('\n');
const files = (release: string): string[] => [
  `boot/vmlinuz-${release}`,
  `lib/modules/${release}/kernel/drivers/block/loop.ko.xz`,
];

test('a meta-package names the kernel; it is unpacked into the cache, once', async () => {
  const name = 'linux-image-6.12.117+deb12-cloud-amd64';
  const release = '6.12.117+deb12-cloud-amd64';
  install({ metas: { 'linux-image-6.12-cloud-amd64': name }, packages: { [name]: files(release) } });
  const kernel = await fetchKernel({ series: '6.12', flavour: 'cloud' }, { cache });
  const folder = join(cache, name);
  assert.deepEqual(kernel, {
    name,
    release,
    image: join(folder, 'boot', `vmlinuz-${release}`),
    modules: join(folder, 'lib', 'modules', release),
  });
  assert.equal(existsSync(kernel.image), true);
  assert.equal(existsSync(join(folder, `${name}_1_amd64.deb`)), false);
  assert.equal(
    await findModule(kernel, 'loop'),
    join(folder, 'lib', 'modules', release, 'kernel/drivers/block/loop.ko.xz'),
  );
  assert.equal(await findModule(kernel, 'loo'), undefined);

  assert.deepEqual(await fetchKernel({ series: '6.12', flavour: 'cloud' }, { cache }), kernel);
  assert.equal(log().filter((line) => line.startsWith('apt-get download')).length, 1);
});

test('a current kernel of another series is passed over; the lists have the newest, by number, signed if possible', async () => {
  const name = 'linux-image-6.1.0-56-amd64';
  install({
    metas: { 'linux-image-amd64': 'linux-image-6.12.48+deb13-amd64' },
    names: [
      'linux-image-6.1.0-9-amd64',
      'linux-image-6.1.0-56-amd64-unsigned',
      name,
      'linux-image-6.1.0-56-amd64-dbg',
      'linux-image-6.1.0-99-cloud-amd64',
      'linux-image-6.1.0-99-rt-amd64',
      'linux-image-6.12.48+deb13-amd64',
      'linux-image-6.1-amd64',
    ],
    packages: { [name]: files('6.1.0-56-amd64') },
  });
  assert.equal((await fetchKernel({ series: '6.1', flavour: 'generic' }, { cache })).name, name);
});

test('an unsigned kernel where the newest is nothing else', async () => {
  const name = 'linux-image-6.12.99+deb13-rt-amd64-unsigned';
  install({
    names: ['linux-image-6.12.98+deb13-rt-amd64', name],
    packages: { [name]: files('6.12.99+deb13-rt-amd64') },
  });
  assert.equal((await fetchKernel({ series: '6.12', flavour: 'rt' }, { cache })).name, name);
});

test('empty package lists are updated, once', async () => {
  const name = 'linux-image-6.12.48+deb13-cloud-amd64';
  install({
    metas: { 'linux-image-cloud-amd64': name },
    packages: { [name]: files('6.12.48+deb13-cloud-amd64') },
    stale: true,
  });
  const steps: string[] = [];
  const onStep = (text: string): void => void steps.push(text);
  assert.equal((await fetchKernel({ flavour: 'cloud' }, { cache, onStep })).name, name);
  assert.deepEqual(steps, [
    "updating apt's package lists: apt has no kernel package of flavour cloud",
    `downloading ${name}`,
  ]);
  assert.equal(log().filter((line) => line === 'apt-get update').length, 1);
});

test('Ubuntu: the kernel for virtual machines, and its modules from their own package', async () => {
  const release = '6.8.0-45-generic';
  const name = `linux-image-${release}`;
  install({
    metas: { 'linux-image-virtual': name },
    packages: {
      [name]: [`boot/vmlinuz-${release}`],
      [`linux-modules-${release}`]: [`usr/lib/modules/${release}/kernel/loop.ko.zst`],
    },
  });
  const kernel = await fetchKernel({ flavour: 'cloud' }, { cache });
  assert.equal(kernel.name, name);
  assert.equal(await findModule(kernel, 'loop'), join(cache, name, 'usr/lib/modules', release, 'kernel/loop.ko.zst'));
});

test('Debian since 6.19: an empty package that depends on kernel and modules, with the options of another suite', async () => {
  const release = '7.2.13+deb14-cloud-amd64';
  const name = `linux-image-${release}`;
  const parts = [`linux-base-${release}`, `linux-binary-${release}`, `linux-modules-${release}`];
  const folder = `usr/lib/modules/${release}`;
  const apt = ['-o', 'Dir::Cache=x'];
  install({
    metas: { 'linux-image-cloud-amd64': name, [name]: parts.join("' '") },
    packages: {
      [name]: ['usr/share/doc/empty'],
      [parts[1]!]: [`${folder}/vmlinuz`],
      [parts[2]!]: [`${folder}/kernel/loop.ko.xz`],
    },
    options: apt,
  });
  const kernel = await fetchKernel({ flavour: 'cloud' }, { cache, apt });
  assert.deepEqual(kernel, {
    name,
    release,
    image: join(cache, name, folder, 'vmlinuz'),
    modules: join(cache, name, folder),
  });
  assert.equal(await findModule(kernel, 'loop'), join(cache, name, folder, 'kernel/loop.ko.xz'));
  assert.ok(!log().some((line) => line.includes('linux-base-')), 'what is not needed stays where it is');
});

test('without a network, the newest in the cache; without that, what to do', async () => {
  install({ metas: { 'linux-image-cloud-amd64': 'linux-image-6.1.0-57-cloud-amd64' } });
  const wish = { flavour: 'cloud' } as const;
  await assert.rejects(fetchKernel(wish, { cache }), (error) => {
    assert.ok(error instanceof EnvironmentError);
    assert.equal(
      error.message,
      'apt-get download linux-image-6.1.0-57-cloud-amd64 failed: E: no network; run: sudo apt-get update, or pass a kernel image of your own',
    );
    return true;
  });
  for (const release of ['6.1.0-9-cloud-amd64', '6.1.0-56-cloud-amd64', '6.1.0-60-amd64']) {
    mkdirSync(join(cache, `linux-image-${release}`, 'boot'), { recursive: true });
    writeFileSync(join(cache, `linux-image-${release}`, 'boot', `vmlinuz-${release}`), '');
  }
  assert.equal((await fetchKernel(wish, { cache })).release, '6.1.0-56-cloud-amd64');
});

test('apt without any kernel says what was looked for', async () => {
  install({});
  await assert.rejects(fetchKernel({ series: '9.9', flavour: 'rt' }, { cache }), {
    name: 'EnvironmentError',
    message:
      'apt has no kernel package of flavour rt, series 9.9; run: sudo apt-get update, or pass a kernel image of your own',
  });
});

test('no apt at all', async () => {
  process.env['PATH'] = '/nonexistent';
  await assert.rejects(fetchKernel({ flavour: 'cloud' }, { cache }), {
    name: 'EnvironmentError',
    problem: 'missing-program',
  });
});
