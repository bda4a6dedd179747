/** Standard output and standard error that cannot be written, for every command: exit code 3 and one line, never another answer. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { COMMANDS } from '../../src/cli/main.ts';
import { convert } from '../../src/convert.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { makeKernel64 } from '../relocs/fixtures.ts';
import { makeKernel } from '../shuffle/make-kernel.ts';
import { KSLIDE } from './program.ts';

const directory = fs.mkdtempSync(join(tmpdir(), 'kslide-streams-'));
after(() => fs.rmSync(directory, { recursive: true }));
const root = fileURLToPath(new URL('../..', import.meta.url));

function file(name: string, contents: Uint8Array | string): string {
  const path = join(directory, name);
  fs.writeFileSync(path, contents);
  return path;
}

const vmlinux = file('vmlinux', makeVmlinux());
const bzImage = file('bzImage', makeBzImage({ payload: gzipSync(makeVmlinux()) }));
const buildable = file('buildable', makeBuildable());
const converted = file('converted', (await convert(makeVmlinux(), { codecs: coreCodecs })).bytes());
const log = file('log', 'Kernel Offset: 0x1f400000 from 0xffffffff81000000\n');
const out = join(directory, 'out');

// In place of QEMU: a guest that prints its slide and panics.
const qemu = `#!/bin/sh
case "$1" in --version) echo 'QEMU emulator version 9.9.9'; exit 0;; esac
echo '[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs'
echo '[    1.0] Kernel Offset: 0x200000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)'
`;
fs.mkdirSync(join(directory, 'bin'));
fs.writeFileSync(join(directory, 'bin/qemu-system-x86_64'), qemu, { mode: 0o755 });

/** Each command so that it prints something on standard output. The name of a new command belongs here too. */
const PRINTING: Readonly<Record<string, readonly (readonly string[])[]>> = {
  convert: [
    [vmlinux, '-o', out],
    [vmlinux, '-o', '-', '--quiet'],
    [vmlinux, '-o', '/dev/stdout', '--quiet'],
  ],
  bzimage: [[buildable, '-o', out, '--json', '--compression', 'none']],
  extract: [[bzImage]],
  inspect: [[bzImage], [bzImage, '--json']],
  shuffle: [[file('debug', makeKernel().unstripped), '-o', out]],
  randomize: [[vmlinux, '-o', out]],
  relocs: [[file('rela', makeKernel64({}))], [file('rela', makeKernel64({})), '--text']],
  verify: [
    [vmlinux, converted],
    [vmlinux, vmlinux, '--json'],
  ],
  boot: [[vmlinux], [vmlinux, '--json']],
  audit: [[converted, '--boots', '1']],
  // Boots that are measured need the real QEMU, so only its --help here. It prints as the others do: see the test of the sources below.
  bench: [],
  offset: [[log], [log, '--json']],
  doctor: [[vmlinux], [vmlinux, '--json']],
};

const LINES = new Map(
  Object.entries(PRINTING).flatMap(([command, lines]) =>
    (lines.length === 0 ? [['--help']] : lines).map((line) => {
      const args = [command, ...line];
      return [args.map((word) => word.replace(`${directory}/`, '')).join(' '), args] as const;
    }),
  ),
);
for (const args of [['convert', '--help'], ['--help'], ['--version'], ['help']]) LINES.set(args.join(' '), args);

