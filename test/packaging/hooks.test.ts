/**
 * What keeps a converted kernel for each kernel that is installed (packaging/kernel, packaging/debian), in a root of its own with a stand-in for kslide,
 * which "converts" by a copy. test/package.test.ts runs the hooks with the real one, and scripts/try-deb.sh under apt.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const packaging = fileURLToPath(new URL('../../packaging', import.meta.url));
const ON = 'KSLIDE_MAKE=vmlinux\n';

let root = '';
const at = (path: string): string => join(root, path);
const made = (name = ''): string => at(join('var/lib/kslide', name));

/** BAD kernels are not converted, UNPROVED ones do not pass verify. */
const STAND_IN = `#!/bin/sh
echo "$*" >>"\${0%/*}/log"
case "$1" in
  --version) echo 1.2.3 ;;
  convert)
    if grep -q BAD "$3"; then echo 'kslide: not a kernel' >&2; exit 2; fi
    sleep "\${STAND_IN_SLEEP:-0}"
    cat "$3" >"$5" ;;
  verify) if grep -q UNPROVED "$4"; then exit 1; fi ;;
  *) exit 70 ;;
esac
`;

function put(path: string, text: string, mode = 0o644): string {
  mkdirSync(dirname(at(path)), { recursive: true });
  writeFileSync(at(path), text);
  chmodSync(at(path), mode);
  return at(path);
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kslide-hooks-'));
  for (const [from, to] of [
    ['kernel/kernel-hook', 'usr/lib/kslide/kernel-hook'],
    ['kernel/kernel-install-plugin', 'plugin'],
    ['debian/kernel-postinst', 'postinst'],
    ['debian/kernel-postrm', 'postrm'],
    ['debian/postrm', 'package-postrm'],
    ['debian/default', 'etc/default/kslide'],
  ] as const) {
    mkdirSync(dirname(at(to)), { recursive: true });
    copyFileSync(join(packaging, from), at(to));
  }
  put('usr/bin/kslide', STAND_IN, 0o755);
});

afterEach(() => rmSync(root, { recursive: true }));

interface Ran {
  readonly code: number | null;
  readonly stderr: string;
}

function run(program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Ran {
  // A umask that would take away what others may read.
  const { status, stdout, stderr } = spawnSync('sh', ['-c', 'umask 077; exec "$@"', 'sh', at(program), ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], KSLIDE_HOOK_ROOT: root, ...environment },
  });
  assert.equal(stdout, '', 'standard output may be debconf');
  return { code: status, stderr: stderr.replaceAll(root, '') };
}

const install = (version: string, text = `kernel ${version}\n`): Ran =>
  run('postinst', [version, put(`boot/vmlinuz-${version}`, text)]);
const remove = (version: string, how = 'remove'): Ran =>
  run('postrm', [version, at(`boot/vmlinuz-${version}`)], { DEB_MAINT_PARAMS: how });
const calls = (): string[] => readFileSync(at('usr/bin/log'), 'utf8').split('\n').slice(0, -1);
/** All names but the lock's. */
const names = (): string[] =>
  readdirSync(made())
    .filter((name) => name !== '.lock')
    .toSorted();

test('off until the settings name what to make, whatever the environment says', () => {
  const image = put('boot/vmlinuz-6.1', 'kernel');
  for (const program of ['postinst', 'plugin'] as const) {
    const args = program === 'plugin' ? ['add', '6.1', '/entries', image] : ['6.1', image];
    assert.deepEqual(run(program, args, { KSLIDE_MAKE: 'vmlinux' }), { code: 0, stderr: '' });
  }
  assert.deepEqual(remove('6.1'), { code: 0, stderr: '' });
  assert.equal(existsSync(made()), false);
  assert.equal(existsSync(at('usr/bin/log')), false);
});

