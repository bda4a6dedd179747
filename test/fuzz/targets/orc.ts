/** The tables of `shuffle` that have entries of a fixed size: ORC, the exception table, the call sites of the function tracer. */
import { Writer, viewOf } from '../../../src/base/bytes.ts';
import { findRuns, ownersOf } from '../../../src/shuffle/analyse/units.ts';
import { layOut, orderOf, shiftsOf } from '../../../src/shuffle/layout/layout.ts';
import { readExtable, writeExtable } from '../../../src/shuffle/tables/extable.ts';
import { readMcount, writeMcount } from '../../../src/shuffle/tables/mcount.ts';
import { readOrc, writeOrc } from '../../../src/shuffle/tables/orc.ts';
import { makeUnits, openTables, putSymbols, tableFields, TEXT } from '../make/tables.ts';
import type { Target } from '../target.ts';

const SYMBOLS = [
  '__start_orc_unwind_ip',
  '__stop_orc_unwind_ip',
  '__start_orc_unwind',
  'orc_lookup',
  'orc_lookup_end',
  '__start___ex_table',
  '__stop___ex_table',
  '__start_mcount_loc',
  '__stop_mcount_loc',
];
const CODE = { start: TEXT + 0x1_0000, end: TEXT + 0x1_0200 };
const UNITS = makeUnits(CODE.start, 16);
const PLACES = layOut({ ...UNITS, runs: findRuns(UNITS, CODE.end) }, Uint8Array.of(4, 5, 6));
const SHIFTS = shiftsOf(UNITS.starts, PLACES);
const SIZE = 0x800;
const AT = { ips: 0x80, entries: 0x200, lookup: 0x480, extable: 0x500, mcount: 0x600 };

function makeFile(spare: number): Uint8Array {
  const file = new Writer(new Uint8Array(SIZE));
  const place = (at: number): number => TEXT + at;
  const ips = [...UNITS.starts, ...Array.from(UNITS.ends), ...Array.from({ length: spare }, () => CODE.end)].toSorted(
    (a, b) => a - b,
  );
  const faults = [1, 4, 9].map((unit) => UNITS.starts[unit]! + 4);
  putSymbols(file, SYMBOLS, {
    __start_orc_unwind_ip: place(AT.ips),
    __stop_orc_unwind_ip: place(AT.ips + ips.length * 4),
    __start_orc_unwind: place(AT.entries),
    orc_lookup: place(AT.lookup),
    orc_lookup_end: place(AT.lookup + 0x40),
    __start___ex_table: place(AT.extable),
    __stop___ex_table: place(AT.extable + faults.length * 12),
    __start_mcount_loc: place(AT.mcount),
    __stop_mcount_loc: place(AT.mcount + 5 * 8),
  });
  ips.forEach((ip, index) => {
    file.u32(AT.ips + index * 4, ip - place(AT.ips + index * 4));
    file.u8(AT.entries + index * 6, index);
    file.u8(AT.entries + index * 6 + 4, index % 2 === 0 ? 5 : 0);
  });
  faults.forEach((fault, index) => {
    const at = AT.extable + index * 12;
    file.u32(at, fault - place(at));
    file.u32(at + 4, fault + 8 - place(at + 4));
    file.u32(at + 8, 3);
  });
  for (let index = 1; index < 5; index++)
    file.u64(AT.mcount + index * 8, 0xffff_ffff_8000_0000n + BigInt(UNITS.starts[index * 2]! + 4));
  return file.bytes;
}

const target: Target = {
  seeds: () => [makeFile(0), makeFile(6)],
  run(input) {
    const { image, debug } = openTables(input, SYMBOLS, CODE.end);
    const owners = ownersOf(UNITS);
    const copy = input.slice();
    const view = viewOf(copy);
    const extable = readExtable(debug, image, owners);
    writeExtable(view, extable, SHIFTS);
    const mcount = readMcount(debug, image, owners);
    if (mcount !== undefined) writeMcount(view, mcount, SHIFTS);
    const orc = readOrc(debug, image, UNITS);
    if (orc !== undefined) writeOrc(copy, view, orc, SHIFTS, orderOf(PLACES));
    return `${mcount === undefined ? 'no call sites' : 'call sites'}, ${orc === undefined ? 'no ORC' : 'ORC'}`;
  },
  fields: tableFields,
  longest: 8192,
  executions: 1500,
};
export default target;
