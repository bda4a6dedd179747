/** The command line as a contract: exit codes, one line a failure, what goes to which stream, and no file left by a failure. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { SpawnSyncReturns } from 'node:child_process';
import { linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { version } from '../../src/cli/version.ts';
import { convert } from '../../src/convert.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { DATA, makeVmlinux, TABLE } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-cli-'));
after(() => rmSync(directory, { recursive: true }));

const root = fileURLToPath(new URL('../..', import.meta.url));
const vmlinux = makeVmlinux();
const bare = vmlinux.subarray(0, endOfElf(readElf(vmlinux)));
const bzImage = makeBzImage({ payload: gzipSync(vmlinux) });
const expected = (await convert(vmlinux, { codecs: coreCodecs })).bytes();

interface Ran {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

function kslide(args: readonly string[], input?: Uint8Array): Ran {
  const ran = spawnSync(process.execPath, [...KSLIDE, ...args], {
    cwd: root,
    timeout: 60_000,
    ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
  });
  return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr.toString() };
}

let files = 0;
function file(bytes?: Uint8Array): string {
  const path = join(directory, `file${files++}`);
  if (bytes !== undefined) writeFileSync(path, bytes);
  return path;
}

/** Exit code 2 or as given, nothing on standard output, one line on standard error, and nothing new in the folder. */
function refused(args: readonly string[], message: RegExp, code = 2, input?: Uint8Array): void {
  const before = readdirSync(directory);
  const ran = kslide(args, input);
  assert.match(ran.stderr, message);
  assert.equal(ran.stderr.trimEnd().split('\n').length, 1, ran.stderr);
  assert.equal(ran.code, code);
  assert.equal(ran.stdout.length, 0);
  assert.deepEqual(readdirSync(directory), before);
}

test('the version is the package’s', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  assert.equal(version, manifest.version);
  assert.equal(kslide(['--version']).stdout.toString(), `${version}\n`);
});

