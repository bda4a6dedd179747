/**
 * NMIs, and what else a loader's state may do to the stub: selectors that its GDT does not have, a GDT that is gone, flags that the protocol does not
 * promise. An NMI comes before every instruction between LIDT and LIDT; outside them there is no IDT of the stub's, as there is none without it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import type { Linux64Options } from '../../src/node/qemu/linux64-loader.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { assembleStub } from '../../src/stub/program.ts';
import { bootWithNmis } from './nmi.ts';
import { LINK, makeProbe, readProbe, slideOf } from './probe.ts';
import type { ProbeReport } from './probe.ts';
import { inTurn } from './lane.ts';

const image = (await convert(makeProbe(0), { codecs: coreCodecs })).bytes();
const program = readVmlinux(image).loads.at(-1)!.paddr + PARAMS.size;
const { listing } = assembleStub();
const offsetsOf = (mnemonic: string): number[] =>
  listing.filter(({ text }) => text.split(' ')[0] === mnemonic).map(({ offset }) => offset);
const [install, restore] = offsetsOf('lidt') as [number, number];
const first = listing.find(({ offset }) => offset > install)!.offset;
const handler = offsetsOf('iretq')[0]!;

async function entered(linux64: Linux64Options): Promise<ProbeReport> {
  const { result, taken } = await inTurn(() =>
    bootWithNmis({
      image,
      entry: 'linux64',
      memoryMib: 64,
      timeoutMs: 300_000,
      linux64,
      at: LINK,
      program,
      first,
      last: restore,
      handler,
    }),
  );
  const report = readProbe(result.console);
  assert.ok(report, `the probe did not speak: ${result.end} ${result.errors}`);
  assert.ok(slideOf(report) !== undefined);
  // Two thirds of the program's instructions run in a boot: the others are for other tables, and for what faults.
  assert.ok(taken.size > 200, `${taken.size} instructions`);
  assert.ok(taken.has(first));
  return report;
}

const STATES: readonly (readonly [name: string, options: Linux64Options, ss: number])[] = [
  ["the boot protocol's selectors", {}, 0x18],
  ["Firecracker's selectors", { selectors: { code: 0x8, data: 0x10 } }, 0x10],
  ['SS = 0x108', { selectors: { code: 0x10, data: 0x18, stack: 0x108 } }, 0],
  ['SS = 0x108, and no GDT', { selectors: { code: 0x10, data: 0x18, stack: 0x108 }, gdtGone: true }, 0],
  ['SS null, and no GDT', { selectors: { code: 0x10, data: 0x18, stack: 0 }, gdtGone: true }, 0],
  ['CS = 0x108, SS = 0x110, and no GDT', { selectors: { code: 0x108, data: 0x110 }, gdtGone: true }, 0x110],
  ['CS = 0x1f8, SS = 0x18, and no GDT', { selectors: { code: 0x1f8, data: 0x18 }, gdtGone: true }, 0],
  ['direction, nested task, alignment check and I/O privilege set', { flags: 0x4_7400 }, 0x18],
];

for (const [name, options, ss] of STATES) {
  test(`${name}: an NMI at every instruction`, { timeout: 300_000 }, async () => {
    const report = await entered(options);
    assert.equal(report['ss'], BigInt(ss));
    assert.equal(report['cs'], BigInt(options.selectors?.code ?? 0x10));
    assert.equal(report['rflags']! & 0x600n, 0n);
  });
}
