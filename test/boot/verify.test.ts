/** Real kernels: what convert makes of them is proved, and a change anywhere is refuted. Nothing boots here. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { convert } from '../../src/convert.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import { hex } from '../../src/base/errors.ts';
import { extract } from '../../src/extract.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { assembleStub } from '../../src/stub/program.ts';
import { examine, verify } from '../../src/verify/verify.ts';
import { readOriginal } from '../../src/verify/original.ts';
import { findKernel } from './lane.ts';

const KERNELS = [
  ['6.1', 'cloud'],
  ['6.1', 'generic'],
  ['6.12', 'cloud'],
  ['6.12', 'generic'],
] as const;
const codecs = nodeCodecs;
const program = assembleStub().code;
/** How far from a changed byte the offence may be said to be. */
const NEAR = 16;
/** In the compact table, where a batch begins with how large it is: at its end. It has at most 64 chains of 24 sites. */
const NEAR_IN_TABLE = 4 + 64 * 25 + NEAR;
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
  const { name, image: path } = await findKernel({ series, flavour });
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
        // A wrong distance or bitmap makes sites behind it wrong; the blame falls on the first. Headers may contradict each other.
        const near = part === 'table' ? NEAR_IN_TABLE : NEAR;
        if (!part.endsWith('headers')) assert.ok(Math.abs(offence!.offset - at) <= near, what);
      }
    }
    assert.equal(examine(original, converted, { program }).verdict, 'proved');
  });

  test(`${name}: eight bytes of the table in another order`, async () => {
    const original = await readOriginal(image, { codecs });
    const { offset } = findSection(readElf(converted), '.kslide.table')!;
    const forged = converted.slice();
    let at = offset + 4000;
    const word = (start: number): Uint8Array => converted.subarray(start, start + 4);
    while (Buffer.compare(word(at), word(at + 4)) === 0) at += 4;
    forged.set(word(at + 4), at);
    forged.set(word(at), at + 4);
    const { offence } = examine(original, forged, { program });
    assert.equal(offence?.check, 'table');
    assert.ok(Math.abs(offence.offset - at) <= NEAR_IN_TABLE, hex(offence.offset));
  });
}

test('a kernel is not the conversion of another build', async () => {
  const images = await Promise.all(
    (['cloud', 'generic'] as const).map(async (flavour) =>
      readFile((await findKernel({ series: '6.12', flavour })).image),
    ),
  );
  const converted = (await convert(images[0]!, { codecs })).bytes();
  const { verdict, offence } = await verify(images[1]!, converted, { codecs });
  assert.equal(verdict, 'refuted');
  assert.ok(offence);
});
