/** Both formats of the relocation table on real kernels, by both entries: the slide is taken, whichever the program reads. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { convert } from '../../src/convert.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { STUB_TABLES } from '../../src/segment/table.ts';
import { verify } from '../../src/verify/verify.ts';
import { bootInTurn, checkSlide, ENTRIES, findKernels, oldestAndNewest, PARALLEL, prepare } from './lane.ts';

/** What the compact table may have of the other's size. */
const COMPACT_AT_MOST = 0.16;

const found = await findKernels();

for (const item of oldestAndNewest(found)) {
  const kernel = await prepare(item);
  const original = await readFile(item.image);
  const sizes = new Map<string, number>();

  describe(kernel.name, { concurrency: PARALLEL }, () => {
    for (const format of STUB_TABLES) {
      test(`a ${format} table is proved, and boots by both entries`, async () => {
        const converted = await convert(original, { codecs: nodeCodecs, table: format });
        const image = converted.bytes();
        assert.equal(converted.summary.tableFormat, format);
        sizes.set(format, converted.summary.sizes.table);
        const { verdict, offence } = await verify(original, image, { codecs: nodeCodecs });
        assert.equal(verdict, 'proved', JSON.stringify(offence));
        const boots = await Promise.all(ENTRIES.map((entry) => bootInTurn(kernel, { image, entry })));
        for (const { end, slide } of boots) {
          assert.equal(end, 'panic');
          checkSlide(kernel, slide);
        }
      });
    }
  });

  test(`${kernel.name}: the compact table takes at most ${COMPACT_AT_MOST} of the other's bytes`, () => {
    const ratio = sizes.get('compact')! / sizes.get('kernel')!;
    assert.ok(ratio <= COMPACT_AT_MOST, `${ratio}`);
  });
}
