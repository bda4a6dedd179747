/**
 * References that are found without relocations, judged by the relocations: on a small program that is linked as a kernel. What Debian's 6.1 says of it is
 * test/boot/shuffle.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { coreCodecs } from '../../src/bzimage/codecs/index.ts';
import { Writer } from '../../src/bytes.ts';
import { SHDR_SIZE, SHT_NULL, SHT_RELA } from '../../src/elf/constants.ts';
import { readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/errors.ts';
import type { ErrorData } from '../../src/errors.ts';
import { memorySource } from '../../src/relocs/byte-source.ts';
import { collectRelocations, encodeRelocationTable } from '../../src/relocs/index.ts';
import { planShuffle, shuffle } from '../../src/shuffle.ts';
import type { Plan } from '../../src/shuffle.ts';
import { verifyShuffled } from '../../src/verify-shuffled.ts';
import { compareReferences } from './compare-plans.ts';
import { makeKernel } from './make-kernel.ts';
import type { SmallKernel } from './make-kernel.ts';

const codecs = coreCodecs;

/** One entry of each known table that is in a section of its own, code outside .text, and what a table may look like that nobody knows. */
const TABLES = `
asm(".text; .p2align 4; .globl copied; .type copied,@function; copied: mov %rdi,%rax; ret; .size copied, .-copied;"
    ".p2align 4; .type copier,@function; copier: mov copied+2(%rip),%eax; ret; .size copier, .-copier;"
    ".p2align 4; .fill 4096,1,0xcc;"
    ".type tabled,@function; tabled: test %edi,%edi; 1: ud2; 2: lock incl counter(%rip); 3: ret; .size tabled, .-tabled;"
    ".p2align 4; .type replaced,@function; replaced: mov $5,%eax; mov $6,%ecx; ret; .size replaced, .-replaced;"
    ".p2align 4; .fill 4096,1,0xcc;"
    ".section __bug_table,\\"aw\\"; .long 1b-.,0; .word 7,0; .long 2b-.,0; .word 8,0;"
    ".section .altinstr_replacement,\\"ax\\"; 4: jmp replaced; 5: call tabled;"
    ".section .altinstructions,\\"a\\"; .long 2b-.,4b-.,0; .byte 5,5; .long 1b-.,5b-.,0; .byte 2,5;"
    ".section .smp_locks,\\"a\\"; .long 2b-.,0;"
    ".section .return_sites,\\"a\\"; .long 3b-.;"
    ".section runtime_ptr_some,\\"a\\"; .long 2b+2-.;"
    ".section __ksymtab,\\"a\\"; .long tabled-.,0,0,counter-.,0,0;"
    ".section .pci_fixup,\\"a\\"; .long 0,0,0,handler_c-.;"
    ".section .exit.text,\\"ax\\"; call tabled; movl $1,counter(%rip); jne handler_a; ret; .text");
KEEP u64 long_one(u64 x) { asm(".fill 2048,1,0x90"); return leaf(x); } /* tail + 0x200, which .data names, is in it */
`;
const kernel = makeKernel(TABLES);

/** As distributions make it of newer kernels: sections are there by number, relocations are not. */
function withoutRelocations({ unstripped }: SmallKernel): Uint8Array {
  const changed = unstripped.slice();
  const { sections, header } = readElf(changed);
  for (const { index, type } of sections)
    if (type === SHT_RELA) new Writer(changed).u32(header.shoff + index * SHDR_SIZE[64] + 4, SHT_NULL);
  return changed;
}

function plan(of: SmallKernel, recover: boolean): Promise<Plan> {
  const relocs = encodeRelocationTable(collectRelocations(of.unstripped));
  const debug = memorySource(recover ? withoutRelocations(of) : of.unstripped);
  return planShuffle(of.stripped, { codecs, relocs, debug, recover });
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

test('what is in doubt stays: an inside that is named, a word of data that may lead there, a table that is not known', () => {
  // By the table in .rodata near_a, through_a and second_fault; by copied + 2, faulting + 3 and tail + 0x200, which are in other code, that and a page before.
  // What moves is tabled, replaced, inner, other, more and last. Which of the others are tied to each other is the compiler's business.
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

test('what is made of it is proved by the relocations', async () => {
  const debug = memorySource(kernel.unstripped);
  const relocs = encodeRelocationTable(collectRelocations(kernel.unstripped));
  for (let round = 0; round < 10; round++) {
    const shuffled = await shuffle(kernel.stripped, { codecs, plan: found, seed: Uint8Array.of(round) });
    const { verdict, offence } = await verifyShuffled(kernel.stripped, shuffled.bytes(), { codecs, debug, relocs });
    assert.equal(verdict, 'proved', JSON.stringify(offence));
  }
});

describe('refused', () => {
  test('without being asked for, with a hint', async () => {
    const debug = memorySource(withoutRelocations(kernel));
    const relocs = encodeRelocationTable(collectRelocations(kernel.unstripped));
    const { what, hint } = await refusal(() => planShuffle(kernel.stripped, { codecs, relocs, debug }));
    assert.equal(what, 'debug vmlinux: .rela section of .text');
    assert.match(hint!, /--recover/);
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
    const relocs = encodeRelocationTable(collectRelocations(kernel.unstripped));
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
