/** kallsyms of each layout, found without symbols; and arrays that do not agree, which are not found. Real kernels: scripts/try-recover.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Writer } from '../../src/base/bytes.ts';
import { ABSOLUTE } from '../../src/kernel/kallsyms.ts';
import { searchKallsyms } from '../../src/kernel/kallsyms-search.ts';
import type { Kallsyms } from '../../src/kernel/kallsyms-search.ts';
import type { Vmlinux } from '../../src/kernel/vmlinux.ts';
import { LAYOUTS, makeKallsyms } from './make-kallsyms.ts';
import type { Layout, MadeKallsyms, TestSymbol } from './make-kallsyms.ts';

const START = 0x100_0000;
const END = START + 0x10_0000;
/** Where the arrays are in the file, and from START. */
const AT = 0x238;

const SYMBOLS: readonly TestSymbol[] = [
  { place: START, type: 'T', name: '_text' },
  ...Array.from({ length: 700 }, (_, index) => ({
    place: START + 0x40 + (index >> 1) * 16,
    type: 'tTdDwr'[index % 6]!,
    name: index % 9 === 0 ? `function_${'x'.repeat(index % 400)}` : `func${index}`,
  })),
  { place: START + 0x8000, type: 'D', name: 'phys_base' },
  { place: START + 0x8000, type: 'D', name: 'phys_base_2' },
  { place: END, type: 'B', name: '_end' },
];
const PER_CPU: readonly TestSymbol[] = [
  { place: 0, isAbsolute: true, type: 'D', name: 'fixed_percpu_data' },
  { place: 0x2_0000, isAbsolute: true, type: 'D', name: 'cpu_info' },
];
/** Not in the image: 6.19 and later have symbols of .modinfo. */
const AFTER: readonly TestSymbol[] = [{ place: END + 0x1a, type: 'r', name: '__UNIQUE_ID_modinfo_770' }];

function symbolsOf({ form, order }: Layout): readonly TestSymbol[] {
  const percpu = form === 'below base' || form === 'addresses' ? PER_CPU : [];
  return [...percpu, ...SYMBOLS, ...(order === 'addresses last' && form !== 'below base' ? AFTER : [])];
}

function search({ bytes: made }: MadeKallsyms): Kallsyms | undefined {
  const bytes = new Uint8Array(AT + made.length + 0x200).fill(0x90);
  bytes.set(made, AT);
  const loads = [{ offset: 0, paddr: START, filesz: bytes.length, memsz: END - START }];
  return searchKallsyms({ elf: { bytes }, loads, imageStart: START, imageEnd: END } as unknown as Vmlinux);
}

