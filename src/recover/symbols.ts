/**
 * What .symtab says, where the file still has one: the kernel build's own strip leaves it. Two things are compared with what was found without it: where functions begin, and where phys_base is.
 */
import { virtToPhys } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { cString, viewOf } from '../base/bytes.ts';
import { SHT_SYMTAB } from '../elf/constants.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';

const ENTRY = 24;
const STT_FUNC = 2;
const PHYS_BASE = 'phys_base';

export interface Symbols {
  /** Where functions begin. */
  readonly functions: readonly PhysAddr[];
  readonly physBase: PhysAddr | undefined;
}

/** Undefined for a file without .symtab, or with one that is not whole. */
export function readSymbols({ elf: { bytes, sections } }: Vmlinux): Symbols | undefined {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  const names = table === undefined ? undefined : sections[table.link];
  if (table === undefined || names === undefined || table.offset + table.size > bytes.length) return undefined;
  const view = viewOf(bytes);
  const functions: PhysAddr[] = [];
  let physBase: PhysAddr | undefined;
  for (let at = table.offset; at + ENTRY <= table.offset + table.size; at += ENTRY) {
    // The upper half of a link address: most symbols of other kinds end here.
    if (view.getUint32(at + 12, true) !== 0xffff_ffff) continue;
    const place = virtToPhys(view.getBigUint64(at + 8, true));
    if (place === undefined) continue;
    if ((view.getUint8(at + 4) & 0xf) === STT_FUNC) functions.push(place);
    else if (isNamed(bytes, names.offset + view.getUint32(at, true), PHYS_BASE)) physBase = place;
  }
  return { functions, physBase };
}

function isNamed(bytes: Uint8Array, offset: number, name: string): boolean {
  return bytes[offset] === name.charCodeAt(0) && cString(bytes, offset, name.length + 1) === name;
}
