/**
 * Broken files: `kslide relocs` takes what the kernel's tool takes, with the same output, and refuses what it refuses.
 *
 * The tool itself trusts much of what it reads. Where its build with checks stops at a read outside of a table, anything goes but for a
 * crash: ours refuses, or does not look. Those checks see a read just outside, but not one that goes so far that it ends in another
 * allocation (symbol 255 of 88, say); so where ours refuses a number that is past its table, that is right whatever the tool does.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../src/base/bytes.ts';
import { SHT_NOBITS } from '../../src/elf/constants.ts';
import { readElf } from '../../src/elf/read.ts';
import { makeKernel32, makeKernel64, makeRealMode, scratchFile } from './fixtures.ts';
import { judge, kslideRelocs, skip } from './judge.ts';
import type { Flag } from './judge.ts';

const RUNS = Number(process.env['KSLIDE_FUZZ_RUNS'] ?? 150);

const FLAGS: readonly (readonly Flag[])[] = [
  [],
  ['--text'],
  ['--realmode'],
  ['--abs-syms'],
  ['--abs-relocs'],
  ['--abs-relocs', '--realmode'],
  ['--reloc-info'],
];

/** Section numbers, symbol numbers and offsets of names: src/relocs/{sections,image,symbols,walk}.ts. */
const PAST_ITS_TABLE =
  /^invalid value: .*expected (?:a section number below|less than the number of (?:symbols|sections),|an offset below) 0x/;

/** What to change: a field of the ELF header, a section header, a symbol, a relocation, a name, or any byte; and the file's length. */
interface Change {
  readonly where: 'header' | 'sections' | 'symbols' | 'relocations' | 'names' | 'anywhere';
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: bigint;
}

const interesting = fc.oneof(
  fc.constantFrom(
    0n,
    1n,
    2n,
    3n,
    4n,
    9n,
    18n,
    0xffn,
    0xff00n,
    0xfff1n,
    0xfff2n,
    0xffffn,
    0x7fff_ffffn,
    0xffff_ffffn,
    2n ** 63n,
  ),
  fc.bigInt({ min: 0n, max: 100n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

const change: fc.Arbitrary<Change> = fc.record({
  where: fc.constantFrom('header', 'sections', 'sections', 'symbols', 'relocations', 'names', 'anywhere'),
  at: fc.nat(1 << 20),
  width: fc.constantFrom(1, 2, 4, 8),
  value: interesting,
});

/** Ranges of a file that a change may be in: [offset, length, size of an entry]. */
function rangesOf(kernel: Uint8Array): Record<Change['where'], readonly (readonly [number, number, number])[]> {
  const { header, sections } = readElf(kernel);
  const wide = header.bits === 64;
  const ofType = (types: readonly number[], size: number): (readonly [number, number, number])[] =>
    sections
      .filter(({ type, size: length }) => types.includes(type) && type !== SHT_NOBITS && length > 0)
      .map(({ offset, size: length }) => [offset, length, size]);
  return {
    header: [[0, wide ? 64 : 52, 2]],
    sections: [[header.shoff, header.shnum * (wide ? 64 : 40), 4]],
    symbols: ofType([2], 2),
    relocations: ofType([4, 9], 4),
    names: ofType([3], 1),
    anywhere: [[0, kernel.length, 1]],
  };
}

function apply(kernel: Uint8Array, changes: readonly Change[], cut: number | undefined): Uint8Array {
  const ranges = rangesOf(kernel);
  const bytes = kernel.slice();
  const view = viewOf(bytes);
  for (const { where, at, width, value } of changes) {
    const [offset, length, step] = ranges[where][at % ranges[where].length]!;
    const place = Math.min(offset + ((Math.floor(at / 7) * step) % length), bytes.length - width);
    if (width === 8) view.setBigUint64(place, value, true);
    else if (width === 4) view.setUint32(place, Number(BigInt.asUintN(32, value)), true);
    else if (width === 2) view.setUint16(place, Number(BigInt.asUintN(16, value)), true);
    else view.setUint8(place, Number(BigInt.asUintN(8, value)));
  }
  return cut === undefined ? bytes : bytes.subarray(0, cut % bytes.length);
}

const LISTINGS: ReadonlySet<string> = new Set(['--abs-syms', '--abs-relocs', '--reloc-info']);

/** In listings the kernel's tool prints names as they are. What a terminal would obey is an escape in ours. */
function escaped(theirs: Buffer): string {
  return theirs
    .toString('latin1')
    .replaceAll(/(?![\n\t])[\p{Cc}\xad]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]/gu, (bytes) =>
      Array.from(bytes, (byte) => String.raw`\x${Buffer.from(byte, 'latin1').toString('hex')}`).join(''),
    );
}

/** A tab or a newline in a name is an escape in ours, and cannot be told from the listing's own in theirs. */
function separators(ours: Buffer): string {
  return ours
    .toString('latin1')
    .replaceAll(String.raw`\x09`, '\t')
    .replaceAll(String.raw`\x0a`, '\n');
}

const kernels = { 'x86-64': makeKernel64(), i386: makeKernel32(), 'real mode': makeRealMode() };

for (const [name, kernel] of Object.entries(kernels)) {
  test(`${name}: broken files are taken and refused as by the kernel's tool`, { skip }, () => {
    const file = scratchFile(`broken-${name}.elf`);
    const broken = fc.record({
      changes: fc.array(change, { minLength: 1, maxLength: 3 }),
      cut: fc.oneof({ weight: 12, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(1 << 20) }),
      flags: fc.constantFrom(...FLAGS),
    });
    fc.assert(
      fc.property(broken, ({ changes, cut, flags }) => {
        const bytes = apply(kernel, changes, cut);
        writeFileSync(file, bytes);
        const ours = kslideRelocs(bytes, flags, 3);
        const theirs = judge(file, flags, { checked: true });
        if (theirs.status === 1) assert.equal(ours.status, 1, 'refused by the kernel tool only');
        if (theirs.status !== 0 || PAST_ITS_TABLE.test(ours.refusal ?? '')) return;
        assert.equal(ours.status, 0, 'refused here only');
        const isListing = flags.some((flag) => LISTINGS.has(flag));
        const same = isListing ? separators(ours.stdout) === escaped(theirs.stdout) : ours.stdout.equals(theirs.stdout);
        assert.ok(same, 'standard output differs');
      }),
      { numRuns: RUNS },
    );
  });
}
