import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EnvironmentError } from '../../src/node/errors.ts';
import { runProgram } from '../../src/node/processes/run-program.ts';
import { makePipe } from '../../src/node/processes/real-pipe.ts';

/** Alive and not a zombie. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('a program that ends by itself', async () => {
  let seen = '';
  const onOutput = (text: string): void => void (seen += text);
  const ended = await runProgram('sh', ['-c', 'echo out; echo err >&2; exit 3'], { timeoutMs: 10_000, onOutput });
  const { by, code, output, errors } = ended;
  assert.deepEqual(
    { by, code, output, errors, seen },
    { by: 'itself', code: 3, output: 'out\n', errors: 'err\n', seen: 'out\n' },
  );
});

test('a program that is not installed names its package', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  try {
    await assert.rejects(runProgram('qemu-system-x86_64', [], { timeoutMs: 1_000 }), (error) => {
      assert.ok(error instanceof EnvironmentError);
      assert.equal(error.problem, 'missing-program');
      assert.equal(error.message, 'qemu-system-x86_64 is not installed; run: apt-get install qemu-system-x86');
      return true;
    });
  } finally {
    process.env['PATH'] = path;
  }
});

test('the time is up: the program is gone, what it said is kept', async () => {
  const ended = await runProgram('sh', ['-c', 'echo $$; exec sleep 60'], { timeoutMs: 300 });
  assert.equal(ended.by, 'timeout');
  assert.equal(ended.code, null);
  assert.ok(ended.milliseconds < 10_000);
  assert.equal(runs(Number(ended.output)), false);
});

test('a program that ignores SIGTERM is killed', async () => {
  const ended = await runProgram('sh', ['-c', 'trap "" TERM; while :; do sleep 0.1; done'], { timeoutMs: 200 });
  assert.equal(ended.by, 'timeout');
  assert.ok(ended.milliseconds < 10_000);
});

test('an abort ends it, also one that came before', async () => {
  const controller = new AbortController();
  const run = runProgram('sleep', ['60'], { timeoutMs: 10_000, signal: controller.signal });
  controller.abort();
  assert.equal((await run).by, 'abort');
  assert.equal((await runProgram('sleep', ['60'], { timeoutMs: 10_000, signal: controller.signal })).by, 'abort');
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} to us ends the child too, and us by that signal`, async () => {
    const program = `
      import { runProgram } from ${JSON.stringify(new URL('../../src/node/processes/run-program.ts', import.meta.url).href)};
      await runProgram('sh', ['-c', 'echo $$; exec sleep 60'], { timeoutMs: 60_000, onOutput: (text) => process.stdout.write(text) });
    `;
    // tsx runs us in the same process (--import), so that the signal reaches us and not a wrapper.
    const us = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = (await once(us.stdout.setEncoding('utf8'), 'data')) as [string];
    assert.equal(runs(Number(pid)), true);
    us.kill(signal);
    const [, by] = (await once(us, 'exit')) as [number | null, string | null];
    assert.equal(by, signal);
    for (let tries = 0; runs(Number(pid)) && tries < 50; tries++) await sleep(20);
    assert.equal(runs(Number(pid)), false);
  });
}

test('a pipe takes what a guest sends while nobody reads, byte by byte', async () => {
  // As QEMU writes a console: without waiting.
  const script =
    'use Fcntl; fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); for (1..20000) { syswrite(STDOUT, "x") or die "$_: $!" }';
  const run = runProgram('perl', ['-e', script], { timeoutMs: 60_000, pipe: await makePipe() });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  const { code, output, errors } = await run;
  assert.deepEqual([code, output.length, errors], [0, 20_000, '']);
});

test('a program that is missing leaves no pipe open', async () => {
  const pipe = (await makePipe())!;
  await assert.rejects(runProgram('kslide-no-such-program', [], { timeoutMs: 1_000, pipe }));
  assert.ok(pipe.reader.destroyed);
});

test('a program whose arguments are too long is a failure of the environment, and leaves no pipe open', async () => {
  const pipe = (await makePipe())!;
  // Node throws this error instead of emitting it.
  await assert.rejects(runProgram('true', ['a'.repeat(2 ** 17)], { timeoutMs: 1_000, pipe }), {
    name: 'EnvironmentError',
    problem: 'command-failed',
    message: 'true cannot be started: argument list too long',
  });
  assert.ok(pipe.reader.destroyed);
  assert.throws(() => fstatSync(pipe.writer), { code: 'EBADF' });
});
