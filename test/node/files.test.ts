import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ascii } from '../../src/base/bytes.ts';
import { DiskError, InputFileError, OutputFileError } from '../../src/node/errors.ts';
import { readInputFile, refuseSameFile } from '../../src/node/files/input-file.ts';
import { resolveTarget } from '../../src/node/files/target.ts';
import { InPlace, OutputFile, writeFileAtomic } from '../../src/node/files/output-file.ts';

const root = fs.mkdtempSync(join(tmpdir(), 'kslide-files-'));
after(() => fs.rmSync(root, { recursive: true }));

/** A directory of the test's own, so that it can say what is left in it. */
function emptyDirectory(): string {
  return fs.mkdtempSync(join(root, 't-'));
}

const read = (path: string): Uint8Array => new Uint8Array(fs.readFileSync(path));
const hello = ascii('hello');

/** Another Node that runs `code`, with all of input-file.ts and output-file.ts in scope. */
function child(code: string, stdio: StdioOptions): ChildProcess {
  const module = (name: string): string => JSON.stringify(new URL(`../../src/node/${name}`, import.meta.url).href);
  const program = `import * as reading from ${module('files/input-file.ts')}; import * as writing from ${module('files/output-file.ts')}; const files = { ...reading, ...writing }; ${code}`;
  return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio,
  });
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = '';
  for await (const chunk of stream!) text += String(chunk);
  return text;
}

/** Prints what `call` throws as "name: message". */
const report = (call: string): string =>
  `await ${call}.catch((error) => process.stderr.write(error.name + ': ' + error.message));`;

test('reads a file', async () => {
  const path = join(emptyDirectory(), 'in');
  fs.writeFileSync(path, hello);
  assert.deepEqual(await readInputFile(path), hello);
  fs.writeFileSync(path, '');
  assert.deepEqual(await readInputFile(path), new Uint8Array());
});

test('reads a file that is larger than one read of its head, and shows that first', async () => {
  const path = join(emptyDirectory(), 'in');
  for (const size of [0, 1, 0xffff, 0x1_0000, 0x1_0001, 0x1_0002, 300_001]) {
    const bytes = Uint8Array.from({ length: size }, (_, index) => index * 31 + (index >> 8));
    fs.writeFileSync(path, bytes);
    const heads: Uint8Array[] = [];
    const reading = readInputFile(path, { spare: 10, onHead: (head) => heads.push(head.slice()) });
    assert.deepEqual(heads, [bytes.subarray(0, 0x1_0000)]);
    const found = await reading;
    assert.deepEqual(found, bytes);
    assert.equal(found.buffer.byteLength, size + 10);
    assert.deepEqual(await readInputFile(path), bytes);
  }
});

test('reads a FIFO', async () => {
  const path = join(emptyDirectory(), 'fifo');
  execFileSync('mkfifo', [path]);
  const writer = spawn('sh', ['-c', 'printf hello >"$0"', path]);
  const [bytes] = await Promise.all([readInputFile(path), once(writer, 'close')]);
  assert.deepEqual(bytes, hello);
});

test('an input that is not there, a directory, a device or too large is an InputFileError', async () => {
  const directory = emptyDirectory();
  const missing = join(directory, 'missing');
  const large = join(directory, 'large');
  fs.writeFileSync(large, '');
  fs.truncateSync(large, 2 ** 31 + 1); // a hole: takes no room
  const unusable = [
    [missing, 'no such file or directory'],
    [join(large, 'x'), 'not a directory'],
    [directory, 'is a directory'],
    ['/dev/zero', 'is a device, not a file'],
    [
      large,
      `has 2.1 GB, and kslide reads files of up to 2 GiB (0x80000000 bytes); in a vmlinux that is debug information: strip -g -o SMALL ${large} leaves it out and keeps the kernel and its relocations`,
    ],
  ] as const;
  for (const [path, reason] of unusable) {
    await assert.rejects(readInputFile(path), { name: 'InputFileError', path, reason, message: `${path}: ${reason}` });
  }
  await assert.rejects(readInputFile(missing), InputFileError);
});

test('files that say that they have no size are read to their end, as /proc/kallsyms has to be', async () => {
  assert.equal(fs.statSync('/proc/version').size, 0);
  assert.deepEqual(await readInputFile('/proc/version'), read('/proc/version'));
  const echo = `process.stdout.write(await files.readInputFile('-'));`;
  const redirected = child(echo, [fs.openSync('/proc/version', 'r'), 'pipe', 'inherit']);
  assert.equal(await textOf(redirected.stdout), fs.readFileSync('/proc/version', 'utf8'));
  // It has 8 bytes for each page that a process can have.
  const endless = {
    name: 'InputFileError',
    message: /^\/proc\/self\/pagemap: says that it has no size, and has more than 256 MiB/,
  };
  await assert.rejects(readInputFile('/proc/self/pagemap'), endless);
});

