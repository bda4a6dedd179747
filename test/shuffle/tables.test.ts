/** The tables that are sorted by address, made up and read back as the kernel reads them: what they say of code does not change when code moves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { STAY } from '../../src/shuffle/analyse/pieces.ts';
import type { DebugKernel } from '../../src/shuffle/read/debug-kernel.ts';
import { ImageBytes } from '../../src/shuffle/read/kernel-image.ts';
import { layOut, orderOf, shiftsOf } from '../../src/shuffle/layout/layout.ts';
import { readKallsyms, systemMap, writeKallsyms } from '../../src/shuffle/tables/kallsyms.ts';
import { readMcount, writeMcount } from '../../src/shuffle/tables/mcount.ts';
import { readOrc, writeOrc } from '../../src/shuffle/tables/orc.ts';
import { findRuns, ownersOf } from '../../src/shuffle/analyse/units.ts';
import type { Units } from '../../src/shuffle/analyse/units.ts';
import type { Vmlinux } from '../../src/kernel/vmlinux.ts';

const TEXT = 0x100_0000;
const SIZE = 0x10000;
const TABLES = TEXT + 0x8000;

/** As much of a kernel as tables need: bytes from TEXT on, and symbols. */
function makeImage(symbols: Readonly<Record<string, number>>): { image: ImageBytes; debug: DebugKernel } {
  const bytes = new Uint8Array(SIZE);
  const loads = [{ offset: 0, paddr: TEXT, filesz: SIZE, memsz: SIZE }];
  const image = new ImageBytes({ elf: { bytes }, loads } as unknown as Vmlinux);
  const find = (name: string): number | undefined => symbols[name];
  const need = (name: string): number => {
    const place = symbols[name];
    assert.ok(place !== undefined, name);
    return place;
  };
  return { image, debug: { find, need, text: { start: TEXT, end: TABLES } } as unknown as DebugKernel };
}

/** Functions of the given sizes at multiples of 16; every fourth stays. */
function makeUnits(sizes: readonly number[]): Units {
  const starts: number[] = [];
  const ends: number[] = [];
  let at = TEXT + 0x10;
  for (const size of sizes) {
    starts.push(at);
    ends.push(at + size);
    at = Math.ceil((at + size) / 16) * 16;
  }
  const stay = Uint8Array.from(sizes, (_, unit) => (unit % 4 === 3 ? STAY['fixed range'] : STAY.none));
  return {
    starts: new Uint32Array(starts),
    ends: new Uint32Array(ends),
    stay,
    functions: new Uint32Array(sizes.length).fill(1),
    ofPiece: Uint32Array.from(starts.keys()),
  };
}

const sizes = fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 2, maxLength: 40 });

