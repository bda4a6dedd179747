/** A signal to a command that runs guests: they end, the command says nothing of a boot that was not finished, and dies of the signal. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeVmlinux } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-signals-'));
after(() => rmSync(directory, { recursive: true, force: true }));

// In place of QEMU: says that it runs, and goes on.
const script = `#!/bin/sh
case "$1" in --version) echo 'QEMU emulator version 9.9.9'; exit 0;; esac
echo $$ > "$MARK.new" && mv "$MARK.new" "$MARK"
exec sleep 60
`;
writeFileSync(join(directory, 'qemu-system-x86_64'), script, { mode: 0o755 });
const kernel = join(directory, 'vmlinux');
writeFileSync(kernel, makeVmlinux());

for (const command of [
  ['boot', kernel],
  ['audit', kernel, '--boots', '1', '--jobs', '1'],
]) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`${command[0]}: ${signal}`, async () => {
      const mark = join(directory, `${command[0]}-${signal}`);
      const child = spawn(process.execPath, [...KSLIDE, ...command], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, PATH: `${directory}:${process.env['PATH']}`, MARK: mark },
      });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => (output += text));
      const closed = once(child, 'close');
      for (let tries = 0; !existsSync(mark) && tries < 600; tries++) await sleep(100);
      const guest = Number(readFileSync(mark, 'utf8'));
      assert.ok(existsSync(`/proc/${guest}`));
      child.kill(signal);
      const [, by] = (await closed) as [number | null, string | null];
      assert.equal(by, signal);
      for (let tries = 0; existsSync(`/proc/${guest}`) && tries < 50; tries++) await sleep(20);
      assert.ok(!existsSync(`/proc/${guest}`));
      assert.equal(output, '');
    });
  }
}