test('reads standard input: a pipe, a file, a directory', async () => {
  const echo = `process.stdout.write(await files.readInputFile('-'));`;
  const piped = child(echo, ['pipe', 'pipe', 'inherit']);
  piped.stdin!.write('hel');
  piped.stdin!.end('lo');
  assert.equal(await textOf(piped.stdout), 'hello');

  const directory = emptyDirectory();
  const path = join(directory, 'in');
  fs.writeFileSync(path, hello);
  const redirected = child(echo, [fs.openSync(path, 'r'), 'pipe', 'inherit']);
  assert.equal(await textOf(redirected.stdout), 'hello');

  const refused = child(report(`files.readInputFile('-')`), [fs.openSync(directory, 'r'), 'inherit', 'pipe']);
  assert.equal(await textOf(refused.stderr), 'InputFileError: standard input: is a directory');
});

test('a new file has all chunks in order, and the permissions asked for', async () => {
  const directory = emptyDirectory();
  const path = join(directory, 'out');
  const umask = process.umask(0o027);
  try {
    await writeFileAtomic(path, [ascii('he'), new Uint8Array(), ascii('llo')]);
    assert.deepEqual(read(path), hello);
    assert.equal(fs.statSync(path).mode & 0o777, 0o640);
    await writeFileAtomic(join(directory, 'program'), [], { mode: 0o777 });
    assert.equal(fs.statSync(join(directory, 'program')).mode & 0o777, 0o750);
  } finally {
    process.umask(umask);
  }
  assert.deepEqual(fs.readdirSync(directory), ['out', 'program']);
});

test('a file that is there keeps its permissions and is replaced, not changed', async () => {
  const directory = emptyDirectory();
  const path = join(directory, 'out');
  fs.writeFileSync(path, 'old', { mode: 0o600 });
  const old = fs.openSync(path, 'r');
  await writeFileAtomic(path, [hello]);
  assert.deepEqual(read(path), hello);
  assert.equal(fs.statSync(path).mode & 0o777, 0o600);
  assert.equal(fs.readFileSync(old, 'utf8'), 'old');
  fs.closeSync(old);
  assert.deepEqual(fs.readdirSync(directory), ['out']);
});

test('links of /proc that do not lead where they say are no outputs', () => {
  // Only resolved, never written: the first is the interpreter that runs this test.
  for (const path of ['/proc/self/exe', `/proc/${process.pid}/exe`, `/proc/self/task/${process.pid}/exe`])
    assert.throws(() => resolveTarget(path), {
      name: 'OutputFileError',
      message: `${path}: is a link of /proc, which is not a path to write to`,
    });
});

test('a symbolic link stays one', async () => {
  const directory = emptyDirectory();
  fs.mkdirSync(join(directory, 'sub'));
  fs.writeFileSync(join(directory, 'sub', 'real'), 'old');
  fs.symlinkSync('sub/real', join(directory, 'link'));
  await writeFileAtomic(join(directory, 'link'), [hello]);
  assert.ok(fs.lstatSync(join(directory, 'link')).isSymbolicLink());
  assert.deepEqual(read(join(directory, 'sub', 'real')), hello);
  assert.deepEqual(fs.readdirSync(join(directory, 'sub')), ['real']);
});

test('a name of 255 bytes', async () => {
  const path = join(emptyDirectory(), 'é'.repeat(127));
  await writeFileAtomic(path, [hello]);
  assert.deepEqual(read(path), hello);
});

test('an output name that cannot be is an OutputFileError, and leaves nothing', async () => {
  const directory = emptyDirectory();
  fs.writeFileSync(join(directory, 'file'), 'x');
  fs.symlinkSync('nowhere', join(directory, 'broken'));
  const before = fs.readdirSync(directory);
  const unusable = [
    [directory, 'is a directory'],
    [join(directory, 'no', 'out'), 'no such file or directory'],
    [join(directory, 'file', 'out'), 'not a directory'],
    [join(directory, 'broken'), 'is a broken symbolic link'],
    [join(directory, 'x'.repeat(256)), 'name too long'],
  ] as const;
  for (const [path, reason] of unusable) {
    await assert.rejects(writeFileAtomic(path, [hello]), { name: 'OutputFileError', path, reason });
  }
  assert.deepEqual(fs.readdirSync(directory), before);
});

