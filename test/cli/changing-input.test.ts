/**
 * An input that another process writes to while a command reads it. Every command that writes or proves from it says so, exits with 3 and writes nothing.
 * A module that is loaded before kslide makes the change, right after the first read of the file.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { grow, writeSparse } from '../big-vmlinux.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { makeKernel } from '../shuffle/make-kernel.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-changing-'));
after(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);
const script = fileURLToPath(new URL('kslide.ts', import.meta.url));

const vmlinux = makeVmlinux();
const bzImage = makeBzImage({ payload: gzipSync(vmlinux) });
const { unstripped } = makeKernel();
const converted = (await convert(vmlinux, { codecs: coreCodecs })).bytes();

/** Changes no size, and sets mtime back. */
writeFileSync(
  path('hook.mjs'),
  `import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const { read, readSync } = fs;
let victim = process.env.VICTIM;
const change = (fd) => {
  if (victim === undefined || fs.readlinkSync('/proc/self/fd/' + fd) !== victim) return;
  const { atime, mtime } = fs.statSync(victim);
  const file = fs.openSync(victim, 'r+');
  fs.writeSync(file, Uint8Array.of(0xcc), 0, 1, 0x400);
  fs.closeSync(file);
  fs.utimesSync(victim, atime, mtime);
  victim = undefined;
};
fs.readSync = (fd, ...rest) => {
  const count = readSync(fd, ...rest);
  change(fd);
  return count;
};
fs.read = (fd, ...rest) => {
  const done = rest.pop();
  read(fd, ...rest, (...results) => {
    change(fd);
    done(...results);
  });
};
fs.read[Symbol.for('nodejs.util.promisify.custom')] = (fd, ...rest) =>
  new Promise((resolve, reject) =>
    fs.read(fd, ...rest, (error, bytesRead) => (error ? reject(error) : resolve({ bytesRead }))),
  );
syncBuiltinESMExports();
`,
);

const INPUTS: Readonly<Record<string, Uint8Array>> = { vmlinux, bzImage, unstripped, debug: unstripped, converted };
writeSparse(path('big'), grow(vmlinux, 5 * 2 ** 30));
const FILES = new Set([...Object.keys(INPUTS), 'big']);

for (const [victim, command] of [
  ['vmlinux', 'convert vmlinux -o OUT'],
  ['bzImage', 'convert bzImage -o OUT'],
  ['vmlinux', 'convert - -o OUT'],
  ['vmlinux', 'randomize vmlinux -o OUT'],
  ['vmlinux', 'randomize vmlinux -o OUT --quiet'],
  ['vmlinux', 'randomize vmlinux -o - --quiet'],
  ['vmlinux', 'randomize vmlinux --exec -- touch OUT {}'],
  ['bzImage', 'bzimage bzImage -o OUT --compression none'],
  ['bzImage', 'extract bzImage -o OUT'],
  ['vmlinux', 'verify vmlinux converted --quiet'],
  ['converted', 'verify vmlinux converted --quiet'],
  ['unstripped', 'shuffle unstripped -o OUT'],
  ['debug', 'shuffle unstripped --debug debug -o OUT'],
  ['debug', 'verify --shuffled unstripped converted --debug debug'],
  ['unstripped', 'relocs unstripped -o OUT'],
  ['unstripped', 'relocs unstripped'],
  // Of more than 2 GiB: only parts are read.
  ['big', 'convert big -o OUT'],
  ['big', 'convert - -o OUT'],
  ['big', 'randomize big -o OUT'],
  ['big', 'extract big -o OUT'],
  ['big', 'verify big converted --quiet'],
  ['big', 'relocs big -o OUT'], // without relocations: that is not what is said
] as const) {
  test(`${command}, where ${victim} changes`, () => {
    for (const [name, bytes] of Object.entries(INPUTS)) writeFileSync(path(name), bytes);
    const before = readdirSync(directory);
    const words = command.split(' ').map((word) => (FILES.has(word) || word === 'OUT' ? path(word) : word));
    const hasStdin = words.includes('-') && words[0] === 'convert';
    const node = [process.execPath, '--import', 'tsx', '--import', path('hook.mjs'), script, ...words];
    // The shell opens the file: as standard input it is a file, and not a pipe.
    const shell = hasStdin ? '"$@" <"$VICTIM"' : '"$@"';
    const { status, stdout, stderr } = spawnSync('bash', ['-c', shell, 'bash', ...node], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: { ...process.env, VICTIM: path(victim) },
      timeout: 60_000,
    });
    const name = hasStdin ? 'standard input' : path(victim);
    assert.deepEqual([status, stderr.toString()], [3, `kslide: ${name}: changed while it was read\n`]);
    assert.deepEqual(readdirSync(directory), before);
    if (!command.includes('-o - ')) assert.equal(stdout.length, 0);
  });
}
