/**
 * Output in a directory that somebody else may write to. Each test puts another file where a name was read, between two calls, as the owner of the directory
 * can: what is written must not get there, and nobody else may ever open it.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { syncBuiltinESMExports } from 'node:module';
import { LineFile } from '../../src/measure/ndjson.ts';
import { Directory } from '../../src/node/files/directory.ts';
import { newTemporaryName } from '../../src/node/files/leftovers.ts';
import { createNamedFile, openUnnamedFile, readUnnamedFile } from '../../src/node/files/temporary-file.ts';
import { InPlace, OutputFile, writeFileAtomic } from '../../src/node/files/output-file.ts';
import type { WriteOptions } from '../../src/node/files/output-file.ts';

const root = fs.mkdtempSync(join(tmpdir(), 'kslide-races-'));
after(() => fs.rmSync(root, { recursive: true, force: true }));

const VICTIM = 'precious';
const SECRET = new Uint8Array(200_000).fill(0x53);
const NOBODY = 65_534;

interface Scene {
  readonly directory: string;
  readonly out: string;
  readonly source: string;
  /** A file that must stay as it is. */
  readonly victim: string;
}

function setScene(): Scene {
  const directory = fs.mkdtempSync(join(root, 't-'));
  const outside = fs.mkdtempSync(join(root, 'o-'));
  const [source, victim] = [join(outside, 'source'), join(outside, 'victim')];
  fs.writeFileSync(source, new Uint8Array(SECRET.length).fill(SECRET[0]!, 0, 10)); // the ten bytes that are not written over
  fs.chmodSync(source, 0o666);
  fs.writeFileSync(victim, VICTIM, { mode: 0o600 });
  return { directory, out: join(directory, 'out'), source, victim };
}

function assertUntouched({ victim }: Scene): void {
  assert.equal(fs.readFileSync(victim, 'utf8'), VICTIM);
  assert.equal(fs.statSync(victim).mode & 0o777, 0o600);
}

const temporary = (directory: string): string => {
  const name = fs.readdirSync(directory).find((found) => found.endsWith('.tmp'));
  assert.ok(name !== undefined);
  return join(directory, name);
};

/** The three ways in which a file comes to be, each stopped once its temporary file exists. */
const WAYS: Readonly<Record<string, (scene: Scene, options: WriteOptions, swap: () => void) => Promise<void>>> = {
  begun: async ({ out }, options, swap) => {
    const file = new OutputFile(out, options);
    file.begin(SECRET, 100_000);
    swap();
    await file.finish([SECRET]).catch(() => {});
  },
  copied: async ({ out, source }, options, swap) => {
    const file = new OutputFile(out, options);
    file.beginCopy(source); // which another thread has begun, or not yet
    swap();
    if (await file.hasCopy(SECRET.length)) await file.finish([new InPlace(10), SECRET.subarray(10)]).catch(() => {});
    else await file.finish([SECRET]).catch(() => {});
  },
  written: async ({ out }, options, swap) => {
    const chunks = function* (): Generator<Uint8Array> {
      yield SECRET.subarray(0, 1000);
      swap();
      yield SECRET.subarray(1000);
    };
    await writeFileAtomic(out, chunks(), options).catch(() => {});
  },
};