/** What a kernel is while it is converted: most of it is known early, and in the end some of that differs. */
const early = Uint8Array.from({ length: 100_000 }, (_, index) => index * 7);
const changed = [early.subarray(0, 10), ascii('patch'), early.subarray(15, 90_000), ascii('behind')];

test('what was begun is in the file, with what came instead and behind', async () => {
  const directory = emptyDirectory();
  const path = join(directory, 'out');
  for (const ends of [[100_000], [1, 12, 50_000], [50_000, 100_000], [0], []]) {
    const file = new OutputFile(path);
    for (const end of ends) file.begin(early, end);
    assert.equal(
      fs.readdirSync(directory).some((name) => name.endsWith('.tmp')),
      ends.length > 0,
    );
    await file.finish(changed);
    await file.discard();
    assert.deepEqual(read(path), new Uint8Array(Buffer.concat(changed)));
    assert.deepEqual(fs.readdirSync(directory), ['out']);
  }
});

test('bytes that are somewhere else in the end are written there', async () => {
  const path = join(emptyDirectory(), 'out');
  const file = new OutputFile(path);
  file.begin(early, early.length);
  const parts = [ascii('before'), early.subarray(0, 50_000), early.slice(50_000)];
  await file.finish(parts);
  assert.deepEqual(read(path), new Uint8Array(Buffer.concat(parts)));
});

test('a file that was begun and discarded leaves what was there', async () => {
  const directory = emptyDirectory();
  const path = join(directory, 'out');
  const before = countListeners();
  const file = new OutputFile(path);
  file.begin(early, early.length);
  await file.discard();
  assert.deepEqual(fs.readdirSync(directory), []);
  fs.writeFileSync(path, 'old');
  const second = new OutputFile(path);
  second.begin(early, early.length);
  await second.discard();
  assert.deepEqual(fs.readdirSync(directory), ['out']);
  assert.equal(fs.readFileSync(path, 'utf8'), 'old');
  assert.equal(countListeners(), before);
});

/** `early` with something else in its middle and behind it. */
const overCopy = [new InPlace(10), ascii('patch'), new InPlace(99_985), ascii('behind')];
const copiedAndChanged = new Uint8Array(
  Buffer.concat([early.subarray(0, 10), ascii('patch'), early.subarray(15), ascii('behind')]),
);

test('a copy of another file, with what came instead and behind; permissions are not copied', async () => {
  const directory = emptyDirectory();
  const [source, path] = [join(directory, 'source'), join(directory, 'out')];
  fs.writeFileSync(source, early, { mode: 0o444 });
  const umask = process.umask(0o027);
  try {
    for (const mode of [0o640, 0o600]) {
      const file = new OutputFile(path);
      file.beginCopy(source);
      assert.equal(await file.hasCopy(early.length), true);
      // The system's copy gives the file its source's permissions, so it lies where nobody else can look.
      const folder = fs.readdirSync(directory).find((name) => name.endsWith('.tmp'))!;
      assert.equal(fs.statSync(join(directory, folder)).mode & 0o7777, 0o700);
      await file.finish(overCopy);
      assert.deepEqual(read(path), copiedAndChanged);
      assert.equal(fs.statSync(path).mode & 0o777, mode);
      fs.chmodSync(path, 0o600); // which the second time it has to keep
    }
    // A result that is shorter than the original.
    const file = new OutputFile(path);
    file.beginCopy(source);
    assert.equal(await file.hasCopy(early.length), true);
    await file.finish([new InPlace(20)]);
    assert.deepEqual(read(path), early.slice(0, 20));
  } finally {
    process.umask(umask);
  }
  assert.deepEqual(fs.readdirSync(directory), ['out', 'source']);
});

test('where there can be no copy, or not the one that was meant, everything is written', async (t) => {
  const directory = emptyDirectory();
  const [source, path] = [join(directory, 'source'), join(directory, 'out')];
  fs.writeFileSync(source, early);
  const before = countListeners();
  const attempt = async (from: string, to: string, size = early.length): Promise<void> => {
    const file = new OutputFile(to);
    file.beginCopy(from);
    assert.equal(await file.hasCopy(size), false);
    await assert.rejects(file.finish(overCopy), RangeError);
    await file.finish(changed);
  };
  await attempt(join(directory, 'missing'), path);
  assert.deepEqual(read(path), new Uint8Array(Buffer.concat(changed)));
  await attempt(source, path, early.length + 1);
  assert.deepEqual(read(path), new Uint8Array(Buffer.concat(changed)));
  await attempt(source, '/dev/null');
  assert.deepEqual(fs.readdirSync(directory), ['out', 'source']);
  assert.equal(countListeners(), before);

  const small = fs.mkdtempSync(join(directory, 'small-'));
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'kslide', small], { encoding: 'utf8' });
  if (mount.status !== 0) return t.skip(`cannot mount a tmpfs to fill: ${mount.stderr.trim()}`);
  try {
    const file = new OutputFile(join(small, 'out'));
    file.beginCopy(source);
    assert.equal(await file.hasCopy(early.length), false);
    assert.deepEqual(fs.readdirSync(small), []);
    await assert.rejects(file.finish([early]), { name: 'DiskError', reason: 'no space left on device' });
    assert.deepEqual(fs.readdirSync(small), []);
  } finally {
    execFileSync('umount', [small]);
  }
});

