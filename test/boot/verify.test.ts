/** Real kernels: what convert makes of them is proved, and a change anywhere is refuted. Nothing boots here. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { convert } from '../../src/convert.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { hex } from '../../src/errors.ts';
import { extract } from '../../src/extract.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { fetchKernel } from '../../src/node/debian.ts';
import { assembleStub } from '../../src/stub/program.ts';
import { examine, verify } from '../../src/verify.ts';
import { readOriginal } from '../../src/verify/original.ts';

const KERNELS = [
  ['6.1', 'cloud'],
  ['6.1', 'generic'],
  ['6.12', 'cloud'],
  ['6.12', 'generic'],
] as const;
const codecs = nodeCodecs;
const program = assembleStub().code;
/** How far from a changed byte the offence may be said to be: an item of the compact table has 9 bytes. */
const NEAR = 16;
/** Changes tried in each part of a file. */
const SAMPLE = 40;

/** Numbers below 1, the same in every run: Park and Miller's generator. */
function* numbers(): Generator<number, never> {
  for (let state = 1; ;) {
    state = (state * 48271) % 0x7fff_ffff;
    yield state / 0x7fff_ffff;
  }
}

for (const [series, flavour] of KERNELS) {
  const { name, image: path } = await fetchKernel({ series, flavour }, { onStep: (text) => console.error(text) });
  const image = await readFile(path);
  const converted = (await convert(image, { codecs })).bytes();

  test(`${name}: proved, as a bzImage and as a vmlinux with its table`, async () => {
    const result = await verify(image, converted, { codecs });
    assert.deepEqual(result.offence, undefined);
    assert.equal(result.verdict, 'proved');
    assert.equal(result.slides.length, 5);
    const { vmlinux, relocs } = await extract(image, { codecs });
    assert.equal((await verify(vmlinux, converted, { codecs, relocs: relocs() })).verdict, 'proved');
  });

  test(`${name}: one byte changed, in each part of the file`, async () => {
    const original = await readOriginal(image, { codecs });
    const elf = readElf(converted);
    const { header, segments } = elf;
    const section = (part: string): { offset: number; size: number } => findSection(elf, part)!;
    const parts = {
      'elf header': { offset: 0, size: 64 },
      'program headers': { offset: header.phoff, size: header.phnum * 56 },
      hook: { offset: original.kernel.entryOffset, size: 5 },
      original: { offset: 0, size: original.kernel.elf.bytes.length },
      parameters: section('.kslide.params'),
      program: section('.kslide.text'),
      table: section('.kslide.table'),
      'behind the segment': {
        offset: segments.at(-1)!.offset + segments.at(-1)!.filesz,
        size: converted.length - segments.at(-1)!.offset - segments.at(-1)!.filesz,
      },
    };
    const random = numbers();
    const below = (limit: number): number => Math.floor(random.next().value * limit);
    for (const [part, { offset, size }] of Object.entries(parts)) {
      for (let change = 0; change < SAMPLE; change++) {
        const at = offset + below(size);
        const flip = 1 + below(255);
        converted[at]! ^= flip;
        const { verdict, offence } = examine(original, converted, { program });
        converted[at]! ^= flip;
        const what = `${part}: byte ${hex(at)} ^ ${hex(flip)}: ${JSON.stringify(offence)}`;
        assert.equal(verdict, 'refuted', what);
        // A wrong gap or bitmap makes the rest of the table wrong; the blame falls on the first. Headers may contradict each other.
        if (!part.endsWith('headers')) assert.ok(Math.abs(offence!.offset - at) <= NEAR, what);
      }
    }
    assert.equal(examine(original, converted, { program }).verdict, 'proved');
  });

  test(`${name}: eight bytes of the table in another order`, async () => {
    const original = await readOriginal(image, { codecs });
    const { offset } = findSection(readElf(converted), '.kslide.table')!;
    const forged = converted.slice();
    forged.copyWithin(offset + 4 * 1000, offset + 4 * 1001, offset + 4 * 1002);
    forged.set(converted.subarray(offset + 4 * 1000, offset + 4 * 1001), offset + 4 * 1001);
    const { offence } = examine(original, forged, { program });
    assert.equal(offence?.check, 'table');
    // The blame falls on where the item begins that the first wrong byte belongs to.
    assert.ok(Math.abs(offence.offset - (offset + 4 * 1000)) <= NEAR, hex(offence.offset));
  });
}

test('a kernel is not the conversion of another build', async () => {
  const images = await Promise.all(
    (['cloud', 'generic'] as const).map(async (flavour) =>
      readFile((await fetchKernel({ series: '6.12', flavour })).image),
    ),
  );
  const converted = (await convert(images[0]!, { codecs })).bytes();
  const { verdict, offence } = await verify(images[1]!, converted, { codecs });
  assert.equal(verdict, 'refuted');
  assert.ok(offence);
});
