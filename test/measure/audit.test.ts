/** An audit without boots: its file, its verdict, its page. That it boots is test/boot/audit.test.ts. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { Writer } from '../../src/base/bytes.ts';
import { reportAudit } from '../../src/cli/reports/audit.ts';
import { reportAuditPage } from '../../src/cli/reports/audit-html.ts';
import { convert } from '../../src/convert.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { slideOfBoot } from '../../src/measure/audit/audit.ts';
import { readAuditImage } from '../../src/measure/audit/image.ts';
import { mergeAuditFiles, readAuditFile } from '../../src/measure/audit/record.ts';
import type { AuditRecord } from '../../src/measure/audit/record.ts';
import { summarizeAudit } from '../../src/measure/audit/summary.ts';
import type { AuditFindingCode } from '../../src/measure/audit/summary.ts';
import { LineFile } from '../../src/measure/ndjson.ts';
import { InputFileError, OutputFileError } from '../../src/node/errors.ts';
import { parseConsole } from '../../src/node/qemu/console.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux } from '../make-vmlinux.ts';

const ALIGN = 0x20_0000;
const SLOTS = { align: ALIGN, count: 480 };
const IMAGE = 'a1'.repeat(32);

const directory = mkdtempSync(join(tmpdir(), 'kslide-audit-'));
after(() => rmSync(directory, { recursive: true }));
let files = 0;
const fileName = (): string => join(directory, `results${files++}`);

function record(boot: number, changes: Partial<AuditRecord> = {}): AuditRecord {
  const guest = { memoryMib: 256, cpu: 'max', append: '' };
  return {
    id: `run-${boot}`,
    image: IMAGE,
    slots: SLOTS,
    entry: 'pvh',
    boot,
    slide: ((boot * 7919) % 480) * ALIGN,
    end: 'panic',
    ms: 1900 + boot,
    at: `2026-11-23T20:00:${String(boot % 60).padStart(2, '0')}.000Z`,
    machine: { cpu: 'a CPU', cpus: 2, accel: 'tcg', qemu: '7.2.22', guest },
    ...changes,
  };
}

function written(records: readonly AuditRecord[]): string {
  const path = fileName();
  const file = new LineFile(path);
  for (const each of records) file.append(each);
  file.close();
  return path;
}

function codes(records: readonly AuditRecord[], asked?: number): AuditFindingCode[] {
  return summarizeAudit(records, asked).findings.map(({ code }) => code);
}

/** As random as the tests need (Park and Miller's generator), in slots that `choose` makes of random ones. */
function random(boots: number, choose = (slot: number): number => slot): AuditRecord[] {
  let state = 1;
  return Array.from({ length: boots }, (_, i) => {
    state = (state * 48_271) % 0x7fff_ffff;
    return record(i + 1, { slide: choose(state % 480) * ALIGN });
  });
}

const withUnknownRange = (one: AuditRecord): AuditRecord => ({ ...one, slots: null });

test('results come back as they were written', async () => {
  const records = [
    record(1),
    record(2, { slide: null, end: 'timeout', tail: 'Oops\r\n"' }),
    record(3, { slide: 'disabled' }),
    record(4, { slide: 'unknown' }),
  ];
  for (const all of [records, records.map(withUnknownRange)]) {
    const path = written(all);
    assert.deepEqual(await readAuditFile(path), { values: all, length: statSync(path).size, torn: false });
  }
});

test('an incomplete last line is dropped, and overwritten when the file is continued', async () => {
  const path = written([record(1), record(2)]);
  const { size } = statSync(path);
  const line = JSON.stringify(record(3));
  // Even a line that only lacks its newline: nobody knows whether it was meant to end there.
  for (const torn of ['{', line.slice(0, 100), line]) {
    writeFileSync(path, readFileSync(path).subarray(0, size));
    appendFileSync(path, torn);
    const { values, length, torn: isTorn } = await readAuditFile(path);
    assert.deepEqual([values.length, length, isTorn], [2, size, true]);
  }
  const file = new LineFile(path, size);
  file.append(record(3));
  file.close();
  assert.deepEqual((await readAuditFile(path)).values, [record(1), record(2), record(3)]);
});