test('begun with an output name that cannot be: nothing is said before the end', async () => {
  const path = join(emptyDirectory(), 'no', 'out');
  const file = new OutputFile(path);
  file.begin(early, 10);
  file.begin(early, early.length);
  await assert.rejects(file.finish(changed), { name: 'OutputFileError', path, reason: 'no such file or directory' });
});

test('devices and FIFOs are written straight, also what was begun', async () => {
  const file = new OutputFile('/dev/full');
  file.begin(early, early.length);
  await assert.rejects(file.finish(changed), { name: 'DiskError', message: '/dev/full: no space left on device' });

  const fifo = join(emptyDirectory(), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const reader = spawn('cat', [fifo]);
  const begun = new OutputFile(fifo);
  begun.begin(early, early.length);
  const chunks: Buffer[] = [];
  reader.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  await Promise.all([once(reader, 'close'), begun.finish(changed)]);
  assert.deepEqual(Buffer.concat(chunks), Buffer.concat(changed));
});

test('devices and FIFOs are written straight', async () => {
  await writeFileAtomic('/dev/null', [hello]);
  assert.ok(fs.statSync('/dev/null').isCharacterDevice());
  await assert.rejects(writeFileAtomic('/dev/full', [hello]), {
    name: 'DiskError',
    message: '/dev/full: no space left on device',
  });

  const fifo = join(emptyDirectory(), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const reader = spawn('cat', [fifo]);
  const [text] = await Promise.all([textOf(reader.stdout), writeFileAtomic(fifo, [ascii('he'), ascii('llo')])]);
  assert.equal(text, 'hello');
  assert.ok(fs.statSync(fifo).isFIFO());
});

test('a full disk is a DiskError; the old file stays and the temporary one does not', async (t) => {
  const directory = emptyDirectory();
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'kslide', directory], { encoding: 'utf8' });
  if (mount.status !== 0) return t.skip(`cannot mount a tmpfs to fill: ${mount.stderr.trim()}`);
  try {
    const path = join(directory, 'out');
    fs.writeFileSync(path, 'old');
    await assert.rejects(writeFileAtomic(path, [hello, new Uint8Array(0x2_0000)]), {
      name: 'DiskError',
      path,
      reason: 'no space left on device',
    });
    assert.deepEqual(fs.readdirSync(directory), ['out']);
    const file = new OutputFile(path);
    file.begin(early, early.length);
    await assert.rejects(file.finish(changed), { name: 'DiskError', path, reason: 'no space left on device' });
    assert.deepEqual(fs.readdirSync(directory), ['out']);
    assert.equal(fs.readFileSync(path, 'utf8'), 'old');
  } finally {
    execFileSync('umount', [directory]);
  }
});

function countListeners(): number {
  return ['exit', 'SIGINT', 'SIGTERM', 'SIGHUP'].reduce((sum, event) => sum + process.listenerCount(event), 0);
}

