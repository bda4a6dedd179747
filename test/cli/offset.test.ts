/** `kslide offset`: what it finds, what it says to debuggers, and when it says nothing. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Command } from 'commander';
import { addOffset, reportOffset } from '../../src/cli/commands/offset.ts';
import { findOffsets, USUAL_TEXT } from '../../src/measure/offset.ts';
import { makeVmlinux } from '../make-vmlinux.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-offset-'));
after(() => rmSync(directory, { recursive: true }));

const PANIC =
  '[    1.3] Kernel Offset: 0x1c000000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-…)\r\n';

let files = 0;
function file(contents: string | Uint8Array): string {
  const path = join(directory, `file${files++}`);
  writeFileSync(path, contents);
  return path;
}

/** The exit code. */
async function run(...args: readonly string[]): Promise<number | undefined> {
  let code: number | undefined;
  const program = new Command().exitOverride();
  addOffset(program, (value) => {
    code = value;
  });
  await program.parseAsync(['offset', ...args], { from: 'user' });
  return code;
}

test('a panic, /proc/kallsyms and vmcoreinfo say the same', () => {
  const all = {
    panic: PANIC,
    kallsyms: '0000000000000000 A fixed_percpu_data\nffffffff9d000000 T _text\nffffffff9d000000 T startup_64\n',
    vmcoreinfo: 'SYMBOL(_stext)=ffffffff9d000000\nKERNELOFFSET=1c000000\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n',
  };
  for (const [source, text] of Object.entries(all)) {
    assert.deepEqual(findOffsets(text), { found: [{ source, slide: 0x1c00_0000 }], useless: [] });
  }
});

test('a kernel that was not randomized has the slide 0', () => {
  for (const text of ['Kernel Offset: disabled\n', 'ffffffff81000000 T _text\n', 'KERNELOFFSET=0\n'])
    assert.deepEqual(
      findOffsets(text).found.map(({ slide }) => slide),
      [0],
      text,
    );
});

test('what looks similar is nothing', () => {
  const similar = [
    'Kernel Offset: 0x1c00[    1.4] usb 1-1: new device',
    'ffffffff9d000000 T _textile\n',
    'ffffffff9d000000 T __text\nffffffff9d000000 D _text\n',
    'xKERNELOFFSET=1c000000\n',
  ];
  for (const text of similar) assert.deepEqual(findOffsets(text), { found: [], useless: [] }, text);
});

test('addresses that are hidden, or of a kernel that is linked elsewhere, are no slide', () => {
  assert.deepEqual(findOffsets('0000000000000000 T _text\n'), { found: [], useless: [0n] });
  assert.deepEqual(findOffsets('ffffffff9d012000 T _text\n'), { found: [], useless: [0xffff_ffff_9d01_2000n] });
  assert.deepEqual(findOffsets('ffffffff9d100000 T _text\n', USUAL_TEXT + 0x10_0000n).found, [
    { source: 'kallsyms', slide: 0x1c00_0000 },
  ]);
});

test('the commands', () => {
  const { output, remark, exitCode } = reportOffset(findOffsets(PANIC), { json: false });
  assert.deepEqual([exitCode, remark], [0, undefined]);
  assert.equal(
    output,
    `slide  0x1c000000 (448 MiB), from the panic's Kernel Offset
gdb    symbol-file -o 0x1c000000 vmlinux
gdb    add-symbol-file vmlinux -o 0x1c000000
crash  crash --kaslr=0x1c000000 vmlinux vmcore
`,
  );
});

test('as JSON', () => {
  assert.deepEqual(JSON.parse(reportOffset(findOffsets(PANIC), { json: true }).output), {
    slide: 0x1c00_0000,
    source: 'panic',
    gdb: ['symbol-file -o 0x1c000000 vmlinux', 'add-symbol-file vmlinux -o 0x1c000000'],
    crash: 'crash --kaslr=0x1c000000 vmlinux vmcore',
  });
});

test('a file name is quoted where it must be', () => {
  const { output } = reportOffset(findOffsets(PANIC), { vmlinux: "a kernel's vmlinux", json: false });
  assert.ok(output.endsWith(String.raw`crash --kaslr=0x1c000000 'a kernel'\''s vmlinux' vmcore` + '\n'), output);
});

test('a log of several boots: the last counts, and it is said', () => {
  const { output, remark, exitCode } = reportOffset(findOffsets(`${PANIC}${PANIC.replace('1c', '2c')}`), {
    json: false,
  });
  assert.equal(exitCode, 0);
  assert.match(output, /^slide +0x2c000000 /);
  assert.equal(remark, 'has 2 different slides; this is the last one');
});

test('none found: exit code 1, and why', () => {
  const reasons: readonly [string, RegExp][] = [
    [
      '',
      /^no slide found; looked for the panic's Kernel Offset, _text of \/proc\/kallsyms, vmcoreinfo's KERNELOFFSET$/,
    ],
    ['0000000000000000 T _text\n', /^its addresses are hidden; read \/proc\/kallsyms as root/],
    [
      'ffffffff9d012000 T _text\n',
      /^_text at 0xffffffff9d012000 is not a possible slide above .*; name the kernel with --vmlinux$/,
    ],
  ];
  for (const [log, reason] of reasons) {
    const { output, remark, exitCode } = reportOffset(findOffsets(log), { json: false });
    assert.deepEqual([exitCode, output], [1, '']);
    assert.match(remark ?? '', reason);
  }
});

test('the command: a file that is no text all through, and where a kernel is linked by its own word', async () => {
  const noise = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
  const [log, empty, vmlinux] = [
    file(Buffer.concat([noise, Buffer.from(PANIC), noise])),
    file(''),
    file(makeVmlinux()),
  ];
  assert.equal(await run(log), 0);
  assert.equal(await run(log, '--vmlinux', vmlinux), 0);
  assert.equal(await run(empty), 1);
});
