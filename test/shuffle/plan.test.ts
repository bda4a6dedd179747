/**
 * Plan files that somebody else wrote: each number of the head and of the columns takes each value that arithmetic goes wrong with, with a right fingerprint. The
 * plan is refused in one line, or it gives a kernel, whose summary and System.map are asked for as well; in bounded time, and never with another error.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ascii, joinParts, viewOf } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { decodePlan, encodePlan, planShuffle, shuffle } from '../../src/shuffle/index.ts';
import { fingerprint } from '../../src/shuffle/read/identity.ts';
import { makeKernel } from './make-kernel.ts';

const codecs = coreCodecs;
const { unstripped: kernel } = makeKernel();
const plan = await planShuffle(kernel, { codecs, debug: memorySource(kernel) });
const file = joinParts(encodePlan(plan));
const HEADER = 16;
const headEnd = HEADER + viewOf(file).getUint32(8, true);
const head = Buffer.from(file.subarray(HEADER, headEnd)).toString('latin1');
const columns = file.subarray(headEnd);

/** A plan file with this head, and these columns. */
function planFile(text: string, words: Uint8Array = columns): Uint8Array {
  const padded = ascii(text.padEnd(Math.ceil(text.length / 4) * 4));
  const made = joinParts([file.slice(0, HEADER), padded, words]);
  viewOf(made).setUint32(8, padded.length, true);
  viewOf(made).setUint32(12, fingerprint(made.subarray(HEADER)), true);
  return made;
}

/** Whether the plan was taken. */
async function tryPlan(bytes: Uint8Array, what: string): Promise<boolean> {
  const began = process.cpuUsage();
  try {
    const shuffled = await shuffle(kernel, { codecs, plan: decodePlan(bytes), seed: Uint8Array.of(1), plain: true });
    assert.ok(shuffled.summary.worth.bits.median >= 0, what);
    shuffled.symbols();
    return true;
  } catch (error) {
    assert.ok(error instanceof KernelImageError, `${what}: ${String(error)}`);
    assert.ok(error.message.length < 400 && !error.message.includes('\n'), `${what}: ${error.message}`);
    return false;
  } finally {
    const { user, system } = process.cpuUsage(began);
    const took = (user + system) / 1000;
    assert.ok(took < 2000, `${what} took ${took.toFixed()} ms`);
  }
}

const VALUES = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

test('each word of the columns', async () => {
  const before = process.memoryUsage().rss;
  let taken = 0;
  for (let at = 0; at < columns.length; at += 4)
    for (const value of VALUES) {
      const changed = columns.slice();
      viewOf(changed).setUint32(at, value, true);
      if (await tryPlan(planFile(head, changed), `column word ${at / 4} = ${value}`)) taken++;
    }
  // Of some 1,200: data of __ex_table, small owners, offsets inside the kernel. Such a plan gives a wrong kernel, and nothing worse.
  assert.ok(taken < columns.length / 2, `${taken} taken`);
  // A kernel of 16 KB and a plan of 2 KB: what is left is garbage, not something of the size of a number.
  assert.ok(process.memoryUsage().rss - before < 400 * 2 ** 20);
});

test('each value of the head', async () => {
  const values = [
    '0',
    '1',
    '-1',
    '1.5',
    '1e308',
    '4294967295',
    '4294967296',
    '9007199254740993',
    '"x"',
    'null',
    '[]',
    '{}',
    'true',
    '{"$words":1}',
    '{"$words":4294967295}',
    '{"$words":-1}',
    '{"$words":1e300}',
    '{"$words":1,"$bytes":-5}',
  ];
  const spots = [...head.matchAll(/(?<=:)(?:\d+|"[^"]*"|\[|\{)/g)];
  assert.ok(spots.length > 60, `${spots.length} values`);
  let taken = 0;
  for (const { 0: old, index } of spots) {
    if (old === '[' || old === '{') continue;
    for (const value of values) {
      const changed = head.slice(0, index) + value + head.slice(index + old.length);
      if (await tryPlan(planFile(changed), `${head.slice(Math.max(0, index - 20), index)} ${value}`)) taken++;
    }
  }
  assert.ok(taken < spots.length * 4, `${taken} taken`);
});

test('a count of functions that no code could hold, as one that made the summary run out of memory', async () => {
  const changed = columns.slice();
  const units = plan.starts.length;
  for (let unit = 0; unit < units; unit++) viewOf(changed).setUint32((2 * units + unit) * 4, 0xffff_ffff, true);
  const bytes = planFile(head, changed);
  const at = (headEnd + 2 * units * 4).toString(16);
  assert.throws(() => decodePlan(bytes), {
    name: 'KernelImageError',
    message: `invalid value: plan: functions[0] at offset 0x${at} is 0xffffffff, expected no more than it has bytes`,
  });
});

test('a head that is nested without end, has other fields, or lacks some', () => {
  for (const text of [
    '['.repeat(500_000),
    `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`,
    '1',
    'null',
    '[]',
    '""',
    '{}',
    head.replace('"starts"', '"start"'),
    head.replace('{', '{"more":1,'),
    head.replace('{', '{"__proto__":{},'),
    head.replace('"runs":[', '"runs":[1,'),
    `${head} `.repeat(3),
  ])
    assert.throws(() => decodePlan(planFile(text)), { name: 'KernelImageError' }, text.slice(0, 60));
});

test('columns that are longer or shorter than the file', () => {
  for (const words of [columns.subarray(0, -4), joinParts([columns, new Uint8Array(4)]), new Uint8Array(0)])
    assert.throws(() => decodePlan(planFile(head, words)), { name: 'KernelImageError' });
});