test('a kernel: converted, verified, then named and linked; readable by all; done once', () => {
  put('etc/default/kslide', ON);
  const { code, stderr } = install('6.1');
  assert.equal(code, 0);
  assert.equal(
    stderr,
    'kslide: made /var/lib/kslide/vmlinux-6.1 from /boot/vmlinuz-6.1, and verified it.\nkslide: /var/lib/kslide/vmlinux is vmlinux-6.1 now.\n',
  );
  assert.deepEqual(names(), ['vmlinux', 'vmlinux-6.1', 'vmlinux-6.1.sha256']);
  assert.equal(lstatSync(made('vmlinux-6.1')).mode, 0o100644);
  assert.equal(readlinkSync(made('vmlinux')), 'vmlinux-6.1');
  execFileSync('sha256sum', ['--quiet', '--strict', '-c', 'vmlinux-6.1.sha256'], { cwd: made() });
  const temporary = made('.vmlinux-6.1.new');
  assert.deepEqual(calls(), [
    '--version',
    `convert --quiet ${at('boot/vmlinuz-6.1')} -o ${temporary}`,
    `verify --quiet ${at('boot/vmlinuz-6.1')} ${temporary}`,
  ]);
  // kernel-install, after Debian's hook.
  assert.deepEqual(run('plugin', ['add', '6.1', '/entries', at('boot/vmlinuz-6.1'), '/initrd']), {
    code: 0,
    stderr: '',
  });
  assert.deepEqual(calls().slice(3), ['--version']);
  // Another kslide makes another file.
  put('usr/bin/kslide', STAND_IN.replace('1.2.3', '1.2.4'), 0o755);
  assert.match(install('6.1').stderr, /^kslide: made /);
});

for (const [what, text, reason, first] of [
  ['is not converted', 'BAD', 'kslide convert failed', 'kslide: not a kernel\n'],
  ['is not proved', 'UNPROVED', 'what kslide convert wrote did not pass kslide verify', ''],
] as const) {
  test(`a kernel that ${what}: the package installs, a message says so, and nothing changes`, () => {
    put('etc/default/kslide', ON);
    assert.deepEqual(install('6.1', text), {
      code: 0,
      stderr: `${first}kslide: NO CONVERTED KERNEL for 6.1: ${reason}. There is no /var/lib/kslide/vmlinux.\n`,
    });
    assert.deepEqual(names(), []);
    install('6.0');
    const still = '/var/lib/kslide/vmlinux still is vmlinux-6.0';
    assert.deepEqual(install('6.1', text), {
      code: 0,
      stderr: `${first}kslide: NO CONVERTED KERNEL for 6.1: ${reason}. ${still}.\n`,
    });
    assert.deepEqual(names(), ['vmlinux', 'vmlinux-6.0', 'vmlinux-6.0.sha256']);
    // A newer build of the same version.
    assert.deepEqual(install('6.0', text), {
      code: 0,
      stderr: `${first}kslide: NO CONVERTED KERNEL for 6.0: ${reason}. /var/lib/kslide/vmlinux-6.0 stays as it is. ${still}.\n`,
    });
    assert.equal(readFileSync(made('vmlinux-6.0'), 'utf8'), 'kernel 6.0\n');
    assert.equal(run('usr/lib/kslide/kernel-hook', ['add', '6.0', at('boot/vmlinuz-6.0')]).code, 1);
  });
}

test('a kslide that does not run, or is not there, does not keep a kernel from being installed', () => {
  put('etc/default/kslide', ON);
  rmSync(at('usr/bin/kslide'));
  const { code, stderr } = install('6.1');
  assert.equal(code, 0);
  assert.match(stderr, /\nkslide: NO CONVERTED KERNEL for 6\.1: \/usr\/bin\/kslide does not run\. There is no /);
  // The package was removed, its conffiles were not.
  rmSync(at('usr/lib/kslide'), { recursive: true });
  assert.deepEqual(install('6.1'), { code: 0, stderr: '' });
  assert.deepEqual(remove('6.1'), { code: 0, stderr: '' });
  assert.deepEqual(run('plugin', ['add', '6.1', '/entries', at('boot/vmlinuz-6.1')]), { code: 0, stderr: '' });
});