for (const [release, layout] of Object.entries(LAYOUTS)) {
  const symbols = symbolsOf(layout);
  const make = (): MadeKallsyms => makeKallsyms(symbols, layout, START + AT);

  test(`the layout of ${release}: every symbol, its type and its name`, () => {
    const kallsyms = search(make());
    assert.ok(kallsyms);
    assert.deepEqual(
      Array.from(kallsyms.places, (place, symbol) => ({
        place,
        type: String.fromCharCode(kallsyms.types[symbol]!),
        name: kallsyms.nameOf(symbol),
      })),
      symbols.map(({ place, isAbsolute, type, name }) => ({
        place: isAbsolute === true ? ABSOLUTE : place,
        type,
        name,
      })),
    );
    assert.equal(kallsyms.arrays.addresses.form, layout.form);
    for (const name of ['phys_base', 'phys_base_2', '_end', '_text', 'func3'])
      assert.equal(
        kallsyms.find(name),
        symbols.findIndex((symbol) => symbol.name === name),
      );
    for (const name of ['', 'phys', 'phys_base_', 'phys_base_21', 'func']) assert.equal(kallsyms.find(name), undefined);
  });

  test(`the layout of ${release}: arrays that do not agree are not found`, () => {
    const spoil = (change: (writer: Writer, made: MadeKallsyms['at']) => void): void => {
      const made = make();
      change(new Writer(made.bytes), made.at);
      assert.equal(search(made), undefined);
    };
    const { length } = symbols;
    const width = layout.form === 'addresses' ? 8 : 4;
    spoil((writer, { count }) => writer.u32(count, length - 1));
    spoil((writer, { count }) => writer.u32(count, length + 1));
    spoil((writer, { markers }) => writer.u8(markers, 1));
    spoil((writer, { markers }) => writer.u8(markers + layout.marker, writer.bytes[markers + layout.marker]! ^ 1));
    spoil((writer, { markers }) => writer.u8(markers - 1, 1 + writer.bytes[markers - 1]!));
    spoil((writer, { names }) => writer.u8(names, writer.bytes[names]! + 1));
    // No type is a digit.
    spoil((writer, { names }) => writer.u8(names + 1, '0'.charCodeAt(0)));
    spoil((writer, { index }) => writer.u16(index + 200, 1));
    spoil((writer, { tokens }) => writer.u8(tokens + 40, 0x7f));
    // One symbol below the one before it.
    spoil((writer, { offsets }) => {
      const field = offsets + 300 * width;
      const low = writer.bytes.slice(field, field + width);
      const high = writer.bytes.slice(field + 40 * width, field + 41 * width);
      writer.copy(field, high);
      writer.copy(field + 40 * width, low);
    });
    if (layout.form === 'below base' || layout.form === 'above base') {
      spoil((writer, { base }) => writer.u32(base, 0x8000_0000 + START - 16));
      spoil((writer, { base }) => writer.u32(base + 4, 0));
    }
  });

  test(`the layout of ${release}: whatever is changed, all that is found is in order`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }), { minLength: 1, maxLength: 3 }),
        (changes) => {
          const made = make();
          for (const { at, value } of changes) made.bytes[at % made.bytes.length] = value;
          const kallsyms = search(made);
          if (kallsyms === undefined) return;
          assert.equal(kallsyms.places.length, symbols.length);
          const places = kallsyms.places.filter((place) => place !== ABSOLUTE);
          assert.deepEqual(places, places.toSorted());
          assert.ok(places[0]! >= START && places.at(-1)! < 0x4000_0000);
        },
      ),
      { numRuns: 30 },
    );
  });
}

test('a kernel without kallsyms has none', () => {
  assert.equal(
    search({ bytes: new Uint8Array(0x4000), at: makeKallsyms(SYMBOLS, LAYOUTS['6.12'], START).at }),
    undefined,
  );
});

test('a kernel with fewer symbols than one marker is for has no kallsyms that could be told from other data', () => {
  assert.equal(search(makeKallsyms(SYMBOLS.slice(0, 200), LAYOUTS['6.12'], START + AT)), undefined);
});

test('many token tables, or many words that could be a count, end the search', () => {
  const { bytes, at } = makeKallsyms(SYMBOLS, LAYOUTS['6.12'], START);
  const tokens = bytes.slice(at.tokens, at.index + 512);
  const many = new Uint8Array(tokens.length * 8);
  for (let copy = 0; copy < 8; copy++) many.set(tokens, copy * tokens.length);
  const all = new Uint8Array(many.length + bytes.length);
  all.set(many);
  all.set(bytes, many.length);
  assert.equal(search({ bytes: all, at }), undefined);
  const counts = new Uint8Array(0x2_0000);
  for (let word = 0; word < counts.length; word += 8) counts[word] = 2;
  const { bytes: after, at: from } = makeKallsyms(SYMBOLS, LAYOUTS['6.12'], START);
  const spoiled = new Uint8Array(counts.length + after.length);
  spoiled.set(counts);
  for (let word = 0; word < counts.length; word += 8) new Writer(spoiled).u32(word, SYMBOLS.length);
  new Writer(after).u32(from.count, 0);
  spoiled.set(after, counts.length);
  assert.equal(search({ bytes: spoiled, at: from }), undefined);
});
