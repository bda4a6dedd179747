/**
 * A shuffled file with any field forged: refuted or refused, never an internal error. Header fields take the values that arithmetic goes wrong with, and a claim is
 * put where no writer puts one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinParts, viewOf, Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { PHDR_SIZE, SHDR_SIZE } from '../../src/elf/fields.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import { makeKernel } from './make-kernel.ts';

const codecs = coreCodecs;
const { unstripped: original } = makeKernel();
const debug = memorySource(original);
const plan = await planShuffle(original, { codecs, debug });

const make = async (plain: boolean): Promise<Uint8Array> =>
  (await shuffle(original, { codecs, plan, seed: Uint8Array.of(3), plain })).bytes();

/** The check that refutes a file; 'proved', or the code of a refusal. Any other error fails the test. */
async function outcomeOf(file: Uint8Array): Promise<string> {
  try {
    const { verdict, offence } = await verifyShuffled(original, file, { codecs, debug });
    return offence?.check ?? verdict;
  } catch (error) {
    if (error instanceof KernelImageError) return error.code;
    throw error;
  }
}

const VALUES = [0n, 1n, 24n, 0x1000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 53n, (1n << 64n) - 1n];

for (const plain of [true, false])
  test(`each field of the headers, forged: ${plain ? 'plain' : 'self-relocating'}`, async () => {
    const file = await make(plain);
    const { header } = readElf(file);
    const fields: (readonly [at: number, width: number])[] = [];
    for (const [at, width] of [
      [0x18, 8],
      [0x20, 8],
      [0x28, 8],
      [0x36, 2],
      [0x38, 2],
      [0x3a, 2],
      [0x3c, 2],
      [0x3e, 2],
    ] as const)
      fields.push([at, width]);
    for (let at = 8; at < header.phnum * PHDR_SIZE[64]; at += 8) fields.push([header.phoff + at, 8]);
    for (let row = 1; row < header.shnum; row++)
      for (const [at, width] of [
        [0, 4],
        [4, 4],
        [8, 8],
        [16, 8],
        [24, 8],
        [32, 8],
      ] as const)
        if (row + 2 >= header.shnum) fields.push([header.shoff + row * SHDR_SIZE[64] + at, width]);
    let forged = 0;
    for (const [at, width] of fields)
      for (const value of plain ? VALUES : VALUES.filter((_, index) => index % 3 === 0)) {
        const changed = file.slice();
        const writer = viewOf(changed);
        const size = width * 8;
        if (width === 8) writer.setBigUint64(at, value, true);
        else if (width === 4) writer.setUint32(at, Number(BigInt.asUintN(size, value)), true);
        else writer.setUint16(at, Number(BigInt.asUintN(size, value)), true);
        if (changed.every((byte, index) => byte === file[index])) continue;
        forged++;
        assert.notEqual(await outcomeOf(changed), 'proved', `0x${at.toString(16)} = 0x${value.toString(16)}`);
      }
    assert.ok(forged > 50, `${forged} forged`);
  });

test('each word of the claim, forged, is refuted by what it claims, or it claims only padding more or less', async () => {
  const file = await make(true);
  const { offset, size } = findSection(readElf(file), '.kslide.moves')!;
  const words = viewOf(file);
  for (let at = offset; at < offset + size; at += 4) {
    const old = words.getUint32(at, true);
    for (const value of [0, 1, old ^ 0x8000_0000, old + 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
      const changed = file.slice();
      viewOf(changed).setUint32(at, value, true);
      assert.notEqual(await outcomeOf(changed), 'proved', `0x${at.toString(16)} = 0x${value.toString(16)}`);
    }
  }
});

test('a claim anywhere else in the file is refuted at once, before anything is computed from its place', async () => {
  const file = await make(true);
  const elf = readElf(file);
  const { index, offset, size } = findSection(elf, '.kslide.moves')!;
  const field = elf.header.shoff + index * SHDR_SIZE[64] + 24;
  // A row that moves a function to where it is: true of the original itself, wherever the row is read from.
  const row = new Writer(file.slice(offset, offset + 12));
  row.u32(8, viewOf(file).getUint32(offset, true));
  for (const at of [0, 8, 0x1000, offset - 8, offset + 12, offset + size]) {
    const changed = new Writer(file.slice());
    changed.u64(field, at);
    changed.u64(field + 8, 12);
    assert.equal(await outcomeOf(changed.bytes), 'moves', `0x${at.toString(16)}`);
  }
  const inside = new Writer(original.slice());
  inside.copy(0x2f00, row.bytes);
  assert.equal(await outcomeOf(joinParts([inside.bytes])), 'moves');
});

test('a file of any length is refuted or refused', async () => {
  for (const plain of [true, false]) {
    const file = await make(plain);
    for (let length = 0; length < file.length; length += plain ? 509 : 2039)
      assert.notEqual(await outcomeOf(file.subarray(0, length)), 'proved', `${length} bytes`);
    assert.notEqual(await outcomeOf(joinParts([file, new Uint8Array(8)])), 'proved', 'more bytes');
  }
});
