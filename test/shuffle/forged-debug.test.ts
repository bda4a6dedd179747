/**
 * A debug vmlinux with one relocation or symbol forged: refused by what the kernel itself says, or without effect, or the verdict states the premise. (Real kernels have
 * kallsyms and tables besides, which confirm more: scripts/try-forged-debug.ts.)
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import type { ByteSource } from '../../src/relocs/tool/byte-source.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import { openDebugKernel } from '../../src/shuffle/read/debug-kernel.ts';
import { KSLIDE } from '../cli/program.ts';
import { FORGERIES, makeForger } from './forge-debug.ts';
import { makeKernel } from './make-kernel.ts';
import { TABLES } from './without-relocations.ts';

const codecs = coreCodecs;
const { unstripped, stripped } = makeKernel(TABLES);
const relocs = encodeRelocationTable(collectRelocations(unstripped));
const genuine = memorySource(unstripped);
let state = 5;
const random = (below: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const forge = makeForger(genuine, openDebugKernel(genuine, { needsRelocations: true }), random);

interface Tried {
  /** deceived: proved with the forged one, refuted with the genuine one. refuted: even the forged one refutes what was made with it. */
  readonly outcome: 'refused' | 'harmless' | 'deceived' | 'refuted';
  /** The message of a refusal. */
  readonly message: string;
  /** The names of the premises that were stated with the forged one. */
  readonly premises: readonly string[];
}

async function tryIt(debug: ByteSource): Promise<Tried> {
  let file: Uint8Array;
  try {
    const plan = await planShuffle(stripped, { codecs, debug, relocs });
    file = (await shuffle(stripped, { codecs, plan, seed: Uint8Array.of(9), plain: true })).bytes();
  } catch (error) {
    if (error instanceof KernelImageError) return { outcome: 'refused', message: error.message, premises: [] };
    throw error;
  }
  const own = await verifyShuffled(stripped, file, { codecs, debug, relocs });
  const premises = own.premises.map(({ name }) => name);
  if (own.verdict !== 'proved') return { outcome: 'refuted', message: '', premises };
  const { verdict } = await verifyShuffled(stripped, file, { codecs, debug: genuine, relocs });
  return { outcome: verdict === 'proved' ? 'harmless' : 'deceived', message: '', premises };
}

/**
 * What no kernel contradicts: another symbol that gives the same sum, with another addend or because it has the same value (`.text` and `_stext`).
 * A symbol that is gone: kallsyms would tell, and this kernel has none.
 */
const MAY_DECEIVE = new Set<string>([
  'symbol dropped',
  'relocation symbol',
  'relocation symbol, same sum',
  'relocation of a section, same sum',
]);
/** Without kallsyms, nothing but the proof of the result finds these. */
const MAY_BE_REFUTED = new Set<string>(['symbol value', 'symbol size', 'symbol name', 'symbol dropped']);

for (const kind of FORGERIES)
  test(`one forged: ${kind}`, async () => {
    for (let round = 0; round < 8; round++) {
      const { detail, source } = forge(kind);
      const { outcome, message, premises } = await tryIt(source);
      if (kind === 'relocation addend' || kind === 'relocation offset') assert.equal(outcome, 'refused', detail);
      if (outcome === 'refused') assert.ok(!message.includes('\n') && message.length < 700, message);
      if (outcome === 'deceived') assert.ok(MAY_DECEIVE.has(kind), detail);
      if (outcome === 'refuted') assert.ok(MAY_BE_REFUTED.has(kind), detail);
      if (outcome === 'deceived' && kind.startsWith('relocation symbol'))
        assert.ok(premises.includes('symbol-targets'), detail);
    }
  });

test('a contradiction is refused with the number of its kind and an example', async () => {
  const { source } = forge('relocation addend');
  const { message } = await tryIt(source);
  assert.match(
    message,
    /^invalid value: debug vmlinux: relocations is wrong once: R_X86_64_\w+ \S+[+-]0x[0-9a-f]+ in \S+ at 0xffffffff8[0-9a-f]{7}, expected what the bytes in the kernel say; take the debug package of this very build$/,
  );
});

test('the genuine one is a premise of each proof, with how much of it the kernel confirms', async () => {
  const plan = await planShuffle(stripped, { codecs, debug: genuine, relocs });
  const file = (await shuffle(stripped, { codecs, plan, seed: Uint8Array.of(9), plain: true })).bytes();
  const { verdict, premises } = await verifyShuffled(stripped, file, { codecs, debug: genuine, relocs });
  assert.equal(verdict, 'proved');
  const [debug] = premises;
  assert.deepEqual([debug!.name, debug!.believed], ['debug-file', undefined]);
  assert.match(
    debug!.statement,
    /^the debug vmlinux is that of build [0-9a-f]{40}; the kernel confirms 0 of its symbols and \d{2,} of its relocations$/,
  );
});

test("the kernel's table and the debug vmlinux's relocations differ by one site: neither shuffled nor proved", async () => {
  const table = collectRelocations(unstripped);
  const file = (
    await shuffle(stripped, {
      codecs,
      plan: await planShuffle(stripped, { codecs, debug: genuine, relocs }),
      seed: Uint8Array.of(9),
      plain: true,
    })
  ).bytes();
  for (const name of ['abs64', 'abs32', 'inverse32'] as const) {
    if (table[name].length === 0) continue;
    const lost = encodeRelocationTable({ ...table, [name]: table[name].subarray(0, -1) });
    for (const ask of [
      () => planShuffle(stripped, { codecs, debug: genuine, relocs: lost }),
      () => verifyShuffled(stripped, file, { codecs, debug: genuine, relocs: lost }),
      // The file has relocations of its own beside the table.
      () => planShuffle(unstripped, { codecs, debug: genuine, relocs: lost }),
    ])
      await assert.rejects(ask, (error: KernelImageError) => {
        assert.equal(error.code, 'bad-value', error.message);
        assert.match(error.message, /absolute relocations|is not the same as the table [^:]*: 1 site/);
        return true;
      });
  }
});

test('the command line proves what it writes where the kernel has no kallsyms: what its own verify refutes is not written', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kslide-forged-'));
  try {
    const path = (name: string): string => join(directory, name);
    writeFileSync(path('kernel'), stripped);
    writeFileSync(path('relocs'), relocs);
    let tried = 0;
    for (let round = 0; round < 60 && tried === 0; round++)
      for (const kind of MAY_BE_REFUTED) {
        const { source } = forge(kind as (typeof FORGERIES)[number]);
        if ((await tryIt(source)).outcome !== 'refuted') continue;
        tried++;
        writeFileSync(path('forged'), source.readAt(0, source.size));
        const args = ['shuffle', path('kernel'), '--relocs', path('relocs'), '--debug', path('forged')];
        const { status, stderr } = spawnSync(
          process.execPath,
          [...KSLIDE, ...args, '--seed', '09'.repeat(16), '--plain', '-o', path('out')],
          { encoding: 'utf8', timeout: 120_000 },
        );
        assert.equal(status, 2, stderr);
        assert.match(stderr, /^kslide: [^\n]*the shuffled kernel, which was not written, is refuted by [^\n]+\n$/);
        assert.deepEqual(readdirSync(directory).toSorted(), ['forged', 'kernel', 'relocs']);
        break;
      }
    assert.equal(tried, 1, 'no such forgery in 240');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