test('an empty file has no results; anything else than results is refused with its line', async () => {
  const path = fileName();
  writeFileSync(path, '');
  assert.deepEqual(await readAuditFile(path), { values: [], length: 0, torn: false });
  const good = JSON.stringify(record(1));
  const bad = [
    'hello',
    '{}',
    'null',
    '[1]',
    '',
    good.replace('"panic"', '"bored"'),
    good.replace('480', '1e9'),
    good.replace(IMAGE, 'a1'),
    good.replace('2097152', '4096'),
    good.replace('"count":480', '"count":513'),
    good.replace('"count":480', '"count":0'),
    good.replace(/"slide":\d+/, '"slide":1e999'),
    good.replace(/"slide":\d+/, '"slide":-2097152'),
    good.replace(/"slide":\d+/, '"slide":2097152.5'),
    good.replace(/"slide":\d+/, '"slide":1073741824'),
    good.replace('"append":""', `"append":"${'x'.repeat(0x1_0000)}"`),
    `\ufeff${good}`,
    '['.repeat(50_000),
  ];
  for (const line of bad) {
    writeFileSync(path, `${good}\n${line}\n`);
    await assert.rejects(
      readAuditFile(path),
      (error: unknown) => error instanceof InputFileError && /line 2 /.test(error.message),
      line,
    );
  }
});

test('a new result file replaces nothing', () => {
  const path = written([record(1)]);
  assert.throws(() => new LineFile(path), OutputFileError);
  assert.throws(() => new LineFile(join(directory, 'missing', 'file')), /no such file or directory/);
});

test('files are merged: each boot once, and of one image only', async () => {
  const one = written([record(1), record(2)]);
  const two = written([record(2), record(1, { id: 'other-1' })]);
  assert.deepEqual(
    (await mergeAuditFiles([one, two, one])).map(({ id }) => id),
    ['run-1', 'run-2', 'other-1'],
  );
  await assert.rejects(
    mergeAuditFiles([one, written([record(1, { image: 'b2'.repeat(32) })])]),
    /audits another image: b2b2/,
  );
  await assert.rejects(mergeAuditFiles([one, written([record(1, { slide: 0 })])]), /boot run-1 has a different result/);
});

test('the range comes from the image; a kernel that is not converted has none', async () => {
  const vmlinux = makeVmlinux();
  const { parts, bytes, summary } = await convert(vmlinux, { codecs: coreCodecs });
  assert.ok(parts.length > 0);
  const converted = readAuditImage(bytes());
  assert.deepEqual(converted.slots, { align: summary.slots.align, count: summary.slots.count });
  assert.match(converted.hash, /^[0-9a-f]{64}$/);
  assert.equal(readAuditImage(vmlinux).slots, undefined);
  assert.equal(readAuditImage(makeBzImage({ payload: vmlinux })).slots, undefined);
  assert.throws(() => readAuditImage(new Uint8Array(5000)), KernelImageError);
  // Parameters that no conversion writes are refused: an audit must not believe in a range of nothing.
  const at = readVmlinux(bytes()).loads.at(-1)!.offset;
  for (const [field, value] of [
    ['slot_count', 0],
    ['slot_count', 513],
    ['slot_align', 0x10_0000],
  ] as const) {
    const broken = new Writer(bytes());
    broken.u64(at + PARAMS[field], value);
    assert.throws(() => readAuditImage(broken.bytes), new RegExp(field));
  }
});

test('nothing is found where nothing is wrong', () => {
  const summary = summarizeAudit(random(1000), 1000);
  assert.deepEqual(summary.findings, []);
  assert.deepEqual(summary.boots, {
    asked: 1000,
    done: 1000,
    failed: 0,
    unknown: 0,
    byEntry: { pvh: 1000 },
    medianMs: 2401,
  });
  assert.deepEqual(summary.slots, { align: ALIGN, count: 480, largest: 479 * ALIGN });
  assert.equal(summary.slides?.alignment, ALIGN);
  assert.equal(summary.slides!.distinct + summary.collisions!.seen, 1000);
  assert.equal(summary.machines.length, 1);
});

test('each finding by itself', () => {
  const good = random(300);
  const change = (changes: Partial<AuditRecord>): AuditRecord[] => good.with(7, { ...good[7]!, ...changes });
  assert.deepEqual(codes(good), []);
  assert.deepEqual(codes(change({ slide: null, end: 'timeout' })), ['failed']);
  assert.deepEqual(codes(change({ slide: null })), ['failed']);
  assert.deepEqual(codes(change({ end: 'reset' })), ['failed']);
  assert.deepEqual(codes(change({ slide: 'disabled' })), ['not-randomized']);
  assert.deepEqual(codes(change({ slide: ALIGN + 0x1000 })), ['misaligned']);
  assert.deepEqual(codes(change({ slide: 480 * ALIGN })), ['out-of-range']);
  assert.deepEqual(codes(change({ slide: 479 * ALIGN })), []);
  assert.deepEqual(codes(good, 301), ['incomplete']);
  assert.deepEqual(codes(random(300, (slot) => slot & ~1)), ['collisions']);
  const counter = Array.from({ length: 960 }, (_, i) => record(i, { slide: (i % 480) * ALIGN }));
  assert.deepEqual(codes(counter), ['too-even', 'collisions']);
  assert.deepEqual(codes(random(1000, (slot) => slot >> 1)), ['uneven', 'collisions']);
});

