/**
 * What a forged debug vmlinux can do. For each forgery, one relocation or one symbol: shuffle with it, prove with it, and prove with the genuine one.
 *
 *     node --import tsx scripts/try-forged-debug.ts VMLINUZ DEBUG-VMLINUX [--count N] [--seed N] [--out RESULT.json]
 *
 * - refused: the kernel contradicts it, and nothing was written
 * - harmless: what was made of it is proved with the genuine debug vmlinux too
 * - stated: proved with the forged one, refuted with the genuine one, and the verdict states more premises than it does of a genuine one
 * - silent: the same, but no premise tells of it
 * - refuted: `shuffle` wrote what `verify` refutes with the very same debug vmlinux
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { KernelImageError } from '../src/base/errors.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { openByteSource } from '../src/node/files/byte-source.ts';
import { encodePlan, planShuffle, shuffle, verifyShuffled } from '../src/shuffle/index.ts';
import type { Plan, ShuffleVerification } from '../src/shuffle/index.ts';
import { openDebugKernel } from '../src/shuffle/read/debug-kernel.ts';
import { FORGERIES, makeForger } from '../test/shuffle/forge-debug.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: 'string', default: '140' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string' },
  },
});
const [vmlinuz, debugFile] = positionals;
if (vmlinuz === undefined || debugFile === undefined) throw new Error('VMLINUZ and DEBUG-VMLINUX are missing');

const image = new Uint8Array(readFileSync(vmlinuz));
const genuine = await openByteSource(debugFile);
const codecs = nodeCodecs;
let state = Number(values.seed) >>> 0;
const random = (below: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const forge = makeForger(genuine, openDebugKernel(genuine, { needsRelocations: true }), random);

type Outcome = 'refused' | 'harmless' | 'stated' | 'silent' | 'refuted';
const counts: Record<string, Partial<Record<Outcome, number>>> = {};
const premisesOf = ({ premises }: ShuffleVerification): number =>
  premises.reduce((sum, { believed }) => sum + (believed?.count ?? 0), 0);

async function outcomeOf(
  debug: Awaited<ReturnType<typeof forge>>['source'],
  seed: Uint8Array,
): Promise<[Outcome, string]> {
  let file: Uint8Array;
  try {
    const plan = await planShuffle(image, { codecs, debug });
    // The same plan gives the same kernel, which the genuine debug vmlinux proves.
    if (digestOf(plan) === genuinePlan) return ['harmless', ''];
    file = (await shuffle(image, { codecs, plan, seed, plain: true })).bytes();
  } catch (error) {
    if (error instanceof KernelImageError) return ['refused', error.message];
    throw error;
  }
  const own = await verifyShuffled(image, file, { codecs, debug });
  if (own.verdict !== 'proved') return ['refuted', JSON.stringify(own.offence)];
  const real = await verifyShuffled(image, file, { codecs, debug: genuine });
  if (real.verdict === 'proved') return ['harmless', ''];
  const outcome = premisesOf(own) > premisesOf(real) ? 'stated' : 'silent';
  return [outcome, JSON.stringify(real.offence)];
}

const digestOf = (plan: Plan): string => {
  const hash = createHash('sha256');
  for (const part of encodePlan(plan)) hash.update(part);
  return hash.digest('hex');
};
const genuinePlan = digestOf(await planShuffle(image, { codecs, debug: genuine }));

for (let index = 0; index < Number(values.count); index++) {
  const kind = FORGERIES[index % FORGERIES.length]!;
  const { detail, source } = forge(kind);
  const [outcome, why] = await outcomeOf(source, Uint8Array.of(index, index >> 8, 1));
  const ofKind = (counts[kind] ??= {});
  ofKind[outcome] = (ofKind[outcome] ?? 0) + 1;
  console.log(`${outcome.padEnd(8)}  ${kind}: ${detail}${why === '' ? '' : `\n          ${why}`}`);
}
genuine.close();
console.table(counts);
if (values.out !== undefined)
  writeFileSync(values.out, `${JSON.stringify({ seed: Number(values.seed), counts }, null, 2)}\n`);
