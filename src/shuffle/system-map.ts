/**
 * The System.map of a kernel, from its own kallsyms: what `nm -n` prints of a vmlinux that has symbols. Names are spelled with tokens
 * (scripts/kallsyms.c): each byte of a name stands for a string in kallsyms_token_table, and the first character of the whole is the symbol's type.
 */
import { START_KERNEL_MAP } from '../base/addresses.ts';
import { ascii, cString, viewOf } from '../base/bytes.ts';
import { ABSOLUTE, nameOffsets, symbolPlace } from './tables/kallsyms.ts';
import type { KallsymsData } from './tables/kallsyms.ts';

const TOKENS = 256;

/** `bytes` is the kernel's ELF file. One line a symbol: address, type, name. */
export function systemMap(bytes: Uint8Array, table: KallsymsData): Uint8Array {
  const view = viewOf(bytes);
  const tokens = Array.from({ length: TOKENS }, (_, token) =>
    cString(bytes, table.tokens + view.getUint16(table.tokenIndex + token * 2, true)),
  );
  const begins = nameOffsets(bytes, table);
  const lines: string[] = [];
  for (let symbol = 0; symbol < table.count; symbol++) {
    const begin = begins[symbol]!;
    let name = '';
    for (let at = begin + (bytes[begin]! & 0x80 ? 2 : 1); at < begins[symbol + 1]!; at++) name += tokens[bytes[at]!]!;
    const place = symbolPlace(view, table, symbol);
    const address =
      place === ABSOLUTE ? BigInt(view.getInt32(table.offsets + symbol * 4, true)) : START_KERNEL_MAP + BigInt(place);
    lines.push(`${address.toString(16).padStart(16, '0')} ${name.slice(0, 1)} ${name.slice(1)}\n`);
  }
  return ascii(lines.join(''));
}
