/** kallsyms, read, written for a layout, and as System.map. */
import { Writer, ascii, viewOf } from '../../../src/base/bytes.ts';
import { findRuns, ownersOf } from '../../../src/shuffle/analyse/units.ts';
import { layOut, shiftsOf } from '../../../src/shuffle/layout/layout.ts';
import { readKallsyms, systemMap, writeKallsyms } from '../../../src/shuffle/tables/kallsyms.ts';
import { makeUnits, openTables, putSymbols, tableFields, TEXT } from '../make/tables.ts';
import type { Target } from '../target.ts';

const SYMBOLS = [
  'kallsyms_num_syms',
  'kallsyms_relative_base',
  'kallsyms_offsets',
  'kallsyms_markers',
  'kallsyms_seqs_of_names',
  'kallsyms_token_table',
  'kallsyms_token_index',
  'kallsyms_names',
];
const CODE = { start: TEXT + 0x1_0000, end: TEXT + 0x1_0200 };
const AT = {
  num: 0x40,
  base: 0x48,
  offsets: 0x100,
  markers: 0x1c0,
  seqs: 0x1d0,
  index: 0x300,
  tokens: 0x500,
  names: 0x900,
};
const SIZE = 0xc00;
const UNITS = makeUnits(CODE.start, 16);
const PLACED = shiftsOf(UNITS.starts, layOut({ ...UNITS, runs: findRuns(UNITS, CODE.end) }, Uint8Array.of(1, 2, 3)));

function makeFile(hasBase: boolean): Uint8Array {
  const file = new Writer(new Uint8Array(SIZE));
  const place = (at: number): number => TEXT + at;
  putSymbols(file, SYMBOLS, {
    kallsyms_num_syms: place(AT.num),
    kallsyms_relative_base: hasBase ? place(AT.base) : 0,
    kallsyms_offsets: place(AT.offsets),
    kallsyms_markers: place(AT.markers),
    kallsyms_seqs_of_names: place(AT.seqs),
    kallsyms_token_table: place(AT.tokens),
    kallsyms_token_index: place(AT.index),
    kallsyms_names: place(AT.names),
  });
  const places = Array.from({ length: 40 }, (_, symbol) => CODE.start + (symbol >> 1) * 32);
  file.u32(AT.num, places.length);
  file.u32(AT.base, 0x8000_0000 + TEXT);
  let stream = AT.names;
  places.forEach((symbol, index) => {
    const field = AT.offsets + index * 4;
    file.u32(field, hasBase ? TEXT - 1 - symbol : symbol - place(field));
    const name = ascii(`tf${index}`);
    file.u8(stream, name.length);
    file.copy(stream + 1, name);
    stream += 1 + name.length;
    file.u8(AT.seqs + index * 3 + 2, index);
  });
  for (let token = 0; token < 256; token++) {
    file.u8(AT.tokens + token * 2, token);
    file.u16(AT.index + token * 2, token * 2);
  }
  return file.bytes;
}

const target: Target = {
  seeds: () => [makeFile(true), makeFile(false)],
  run(input) {
    const { image, debug } = openTables(input, SYMBOLS, CODE.end);
    const table = readKallsyms(debug, image, ownersOf(UNITS));
    if (table === undefined) return 'none';
    systemMap(image.bytes, table);
    const copy = input.slice();
    writeKallsyms(copy, viewOf(copy), table, PLACED);
    return `${table.addresses.form === 'own place' ? 'no base' : 'base'}, ${table.seqs === 0 ? 'no seqs' : 'seqs'}`;
  },
  fields: tableFields,
  longest: 8192,
  executions: 1500,
};
export default target;
