/** `--exec` as whoever starts it sees it: what the command gets, how it ends, and that nothing stays behind, whoever is killed. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { openMemoryFile } from '../../src/node/files/temporary-file.ts';
import { randomize } from '../../src/randomize.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { KSLIDE } from '../cli/program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-launch-'));
after(() => rmSync(directory, { recursive: true }));
const root = fileURLToPath(new URL('../..', import.meta.url));
const input = join(directory, 'vmlinux');
writeFileSync(input, makeVmlinux());
const SEED = '00'.repeat(16);
const expected = (
  await randomize(makeVmlinux(), { codecs: coreCodecs, virt: 'random', seed: new Uint8Array(16) })
).bytes();
const digest = createHash('sha256').update(expected).digest('hex');

const node = [...KSLIDE, 'randomize', input, '--seed', SEED, '--exec'];

function start(args: readonly string[], extra: readonly number[] = []): ChildProcess & { text: () => string } {
  const child = spawn(process.execPath, [...node, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe', ...extra] });
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  return Object.assign(child, { text: () => text });
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (condition()) return;
    await sleep(50);
  }
  assert.fail(what);
}

async function endOf(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal };
}

/** Alive and not a zombie. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function ran(args: readonly string[], extra: readonly number[] = []): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...node, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe', ...extra],
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, text: stdout + stderr };
}

test('the command gets the image by path, in its arguments and in its environment; its exit code passes through', () => {
  const { status, text } = ran([
    '--',
    'sh',
    '-c',
    'sha256sum <$1; cat "$KSLIDE_IMAGE" "$2" | wc -c; exit 7',
    'sh',
    '{}',
    '{}',
  ]);
  assert.equal(status, 7, text);
  assert.deepEqual(text.split(/\s+/).slice(0, 3), [digest, '-', `${expected.length * 2}`]);
});

test('{} is replaced inside an argument, and the image cannot be written', () => {
  const { status, text } = ran([
    '--',
    'sh',
    '-c',
    'echo "$1"; cmp "${1#kernel=}" "$1" 2>/dev/null; : >>"${1#kernel=}"',
    'sh',
    'kernel={}',
  ]);
  assert.match(text, /^kernel=\/proc\/self\/fd\/\d+\n/);
  // Root may open anything anew for writing; the descriptor that was handed over is for reading in any case.
  if (process.getuid?.() !== 0) assert.notEqual(status, 0);
});

test('descriptors that the command inherits keep their numbers', () => {
  const secret = join(directory, 'inherited');
  writeFileSync(secret, 'inherited\n');
  const { status, text } = ran(['--', 'sh', '-c', 'cat <&3; test "{}" != /proc/self/fd/3'], [openSync(secret, 'r')]);
  assert.deepEqual({ status, text }, { status: 0, text: 'inherited\n' });
});

test('signals pass through, to the command and back', async () => {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const) {
    const caught = start([
      '--',
      'sh',
      '-c',
      `trap "echo got; exit 5" ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`,
    ]);
    await until('ready', () => caught.text().includes('ready'));
    caught.kill(signal);
    assert.deepEqual(await endOf(caught), { code: 5, signal: null }, signal);
    assert.match(caught.text(), /got/);
  }
  const killed = start(['--', 'sh', '-c', 'echo ready; exec sleep 60']);
  await until('ready', () => killed.text().includes('ready'));
  killed.kill('SIGTERM');
  assert.deepEqual(await endOf(killed), { code: null, signal: 'SIGTERM' });
  assert.deepEqual(await endOf(start(['--', 'sh', '-c', 'kill -ABRT $$'])), { code: null, signal: 'SIGABRT' });
});

test('a launcher that is killed takes the command with it, and an image that has a name is removed', async () => {
  const child = start(['--exec-dir', directory, '--', 'sh', '-c', 'echo pid=$$; exec sleep 60']);
  await until('pid', () => /pid=\d+\n/.test(child.text()));
  const pid = Number(/pid=(\d+)/.exec(child.text())?.[1]);
  const named = (): string[] => readdirSync(directory).filter((name) => name.startsWith('kslide-'));
  assert.equal(named().length, 1);
  assert.deepEqual(new Uint8Array(readFileSync(join(directory, named()[0]!))), expected);
  child.kill('SIGKILL');
  await until('the command is gone', () => !runs(pid));
  await until('the image is gone', () => named().length === 0);
});

test('an image with a name goes when the command ends, and when it is killed', async () => {
  const exists = ran(['--exec-dir', directory, '--', 'sh', '-c', 'test -f {} && echo {}']);
  assert.equal(exists.status, 0);
  assert.equal(existsSync(exists.text.trim()), false);
  assert.match(exists.text, new RegExp(`^${directory}/kslide-`));
  assert.deepEqual(await endOf(start(['--exec-dir', directory, '--', 'sh', '-c', 'kill -KILL $$'])), {
    code: null,
    signal: 'SIGKILL',
  });
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.startsWith('kslide-')),
    [],
  );
});

test('what cannot be started is said in one line', () => {
  assert.deepEqual(ran(['--', '/nonexistent/vmm', '{}']), {
    status: 3,
    text: 'kslide: /nonexistent/vmm: no such program\n',
  });
  assert.deepEqual(ran(['--exec-dir', '/nonexistent', '--', 'true', '{}']).status, 2);
  assert.match(ran([]).text, /^kslide: --exec needs a command: --exec -- COMMAND … \{\} …\n$/);
});

test('where there is no room, the next place is taken; where there is none, that is said', () => {
  const fd = openMemoryFile([expected.subarray(0, 5), expected.subarray(5)], ['/nonexistent', directory]);
  assert.deepEqual(new Uint8Array(readFileSync(fd)), expected);
  assert.throws(
    () => openMemoryFile([expected], ['/nonexistent', '/proc']),
    /^DiskError: \/nonexistent, \/proc: no room for a file in memory/,
  );
});
