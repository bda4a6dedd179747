/** What `kslide bench` prints and refuses. Its page in a browser is pages.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { million, reportBench } from '../../src/cli/reports/bench.ts';
import { reportBenchPage } from '../../src/cli/reports/bench-html.ts';
import { stretchesOf } from '../../src/cli/reports/bench-map.ts';
import { makeSummary } from '../measure/bench-summary.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-bench-cli-'));
after(() => rmSync(directory, { recursive: true }));
const root = fileURLToPath(new URL('../..', import.meta.url));
const kernel = join(directory, 'vmlinux');
writeFileSync(kernel, makeVmlinux());

test('the text, where instructions were counted', () => {
  assert.equal(
    reportBench(makeSummary()),
    `KASLR for 0.00% of the boot; the bzImage pays 53.8%

kernel   6.12.0-test, 2,000 relocations
guest    256 MiB, pvh, "quiet <&>", QEMU 7.2.22
measure  TCG counts guest instructions (-icount shift=0; 1 takes 1 ns of guest time); KVM cannot run this kernel here
to       the first instruction of /init
boots    3 of each; median, and spread from least to most

                      instructions  spread  over vmlinux  relocation     file   loaded
bzImage                  2,000.0 M   0.15%        +53.8%       0.12%  11.0 MB  11.0 MB
vmlinux                  1,300.0 M   0.23%                            50.0 MB  45.0 MB
kslide, kernel table     1,302.1 M   0.23%        +0.16%       0.00%  50.0 MB  45.0 MB

stub, kernel table    12,345 instructions, 6.17 per relocation; in a second boot 12,346; with nokaslr 1,105; table 8.01 kB
                      set-up 501, entropy 602, paging 703, relocate 10,036, leave 503
bzImage               relocation 2.4 M, the kernel's own randomization −1.5 M (medians, compared with nokaslr; boots differ by 3.0 M)
kslide, kernel table  relocation 0.0 M, the kernel's own randomization 0.9 M (medians, compared with nokaslr; boots differ by 3.0 M)
`,
  );
});

test('the text, where time was measured', () => {
  const { guest, rows } = makeSummary();
  const text = reportBench(
    makeSummary({
      unit: 'microseconds',
      point: 'end',
      guest: { ...guest, accel: 'kvm', fellBack: false, append: '' },
      rows: rows.map((row) => Object.assign({}, row, { median: 131_250, least: 131_200, most: 140_000, phases: null })),
      kaslr: [],
    }),
  );
  assert.match(text, /^guest +256 MiB, pvh, QEMU 7\.2\.22$/m);
  assert.match(text, /^measure +KVM, time from power-on$/m);
  assert.match(text, /^to +the guest's own end$/m);
  assert.match(text, /^ +time +spread +over vmlinux/m);
  assert.match(text, /^bzImage +131\.3 ms +6\.70% /m);
});

test('instructions in millions', () => {
  const of = [0, 49_999, 50_000, -50_000, -49_999, 1_379_849_999, 1_379_850_000];
  assert.deepEqual(of.map(million), ['0.0 M', '0.0 M', '0.1 M', '−0.1 M', '0.0 M', '1,379.8 M', '1,379.9 M']);
});

test('the map puts small neighbours together, and loses none', () => {
  const { map } = makeSummary();
  const seen = stretchesOf(map).map(({ title, start, bytes, relocations }) => ({ title, start, bytes, relocations }));
  assert.deepEqual(seen, [
    { title: '.text<', start: 0x100_0000, bytes: 0x8_0000, relocations: 1008 },
    { title: '.a to .b', start: 0x108_0000, bytes: 0x3_0000, relocations: 992 },
  ]);
});

test('the page is the same each time, escapes what it did not make, and has every number as text', () => {
  const summary = makeSummary();
  const html = reportBenchPage(summary);
  assert.equal(reportBenchPage(makeSummary()), html);
  assert.ok(html.includes('quiet &lt;&amp;&gt;') && html.includes('.text&lt;'));
  assert.doesNotMatch(html, /quiet <|\.text</);
  assert.doesNotMatch(html, /<script|<link|<img|https?:|url\(|@import/i);
  const text = html.replaceAll(/<svg.*?<\/svg>/g, '').replaceAll(/<[^>]*>/g, ' ');
  for (const number of ['2,000.0 M', '695.0 M', '+53.8%', '12,345', '12,346', '6.17', '10,036', '8.01 kB', '1,008'])
    assert.ok(text.includes(number), `${number} is in no table`);
  for (const [tag, many] of [
    ['<h1>', 1],
    ['<h2>', 4],
    ['<details>', 6],
    ['<table>', 6],
    ['<caption>', 6],
    ['role="img" aria-label="', 8],
  ] as const)
    assert.equal(html.split(tag).length - 1, many, tag);
});

test('the page of times has no phases, and no holes', () => {
  const rows = makeSummary().rows.map((row) =>
    Object.assign({}, row, { median: 131_250, least: 131_200, most: 140_000, phases: null }),
  );
  const html = reportBenchPage(makeSummary({ unit: 'microseconds', rows, kaslr: [] }));
  assert.ok(html.includes('131.3 ms') && html.includes('milliseconds'));
  assert.ok(!html.includes('<summary>By phase</summary>') && !html.includes('p-decompressor"'));
  for (const page of [html, reportBenchPage(makeSummary({ map: { cell: 0x1_0000, regions: [] } }))])
    assert.doesNotMatch(page, /NaN|undefined|Infinity|\[object/);
});

/** Exit code and one line on standard error; nothing printed, nothing left. */
function refused(args: readonly string[], code: number, message: RegExp, env: NodeJS.ProcessEnv = process.env): void {
  const temporary = mkdtempSync(join(directory, 'tmp'));
  const before = readdirSync(directory);
  const ran = spawnSync(process.execPath, [...KSLIDE, 'bench', ...args], {
    cwd: root,
    encoding: 'utf8',
    timeout: 120_000,
    env: { ...env, TMPDIR: temporary },
  });
  assert.match(ran.stderr, message);
  assert.equal(ran.stderr.trimEnd().split('\n').length, 1, ran.stderr);
  assert.deepEqual([ran.status, ran.stdout], [code, '']);
  assert.deepEqual(readdirSync(directory), before);
  assert.deepEqual(
    readdirSync(temporary).filter((name) => name.startsWith('kslide')),
    [],
  );
}

