/**
 * References that are found without relocations, judged by the relocations, on a small program that is linked like a kernel. test/boot/shuffle.test.ts does
 * the same for Debian's 6.1.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import type { ErrorData } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import type { Plan, ShuffleVerification } from '../../src/shuffle/index.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { compareReferences } from './compare-plans.ts';
import { makeKernel } from './make-kernel.ts';
import type { SmallKernel } from './make-kernel.ts';
import { TABLES, withoutRelocations } from './without-relocations.ts';

const codecs = coreCodecs;

const kernel = makeKernel(TABLES);
const relocs = encodeRelocationTable(collectRelocations(kernel.unstripped));

function plan(of: SmallKernel, recover: boolean): Promise<Plan> {
  const own = encodeRelocationTable(collectRelocations(of.unstripped));
  const debug = memorySource(recover ? withoutRelocations(of) : of.unstripped);
  return planShuffle(of.stripped, { codecs, relocs: own, debug, recover });
}

async function refusal(work: () => unknown): Promise<ErrorData> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof KernelImageError, String(error));
    return error.data;
  }
  assert.fail('not refused');
}

const known = await plan(kernel, false);
const found = await plan(kernel, true);

test('nothing is missed and nothing invented', () => {
  const compared = compareReferences(known, found);
  for (const [list, { missed, invented, other }] of Object.entries(compared))
    assert.deepEqual([missed, invented, other], [[], [], []], list);
  assert.ok(compared.relative32.same >= 20, `${compared.relative32.same} relative`);
  assert.ok(compared.absolute32.same >= 1, `${compared.absolute32.same} absolute`);
});

test('what is uncertain stays: an inside that is named, a word of data that may lead there, an unknown table', () => {
  // By the table in .rodata near_a, through_a and second_fault; by copied + 2, faulting + 3 and tail + 0x200, which are in other code, that and a page before.
  // What moves is tabled, replaced, inner, other, more and last. Which of the others are tied to each other depends on the compiler.
  const moving = ({ runs, functions }: Plan): number =>
    runs.reduce(
      (sum, { first, count }) => sum + functions.subarray(first, first + count).reduce((a, b) => a + b, 0),
      0,
    );
  assert.deepEqual([moving(known), known.facts.staying], [25, { 'fixed range': 2 }]);
  const { 'doubtful reference': doubtful = 0, 'tied to fixed code': tied = 0, ...others } = found.facts.staying;
  assert.deepEqual([moving(found), doubtful + tied, others], [6, 19, { 'fixed range': 2 }]);
  assert.ok(doubtful >= 6, `${doubtful} in doubt`);
});

test('what is made from it is proved by the relocations', async () => {
  const debug = memorySource(kernel.unstripped);
  for (let round = 0; round < 10; round++) {
    const shuffled = await shuffle(kernel.stripped, { codecs, plan: found, seed: Uint8Array.of(round) });
    const { verdict, offence } = await verifyShuffled(kernel.stripped, shuffled.bytes(), { codecs, debug, relocs });
    assert.equal(verdict, 'proved', JSON.stringify(offence));
  }
});

describe('verify --shuffled without relocations', () => {
  const debug = memorySource(withoutRelocations(kernel));
  const verify = async (file: Uint8Array): Promise<ShuffleVerification> =>
    verifyShuffled(kernel.stripped, file, { codecs, debug, relocs, recover: true });
  const make = async (of: Plan, seed: number): Promise<Uint8Array> =>
    (await shuffle(kernel.stripped, { codecs, plan: of, seed: Uint8Array.of(seed), plain: true })).bytes();

  test('what is right is consistent, not proved', async () => {
    for (let seed = 0; seed < 10; seed++) {
      const { verdict, offence } = await verify(await make(found, seed));
      assert.equal(verdict, 'consistent', JSON.stringify(offence));
    }
  });

  test('a table that was left unchanged is found, and so is code outside .text', async () => {
    const names = ['__bug_table', '.smp_locks', '.return_sites', 'runtime_ptr_some', '__ksymtab', '.exit.text'];
    for (const wanted of [...names, '.altinstr_replacement']) {
      const { offset, size } = findSection(readElf(kernel.stripped), wanted)!;
      const keep = [...found.relative32.offsets.keys()].filter((field) => {
        const at = found.relative32.offsets[field]!;
        return at < offset || at >= offset + size;
      });
      assert.ok(keep.length < found.relative32.offsets.length, wanted);
      const only = (column: Uint32Array): Uint32Array => Uint32Array.from(keep, (field) => column[field]!);
      const { offsets, sites, targets } = found.relative32;
      const relative32 = { offsets: only(offsets), sites: only(sites), targets: only(targets) };
      const { verdict, offence } = await verify(await make({ ...found, relative32 }, 2));
      assert.deepEqual([verdict, offence?.check], ['refuted', 'relative-fields'], wanted);
    }
  });

  test('each changed byte of the data and of the code is refuted', async () => {
    const file = await make(found, 1);
    for (const load of readVmlinux(file).loads) {
      for (let at = load.offset; at < load.offset + load.filesz; at += 23) {
        const changed = file.slice();
        changed[at]! ^= 0x40;
        assert.equal((await verify(changed)).verdict, 'refuted', `byte ${at}`);
      }
    }
  });
});

describe('refused', () => {
  test('without being asked for, with a hint', async () => {
    const debug = memorySource(withoutRelocations(kernel));
    for (const work of [
      () => planShuffle(kernel.stripped, { codecs, relocs, debug }),
      () => verifyShuffled(kernel.stripped, kernel.stripped, { codecs, relocs, debug }),
    ]) {
      const { what, hint } = await refusal(work);
      assert.equal(what, 'debug vmlinux: .rela section of .text');
      assert.match(hint!, /--recover/);
    }
  });

  test('a table that has another form', async () => {
    const forms = [
      'asm(".section __bug_table,\\"aw\\"; .long handler_a-.,0,0,0,1; .text");',
      'asm(".section .return_sites,\\"a\\"; .long handler_a-., counter-.; .text");',
      'asm(".section .smp_locks,\\"a\\"; .byte 1,2,3; .text");',
    ];
    for (const form of forms) {
      const { code, what } = await refusal(() => plan(makeKernel(form), true));
      assert.deepEqual([code, what.split(' ')[0]], ['unsupported', 'table'], what);
    }
  });

  test('any changed byte gives a plan or a refusal, no crash', async () => {
    const good = withoutRelocations(kernel);
    for (let at = 0; at < good.length; at += 331) {
      const changed = good.slice();
      changed[at] = changed[at]! ^ 0xff;
      try {
        await planShuffle(kernel.stripped, { codecs, relocs, debug: memorySource(changed), recover: true });
      } catch (error) {
        assert.ok(error instanceof KernelImageError, `byte ${at}: ${String(error)}`);
      }
    }
  });
});