test('ORC says of each byte of code what it said before; the table keeps its size', () => {
  fc.assert(
    fc.property(
      sizes,
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 0, max: 9 })),
      (shape, seed, dice) => {
        const units = makeUnits(shape);
        const next = (): number => dice.next().value as number;
        // As objtool writes them: an entry where something changes, and a terminator where code ends and no other code follows at once.
        const old: [ip: number, kind: number][] = [];
        shape.forEach((size, unit) => {
          const [start, end] = [units.starts[unit]!, units.ends[unit]!];
          for (let at = start; at < end; at += 1 + next()) {
            const kind = at === start ? 1 : 1 + (next() % 3);
            if (old.at(-1)?.[1] !== kind) old.push([at, kind]);
          }
          if (size % 16 !== 0 || next() < 3) old.push([end, 0]);
        });
        const count = old.length;
        const [ips, entries] = [TABLES, TABLES + 0x3000];
        const { image, debug } = makeImage({
          __start_orc_unwind_ip: ips,
          __stop_orc_unwind_ip: ips + count * 4,
          __start_orc_unwind: entries,
        });
        const at = (place: number): number => place - TEXT;
        old.forEach(([ip, kind], index) => {
          image.view.setInt32(at(ips + index * 4), ip - (ips + index * 4), true);
          image.bytes[at(entries + index * 6)] = kind;
          image.bytes[at(entries + index * 6 + 4)] = kind === 0 ? 0 : 5;
        });
        const lookUp = (place: number): number => {
          let found = -1;
          for (let index = 0; index < count; index++) {
            const ip = ips + index * 4 + image.view.getInt32(at(ips + index * 4), true);
            if (ip <= place) found = index;
          }
          return found < 0 ? -1 : image.bytes[at(entries + found * 6)]!;
        };
        const before = Array.from(units.starts, (start, unit) =>
          Array.from({ length: units.ends[unit]! - start }, (_, byte) => lookUp(start + byte)),
        );
        const runs = findRuns(units, TABLES);
        let table;
        try {
          table = readOrc(debug, image, units)!;
        } catch (error) {
          // Where hardly any function has a terminator there is no room, and the kernel is refused.
          assert.ok(error instanceof KernelImageError && error.code === 'unsupported');
          return;
        }
        const placed = layOut({ ...units, runs }, seed);
        writeOrc(image.bytes, image.view, table, shiftsOf(units.starts, placed), orderOf(placed));
        before.forEach((kinds, unit) =>
          kinds.forEach((kind, byte) => assert.equal(lookUp(placed[unit]! + byte), kind, `unit ${unit}, byte ${byte}`)),
        );
        for (let index = 1; index < count; index++) {
          const ip = (entry: number): number => ips + entry * 4 + image.view.getInt32(at(ips + entry * 4), true);
          assert.ok(ip(index) >= ip(index - 1));
        }
      },
    ),
  );
});

test('kallsyms: sorted, with the same names at what they named; ranks by name, and markers, follow', () => {
  fc.assert(
    fc.property(sizes, fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.boolean(), (shape, seed, hasBase) => {
      const units = makeUnits(shape);
      // Two per-cpu symbols, where there can be any; then two names for each function, and one after .text.
      const perCpu = [
        { value: 0x10, name: 'Apercpu_a' },
        { value: 0x20, name: 'Apercpu_b' },
      ];
      const symbols = [
        ...(hasBase ? perCpu : []),
        { value: -1, place: TEXT, name: 'T_text' },
        ...Array.from(units.starts, (place, unit) => [
          { value: -1, place, name: `tf${unit}` },
          { value: -1, place, name: `talias_${unit}${'x'.repeat(unit === 5 ? 150 : 0)}` },
        ]).flat(),
        { value: -1, place: TABLES + 0x100, name: 'D_data' },
      ];
      const count = symbols.length;
      const [num, base, offsets, markers, seqs, tokens, index, names] = [
        0, 8, 0x100, 0x600, 0x700, 0xc00, 0x1000, 0x1400,
      ].map((at) => TABLES + at) as [number, number, number, number, number, number, number, number];
      const { image, debug } = makeImage({
        kallsyms_num_syms: num,
        ...(hasBase ? { kallsyms_relative_base: base } : {}),
        kallsyms_offsets: offsets,
        kallsyms_markers: markers,
        kallsyms_seqs_of_names: seqs,
        kallsyms_token_table: tokens,
        kallsyms_token_index: index,
        kallsyms_names: names,
      });
      const at = (place: number): number => place - TEXT;
      const { bytes, view } = image;
      view.setUint32(at(num), count, true);
      view.setUint32(at(base), 0x8000_0000 + TEXT, true);
      let stream = at(names);
      const byName = symbols
        .map((_, symbol) => symbol)
        .toSorted((a, b) => (symbols[a]!.name.slice(1) < symbols[b]!.name.slice(1) ? -1 : 1));
      symbols.forEach((symbol, number) => {
        const field = offsets + number * 4;
        const place = 'place' in symbol ? symbol.place! : -1;
        const value = place < 0 ? symbol.value : hasBase ? TEXT - 1 - place : place - field;
        view.setInt32(at(field), value, true);
        if (number % 256 === 0) view.setUint32(at(markers + (number / 256) * 4), stream - at(names), true);
        const { length } = symbol.name;
        if (length > 127) bytes[stream++] = 0x80 | (length & 0x7f);
        bytes[stream++] = length > 127 ? length >> 7 : length;
        for (const character of symbol.name) bytes[stream++] = character.charCodeAt(0);
        bytes[at(seqs + byName.indexOf(number) * 3 + 2)] = number;
      });
      // Each token is its own character: 256 strings of one byte.
      for (let token = 0; token < 256; token++) {
        bytes[at(tokens + token * 2)] = token;
        view.setUint16(at(index + token * 2), token * 2, true);
      }
      const table = readKallsyms(debug, image, ownersOf(units))!;
      const before = systemMap(bytes, table);
      const first = hasBase ? '0000000000000010 A percpu_a' : 'ffffffff81000000 T _text';
      assert.equal(Buffer.from(before).toString().split('\n')[0], first);
      const placed = layOut({ ...units, runs: findRuns(units, TABLES) }, seed);
      writeKallsyms(bytes, viewOf(bytes), table, shiftsOf(units.starts, placed));
      const lines = Buffer.from(systemMap(bytes, table)).toString().trimEnd().split('\n');
      const expected = symbols.map((symbol) => {
        const unit = 'place' in symbol ? units.starts.indexOf(symbol.place!) : -1;
        const place = unit >= 0 ? placed[unit]! : 'place' in symbol ? symbol.place! : -1;
        const address = place < 0 ? BigInt(symbol.value) : 0xffff_ffff_8000_0000n + BigInt(place);
        return `${address.toString(16).padStart(16, '0')} ${symbol.name.slice(0, 1)} ${symbol.name.slice(1)}`;
      });
      assert.deepEqual(
        lines.map((line) => line.slice(0, 16)),
        lines.map((line) => line.slice(0, 16)).toSorted(),
      );
      assert.deepEqual(lines.toSorted(), expected.toSorted());
      const ranked = Array.from({ length: count }, (_, rank) => lines[bytes[at(seqs + rank * 3 + 2)]!]!.slice(19));
      assert.deepEqual(
        ranked,
        byName.map((symbol) => symbols[symbol]!.name.slice(1)),
      );
    }),
  );
});

