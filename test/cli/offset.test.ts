/** `kslide offset`: what it finds, what it says to debuggers, and when it says nothing. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Command } from 'commander';
import addOffset, { reportOffset } from '../../src/cli/commands/offset.ts';
import { findOffsets, USUAL_TEXT } from '../../src/measure/offset.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { readOffsetKernel } from '../../src/measure/offset-kernel.ts';
import { randomize } from '../../src/randomize.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { pageTables } from '../page-tables.ts';

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
    assert.deepEqual(findOffsets(text), {
      found: [{ source, slide: 0x1c00_0000 }],
      useless: [],
      disabled: false,
      silent: false,
    });
  }
});

test('a kernel that was not randomized has the slide 0', () => {
  for (const text of ['Kernel Offset: 0x0 from 0xffffffff81000000\n', 'ffffffff81000000 T _text\n', 'KERNELOFFSET=0\n'])
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
  for (const text of similar)
    assert.deepEqual(findOffsets(text), { found: [], useless: [], disabled: false, silent: false }, text);
});

test('addresses that are hidden, or of a kernel that is linked elsewhere, are no slide', () => {
  assert.deepEqual(findOffsets('0000000000000000 T _text\n'), {
    found: [],
    useless: [0n],
    disabled: false,
    silent: false,
  });
  assert.deepEqual(findOffsets('ffffffff9d012000 T _text\n'), {
    found: [],
    useless: [0xffff_ffff_9d01_2000n],
    disabled: false,
    silent: false,
  });
  assert.deepEqual(findOffsets('ffffffff9d100000 T _text\n', { text: USUAL_TEXT + 0x10_0000n }).found, [
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
      /^_text at 0xffffffff9d012000 is not a possible slide above its usual link address; name the kernel with --vmlinux$/,
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

function refused(log: string, code: string, message: string): void {
  assert.throws(
    () => findOffsets(log),
    (error) => {
      assert.ok(error instanceof KernelImageError, String(error));
      assert.deepEqual([error.code, error.message], [code, message]);
      return true;
    },
  );
}

test('a number that no slide can be is refused, with where it is', () => {
  const allowed = 'expected the hex of a multiple of 0x200000 below 0x3f000000';
  const numbers: readonly (readonly [number: string, found: string])[] = [
    [`0x${'f'.repeat(300)}`, '0xffffffffffffffffffffff... (302 characters)'],
    ['0x123', '0x123'],
    ['0x10000000000000000', '0x10000000000000000'],
    ['0x1c000001', '0x1c000001'],
    ['0x40000000', '0x40000000'],
    ['0x3f000000', '0x3f000000'],
    ['-0x200000', '-0x200000'],
    ['NaN', 'NaN'],
    ['Infinity', 'Infinity'],
    ['1c000000', '1c000000'],
    ['0x', '0x'],
    ['0x1C000000', '0x1C000000'],
    ['0x1c\x1b[31m0', '0x1c\\x1b[31m0'],
  ];
  for (const [number, found] of numbers) {
    refused(
      `noise\nKernel Offset: ${number} from 0xffffffff81000000\n`,
      'bad-value',
      `invalid value: Kernel Offset in the log at offset 0x6 is ${found}, ${allowed}`,
    );
    if (number === '1c000000') continue;
    refused(
      `KERNELOFFSET=${number}\n`,
      'bad-value',
      `invalid value: KERNELOFFSET in the log at offset 0x0 is ${found}, ${allowed}`,
    );
  }
  // The last slide that a kernel of one page could take, and one with leading zeros.
  for (const number of ['0x3ee00000', '0x000000000000000000003ee00000'])
    assert.deepEqual(findOffsets(`Kernel Offset: ${number} from 0xffffffff81000000\n`).found, [
      { source: 'panic', slide: 0x3ee0_0000 },
    ]);
  // A kernel without CONFIG_RANDOMIZE_BASE has half the range.
  assert.throws(() => findOffsets('KERNELOFFSET=1f000000', { limit: 0x2000_0000 }), /below 0x1f000000/);
});

test('KERNELOFFSET is read with 0x and without; a format string in a dump is nothing', () => {
  for (const text of ['KERNELOFFSET=1c000000\n', 'KERNELOFFSET=0x1c000000\n'])
    assert.deepEqual(findOffsets(text).found, [{ source: 'vmcoreinfo', slide: 0x1c00_0000 }]);
  for (const text of ['KERNELOFFSET=%lx\n', 'KERNELOFFSET=\n', 'Kernel Offset: 0x%lx from 0x%lx (relocation range: '])
    assert.deepEqual(findOffsets(text), { found: [], useless: [], disabled: false, silent: false });
});

test('slides of other architectures are refused by name', () => {
  const panics = {
    arm64: ['0x2b4c1e000000', '0xffff800080000000'],
    riscv: ['0x1c000000', '0xffffffff80000000'],
    powerpc: ['0x1c000000', '0xc000000000000000'],
    loongarch: ['0x1c000000', '0x9000000000200000'],
  };
  for (const [name, [slide, base]] of Object.entries(panics))
    refused(
      `Kernel Offset: ${slide} from ${base}\n`,
      'wrong-architecture',
      `not an x86-64 kernel: Kernel Offset in the log at offset 0x0 is ${name}'s: from ${base}, expected x86-64's, from an address above 0xffffffff80000000`,
    );
  for (const [number, name] of [
    ['kimage_voffset', 'arm64'],
    ['va_kernel_pa_offset', 'riscv'],
  ])
    refused(
      `NUMBER(${number})=0x1\nKERNELOFFSET=1c000000\n`,
      'wrong-architecture',
      `not an x86-64 kernel: vmcoreinfo in the log at offset 0x0 is ${name}'s: it has NUMBER(${number}), expected x86-64's`,
    );
  const { remark, exitCode } = reportOffset(findOffsets('ffff8000801d0000 T _text\n'), { json: false });
  assert.deepEqual([exitCode, remark], [1, '_text at 0xffff8000801d0000 is an address of arm64, not of x86-64']);
});

const DISABLED = 'Kernel panic - not syncing: VFS\nKernel Offset: disabled\n';
const TELLS_NOTHING =
  '"Kernel Offset: disabled" does not tell the slide: a kernel that the host has moved says the same; name the file that was booted with --vmlinux, or give /proc/kallsyms';

test('"disabled" gives no command, also when an earlier boot had a slide', () => {
  for (const log of [DISABLED, `${PANIC}${DISABLED}`, `Linux version 6.1\n${PANIC}Linux version 6.1\n${DISABLED}`])
    for (const json of [true, false])
      assert.deepEqual(
        reportOffset(findOffsets(log), { json }),
        { output: '', remark: TELLS_NOTHING, exitCode: 1 },
        log,
      );
});

test('"disabled" with an address of the same boot: the address tells', () => {
  for (const log of [
    `kslide-guest: text=ffffffff93400000\n${DISABLED}`,
    `ffffffff93400000 T _text\n${DISABLED}`,
    `${DISABLED}ffffffff93400000 T _text\n`,
  ])
    assert.deepEqual(findOffsets(log), {
      found: [{ source: 'kallsyms', slide: 0x1240_0000 }],
      useless: [],
      disabled: false,
      silent: false,
    });
});

test('what contradicts itself within a boot is refused', () => {
  refused(
    `ffffffff93400000 T _text\n${PANIC}`,
    'bad-value',
    "invalid value: slide by panic in the log at offset 0x23 is 0x1c000000, expected 0x12400000, the same boot's by kallsyms",
  );
});

test('the file that was booted tells the slide, with and without kslide’s own parameters', async () => {
  const image = makeVmlinux(pageTables({ mapped: 512, pvh: 512 }));
  const slides = { virt: 0x1240_0000, phys: 0x240_0000, entry: 'linux64' } as const;
  for (const flag of [true, false]) {
    const moved = (await randomize(image, { codecs: coreCodecs, ...slides, flag })).bytes();
    const search = findOffsets(DISABLED, readOffsetKernel(moved));
    assert.deepEqual(search, {
      found: [{ source: 'file', slide: slides.virt }],
      useless: [],
      disabled: false,
      silent: false,
    });
    assert.match(
      reportOffset(search, { vmlinux: 'moved', json: false }).output,
      /^slide {2}0x12400000 \(292 MiB\), from the file: the host has moved this kernel\ngdb {4}symbol-file -o 0x12400000 moved\n/,
    );
  }
  // The kernel that it was made from: nobody knows whether this one or a moved copy ran.
  assert.equal(findOffsets(DISABLED, readOffsetKernel(image)).disabled, true);
});

test('addresses of symbols in vmcoreinfo, where the symbols are known', () => {
  const addressOf = (name: string): bigint | undefined =>
    ({ _stext: 0xffff_ffff_8100_0000n, init_uts_ns: 0xffff_ffff_8261_5740n })[name];
  const log =
    'SYMBOL(init_uts_ns)=ffffffff94a15740\nSYMBOL(unknown)=ffffffff93000000\nSYMBOL(_stext)=ffffffff93400000\n';
  assert.deepEqual(findOffsets(log, { addressOf }).found, [{ source: 'symbols', slide: 0x1240_0000 }]);
  assert.deepEqual(findOffsets(log).found, []);
  assert.throws(
    () => findOffsets(log.replace('93400000', '93600000'), { addressOf }),
    /SYMBOL\(_stext\) in the log at offset 0x46 is 0xffffffff93600000, expected 0xffffffff93400000, as init_uts_ns has moved: is this the kernel of the log\?$/,
  );
  assert.throws(
    () => findOffsets('SYMBOL(_stext)=ffffffff93401000', { addressOf }),
    /expected a possible slide above 0xffffffff81000000/,
  );
});

const UNKNOWN_LAST =
  'the last boot in it does not tell its slide, and the slides before are of earlier boots; give a log with its panic, or its /proc/kallsyms';
const FIRST_LINE = '[    0.000000] Linux version 6.12.0 (x@y) (gcc 14) #1 SMP\n';

test('a last boot that tells nothing: no slide of an earlier one', () => {
  const vmcoreinfo = 'KERNELOFFSET=1c000000\n';
  for (const log of [
    `${PANIC}${FIRST_LINE}`,
    `${FIRST_LINE}${PANIC}${FIRST_LINE}[    1.0] Run /init as init process\n`,
    `ffffffff9d000000 T _text\n${FIRST_LINE}`,
    `${vmcoreinfo}${FIRST_LINE}Kernel Offset: 0x1c00[    1.4] usb 1-1: new device\n`,
    `${PANIC}${FIRST_LINE}0000000000000000 T _text\n`,
    // Without a first line: a panic ends a boot, and these addresses are of the next.
    `${PANIC}0000000000000000 T _text\n`,
    `${DISABLED}${FIRST_LINE}${PANIC}${FIRST_LINE}`,
  ])
    for (const json of [true, false])
      assert.deepEqual(
        reportOffset(findOffsets(log), { json }),
        { output: '', remark: UNKNOWN_LAST, exitCode: 1 },
        log,
      );
  // The file tells only of a kernel that says "disabled".
  assert.equal(findOffsets(`${PANIC}${FIRST_LINE}`, { whenDisabled: 0x20_0000 }).silent, true);
  // Nothing was found at all: no boot is silent beside others.
  assert.deepEqual(findOffsets(FIRST_LINE), { found: [], useless: [], disabled: false, silent: false });
});

test('a first line of the boot that tells its slide, and one in a memory dump, change nothing', () => {
  for (const log of [
    `${FIRST_LINE}${PANIC}`,
    `${FIRST_LINE}${FIRST_LINE}${PANIC}`,
    `KERNELOFFSET=1c000000\n\0\0Linux version 6.12.0 (x@y)\0`,
    `${PANIC}Linux version %s (%s)\n`,
  ]) {
    const { found, silent } = findOffsets(log);
    assert.deepEqual([found.at(-1)?.slide, silent], [0x1c00_0000, false], log);
  }
});

test('lines of kallsyms, where the symbols are known', () => {
  const known: Record<string, bigint> = {
    startup_64: 0xffff_ffff_8100_0000n,
    _stext: 0xffff_ffff_8100_0000n,
    printk_deferred: 0xffff_ffff_812a_4c60n,
    jiffies_64: 0xffff_ffff_8260_5a00n,
  };
  const kernel = { addressOf: (name: string): bigint | undefined => known[name] };
  const symbols = [{ source: 'symbols', slide: 0x1240_0000 }];
  const lines = 'ffffffff93400000 T startup_64\nffffffff936a4c60 T printk_deferred\r\nffffffff94a05a00 D jiffies_64';
  for (const line of [...lines.split(/\r?\n/), lines])
    assert.deepEqual(findOffsets(line, kernel), { found: symbols, useless: [], disabled: false, silent: false }, line);
  // _text says the same, and is named.
  for (const log of [`ffffffff93400000 T _text\n${lines}`, `${lines}\nffffffff93400000 T _text\n`])
    assert.equal(findOffsets(log, kernel).found.at(-1)?.source, 'kallsyms');
  // Beside "disabled", in either order.
  for (const log of [`${lines}\n${DISABLED}`, `${DISABLED}${lines}\n`])
    assert.deepEqual(findOffsets(log, kernel).found, symbols);
  const nothing = [
    'ffffffff93400001 T startup_64_else\n',
    'ffffffff93400001 t startup_64\n',
    'ffffffffc0400001 T startup_64\t[a_module]\n',
    'fffffffff93400001 T startup_64\n',
    '0000000000000000 T startup_64\n',
    'ffffffff93400001 A startup_64\n',
  ];
  for (const log of nothing) assert.deepEqual(findOffsets(log, kernel).found, [], log);
  assert.deepEqual(findOffsets(lines).found, []);
});

test('symbols that contradict each other, or another source, are refused; elsewhere again they are of another boot', () => {
  const kernel = {
    addressOf: (name: string): bigint | undefined =>
      ({ startup_64: 0xffff_ffff_8100_0000n, printk_deferred: 0xffff_ffff_812a_4c60n })[name],
    limit: 0x2000_0000,
  };
  const refusedWith = (log: string, message: string): void =>
    assert.throws(() => findOffsets(log, kernel), { name: 'KernelImageError', code: 'bad-value', message });
  refusedWith(
    'ffffffff93400000 T startup_64\nffffffff93ca4c60 T printk_deferred\n',
    'invalid value: printk_deferred in the log at offset 0x1e is 0xffffffff93ca4c60, expected 0xffffffff936a4c60, as startup_64 has moved: is this the kernel of the log?',
  );
  refusedWith(
    'ffffffff936a4c70 T printk_deferred\n',
    'invalid value: printk_deferred in the log at offset 0x0 is 0xffffffff936a4c70, expected a possible slide above 0xffffffff812a4c60: is this the kernel of the log?',
  );
  // Half the range: this address is in the modules' area.
  refusedWith(
    'ffffffffa0000000 T startup_64\n',
    'invalid value: startup_64 in the log at offset 0x0 is 0xffffffffa0000000, expected a possible slide above 0xffffffff81000000: is this the kernel of the log?',
  );
  refusedWith(
    `ffffffff93400000 T startup_64\n${PANIC}`,
    "invalid value: slide by panic in the log at offset 0x28 is 0x1c000000, expected 0x12400000, the same boot's by symbols",
  );
  const twice = 'ffffffff93400000 T startup_64\nffffffff936a4c60 T printk_deferred\n';
  assert.deepEqual(findOffsets(`${twice}${twice.replaceAll('ffffffff93', 'ffffffff95')}`, kernel).found, [
    { source: 'symbols', slide: 0x1240_0000 },
    { source: 'symbols', slide: 0x1440_0000 },
  ]);
});