for (const [way, write] of Object.entries(WAYS)) {
  test(`${way}: a link in place of the temporary file leads nowhere`, async () => {
    const scene = setScene();
    await write(scene, { secret: true }, () => {
      const path = temporary(scene.directory);
      fs.renameSync(path, join(scene.directory, 'taken'));
      fs.symlinkSync(scene.victim, path);
    });
    assertUntouched(scene);
    // What was taken away is still nobody else's.
    assert.equal(fs.statSync(join(scene.directory, 'taken')).mode & 0o077, 0);
  });

  test(`${way}: another directory in place of the one that was named gets nothing`, async () => {
    const scene = setScene();
    const away = `${scene.directory}-away`;
    await write(scene, { secret: true }, () => {
      fs.renameSync(scene.directory, away);
      fs.mkdirSync(scene.directory);
    });
    assert.deepEqual(fs.readdirSync(scene.directory), []);
    assert.deepEqual(fs.readdirSync(away), ['out']);
    assert.equal(fs.statSync(join(away, 'out')).mode & 0o777, 0o600);
    assert.deepEqual(new Uint8Array(fs.readFileSync(join(away, 'out'))), SECRET);
  });

  test(`${way}: a link in place of the target is replaced, not followed`, async () => {
    const scene = setScene();
    await write(scene, { secret: true }, () => fs.symlinkSync(scene.victim, scene.out));
    assertUntouched(scene);
    assert.ok(fs.lstatSync(scene.out).isFile());
    assert.deepEqual(new Uint8Array(fs.readFileSync(scene.out)), SECRET);
  });

  for (const [what, before] of [
    ['a new file', undefined],
    ['a file that all could read', 0o666],
  ] as const) {
    test(`${way}: nobody else can ever open ${what}`, async () => {
      const scene = setScene();
      if (before !== undefined) {
        fs.writeFileSync(scene.out, 'old');
        fs.chmodSync(scene.out, before);
      }
      const umask = process.umask(0);
      try {
        const path = (): string => temporary(scene.directory);
        await write(scene, { secret: true }, () => assert.equal(fs.statSync(path()).mode & 0o077, 0));
      } finally {
        process.umask(umask);
      }
      assert.equal(fs.statSync(scene.out).mode & 0o7777, 0o600);
      assert.deepEqual(fs.readdirSync(scene.directory), ['out']);
    });
  }
}

test('the system copies to the descriptor: a swap right before that call changes nothing', async () => {
  const scene = setScene();
  const { copyFile } = fs;
  const calls: string[] = [];
  fs.copyFile = ((from: string, to: string, done: (error: NodeJS.ErrnoException | null) => void) => {
    calls.push(to);
    const folder = temporary(scene.directory);
    const inner = join(folder, fs.readdirSync(folder)[0]!);
    fs.renameSync(inner, `${inner}-taken`);
    fs.symlinkSync(scene.victim, inner);
    copyFile(from, to, done);
  }) as typeof fs.copyFile;
  try {
    const file = new OutputFile(scene.out, { secret: true });
    file.beginCopy(scene.source);
    assert.equal(await file.hasCopy(SECRET.length), true);
    await file.discard();
  } finally {
    fs.copyFile = copyFile;
  }
  assert.match(calls.join(), /^\/proc\/self\/fd\/\d+$/);
  assertUntouched(scene);
});

test('a link in place of a temporary directory, right after it was made, is not entered', async () => {
  const scene = setScene();
  const elsewhere = fs.mkdtempSync(join(root, 'e-'));
  const { mkdirSync } = fs;
  fs.mkdirSync = ((path: string, mode: number) => {
    mkdirSync(path, mode);
    fs.rmdirSync(path);
    fs.symlinkSync(elsewhere, path);
  }) as typeof fs.mkdirSync;
  try {
    const file = new OutputFile(scene.out, { secret: true });
    file.beginCopy(scene.source);
    assert.equal(await file.hasCopy(SECRET.length), false);
    await file.finish([SECRET]); // without a copy
  } finally {
    fs.mkdirSync = mkdirSync;
  }
  assert.deepEqual(fs.readdirSync(elsewhere), []);
  assert.deepEqual(new Uint8Array(fs.readFileSync(scene.out)), SECRET);
});

const isRoot = process.geteuid?.() === 0;

test(
  "another user's symbolic link is not followed",
  { skip: !isRoot && 'only root can give a link away' },
  async () => {
    const scene = setScene();
    fs.symlinkSync(scene.victim, scene.out);
    fs.lchownSync(scene.out, NOBODY, NOBODY);
    for (const write of Object.values(WAYS)) await write(scene, {}, () => {}).catch(() => {});
    await assert.rejects(writeFileAtomic(scene.out, [SECRET]), {
      name: 'OutputFileError',
      message: `${scene.out}: is a symbolic link that is another user's`,
    });
    assertUntouched(scene);
  },
);