test('call sites of the function tracer: sorted again, and those that are 0 stay at the front', () => {
  const units = makeUnits([40, 16, 24, 8, 60]);
  const virtual = (place: number): bigint => 0xffff_ffff_8000_0000n + BigInt(place);
  const make = (values: readonly bigint[]): ReturnType<typeof makeImage> => {
    const made = makeImage({ __start_mcount_loc: TABLES, __stop_mcount_loc: TABLES + values.length * 8 });
    values.forEach((value, index) => made.image.view.setBigUint64(TABLES - TEXT + index * 8, value, true));
    return made;
  };
  const read = ({ image, debug }: ReturnType<typeof makeImage>): ReturnType<typeof readMcount> =>
    readMcount(debug, image, ownersOf(units));
  const placed = layOut({ ...units, runs: findRuns(units, TABLES) }, Uint8Array.of(5));
  const moves = shiftsOf(units.starts, placed);
  // The first five as newer kernels have them; unsorted ones, and a single one, as older.
  for (const [zeros, order] of [
    [2, [0, 1, 2, 3, 4]],
    [0, [3, 0, 4, 1, 2]],
    [0, [1]],
  ] as const) {
    const sites = order.map((unit) => units.starts[unit]! + 4);
    const made = make([...Array.from({ length: zeros }, () => 0n), ...sites.map(virtual)]);
    writeMcount(made.image.view, read(made)!, moves);
    const { view } = made.image;
    const found = Array.from({ length: zeros + sites.length }, (_, index) =>
      view.getBigUint64(TABLES - TEXT + index * 8, true),
    );
    const expected = order.map((unit) => placed[unit]! + 4).toSorted((a, b) => a - b);
    assert.deepEqual(found, [...Array.from({ length: zeros }, () => 0n), ...expected.map(virtual)]);
  }
  assert.notDeepEqual(placed, units.starts);
  assert.equal(read(make([])), undefined);
  for (const bad of [0n, 1n, virtual(TEXT) - (1n << 33n), 0x8100_0000n])
    assert.throws(() => read(make([virtual(TEXT + 0x10), bad])), KernelImageError);
});