test('a newer build of the same version replaces the file', () => {
  put('etc/default/kslide', ON);
  install('6.1', 'one\n');
  assert.deepEqual(remove('6.1', 'upgrade 6.1-2'), { code: 0, stderr: '' });
  install('6.1', 'two\n');
  assert.equal(readFileSync(made('vmlinux-6.1'), 'utf8'), 'two\n');
  assert.deepEqual(names(), ['vmlinux', 'vmlinux-6.1', 'vmlinux-6.1.sha256']);
  execFileSync('sha256sum', ['--quiet', '--strict', '-c', 'vmlinux-6.1.sha256'], { cwd: made() });
});

test('the link leads to the newest, in whatever order kernels come and go', () => {
  put('etc/default/kslide', ON);
  const leads = (): string => readlinkSync(made('vmlinux'));
  for (const [version, newest] of [
    ['6.12.9', '6.12.9'],
    ['6.12.10-rc1', '6.12.10-rc1'],
    ['6.12.10', '6.12.10'],
    ['6.12.10-rc2', '6.12.10'],
    ['6.2', '6.12.10'],
  ] as const) {
    assert.equal(install(version).code, 0);
    assert.equal(leads(), `vmlinux-${newest}`);
  }
  for (const [version, newest] of [
    ['6.2', '6.12.10'],
    ['6.12.10', '6.12.10-rc2'],
    ['6.12.10-rc2', '6.12.10-rc1'],
    ['6.12.10-rc1', '6.12.9'],
  ] as const) {
    assert.equal(remove(version).code, 0);
    assert.equal(leads(), `vmlinux-${newest}`);
  }
  assert.deepEqual(remove('6.12.9', 'purge'), {
    code: 0,
    stderr:
      'kslide: no converted kernel is left, so /var/lib/kslide/vmlinux is gone.\nkslide: removed /var/lib/kslide/vmlinux-6.12.9.\n',
  });
  assert.deepEqual(names(), []);
});

test('only files that the hook made are replaced or removed', () => {
  put('etc/default/kslide', ON);
  put('var/lib/kslide/vmlinux-5.0', 'by hand');
  put('var/lib/kslide/vmlinux-5.0.sha256', `${'0'.repeat(64)}  vmlinux-5.0\n`);
  put('var/lib/kslide/other', 'by hand');
  symlinkSync('/etc/passwd', made('vmlinux-5.1'));
  for (const version of ['5.0', '5.1'])
    assert.match(
      install(version).stderr,
      new RegExp(
        `^kslide: NO CONVERTED KERNEL for ${version}: .*vmlinux-${version} is there, and this hook did not make it`,
      ),
    );
  assert.equal(
    remove('5.0').stderr,
    'kslide: /var/lib/kslide/vmlinux-5.0 stays: this hook did not make it, or it was changed since.\n',
  );
  install('6.1');
  writeFileSync(made('vmlinux-6.1'), 'changed');
  install('6.0');
  remove('6.1');
  assert.equal(readFileSync(made('vmlinux-6.1'), 'utf8'), 'changed');
  assert.equal(readlinkSync(made('vmlinux')), 'vmlinux-6.0');
  assert.equal(readFileSync(made('vmlinux-5.0'), 'utf8'), 'by hand');
  // At purge as well.
  assert.equal(run('package-postrm', ['remove']).stderr, '');
  assert.ok(existsSync(made('vmlinux-6.0')));
  assert.equal(
    run('package-postrm', ['purge']).stderr,
    'kslide: /var/lib/kslide/vmlinux-5.0 stays: it was changed since the kernel hook made it.\nkslide: /var/lib/kslide/vmlinux-6.1 stays: it was changed since the kernel hook made it.\n',
  );
  assert.deepEqual(names(), [
    'other',
    'vmlinux-5.0',
    'vmlinux-5.0.sha256',
    'vmlinux-5.1',
    'vmlinux-6.1',
    'vmlinux-6.1.sha256',
  ]);
});