test('no listener stays behind', async () => {
  const before = countListeners();
  const directory = emptyDirectory();
  await Promise.all(['a', 'b'].map((name) => writeFileAtomic(join(directory, name), [hello])));
  await assert.rejects(writeFileAtomic('/dev/full', [hello]), DiskError);
  assert.equal(countListeners(), before);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} in the middle of writing leaves nothing, and ends the process`, async () => {
    const directory = emptyDirectory();
    // Many small writes take long enough to be interrupted.
    const chunks = `Array.from({ length: 1e6 }, () => new Uint8Array(1))`;
    const writer = child(
      `await files.writeFileAtomic(${JSON.stringify(join(directory, 'out'))}, ${chunks});`,
      'inherit',
    );
    const closed = once(writer, 'close');
    while (fs.readdirSync(directory).length === 0) await sleep(5);
    assert.match(fs.readdirSync(directory)[0]!, /^out\.kslide-\d+-\d+-[0-9a-f]{8}-[0-9a-f]{12}\.tmp$/);
    writer.kill(signal);
    assert.deepEqual(await closed, [null, signal]);
    assert.deepEqual(fs.readdirSync(directory), []);
  });
}

test('SIGTERM while what was begun is not finished leaves nothing', async () => {
  const directory = emptyDirectory();
  const code = `const file = new files.OutputFile(${JSON.stringify(join(directory, 'out'))}); file.begin(new Uint8Array(1 << 20), 1 << 20); setInterval(() => {}, 1000);`;
  const writer = child(code, 'inherit');
  const closed = once(writer, 'close');
  while (fs.readdirSync(directory).length === 0) await sleep(5);
  writer.kill('SIGTERM');
  assert.deepEqual(await closed, [null, 'SIGTERM']);
  assert.deepEqual(fs.readdirSync(directory), []);
});

test('process.exit in the middle of writing leaves nothing', async () => {
  const directory = emptyDirectory();
  const write = `void files.writeFileAtomic(${JSON.stringify(join(directory, 'out'))}, [new Uint8Array(1 << 20)]);`;
  assert.deepEqual(await once(child(`${write} process.exit(7);`, 'inherit'), 'close'), [7, null]);
  assert.deepEqual(fs.readdirSync(directory), []);
});

const bigWrite = report(`files.writeFileAtomic('-', [new Uint8Array(3e6).fill(1), new Uint8Array(5).fill(2)])`);

test('standard output as a pipe takes more than a pipe holds', async () => {
  const writer = child(bigWrite, ['ignore', 'pipe', 'inherit']);
  const chunks: Uint8Array[] = [];
  for await (const chunk of writer.stdout!) chunks.push(chunk as Uint8Array);
  const all = Buffer.concat(chunks);
  assert.equal(all.length, 3_000_005);
  assert.equal(all.indexOf(2), 3_000_000);
});

test('standard output as a file is appended to where it stands', async () => {
  const path = join(emptyDirectory(), 'out');
  const fd = fs.openSync(path, 'w');
  fs.writeSync(fd, 'before');
  await once(child(bigWrite, ['ignore', fd, 'inherit']), 'close');
  fs.closeSync(fd);
  assert.equal(fs.statSync(path).size, 6 + 3_000_005);
});

test('a reader that goes away is a DiskError, and so is a full device', async () => {
  const writer = child(bigWrite, ['ignore', 'pipe', 'pipe']);
  writer.stdout!.once('data', () => writer.stdout!.destroy());
  assert.equal(await textOf(writer.stderr), 'DiskError: standard output: its reader closed it');

  const full = child(bigWrite, ['ignore', fs.openSync('/dev/full', 'w'), 'pipe']);
  assert.equal(await textOf(full.stderr), 'DiskError: standard output: no space left on device');
});

test('the input is never the output, whatever it is called', () => {
  const directory = emptyDirectory();
  const at = (name: string): string => join(directory, name);
  fs.writeFileSync(at('in'), 'kernel');
  fs.writeFileSync(at('other'), 'kernel');
  fs.linkSync(at('in'), at('hard'));
  fs.symlinkSync('in', at('soft'));
  fs.symlinkSync('.', at('here'));
  for (const name of ['in', 'hard', 'soft', 'here/in', '../' + directory.split('/').at(-1) + '/in']) {
    assert.throws(() => refuseSameFile(at('in'), at(name)), {
      name: 'OutputFileError',
      path: at(name),
      reason: 'is the input file; name another one',
    });
    assert.throws(() => refuseSameFile(at(name), at('in')), OutputFileError);
  }
  refuseSameFile(at('in'), at('other'));
  refuseSameFile(at('in'), at('new'));
  refuseSameFile(at('missing'), at('missing'));
  refuseSameFile('/dev/null', '/dev/null');
});

const reportSame = (input: string, output: string): string =>
  report(`(async () => files.refuseSameFile(${JSON.stringify(input)}, ${JSON.stringify(output)}))()`);

test('the input is never the output through a redirection either', async () => {
  const path = join(emptyDirectory(), 'in');
  fs.writeFileSync(path, 'kernel');
  const reason = 'is the input file; name another one';
  const toStdout = child(reportSame(path, '-'), ['ignore', fs.openSync(path, 'a'), 'pipe']);
  assert.equal(await textOf(toStdout.stderr), `OutputFileError: standard output: ${reason}`);
  const fromStdin = child(reportSame('-', path), [fs.openSync(path, 'r'), 'ignore', 'pipe']);
  assert.equal(await textOf(fromStdin.stderr), `OutputFileError: ${path}: ${reason}`);
});
