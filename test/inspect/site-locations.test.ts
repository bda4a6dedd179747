/** Where sites lie, against the plain way to count: a set of lines and pages, and a look at every section for every site. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import {
  countByCell,
  CACHE_LINE,
  loadedSections,
  mergeSites,
  PAGE,
  touchedByAll,
  touchedBySection,
} from '../../src/inspect/site-locations.ts';
import type { LoadedSection } from '../../src/inspect/site-locations.ts';
import { LISTS } from '../../src/relocs/tables/kernel-table.ts';
import type { ListName } from '../../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { DATA, entryAt, LINK, makeVmlinux, PERCPU, TEXT } from '../make-vmlinux.ts';
import { makeKernel64 } from '../relocs/fixtures.ts';

interface Site {
  readonly at: number;
  readonly list: ListName;
  readonly width: number;
}

/** Physical address and list of each site of a table. */
function sitesOf(table: Readonly<Record<ListName, Uint32Array>>): Site[] {
  return LISTS.flatMap(({ name, width }) =>
    Array.from(table[name], (entry) => ({ at: entry - 0x8000_0000, list: name, width })),
  );
}

function granules(sites: readonly Site[], size: number): number {
  const touched = new Set<number>();
  for (const { at, width } of sites)
    for (let byte = at; byte < at + width; byte++) touched.add(Math.floor(byte / size));
  return touched.size;
}

function expectedOf(sites: readonly Site[]): object {
  const of = (list: ListName): number => sites.filter((site) => site.list === list).length;
  return {
    sites: { abs64: of('abs64'), inverse32: of('inverse32'), abs32: of('abs32') },
    lines: granules(sites, CACHE_LINE),
    pages: granules(sites, PAGE),
  };
}

/** Sites by rising address that do not overlap, near each other and far, in any of the lists. */
const tables = fc
  .array(fc.record({ gap: fc.oneof(fc.nat(3), fc.nat(80), fc.nat(9000)), list: fc.nat(2) }), { maxLength: 60 })
  .map((steps) => {
    const lists: Record<ListName, number[]> = { abs64: [], inverse32: [], abs32: [] };
    let at = LINK;
    for (const { gap, list } of steps) {
      const { name, width } = LISTS[list]!;
      lists[name].push(entryAt(at + gap));
      at += gap + width;
    }
    const array = (name: ListName): Uint32Array => Uint32Array.from(lists[name]);
    return { abs64: array('abs64'), inverse32: array('inverse32'), abs32: array('abs32') };
  });

const sections = fc
  .array(fc.record({ gap: fc.nat(3000), size: fc.integer({ min: 1, max: 9000 }) }), { maxLength: 12 })
  .map((steps) => {
    let at = LINK;
    return steps.map(({ gap, size }, index): Omit<LoadedSection, 'header'> => {
      const start = at + gap;
      at = start + size;
      return { name: `.s${index}`, start, end: at };
    });
  });

test('counts as one who looks at every byte', () => {
  fc.assert(
    fc.property(tables, sections, (table, places) => {
      const sites = sitesOf(table);
      const merged = mergeSites(table);
      assert.deepEqual(touchedByAll(merged), expectedOf(sites));

      const placeOf = ({ at }: Site): string | null =>
        places.find(({ start, end }) => at >= start && at < end)?.name ?? null;
      const found = touchedBySection(merged, places);
      for (const place of places) {
        const own = sites.filter((site) => placeOf(site) === place.name);
        const listed = found.filter(({ name }) => name === place.name);
        const expected = own.length === 0 ? [] : [{ name: place.name, start: place.start, ...expectedOf(own) }];
        assert.deepEqual(listed, expected);
      }
      const outside = found
        .filter(({ name }) => name === null)
        .map(({ sites: { abs64, inverse32, abs32 } }) => abs64 + inverse32 + abs32);
      assert.equal(
        outside.reduce((sum, n) => sum + n, 0),
        sites.filter((site) => placeOf(site) === null).length,
      );
      assert.deepEqual(
        found,
        found.toSorted((a, b) => a.start - b.start),
      );
    }),
  );
});

test('merges the lists by address, and knows each site its list', () => {
  fc.assert(
    fc.property(tables, (table) => {
      const { entries, lists } = mergeSites(table);
      const expected = sitesOf(table).toSorted((a, b) => a.at - b.at);
      assert.deepEqual(
        Array.from(entries),
        expected.map(({ at }) => entryAt(at)),
      );
      assert.deepEqual(
        Array.from(lists, (list) => LISTS[list]!.name),
        expected.map(({ list }) => list),
      );
    }),
  );
});

test('a site across two lines and two pages touches both', () => {
  const table = {
    abs64: Uint32Array.of(entryAt(LINK + PAGE - 4)),
    inverse32: new Uint32Array(),
    abs32: new Uint32Array(),
  };
  assert.deepEqual(touchedByAll(mergeSites(table)), {
    sites: { abs64: 1, inverse32: 0, abs32: 0 },
    lines: 2,
    pages: 2,
  });
});

test('finds sections in memory by their addresses, per-cpu data that is linked at 0 by its segment', () => {
  const headers = 5;
  const kernel = readVmlinux(
    makeVmlinux({
      edit: (writer) => {
        const sectionsAt = DATA.offset + DATA.size + 32;
        for (let index = 1; index < headers - 1; index++) writer.u64(sectionsAt + index * 64 + 8, 2); // SHF_ALLOC
        writer.u64(sectionsAt + 2 * 64 + 16, 0x10); // .data, now in the per-cpu segment
        writer.u64(sectionsAt + 2 * 64 + 32, 0x20);
      },
    }),
  );
  const [, text, data, bss] = kernel.elf.sections;
  assert.deepEqual(loadedSections(kernel), [
    { name: '.text', start: TEXT.paddr, end: TEXT.paddr + TEXT.size, header: text },
    { name: '.data', start: PERCPU.paddr + 0x10, end: PERCPU.paddr + 0x30, header: data },
    { name: '.bss', start: DATA.paddr + DATA.size, end: DATA.paddr + DATA.size + 0x3000, header: bss },
  ]);
});

test('a linked kernel: every site is in the section whose relocations it came from', () => {
  for (const perCpu of ['zero', 'placed'] as const) {
    const bytes = makeKernel64({ perCpu });
    const kernel = readVmlinux(bytes);
    const found = touchedBySection(mergeSites(collectRelocations(bytes)), loadedSections(kernel));
    assert.deepEqual(
      found.map(({ name }) => name),
      ['.text', '.rodata', '.data', '.data..percpu'],
    );
    const rodata = found[1]!;
    assert.equal(rodata.sites.abs64, perCpu === 'zero' ? 160 : 161);
    assert.equal(
      START_KERNEL_MAP + BigInt(rodata.start),
      kernel.elf.sections.find(({ addr }) => addr === START_KERNEL_MAP + BigInt(rodata.start))?.addr,
    );
  }
});

test('counts sites by cells of the image', () => {
  const abs64 = Uint32Array.of(entryAt(LINK), entryAt(LINK + 0xff8), entryAt(LINK + 0x1000), entryAt(LINK + 0x3ff8));
  const merged = mergeSites({ abs64, inverse32: new Uint32Array(), abs32: new Uint32Array() });
  assert.deepEqual(countByCell(merged, { imageStart: LINK, imageEnd: LINK + 0x4001 }, 0x1000), [2, 1, 0, 1, 0]);
  assert.deepEqual(countByCell(merged, { imageStart: LINK, imageEnd: LINK + 0x4000 }, 0x10000), [4]);
});