test('convert writes the file and a summary', () => {
  const [input, output] = [file(bzImage), file()];
  const ran = kslide(['convert', input, '-o', output]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(ran.stderr, '');
  assert.match(
    ran.stdout.toString(),
    /^kernel {7}6\.12\.0-test \(bzimage, gzip\)\nentries {6}linux64, pvh\nrelocations {2}6: 3 64-bit, 1 inverse 32-bit, 2 32-bit\nslots {8}504, every 2 MiB up to 0x3ee00000: 8\.98 bits of entropy\n/,
  );
  assert.deepEqual(new Uint8Array(readFileSync(output)), expected);
});

test('--align: a larger step, named in each summary; verify proves it if it is told', () => {
  const [input, output] = [file(bzImage), file()];
  const step =
    /^step +16 MiB, by --align; the kernel allows 2 MiB; CONFIG_PHYSICAL_ALIGN, the step of its own decompressor, is 2 MiB \(setup header\)$/m;
  const wish = ['--align', '0x1000000'];
  const rebuildable = file(makeBzImage({ payload: gzipSync(vmlinux), fields: { kernel_info_offset: 0 } }));
  const converted = kslide(['convert', input, '-o', output, ...wish]).stdout.toString();
  assert.match(converted, /^slots +63, every 16 MiB up to 0x3e000000: 5\.98 bits of entropy$/m);
  assert.match(converted, step);
  assert.match(
    kslide(['verify', input, output, ...wish]).stdout.toString(),
    /^step +16 MiB, by --align; the kernel allows 2 MiB$/m,
  );
  const refuted = kslide(['verify', input, output]);
  assert.equal(refuted.code, 1);
  assert.match(
    refuted.stdout.toString(),
    /^refuted by slots: parameters: slot_align at offset 0x8038 is 0x1000000, expected 0x200000; this is what `--align` writes \(verify --align 0x1000000\)$/m,
  );
  assert.match(kslide(['inspect', output]).stdout.toString(), /^step +16 MiB, by the parameters of the conversion$/m);
  assert.match(
    kslide(['bzimage', rebuildable, '-o', file(), '--compression', 'none', ...wish]).stdout.toString(),
    step,
  );
  const fields = ['--virt', '0x1000000', '--entry', 'linux64'];
  assert.match(kslide(['randomize', input, '-o', file(), ...fields, ...wish]).stdout.toString(), step);
  const between = kslide(['randomize', input, '-o', file(), '--virt', '0x200000', '--entry', 'linux64', ...wish]);
  assert.equal(between.code, 2);
  assert.match(
    between.stderr,
    /virtual slide is 0x200000, expected a multiple of 0x1000000; the nearest that works: 0x0\n$/,
  );
  for (const command of ['convert', 'bzimage', 'randomize']) {
    const ran = kslide([command, input, '-o', file(), '--align', '3145728']);
    assert.deepEqual([ran.code, ran.stderr], [2, 'kslide: --align is "3145728", expected a power of two\n']);
    assert.match(
      kslide([command, input, '-o', file(), '--align', '4096']).stderr,
      /^kslide: --align is "4096", expected a whole number from 2097152 to 1073741824\n$/,
    );
  }
});

test('convert --json prints the summary, --quiet nothing', () => {
  const [input, output] = [file(vmlinux), file()];
  const summary = JSON.parse(kslide(['convert', input, '-o', output, '--json']).stdout.toString()) as Record<
    string,
    unknown
  >;
  assert.equal(summary['input'], 'vmlinux');
  assert.deepEqual(summary['relocations'], { abs64: 3, inverse32: 1, abs32: 2 });
  for (const option of ['-q', '--quiet']) {
    const quiet = kslide(['convert', input, '-o', output, option]);
    assert.deepEqual([quiet.code, quiet.stdout.length, quiet.stderr], [0, 0, '']);
  }
});

test('- is standard input and output; the summary goes to standard error then', () => {
  const ran = kslide(['convert', '-', '-o', '-'], bzImage);
  assert.equal(ran.code, 0);
  assert.deepEqual(new Uint8Array(ran.stdout), expected);
  assert.match(ran.stderr, /^kernel /);
});

test('convert --relocs takes a table from a file of its own', () => {
  const output = file();
  const ran = kslide(['convert', file(bare), '--relocs', file(encodeRelocationTable(TABLE)), '-o', output, '--quiet']);
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(new Uint8Array(readFileSync(output)), expected);
});

test('extract writes the vmlinux, the table, or both; to standard output when not told otherwise', () => {
  const [input, output, relocs] = [file(bzImage), file(), file()];
  assert.equal(kslide(['extract', input, '-o', output, '--relocs-out', relocs]).code, 0);
  assert.deepEqual(new Uint8Array(readFileSync(output)), bare);
  assert.deepEqual(new Uint8Array(readFileSync(relocs)), encodeRelocationTable(TABLE));
  assert.deepEqual(new Uint8Array(kslide(['extract', '-'], bzImage).stdout), bare);
  rmSync(relocs);
  const given = file(encodeRelocationTable(TABLE));
  assert.equal(kslide(['extract', file(bare), '--relocs', given, '--relocs-out', relocs]).code, 0);
  assert.deepEqual(new Uint8Array(readFileSync(relocs)), encodeRelocationTable(TABLE));
  refused(['extract', file(bare), '--relocs', given, '--relocs-out', given], /is the input file/);
  refused(
    ['extract', file(bare), '-o', file(), '--relocs', given],
    /^kslide: --relocs wants --relocs-out: it changes nothing/,
  );
  rmSync(relocs);
  refused(
    ['extract', file(bare), '-o', file(), '--relocs-out', relocs],
    /^kslide: kernel has no relocation table: vmlinux: expected a table after/,
  );
});

test('inspect prints a description, as text or JSON; a kernel without relocations is no failure', () => {
  const input = file(bzImage);
  const text = kslide(['inspect', input]);
  assert.deepEqual([text.code, text.stderr], [0, '']);
  assert.match(text.stdout.toString(), /^kernel {7}6\.12\.0-test [^\n]*\nfile {9}bzimage, /);
  assert.match(text.stdout.toString(), /^all +3 +1 +2 +4 +3$/m);
  const json = kslide(['inspect', '--json', '-'], bzImage).stdout.toString();
  const described = JSON.parse(json) as { relocations: { forms: { kernelTable: number } } };
  assert.equal(described.relocations.forms.kernelTable, 36);
  const stripped = file(bare);
  assert.match(kslide(['inspect', stripped, '--json']).stdout.toString(), /^ {2}"relocations": null$/m);
  const relocs = file(encodeRelocationTable(TABLE));
  assert.match(kslide(['inspect', stripped, '--relocs', relocs]).stdout.toString(), /6 from --relocs, three lists/);
  const quiet = kslide(['inspect', input, '--quiet']);
  assert.deepEqual([quiet.code, quiet.stdout.length, quiet.stderr], [0, 0, '']);
  refused(['inspect', file(bzImage.subarray(0, 1500))], /^kslide: file is truncated: /);
  refused(['inspect', '-', '--relocs', '-'], /^kslide: IN and --relocs both want standard input$/m);
});

test('unusable input: exit code 2, one line, no file', () => {
  const output = join(directory, 'never');
  refused(['convert', file(new Uint8Array(0)), '-o', output], /^kslide: .*empty/);
  refused(['convert', file(new Uint8Array(5000).fill(0x5a)), '-o', output], /^kslide: not a kernel image: /);
  refused(['convert', file(bzImage.subarray(0, 1500)), '-o', output], /^kslide: file is truncated: /);
  refused(['convert', file(expected), '-o', output], /^kslide: kernel is already converted: /);
  refused(['convert', file(bare), '-o', output], /^kslide: kernel has no relocation table: /);
  refused(['convert', join(directory, 'missing'), '-o', output], /^kslide: .*missing: no such file/);
  refused(['convert', directory, '-o', output], /^kslide: .*: is a directory/);
  refused(['convert', '-', '-o', output], /^kslide: .*empty/, 2, new Uint8Array(0));
});

test('unusable arguments: exit code 2, one line', () => {
  const input = file(vmlinux);
  refused(
    ['convert', input],
    /^kslide: required option '-o, --output <OUT>' not specified; see kslide convert --help$/m,
  );
  refused(['convert'], /^kslide: /);
  refused(['convert', input, '-o', '-', '--json'], /^kslide: --json and -o - both want standard output$/m);
  refused(['convert', input, '-o', file(), '--nonsense'], /^kslide: unknown option '--nonsense'/);
  refused(['nonsense'], /^kslide: unknown command 'nonsense'; see kslide --help$/m);
  refused(['convrt'], /^kslide: unknown command 'convrt' \(Did you mean convert\?\); see kslide --help$/m);
  refused(
    ['convert', input, '-o', file(), '--recovr'],
    /^kslide: unknown option '--recovr' \(Did you mean --recover\?\); see kslide convert --help$/m,
  );
  refused(['boot', input, '--entry', 'bios'], /^kslide: --entry is "bios", expected pvh or linux64$/m);
  refused(['boot', input, '--memory', 'lots'], /^kslide: --memory is "lots", expected a whole number from 16$/m);
  refused(
    ['audit', input, '--boots', '1', '--timeout', '2147484'],
    /^kslide: --timeout is "2147484", expected a whole number from 1 to 2000000$/m,
  );
  refused(
    ['audit', input, '--boots', '9007199254740991'],
    /^kslide: --boots is "9007199254740991", expected .* to 10000000$/m,
  );
  refused(
    ['audit', input, '--boots', '1', '--jobs', '5000000000'],
    /^kslide: --jobs is "5000000000", expected .* to 10000$/m,
  );
  refused(['boot', input, '--phys', '0x200000'], /^kslide: --phys needs --entry linux64$/m);
  refused(['boot', input, '--entry', 'linux64', '--phys', '0x1000'], /^kslide: --phys must be a multiple of 2 MiB$/m);
  const ran = kslide([]);
  assert.equal(ran.code, 2);
  assert.match(ran.stderr, /^Usage: kslide /);
});

test('the input is never the output, by whatever name', () => {
  const input = file(bzImage);
  const [hard, soft] = [`${input}.hard`, `${input}.soft`];
  linkSync(input, hard);
  symlinkSync(input, soft);
  for (const output of [input, hard, soft]) refused(['convert', input, '-o', output], /is the input file/);
  assert.deepEqual(new Uint8Array(readFileSync(input)), bzImage);
});

test('a disk that is full is an environment failure', () => {
  refused(['convert', file(bzImage), '-o', '/dev/full', '--quiet'], /^kslide: \/dev\/full: no space left on device/, 3);
});

test('outputs that would be one file are refused under any name, before any work', () => {
  const [input, output, there] = [file(bzImage), file(), file(new Uint8Array(1))];
  symlinkSync(there, `${there}.soft`);
  linkSync(there, `${there}.hard`);
  const around = join(directory, '..', basename(directory), basename(output));
  for (const [first, second] of [
    [output, output],
    [output, around],
    [there, `${there}.soft`],
    [there, `${there}.hard`],
  ] as const)
    refused(
      ['extract', input, '-o', first, '--relocs-out', second],
      /^kslide: -o and --relocs-out name the same file$/m,
    );
  refused(['extract', join(directory, 'missing'), '-o', output, '--relocs-out', output], /name the same file/);
  assert.equal(kslide(['extract', input, '-o', '/dev/null', '--relocs-out', '/dev/null']).code, 0);
  refused(
    ['convert', input, '-o', '/dev/stdout', '--json'],
    /^kslide: --json and -o \/dev\/stdout both want standard output$/m,
  );
  refused(['convert', input, '-o', '/proc/self/fd/1', '--json'], /both want standard output$/m);
  refused(['bench', input, '--html', '-', '--json'], /^kslide: --json and --html - both want standard output$/m);
  const results = file(Buffer.from('results'));
  refused(['audit', '--merge', results, '--html', results], /is the input file/);
  assert.equal(readFileSync(results, 'utf8'), 'results');
});

test('standard output that is a file is written where it stands, by any name, and stays that file', () => {
  const [input, output] = [file(bzImage), file()];
  const shell = `( printf before; "$@"; printf after ) > "$OUT"`;
  const command = (args: readonly string[]): SpawnSyncReturns<Buffer> =>
    spawnSync('sh', ['-c', shell, 'sh', process.execPath, ...KSLIDE, ...args], {
      cwd: root,
      env: { ...process.env, OUT: output },
    });
  for (const name of ['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1']) {
    assert.equal(command(['convert', input, '-o', name, '--quiet']).stderr.toString(), '');
    assert.deepEqual(readFileSync(output), Buffer.concat([Buffer.from('before'), expected, Buffer.from('after')]));
  }
  // The report would be lost with the file that is replaced.
  const lost = command(['convert', input, '-o', output]);
  assert.equal(lost.stderr.toString(), `kslide: -o ${output} is where standard output goes, and the report with it\n`);
  assert.equal(readFileSync(output, 'utf8'), 'beforeafter');
});

test('convert warns of a kernel with one slot, also when it prints nothing else', () => {
  const immovable = file(makeVmlinux({ edit: (elf) => elf.u64(64 + 2 * 56 + 40, 0x3fe0_1000 - DATA.paddr) }));
  const warning =
    'this kernel will never move: it has only one slot, 0. Its image ends at 0x3fe01000, moves by multiples of 0x200000, and must end at 0x40000000 or below';
  const quiet = kslide(['convert', immovable, '-o', file(), '--quiet']);
  assert.deepEqual([quiet.code, quiet.stdout.length, quiet.stderr], [0, 0, `kslide: warning: ${warning}\n`]);
  const json = kslide(['convert', immovable, '-o', file(), '--json']);
  assert.deepEqual((JSON.parse(json.stdout.toString()) as { warnings: unknown }).warnings, [warning]);
  const text = kslide(['convert', immovable, '-o', file()]);
  assert.match(text.stdout.toString(), /^slots +1: the kernel can never move$/m);
});