test('arguments that make no sense are refused before anything boots', () => {
  refused([kernel, '--accel', 'warp'], 2, /--accel is "warp", expected tcg or kvm or auto/);
  refused([kernel, '--timeout', '2147484'], 2, /--timeout is "2147484", expected a whole number from 1 to 2000000/);
  refused([kernel, '--runs', '5000000000'], 2, /--runs is "5000000000", expected a whole number from 1 to 10000000/);
  refused([kernel, '--runs', '0'], 2, /--runs is "0", expected a whole number from 1/);
  refused([kernel, '--memory', '1'], 2, /--memory is "1"/);
  refused([kernel, '--html', kernel], 2, /vmlinux/);
  refused([join(directory, 'nothing')], 2, /nothing/);
  assert.deepEqual(readFileSync(kernel), Buffer.from(makeVmlinux()));
});

test('a machine without QEMU is told so', () => {
  const { PATH: _, ...env } = process.env;
  refused([kernel, '--accel', 'tcg'], 3, /qemu-system-x86_64 is not installed/, { ...env, PATH: directory });
});

test('one boot of each has no spread, in text and on the page', () => {
  const several = makeSummary();
  const once = makeSummary({
    rows: several.rows.map((row) => ({ ...row, boots: [row.median], least: row.median, most: row.median })),
  });
  const text = reportBench(once);
  assert.match(text, /^boots +one of each: no spread$/m);
  assert.match(text, /^vmlinux +1,300\.0 M +– /m);
  assert.match(text, /\(one boot of each, compared with nokaslr: how far boots differ is not known\)$/m);
  const page = reportBenchPage(once);
  assert.match(page, /there was one boot of each, so no spread is known/);
  for (const said of [text, page]) assert.doesNotMatch(said, /NaN|Infinity|class="range"|differ by 0/);
  assert.match(reportBenchPage(several), /class="range"/);
});

/** A QEMU whose guest stalls in every run to an address: its GDB stub never says that it stopped. */
const STALLING = `#!/usr/bin/env node
const { connect } = require('node:net');
const { createInterface } = require('node:readline');
const path = (option) => process.argv[process.argv.indexOf(option) + 1].slice('unix:'.length);
const qmp = connect(path('-qmp'));
const told = { 'info registers': 'RAX=0 RIP=ffffffff81001234 RFL=2', 'info replay': 'instruction count = 98765' };
createInterface({ input: qmp }).on('line', (line) => {
  const { execute, arguments: args } = JSON.parse(line);
  qmp.write(JSON.stringify({ return: told[args['command-line']] ?? {} }) + '\\n');
  if (execute === 'quit') process.exit(0);
});
const gdb = connect(path('-gdb'));
gdb.setEncoding('latin1').on('data', (text) => { if (text.includes('$Z')) gdb.write('+$OK#9a'); });
`;

test('a stall says which boot it was, where, and that it was the original', () => {
  const programs = mkdtempSync(join(directory, 'path'));
  writeFileSync(join(programs, 'qemu-system-x86_64'), STALLING, { mode: 0o755 });
  const env = { ...process.env, PATH: `${programs}:${process.env['PATH']}` };
  refused(
    [kernel, '--accel', 'tcg', '--timeout', '2', '--runs', '1', '--quiet'],
    2,
    /would not boot: vmlinux \(the original kernel, not converted, boot with seed 1\) is stalled after 2 s on the way to startup_64, at RIP 0xffffffff81001234 after 98765 instructions, expected startup_64 to be reached under -icount; kslide did not change this kernel; --accel kvm measures without -icount; on a slow machine a longer --timeout helps$/m,
    env,
  );
});