test('a FIFO that becomes a link before it is opened is not followed', async () => {
  const scene = setScene();
  execFileSync('mkfifo', [scene.out]);
  const writing = writeFileAtomic(scene.out, [SECRET]).catch(() => {});
  const moved = `${scene.out}-moved`;
  fs.renameSync(scene.out, moved);
  fs.symlinkSync(scene.victim, scene.out);
  // Either the open came first, and waits for this reader, or it found the link. The reader must not wait for ever in the second case.
  const reader = spawn('timeout', ['5', 'cat', moved], { stdio: 'ignore' });
  await Promise.all([writing, once(reader, 'close')]);
  assertUntouched(scene);
});

test('a file that root replaces keeps its owner', { skip: !isRoot && 'only root can give files away' }, async () => {
  for (const [secret, mode, expected] of [
    [false, 0o664, 0o664],
    [true, 0o664, 0o600],
    [true, 0o400, 0o400],
  ] as const) {
    for (const write of Object.values(WAYS)) {
      const scene = setScene();
      fs.writeFileSync(scene.out, 'old');
      fs.chownSync(scene.out, NOBODY, 1234);
      fs.chmodSync(scene.out, mode);
      await write(scene, { secret }, () => {});
      const { uid, gid, mode: found } = fs.statSync(scene.out);
      assert.deepEqual([uid, gid, found & 0o7777], [NOBODY, 1234, expected]);
    }
  }
});