test('purging the package leaves nothing of its own', () => {
  put('etc/default/kslide', ON);
  install('6.1');
  put('var/lib/kslide/.vmlinux-6.2.new', 'left by a call that was killed');
  assert.deepEqual(run('package-postrm', ['purge']), { code: 0, stderr: '' });
  assert.equal(existsSync(made()), false);
  assert.deepEqual(run('package-postrm', ['purge']), { code: 0, stderr: '' });
});

for (const [what, make, message] of [
  ['a file', () => put('var/lib/kslide/vmlinux', 'by hand'), 'is not a link'],
  [
    'a link to elsewhere',
    () => {
      mkdirSync(made(), { recursive: true });
      symlinkSync('/boot/mine', made('vmlinux'));
    },
    'leads to /boot/mine, which this hook did not make',
  ],
] as const) {
  test(`${what} in the link's place stays`, () => {
    put('etc/default/kslide', ON);
    make();
    const { code, stderr } = install('6.1');
    assert.equal(code, 0);
    assert.ok(stderr.endsWith(`kslide: /var/lib/kslide/vmlinux ${message}. It stays as it is.\n`), stderr);
    assert.ok(existsSync(made('vmlinux-6.1')));
    assert.equal(lstatSync(made('vmlinux')).isFile(), what === 'a file');
    assert.match(remove('6.1').stderr, /^kslide: removed .*\n.* It stays as it is\.\n$/);
    assert.equal(lstatSync(made('vmlinux')).isFile(), what === 'a file');
  });
}

test('what a killed call has left goes, and does not count', () => {
  put('etc/default/kslide', ON);
  install('6.1', 'one');
  put('var/lib/kslide/.vmlinux-6.1.new', 'half');
  put('var/lib/kslide/.vmlinux-6.1.sha256.new', 'half');
  symlinkSync('vmlinux-6.2', made('.vmlinux.new'));
  // Killed between the record of both and the new file's name.
  const record = readFileSync(made('vmlinux-6.1.sha256'), 'utf8').split('\n')[1]!;
  put('var/lib/kslide/vmlinux-6.1.sha256', `${record}\n${'0'.repeat(64)}  vmlinux-6.1\n`);
  assert.match(install('6.1', 'two').stderr, /^kslide: made /);
  assert.deepEqual(names(), ['vmlinux', 'vmlinux-6.1', 'vmlinux-6.1.sha256']);
});

test('settings that are no settings: the kernel installs, and a message says what is wrong', () => {
  put('etc/default/kslide', "KSLIDE_MAKE='vmlinux\n");
  const { code, stderr } = install('6.1');
  assert.equal(code, 0);
  assert.notEqual(stderr, '');
  put('etc/default/kslide', 'KSLIDE_MAKE=bzimage\n');
  assert.deepEqual(install('6.1'), {
    code: 0,
    stderr:
      "kslide: /etc/default/kslide: KSLIDE_MAKE is 'bzimage', expected vmlinux, or nothing. No kernel was converted.\n",
  });
  rmSync(at('etc/default/kslide'));
  assert.deepEqual(install('6.1'), { code: 0, stderr: '' });
  assert.equal(existsSync(made()), false);
});

test('the settings choose kernels by patterns', () => {
  put('etc/default/kslide', `${ON}KSLIDE_KERNELS='*-cloud-amd64 5.*'\n`);
  for (const version of ['6.1-amd64', '6.1-cloud-amd64', '5.4', '15.4']) install(version);
  assert.deepEqual(
    names().filter((name) => !name.endsWith('.sha256')),
    ['vmlinux', 'vmlinux-5.4', 'vmlinux-6.1-cloud-amd64'],
  );
});

