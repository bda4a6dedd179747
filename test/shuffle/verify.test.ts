/** The proof of a shuffled kernel: right files are proved, and each changed byte, and each false claim, is refuted. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { viewOf } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { planShuffle, shuffle, verifyShuffled } from '../../src/shuffle/index.ts';
import type { ShuffleVerification } from '../../src/shuffle/index.ts';
import { SHUFFLE_CHECKS } from '../../src/shuffle/verify/checks.ts';
import { makeKernel } from './make-kernel.ts';

const codecs = coreCodecs;
const { unstripped: original } = makeKernel();
const debug = memorySource(original);
const plan = await planShuffle(original, { codecs, debug });

const make = async (seed: number, plain: boolean): Promise<Uint8Array> =>
  (await shuffle(original, { codecs, plan, seed: Uint8Array.of(seed), plain })).bytes();
const verify = (file: Uint8Array): Promise<ShuffleVerification> => verifyShuffled(original, file, { codecs, debug });

async function refuted(file: Uint8Array, what: string): Promise<string> {
  const { verdict, offence } = await verify(file);
  assert.equal(verdict, 'refuted', what);
  return offence!.check;
}

const plain = await make(1, true);
const whole = await make(1, false);

/**
 * The rule: the verifier shares no decision with the writer. Every import of every file in src/shuffle/verify must be here: files of readers, which say what is in
 * a kernel, and of vocabulary, which name things. What analyses, lays out, or writes must not be, and neither may a room whose files do both. A name that ends in
 * a slash allows a whole room.
 */
const MAY_IMPORT = [
  // vocabulary and bytes
  'base/',
  'codecs/formats.ts',
  'elf/constants.ts',
  'elf/fields.ts',
  'relocs/tool/types.ts',
  'segment/layout.ts',
  // readers
  'elf/read.ts',
  'kernel/',
  'relocs/find.ts',
  'relocs/tables/kernel-table.ts',
  'relocs/tool/byte-source.ts',
  'relocs/tool/relocation-entries.ts',
  'shuffle/confirm/confirm.ts',
  'shuffle/disassembler.ts',
  'shuffle/ranges.ts',
  'shuffle/read/debug-kernel.ts',
  'shuffle/read/kernel-image.ts',
  // the proof that one file is the other, converted, and the program that such a file must hold
  'verify/',
  'stub/program.ts',
  // the disassembler of the judge of recovered tables, which the core is given
  'iced-x86',
  // itself
  'shuffle/verify/',
];

test('the verifier imports readers and vocabulary, and nothing else', () => {
  const source = fileURLToPath(new URL('../../src/', import.meta.url));
  const names = readdirSync(`${source}shuffle/verify`, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => name.endsWith('.ts'));
  assert.ok(files.length > 5, `${files.length} files`);
  const used = new Set<string>();
  for (const file of files) {
    const path = `${source}shuffle/verify/${file}`;
    for (const [, quoted = ''] of readFileSync(path, 'utf8').matchAll(
      /\b(?:from|import)\s*\(?\s*['"]([\w./@-]+)['"]/g,
    )) {
      const imported = quoted.startsWith('.') ? relative(source, resolve(dirname(path), quoted)) : quoted;
      const rule = MAY_IMPORT.find((allowed) =>
        allowed.endsWith('/') ? imported.startsWith(allowed) : imported === allowed,
      );
      assert.ok(rule !== undefined, `src/shuffle/verify/${file} imports ${imported}`);
      used.add(rule);
    }
  }
  assert.deepEqual([...used].toSorted(), MAY_IMPORT.toSorted(), 'the list names nothing that no file imports');
});

test('what shuffle makes is proved, self-relocating or plain', async () => {
  for (let seed = 0; seed < 8; seed++) {
    for (const form of [false, true]) {
      const result = await verify(await make(seed, form));
      assert.equal(result.verdict, 'proved', JSON.stringify(result.offence));
      assert.equal(result.selfRelocating, !form);
      assert.deepEqual(
        result.checks.map(({ name }) => name),
        Object.keys(SHUFFLE_CHECKS),
      );
    }
  }
});

test('the input is not changed, whatever kind of array it is', async () => {
  const given = Buffer.from(original);
  await planShuffle(given, { codecs, debug });
  await shuffle(given, { codecs, plan, seed: Uint8Array.of(1) });
  for (const made of [plain, whole]) {
    const file = Buffer.from(made);
    const { verdict, offence } = await verifyShuffled(given, file, { codecs, debug });
    assert.equal(verdict, 'proved', JSON.stringify(offence));
    assert.deepEqual(new Uint8Array(file), made);
  }
  assert.deepEqual(new Uint8Array(given), original);
});

test('each changed byte is refuted, in either form', async () => {
  const claim = findSection(readElf(plain), '.kslide.moves')!;
  // A prime apart, so that all bytes of a field are changed at some time; each check of the whole file takes 2 MiB of padding through `verify`.
  for (const [file, step] of [
    [plain, 61],
    [whole, 499],
  ] as const) {
    for (let at = 0; at < file.length; at += at < 0x80 ? 3 : step) {
      if (at >= claim.offset && at < claim.offset + claim.size) continue; // see below
      const changed = file.slice();
      changed[at] = changed[at]! ^ (1 << (at & 7));
      try {
        await refuted(changed, `byte ${at}`);
      } catch (error) {
        // The first bytes say that it is an ELF file for x86-64 at all.
        assert.ok(error instanceof KernelImageError && at < 0x1000, `byte ${at}: ${String(error)}`);
      }
    }
  }
});

test('each changed byte of the claim is refuted, except in rows that claim no move', async () => {
  const section = findSection(readElf(plain), '.kslide.moves')!;
  const view = viewOf(plain);
  for (let at = section.offset; at < section.offset + section.size; at += 5) {
    const row = at - ((at - section.offset) % 12);
    if (view.getUint32(row, true) === view.getUint32(row + 8, true)) continue;
    const changed = plain.slice();
    changed[at] = changed[at]! ^ 0x10;
    await refuted(changed, `byte ${at}`);
  }
});

test('the relocation table after a plain one is compared, entry by entry', async () => {
  const changed = plain.slice();
  const view = viewOf(changed);
  view.setUint32(changed.length - 4, view.getUint32(changed.length - 4, true) + 4, true);
  assert.equal(await refuted(changed, 'last entry'), 'relocation-table');
});

test('an unshuffled kernel claims nothing; a cut file, and zeros, are refused or refuted', async () => {
  assert.equal(await refuted(original, 'the original'), 'moves');
  for (const length of [0x40, 0x1000, plain.length >> 1]) {
    await assert.rejects(verify(plain.subarray(0, length)).then(({ verdict }) => assert.equal(verdict, 'proved')));
  }
});

test('the debug vmlinux must be of the same build', async () => {
  const other = makeKernel('void more_of_it(void) { counter += 2; }');
  await assert.rejects(
    verifyShuffled(original, plain, { codecs, debug: memorySource(other.unstripped) }),
    (error: Error) => error instanceof KernelImageError && /build-id/.test(error.message),
  );
});