/** Another Node that begins three files in `directory`, says so, and does not end. */
async function leaveBehind(directory: string): Promise<void> {
  const module = JSON.stringify(new URL('../../src/node/files/output-file.ts', import.meta.url).href);
  const code = `import { OutputFile } from ${module};
    new OutputFile('${directory}/a').begin(new Uint8Array(1000), 1000);
    const copy = new OutputFile('${directory}/b', { secret: true });
    copy.beginCopy('${directory}/source');
    await copy.hasCopy(1000);
    console.log('ready');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const names = (): number => fs.readdirSync(directory).filter((name) => name.endsWith('.tmp')).length;
  // While it lives, nobody takes its files away.
  await writeFileAtomic(join(directory, 'c'), [SECRET]);
  assert.equal(names(), 2);
  child.kill('SIGKILL');
  await once(child, 'close');
  assert.equal(names(), 2);
}

test('what a SIGKILL leaves, the next run in that directory removes', async () => {
  const directory = fs.mkdtempSync(join(root, 't-'));
  fs.writeFileSync(join(directory, 'source'), new Uint8Array(1000));
  await leaveBehind(directory);
  await writeFileAtomic(join(directory, 'c'), [SECRET]);
  assert.deepEqual(fs.readdirSync(directory), ['c', 'source']);
});

test('what others left stays: other names, other users, other machines until a day has passed', async () => {
  const directory = fs.mkdtempSync(join(root, 't-'));
  fs.writeFileSync(join(directory, 'source'), new Uint8Array(1000));
  await leaveBehind(directory);
  const [file, folder] = fs.readdirSync(directory).filter((name) => name.endsWith('.tmp')) as [string, string];
  fs.rmSync(join(directory, folder), { recursive: true });
  const elsewhere = file.replace(/-[0-9a-f]{8}-/, '-01234567-');
  const old = elsewhere.replace('a.', 'old.');
  const like = ['a.kslide-1.tmp', `${file}.bak`, 'a.tmp'];
  for (const name of [elsewhere, old, ...like]) fs.writeFileSync(join(directory, name), '');
  const dayAgo = Date.now() / 1000 - 90_000;
  for (const name of [old, ...like]) fs.utimesSync(join(directory, name), dayAgo, dayAgo);
  if (isRoot) fs.chownSync(join(directory, file), NOBODY, NOBODY);
  await writeFileAtomic(join(directory, 'c'), [SECRET]);
  const stay = [...(isRoot ? [file] : []), elsewhere, ...like, 'c', 'source'];
  assert.deepEqual(fs.readdirSync(directory), stay.toSorted());
});

test('an image of --exec-dir: neither a link at its name nor another directory in place of the one that was named gets anything', () => {
  for (const swap of ['file', 'directory']) {
    const scene = setScene();
    const folder = new Directory(scene.directory);
    const away = `${scene.directory}-away`;
    const parts = function* (): Generator<Uint8Array> {
      yield SECRET.subarray(0, 1000);
      if (swap === 'file') {
        fs.renameSync(scene.out, join(scene.directory, 'taken'));
        fs.symlinkSync(scene.victim, scene.out);
      } else {
        fs.renameSync(scene.directory, away);
        fs.mkdirSync(scene.directory);
      }
      yield SECRET.subarray(1000);
    };
    createNamedFile(folder, 'out', parts());
    folder.close();
    const image = swap === 'file' ? join(scene.directory, 'taken') : join(away, 'out');
    assert.equal(fs.statSync(image).mode & 0o777, 0o400);
    assert.deepEqual(new Uint8Array(fs.readFileSync(image)), SECRET);
    if (swap === 'directory') assert.deepEqual(fs.readdirSync(scene.directory), []);
    assertUntouched(scene);
  }
});

test('an image of --exec-dir is not written over what has its name', () => {
  const scene = setScene();
  const folder = new Directory(scene.directory);
  fs.symlinkSync(scene.victim, scene.out);
  assert.throws(() => createNamedFile(folder, 'out', [SECRET]), {
    name: 'OutputFileError',
    message: `${scene.out}: file already exists`,
  });
  folder.close();
  assertUntouched(scene);
});

test('a temporary file has no name', async () => {
  const before = fs.readdirSync(tmpdir());
  const file = await openUnnamedFile(SECRET);
  assert.equal((await file.stat()).nlink, 0);
  assert.equal((await file.stat()).mode & 0o777, 0o600);
  assert.deepEqual(await readUnnamedFile(file), SECRET);
  await file.close();
  assert.deepEqual(
    fs.readdirSync(tmpdir()).filter((name) => /^kslide-[0-9a-f]{16}$/.test(name) && !before.includes(name)),
    [],
  );
});

test("results of audit: another user's link is not followed, nor one that comes between reading and writing", () => {
  const scene = setScene();
  fs.symlinkSync(scene.victim, scene.out);
  assert.throws(() => new LineFile(scene.out), { name: 'OutputFileError' }); // it exists
  if (isRoot) {
    fs.lchownSync(scene.out, NOBODY, NOBODY);
    assert.throws(() => new LineFile(scene.out, 0), {
      message: `${scene.out}: is a symbolic link that is another user's`,
    });
  }
  assertUntouched(scene);
  fs.rmSync(scene.out);
  fs.writeFileSync(scene.out, 'old\n');
  const { openSync } = fs;
  fs.openSync = ((path: string, flags: number, mode?: number) => {
    if (path.endsWith('/out')) {
      fs.rmSync(scene.out);
      fs.symlinkSync(scene.victim, scene.out);
    }
    return openSync(path, flags, mode);
  }) as typeof fs.openSync;
  syncBuiltinESMExports();
  try {
    assert.throws(() => new LineFile(scene.out, 0), { name: 'OutputFileError' });
  } finally {
    fs.openSync = openSync;
    syncBuiltinESMExports();
  }
  assertUntouched(scene);
});

test('results of audit are their owner’s only, until the owner says otherwise', () => {
  const { out } = setScene();
  const umask = process.umask(0);
  try {
    new LineFile(out).close();
    assert.equal(fs.statSync(out).mode & 0o777, 0o600);
    fs.chmodSync(out, 0o640);
    const file = new LineFile(out, 0);
    file.append({ boot: 1 });
    file.close();
    assert.equal(fs.statSync(out).mode & 0o777, 0o640);
    assert.equal(fs.readFileSync(out, 'utf8'), '{"boot":1}\n');
  } finally {
    process.umask(umask);
  }
  assert.throws(() => new LineFile('/dev/null', 0), { message: '/dev/null: is no file that can be continued' });
});