test('`installed` converts what is there, in /boot or beside the modules, and fails if one fails', () => {
  const hook = 'usr/lib/kslide/kernel-hook';
  assert.match(run(hook, ['installed']).stderr, /does not say what to make/);
  put('etc/default/kslide', ON);
  put('boot/vmlinuz-6.1', 'BAD');
  put('boot/vmlinuz-6.2', 'in boot');
  put('usr/lib/modules/6.2/vmlinuz', 'beside the modules');
  put('usr/lib/modules/6.3/vmlinuz', 'beside the modules');
  assert.equal(run(hook, ['installed']).code, 1);
  assert.equal(readFileSync(made('vmlinux-6.2'), 'utf8'), 'in boot');
  assert.equal(readFileSync(made('vmlinux-6.3'), 'utf8'), 'beside the modules');
  assert.equal(readlinkSync(made('vmlinux')), 'vmlinux-6.3');
  // As Debian's packages of Linux 7 call: the path in /boot, before anybody has put the image there.
  assert.equal(run('postinst', ['6.3', at('boot/vmlinuz-6.3')]).stderr, '');
  assert.match(
    run('postinst', ['6.4', at('boot/vmlinuz-6.4')]).stderr,
    /its image was not found: neither \/boot\/vmlinuz-6\.4 nor \/usr\/lib\/modules\/6\.4\/vmlinuz is there/,
  );
});

test('versions that are no part of a file name are refused', () => {
  put('etc/default/kslide', ON);
  put('boot/vmlinuz', 'kernel');
  for (const version of ['', '..', '.hidden', '-o', 'a/b', 'a b', 'a\nb', 'a*'])
    assert.equal(run('usr/lib/kslide/kernel-hook', ['add', version, at('boot/vmlinuz')]).code, 1, version);
  for (const args of [[], ['add', '6.1'], ['remove'], ['installed', 'x'], ['other', '6.1']])
    assert.equal(run('usr/lib/kslide/kernel-hook', args).code, 2, args.join());
  assert.equal(existsSync(made()), false);
});

test('several at once take turns', async () => {
  put('etc/default/kslide', ON);
  const start = promisify(execFile);
  const environment = { PATH: process.env['PATH'], KSLIDE_HOOK_ROOT: root, STAND_IN_SLEEP: '0.2' };
  const versions = ['6.3', '6.1', '6.4', '6.2', '6.4'];
  await Promise.all(
    versions.map((version) =>
      start(at('postinst'), [version, put(`boot/vmlinuz-${version}`, version)], { env: environment }),
    ),
  );
  assert.equal(readlinkSync(made('vmlinux')), 'vmlinux-6.4');
  for (const version of versions) assert.equal(readFileSync(made(`vmlinux-${version}`), 'utf8'), version);
  // One finished before the next began.
  const steps = calls().flatMap((call) => (call.startsWith('--') ? [] : [call.split(' ')[0]]));
  assert.deepEqual(steps, Array.from({ length: 4 }, () => ['convert', 'verify']).flat());
});

test('kernel-install: add and remove, and nothing for its other commands', () => {
  put('etc/default/kslide', ON);
  const image = put('boot/vmlinuz-6.1', 'kernel');
  assert.match(run('plugin', ['add', '6.1', '/entries', image, '/initrd']).stderr, /^kslide: made /);
  assert.deepEqual(run('plugin', ['inspect', '6.1', '/entries']), { code: 0, stderr: '' });
  assert.match(run('plugin', ['remove', '6.1', '/entries']).stderr, /removed \/var\/lib\/kslide\/vmlinux-6\.1\.\n$/);
  assert.deepEqual(names(), []);
});

test('shellcheck finds nothing in the scripts of the package', () => {
  const repository = dirname(packaging);
  const ours = ['kernel/kernel-hook', 'kernel/kernel-install-plugin', 'debian/kernel-postinst', 'debian/kernel-postrm']
    .concat('debian/postrm', 'debian/default')
    .map((name) => join('packaging', name));
  // SC2034: settings are read elsewhere.
  const options = ['-x', '-P', 'SCRIPTDIR', '-s', 'sh', '-e', 'SC2034'];
  execFileSync('shellcheck', [...options, ...ours, 'scripts/try-deb.sh'], { cwd: repository, stdio: 'inherit' });
});
