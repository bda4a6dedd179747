/**
 * A real kernel without its relocations: recovered, tried, converted, and run with the guest of the shuffle tests, which uses all that finds code by address. And
 * spoiled tables, which the trial finds.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { oneLine } from '../../src/base/text.ts';
import { convert } from '../../src/convert.ts';
import type { Converted } from '../../src/convert.ts';
import { physToTableEntry, physToVirt, tableEntryToPhys } from '../../src/base/addresses.ts';
import { Reader } from '../../src/base/bytes.ts';
import { extract } from '../../src/extract.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { tryKernel, TrialError } from '../../src/measure/trial/trial.ts';
import type { TrialOptions } from '../../src/measure/trial/trial.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu/qemu.ts';
import { encodeRelocationTable, readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { findModule } from '../../scripts/kernels/debian.ts';
import { packShuffleGuest, readBacktrace, readShuffleGuest } from '../guest/shuffle.ts';
import { ENTRIES, findKernels, inTurn, oldestAndNewest, PARALLEL } from './lane.ts';
import { GUEST } from './shuffle-lane.ts';

const codecs = nodeCodecs;
const found = await findKernels();

/** Boots of a trial, when it is their turn. */
const inLane = (options: BootOptions): Promise<BootResult> => inTurn(() => boot({ ...options, timeoutMs: 300_000 }));

function trialOf(image: Uint8Array, { summary, bytes, relocs }: Converted): TrialOptions {
  const { slots, entries } = summary;
  return {
    codecs,
    image,
    relocs: relocs(),
    converted: bytes(),
    slots,
    entries,
    jobs: PARALLEL,
    bootWith: inLane,
  };
}

for (const item of oldestAndNewest(found)) {
  const { vmlinux: image } = await extract(new Uint8Array(await readFile(item.image)), { codecs });
  const module = await findModule(item, 'loop');
  assert.ok(module, `${item.name} has no loop module`);
  const initrd = packShuffleGuest(new Uint8Array(await readFile(module)));
  const recovered = await convert(image, { codecs, recover: {} });

  describe(`${item.name}, recovered`, { concurrency: PARALLEL }, () => {
    const deep = (options: Partial<BootOptions>): Promise<BootResult> =>
      inTurn(() => boot({ image, initrd, memoryMib: 512, timeoutMs: 600_000, ...GUEST, ...options }));

    test('the trial passes', async () => {
      const { runs, compared, skipped } = await tryKernel(trialOf(image, recovered));
      assert.deepEqual(skipped, []);
      assert.equal(runs.filter(({ file }) => file === 'converted').length, 2);
      assert.ok(runs.length >= 8, JSON.stringify(runs));
      const { align, largest } = recovered.summary.slots;
      for (const entry of ENTRIES)
        for (const slide of [align, largest])
          assert.ok(
            runs.some(
              (run) => run.entry === entry && run.slide <= slide && run.slide >= slide - 16 * align && run.slide > 0,
            ),
            `no run at ${slide} by ${entry}`,
          );
      assert.ok(compared.length >= 8, compared.join('; '));
    });

    test('both entries, one CPU and two: all that finds code by address or by name', async (t) => {
      const reference = await deep({ entry: 'pvh' });
      const expected = readShuffleGuest(reference.console);
      assert.ok(expected.has('end'), reference.console.slice(-1500));
      const cases = ENTRIES.flatMap((entry) => [1, 2].map((cpus) => ({ entry, cpus })));
      await Promise.all(
        cases.map(({ entry, cpus }) =>
          t.test(`${entry}, ${cpus}`, async () => {
            const { console, slide } = await deep({ image: recovered.bytes(), entry, cpus });
            const guest = readShuffleGuest(console);
            assert.ok(guest.has('end'), console.slice(-2000));
            for (const name of ['kallsyms', 'efault', 'module', 'functions', 'events'])
              assert.deepEqual(guest.get(name), expected.get(name), name);
            const [added, enabled, hits = 0n] = guest.get('kprobe')!;
            assert.deepEqual([added, enabled], [0n, 0n]);
            assert.ok(hits >= 3n, `${hits} kprobe hits`);
            assert.deepEqual(guest.get('cpus'), [(1n << BigInt(cpus)) - 1n]);
            assert.match(console, /Checked W\+X mappings: passed/);
            assert.doesNotMatch(console, /WARNING: |BUG: |Oops/);
            assert.deepEqual(readBacktrace(console), readBacktrace(reference.console));
            assert.ok(slide !== undefined, 'no slide');
          }),
        ),
      );
    });
  });

  describe(`${item.name}, a spoiled table`, { concurrency: PARALLEL }, () => {
    const table = readRelocationTable(recovered.relocs());
    const kernel = readVmlinux(image);
    const fails = async (spoiled: RelocationTable): Promise<TrialError> => {
      const relocs = encodeRelocationTable(spoiled);
      const converted = await convert(image, { codecs, relocs });
      try {
        await tryKernel(trialOf(image, converted));
      } catch (error) {
        if (error instanceof TrialError) return error;
        throw error;
      }
      throw new assert.AssertionError({ message: 'the trial passed' });
    };

    test('the base of kallsyms is left out: it boots, and every symbol is wrong', async () => {
      // Symbols' offsets count from a word that holds the address of _text. There are a few such words; all of them stay as they are.
      const start = physToVirt(kernel.imageStart);
      const bases = table.abs64.filter((entry) => {
        const place = tableEntryToPhys(entry)!;
        const load = kernel.loads.find(({ paddr, filesz }) => place >= paddr && place + 8 <= paddr + filesz);
        return load !== undefined && new Reader(image).u64(load.offset + place - load.paddr, 'site') === start;
      });
      assert.ok(bases.length > 0 && bases.length < 100, `${bases.length} words`);
      const left = new Set(bases);
      const { differences } = await fails({ ...table, abs64: table.abs64.filter((entry) => !left.has(entry)) });
      assert.match(differences.join('; '), /kallsyms|slide|did not reach/);
    });

    test('numbers in the code that every boot runs are taken for addresses: it dies', async () => {
      const sites = [...table.abs64, ...table.abs32, ...table.inverse32];
      const first = physToTableEntry(kernel.entry);
      // Not in the bytes of the hook. Several: one alone may be an operand that a boot gets along with.
      const invented: number[] = [];
      for (let at = first + 16; at < first + 144; at++) {
        const isFree = [...sites, ...invented].every((site) => site + 8 <= at || site >= at + 4);
        if (isFree) invented.push(at);
      }
      assert.ok(invented.length >= 4, `${invented.length} places`);
      const abs32 = Uint32Array.from([...table.abs32, ...invented]).toSorted();
      const { differences, console } = await fails({ ...table, abs32 });
      assert.match(differences.join('; '), /did not reach its end/);
      assert.deepEqual(console, console.map(oneLine));
    });
  });
}