test(
  "another user's file or FIFO in a directory like /tmp is not written to",
  { skip: !isRoot && 'only root can give files away' },
  async () => {
    for (const make of [
      (path: string) => fs.writeFileSync(path, ''),
      (path: string) => execFileSync('mkfifo', [path]),
    ]) {
      const { directory, out } = setScene();
      fs.chmodSync(directory, 0o1777);
      make(out);
      fs.chownSync(out, NOBODY, NOBODY);
      await assert.rejects(writeFileAtomic(out, [SECRET], { secret: true }), {
        name: 'OutputFileError',
        message: `${out}: is another user's, in a directory that all may write to`,
      });
      assert.deepEqual(fs.readdirSync(directory), ['out']);
      assert.equal(fs.statSync(out).size, 0);
    }
    // The directory's owner is trusted in it.
    const { directory, out } = setScene();
    fs.chmodSync(directory, 0o1777);
    fs.chownSync(directory, NOBODY, NOBODY);
    fs.writeFileSync(out, '');
    fs.chownSync(out, NOBODY, NOBODY);
    await writeFileAtomic(out, [SECRET], { secret: true });
    assert.equal(fs.statSync(out).uid, NOBODY);
  },
);

test('other names of a file that is replaced keep what they had', async () => {
  for (const write of Object.values(WAYS)) {
    const scene = setScene();
    const other = join(scene.directory, 'other');
    fs.writeFileSync(scene.out, 'old');
    fs.linkSync(scene.out, other);
    await write(scene, { secret: true }, () => {});
    assert.equal(fs.readFileSync(other, 'utf8'), 'old');
    assert.deepEqual(new Uint8Array(fs.readFileSync(scene.out)), SECRET);
  }
});

test('a process number that was given to another process does not keep a leftover', async () => {
  const directory = fs.mkdtempSync(join(root, 't-'));
  const ours = newTemporaryName('a');
  const reused = ours.replace(/-\d+-([0-9a-f]{8}-)/, '-1-$1');
  const parents = ours.replace(`-${process.pid}-`, `-${process.ppid}-`); // alive, but started at another time
  for (const name of [ours, reused, parents]) fs.writeFileSync(join(directory, name), '');
  await writeFileAtomic(join(directory, 'c'), [SECRET]);
  assert.deepEqual(fs.readdirSync(directory), [ours, 'c'].toSorted());
});

/** Writes a file over and over, in both ways that have a temporary one, until it is killed. */
const WRITER = `import { OutputFile } from ${JSON.stringify(new URL('../../src/node/files/output-file.ts', import.meta.url).href)};
  const [directory] = process.argv.slice(-1);
  const bytes = new Uint8Array(1e6);
  for (let run = 0; ; run++) {
    const file = new OutputFile(directory + '/out', { secret: true });
    if (run % 2 === 0) file.begin(bytes, 5e5);
    else file.beginCopy(directory + '/source');
    await new Promise((done) => setTimeout(done, run % 3));
    if (run % 2 === 1) await file.hasCopy(1e6);
    await file.finish([bytes]);
    if (run === 1) console.log('ready');
  }`;

test('killed at any time, it leaves a whole file, and the next run leaves nothing else', async () => {
  const directory = fs.mkdtempSync(join(root, 'k-'));
  fs.writeFileSync(join(directory, 'source'), new Uint8Array(1_000_000));
  let left = 0;
  const killOne = async (): Promise<void> => {
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', WRITER, directory], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await new Promise((done) => setTimeout(done, Math.random() * 30));
    child.kill('SIGKILL');
    await once(child, 'close');
    left = Math.max(left, fs.readdirSync(directory).length - 2);
    assert.equal(fs.statSync(join(directory, 'out')).size, 1_000_000);
  };
  for (let round = 0; round < 6; round++) await Promise.all([killOne(), killOne()]);
  await writeFileAtomic(join(directory, 'out'), [SECRET]);
  assert.deepEqual(fs.readdirSync(directory), ['out', 'source']);
  assert.ok(left > 0, 'no run was killed while it wrote');
});
