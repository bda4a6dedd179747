/**
 * What a slide for each boot costs hosts that share equal pages between guests (KSM, or a page cache that many guests map): pages of the image that
 * differ between two slides, and those that stay equal, measured; no claim.
 *
 *     node --import tsx bench/page-sharing.ts [--record] [vmlinuz …]
 *
 * Pages of 4 KiB of the image in memory. A page without a site never differs; one with sites differs nearly always. Pages of zeros are equal to
 * many others anyway and are counted apart.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isZero } from '../src/base/bytes.ts';
import { segmentBytes } from '../src/elf/read.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { applySlide, prepareTable } from '../src/relocs/tables/apply.ts';
import { readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';

const PAGE = 0x1000;
const SLIDES = [0, 0x20_0000, 0x1240_0000, 0x3a00_0000];

const { record, rest } = takeRecordOption();
const kernels: (readonly [name: string, image: string])[] = rest.map((path) => [
  basename(path).replace('vmlinuz-', ''),
  path,
]);
if (kernels.length === 0) {
  for (const series of ['6.1', '6.12'])
    for (const flavour of ['cloud', 'generic'] as const)
      kernels.push([`Debian ${series} ${flavour}`, (await fetchKernel({ series, flavour })).image]);
}
process.stdout.write('kernel                            pages  zeros  differ between two slides        stay equal\n');
const rows: Cell[][] = [];
for (const [name, image] of kernels) rows.push(await measure(name, image));
record?.('page-sharing', {
  machine: 'any',
  parts: [],
  note: `Pages of 4 KiB, ${SLIDES.length} slides, each against each.`,
  tables: {
    pages: tableOf(
      [
        'kernel',
        rightAligned('pages of the image'),
        rightAligned('of zeros'),
        rightAligned('differ between two slides'),
        'that is',
      ],
      rows,
    ),
  },
});

/** Of two slides, the pair that differs most. */
async function measure(name: string, path: string): Promise<Cell[]> {
  const { vmlinux, relocs } = await extract(readFileSync(path), { codecs: nodeCodecs });
  const { imageStart: base, imageEnd, loads, elf } = readVmlinux(vmlinux);
  const table = prepareTable(readRelocationTable(relocs()));
  const original = new Uint8Array(Math.ceil((imageEnd - base) / PAGE) * PAGE);
  for (const load of loads) original.set(segmentBytes(elf, load), load.paddr - base);
  const moved = SLIDES.map((slide) => {
    const memory = original.slice();
    applySlide(memory, table, slide, base);
    return memory;
  });
  const pages = original.length / PAGE;
  const page = (memory: Uint8Array, index: number): Buffer =>
    Buffer.from(memory.buffer, memory.byteOffset + index * PAGE, PAGE);
  let [zeros, least, most] = [0, Infinity, 0];
  for (let index = 0; index < pages; index++) if (isZero(page(original, index))) zeros++;
  for (const [a, one] of moved.entries()) {
    for (const other of moved.slice(a + 1)) {
      let differ = 0;
      for (let index = 0; index < pages; index++) if (!page(one, index).equals(page(other, index))) differ++;
      [least, most] = [Math.min(least, differ), Math.max(most, differ)];
    }
  }
  const mib = (count: number): string => `${((count * PAGE) / 0x10_0000).toFixed(1)} MiB`;
  const percent = ((100 * most) / (pages - zeros)).toFixed(0);
  process.stdout.write(
    `${name.padEnd(32)} ${`${pages}`.padStart(6)} ${`${zeros}`.padStart(6)}  ` +
      `${least === most ? most : `${least} to ${most}`} (${mib(most)}, ${percent}% of those not zero)  ${pages - most} (${mib(pages - most)})\n`,
  );
  return [name, pages, zeros, most, `${mib(most)} of ${((pages * PAGE) / 0x10_0000).toFixed(1)}`];
}
