/** What the writer of a compact table refuses. */
import { tableEntryToPhys } from '../addresses.ts';
import { hex } from '../errors.ts';

export function refuseEntry(entry: number): never {
  if (tableEntryToPhys(entry) === undefined) throw new RangeError(`${hex(entry)} is no link address`);
  throw new RangeError(`sites that overlap or descend at ${hex(entry)}`);
}
