import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { ascii } from '../../src/base/bytes.ts';
import { packInitramfs } from '../../src/node/qemu/initramfs.ts';

const archive = packInitramfs([
  { type: 'file', path: 'init', data: ascii('#!'), mode: 0o755 },
  { type: 'character-device', path: 'dev/ttyS0', major: 4, minor: 64 },
  { type: 'file', path: 'usr/lib/odd', data: ascii('12345') },
  { type: 'directory', path: 'usr/lib' },
]);

test('records are as the kernel documents them: 13 fields of 8 hex digits, name and data padded to 4', () => {
  const text = Buffer.from(archive).toString('latin1');
  const first =
    '07070100000001000081ed00000000000000000000000100000000000000020000000000000000000000000000000000000005' +
    '00000000init\0\0#!\0\0';
  assert.equal(text.slice(0, first.length), first);
  assert.ok(text.endsWith('0000000b00000000TRAILER!!!\0\0\0\0'));
  assert.equal(archive.length % 4, 0);
});

test('GNU cpio lists the same: parents first, root owns all', () => {
  const listed = execFileSync('cpio', ['-itv', '--numeric-uid-gid'], {
    input: archive,
    encoding: 'utf8',
    stdio: 'pipe',
  });
  const lines = listed
    .trimEnd()
    .split('\n')
    .map((line) => line.replaceAll(/ +/g, ' ').replace(/ Jan 1 1970/, ''));
  assert.deepEqual(lines, [
    '-rwxr-xr-x 1 0 0 2 init',
    'drwxr-xr-x 1 0 0 0 dev',
    'crw------- 1 0 0 4, 64 dev/ttyS0',
    'drwxr-xr-x 1 0 0 0 usr',
    'drwxr-xr-x 1 0 0 0 usr/lib',
    '-rw-r--r-- 1 0 0 5 usr/lib/odd',
  ]);
  const odd = execFileSync('cpio', ['-i', '--to-stdout', 'usr/lib/odd'], {
    input: archive,
    encoding: 'utf8',
    stdio: 'pipe',
  });
  assert.equal(odd, '12345');
});