/** A bzImage whose decompressor holds the sizes of its payload, as `bzimage` wants them. */
function makeBuildable(): Uint8Array {
  const payload = new Uint8Array(gzipSync(makeVmlinux(), { level: 1 }));
  const image = makeBzImage({ payload, fields: { init_size: 0x300_0000, kernel_info_offset: 0 } });
  const writer = new Writer(image);
  writer.u32(0x400 + 0x40 + payload.length + 4, payload.length);
  writer.u32(0x400 + 0x40 + payload.length + 8, makeVmlinux().length);
  return image;
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The streams are pipes that are read, unless a descriptor is given. `shell` may do something before the command. */
async function kslide(
  args: readonly string[],
  { stdout, stderr, shell = '' }: { stdout?: number; stderr?: number; shell?: string } = {},
): Promise<Ended> {
  const command = [process.execPath, ...KSLIDE, ...args];
  const child = spawn('/bin/sh', ['-c', `${shell} exec "$@"`, 'sh', ...command], {
    cwd: root,
    stdio: ['ignore', stdout ?? 'pipe', stderr ?? 'pipe'],
    env: { ...process.env, PATH: `${join(directory, 'bin')}:${process.env['PATH']}` },
    timeout: 120_000,
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (text: string) => (said[name] += text));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...said };
}

/** A pipe as a shell makes it, of which the reader is here. */
function makePipe(name: string, { blocking = true } = {}): { readonly reader: number; readonly writer: number } {
  const path = join(directory, name);
  execFileSync('mkfifo', [path]);
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  const reader = fs.openSync(path, O_RDONLY | O_NONBLOCK);
  return { reader, writer: fs.openSync(path, blocking ? O_WRONLY : O_WRONLY | O_NONBLOCK) };
}

const full = fs.openSync('/dev/full', 'w');
const { reader, writer: closed } = makePipe('closed');
fs.closeSync(reader);
const readOnly = fs.openSync('/dev/null', 'r');
after(() => [full, closed, readOnly].forEach((fd) => fs.closeSync(fd)));

test('every command is in this test', () => {
  assert.deepEqual(Object.keys(PRINTING), Object.keys(COMMANDS));
});

for (const [name, args] of LINES) {
  test(`${name}: standard output that is full, has no reader, or is not for writing`, async () => {
    const isHelp = args.at(-1) === '--help';
    for (const [stdout, reason] of [
      [full, 'no space left on device'],
      ...(isHelp ? [] : [[closed, 'its reader closed it'] as const]),
      ...(name === '--version' ? [[readOnly, 'bad file descriptor'] as const] : []),
    ] as const) {
      fs.rmSync(out, { force: true });
      assert.deepEqual(await kslide(args, { stdout }), {
        code: 3,
        stdout: '',
        stderr: `kslide: standard output: ${reason}\n`,
      });
    }
  });
}

for (const command of Object.keys(COMMANDS)) {
  test(`${command}: standard error that cannot be written`, async () => {
    const ended = await kslide([command, '--nonsense'], { stderr: full });
    assert.deepEqual(ended, { code: 3, stdout: '', stderr: '' });
  });
}

test('the report beside -o -, a remark, the usage', async () => {
  for (const args of [
    ['convert', vmlinux, '-o', '-'],
    ['verify', vmlinux, file('moved', 'no kernel')],
    ['offset', file('nothing', 'no slide')],
    [],
  ])
    assert.equal((await kslide(args, { stderr: full })).code, 3);
  const both = await kslide(['inspect', bzImage], { stdout: full, stderr: full });
  assert.deepEqual(both, { code: 3, stdout: '', stderr: '' });
});

test('the answer is in the exit code where nothing is to be written', async () => {
  const silent = { stdout: full, stderr: full };
  assert.equal((await kslide(['verify', vmlinux, converted, '--quiet'], silent)).code, 0);
  assert.equal((await kslide(['verify', vmlinux, vmlinux, '--quiet'], silent)).code, 1);
  assert.equal((await kslide(['inspect', bzImage, '--quiet'], silent)).code, 0);
});

test('a file that may not grow', async () => {
  const path = join(directory, 'limited');
  const stdout = fs.openSync(path, 'w');
  const ended = await kslide(['inspect', bzImage, '--json'], { stdout, shell: 'ulimit -f 0;' });
  fs.closeSync(stdout);
  assert.deepEqual(ended, { code: 3, stdout: '', stderr: 'kslide: standard output: file too large\n' });
});

const canMount = process.geteuid?.() === 0;

test('a file system that is full: what fits is written', { skip: !canMount && 'only root can mount' }, async () => {
  const place = join(directory, 'tmpfs');
  fs.mkdirSync(place);
  // A namespace of its own: the mount ends with the process.
  const shell = `exec unshare -m sh -c 'mount -t tmpfs -o size=4k tmpfs "$0" && head -c 4000 /dev/zero >"$0/f" && { "$@" >>"$0/f"; code=$?; tail -c +4001 "$0/f"; exit $code; }' ${place} "$@";`;
  const { code, stdout, stderr } = await kslide(['inspect', bzImage, '--json'], { shell });
  assert.deepEqual({ code, stderr }, { code: 3, stderr: 'kslide: standard output: no space left on device\n' });
  const whole = (await kslide(['inspect', bzImage, '--json'])).stdout;
  assert.equal(stdout, Buffer.from(whole).subarray(0, 96).toString());
});

test('a reader that is slow, at a pipe that does not block, gets everything', async () => {
  const expected = (await kslide(['inspect', bzImage])).stdout;
  for (const blocking of [true, false]) {
    const pipe = makePipe(`slow-${blocking}`, { blocking });
    const before = fs.writeSync(pipe.writer, Buffer.alloc(65_536 - 100));
    const running = kslide(['inspect', bzImage], { stdout: pipe.writer });
    fs.closeSync(pipe.writer);
    await Promise.race([sleep(3000), running]);
    const read: Buffer[] = [];
    const buffer = Buffer.alloc(1000);
    for (;;) {
      await sleep(1);
      try {
        const count = fs.readSync(pipe.reader, buffer);
        if (count === 0) break;
        read.push(Buffer.from(buffer.subarray(0, count)));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
      }
    }
    fs.closeSync(pipe.reader);
    assert.deepEqual(await running, { code: 0, stdout: '', stderr: '' });
    assert.equal(Buffer.concat(read).subarray(before).toString(), expected);
  }
});

test('boot: a guest whose console nobody can see ends at once', async () => {
  fs.mkdirSync(join(directory, 'endless'));
  const endless = `#!/bin/sh
case "$1" in --version) echo 'QEMU emulator version 9.9.9'; exit 0;; esac
while sleep 0.1; do echo console; done
`;
  fs.writeFileSync(join(directory, 'endless/qemu-system-x86_64'), endless, { mode: 0o755 });
  const shell = `PATH=${join(directory, 'endless')}:$PATH;`;
  const started = performance.now();
  const ended = await kslide(['boot', vmlinux, '--timeout', '60'], { stdout: full, shell });
  assert.deepEqual(ended, { code: 3, stdout: '', stderr: 'kslide: standard output: no space left on device\n' });
  assert.ok(performance.now() - started < 50_000);
});

test('only two files know the standard streams: their errors would otherwise come too late', () => {
  const folder = join(root, 'src');
  const users = fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .filter((name) =>
      /process\.std(out|err)|\bconsole\.(log|error|warn|info)\(/.test(
        fs.readFileSync(join(folder, name), 'utf8').replaceAll(/\/\*.*?\*\/|\/\/[^\n]*/gs, ''),
      ),
    );
  assert.deepEqual(users, []);
});