test('a kernel that always goes to the same place is found with four boots, its range known or not', () => {
  assert.deepEqual(codes(random(4, () => 5)), ['collisions']);
  const unknown = [1, 2, 3, 4].map((boot) => record(boot, { slide: 5 * ALIGN, slots: null }));
  assert.deepEqual(codes(unknown.slice(1)), []);
  assert.deepEqual(codes(unknown), ['constant']);
});

test('all failed: there is still a summary', () => {
  const summary = summarizeAudit([record(1, { slide: null, end: 'reset' })], 1);
  assert.deepEqual([summary.slides, summary.uniformity, summary.collisions, summary.entropy], [null, null, null, null]);
  assert.match(reportAudit(summary), /FOUND +1 of 1 boots failed: 1 × reset, no slide\n$/);
});

test('the page stands alone, and is escaped', () => {
  const names = { title: `<script>alert('"&')</script>` };
  const records = [...random(1000), record(1001, { slide: null, slots: SLOTS, end: 'timeout' })];
  for (const list of [records, records.map(withUnknownRange), records.slice(-1), records.slice(0, 1)]) {
    const page = reportAuditPage(summarizeAudit(list), list, names);
    assert.doesNotMatch(page, /<script|https?:|src=|@import|url\(|NaN|undefined|Infinity/);
    assert.match(page, /&lt;script&gt;alert\(&#39;&quot;&amp;&#39;\)/);
    assert.equal(reportAuditPage(summarizeAudit(list), list, names), page);
  }
});

test('every boot with a slide is in a bar of the histogram', () => {
  const records = random(777);
  const page = reportAuditPage(summarizeAudit(records), records, { title: '' });
  const [wide] = page.split('<div class="narrow">');
  const bars = [...wide!.matchAll(/MiB: ([\d,]+) boots<\/title>/g)].map(([, boots]) => Number(boots!.replace(',', '')));
  assert.equal(bars.length, 80);
  assert.equal(
    bars.reduce((a, b) => a + b, 0),
    777,
  );
});

test('bytes that are no UTF-8 are no result', async () => {
  const path = fileName();
  writeFileSync(path, Buffer.from(`${JSON.stringify(record(1))}\n`.replace('a CPU', 'a \xff'), 'latin1'));
  await assert.rejects(readAuditFile(path), /line 1 is not a result that kslide wrote$/);
});

test('the same image with other slots is a contradiction, in one file and in several', async () => {
  const other = [
    [{ count: 240, align: ALIGN }, '240 slots of 0x200000'],
    [{ count: 240, align: 2 * ALIGN }, '240 slots of 0x400000'],
    [null, 'no slots'],
  ] as const;
  for (const [slots, words] of other) {
    const expected = `has ${words}, expected 480 slots of 0x200000, as the same image has elsewhere`;
    const path = written([record(1), record(2), record(3, { slots })]);
    await assert.rejects(readAuditFile(path), { name: 'InputFileError', message: `${path}: line 3 ${expected}` });
    const second = written([record(4, { slots })]);
    await assert.rejects(mergeAuditFiles([written([record(1)]), second]), {
      name: 'InputFileError',
      message: `${second}: line 1 ${expected}`,
    });
  }
  const mixed = written([record(1), record(2, { image: 'b2'.repeat(32) })]);
  await assert.rejects(readAuditFile(mixed), {
    message: `${mixed}: line 2 audits another image: ${'b2'.repeat(32)}, not ${IMAGE}`,
  });
});

test('too few boots: neither good nor bad', () => {
  for (const boots of [1, 2, 9, 205]) {
    const records = random(boots);
    const summary = summarizeAudit(records, boots);
    assert.deepEqual([summary.findings, summary.needed, summary.verdict], [[], 206, 'not-enough-boots'], `${boots}`);
    assert.match(reportAudit(summary), /^verdict +not enough boots to tell \(206 needed\)$/m);
    const page = reportAuditPage(summary, records, { title: 'x' });
    assert.match(page, /class="verdict open"><strong>Not enough boots to tell<\/strong> \(206 needed\)/);
    assert.doesNotMatch(page, /class="verdict good"/);
  }
  assert.equal(summarizeAudit(random(206)).verdict, 'nothing-found');
  // Failed boots show no slide, so they do not count. What is found is found.
  const failed = summarizeAudit([...random(206).slice(1), record(999, { slide: null, end: 'timeout' })]);
  assert.equal(failed.verdict, 'found');
  // Where the range is not known, only a kernel that never moves can be found.
  const unknown = (boots: number): AuditRecord[] => random(boots).map(withUnknownRange);
  assert.deepEqual(
    [3, 4].map((boots) => summarizeAudit(unknown(boots)).verdict),
    ['not-enough-boots', 'nothing-found'],
  );
});

test('boots that do not tell their slide: neither good nor bad, and never "not randomized"', () => {
  const records = [...random(300).slice(1), record(999, { slide: 'unknown' })];
  const summary = summarizeAudit(records, 300);
  assert.deepEqual(
    [summary.findings, summary.verdict, summary.boots.unknown, summary.boots.failed],
    [[], 'undecided', 1, 0],
  );
  const words =
    '1 of 300 boots do not tell their slide: the kernel says "Kernel Offset: disabled", which a kernel that moved may say too, and shows no address in /proc/kallsyms';
  assert.ok(reportAudit(summary).endsWith(`\nverdict     cannot be judged: ${words}\n`), reportAudit(summary));
  const page = reportAuditPage(summary, records, { title: 'x' });
  assert.match(page, /class="verdict open"><strong>Cannot be judged<\/strong>: 1 of 300 boots do not tell/);
  assert.doesNotMatch(page, /class="verdict (?:good|bad)"/);
  // What is found is found.
  const failed = record(1000, { slide: 'unknown', end: 'timeout' });
  assert.deepEqual(codes([...records, failed]), ['failed']);
  assert.equal(summarizeAudit([...records, failed]).boots.unknown, 1);
  assert.equal(summarizeAudit([...records, failed]).verdict, 'found');
});

test('what a boot that says "disabled" records: where it ran, if anything tells', () => {
  const off = 'Kernel Offset: disabled\n';
  const text = 'kslide-guest: text=ffffffff93400000\n';
  const home = 'kslide-guest: text=ffffffff81000000\n';
  const cases: readonly (readonly [console: string, byFile: number | undefined, AuditRecord['slide']])[] = [
    [off, undefined, 'unknown'],
    [off, 0, 'disabled'],
    [off, 0x1240_0000, 0x1240_0000],
    [text + off, undefined, 0x1240_0000],
    // The first slot of a kernel that picks one at each boot.
    [home + off, undefined, 0],
    ['', undefined, null],
    [text, undefined, 0x1240_0000],
    ['Kernel Offset: 0x0 from 0xffffffff81000000\n', undefined, 0],
    [`${text}Kernel Offset: 0x0 from 0xffffffff81000000\n`, undefined, null],
  ];
  for (const [console, byFile, expected] of cases) {
    const report = parseConsole(console, 0xffff_ffff_8100_0000n);
    const slide = report.slide ?? (report.kaslr === 'off' ? byFile : undefined);
    assert.equal(slideOfBoot({ report, slide }), expected, `${console} ${byFile}`);
  }
});

test('an image with one slot never moves', () => {
  const slots = { align: ALIGN, count: 1 };
  const summary = summarizeAudit([record(1, { slots, slide: 0 })]);
  assert.deepEqual(summary.findings, [{ code: 'constant', text: 'the image has only one slot: it never moves' }]);
});

test('no number that is none, whatever the slots and the boots', () => {
  for (const slots of [
    { align: ALIGN, count: 1 },
    { align: ALIGN, count: 2 },
    { align: 0x4000_0000, count: 1 },
    SLOTS,
    null,
  ])
    for (const slides of [
      [0],
      [0, 0],
      [0, ALIGN],
      [0x1000],
      [0x3fff_ffff, 0],
      [null],
      ['disabled'],
      ['unknown'],
      [0, null, 'disabled', 'unknown'],
    ] as const) {
      const records = slides.map((slide, i) => record(i + 1, { slots, slide, ms: 0 }));
      const summary = summarizeAudit(records);
      const all = `${reportAudit(summary)}${JSON.stringify(summary)}${reportAuditPage(summary, records, { title: 'x' })}`;
      assert.doesNotMatch(all, /NaN|Infinity|undefined|(?<![\w.#-])-\d+ boots/, JSON.stringify([slots, slides]));
    }
});
