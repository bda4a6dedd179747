import type { FileOffset } from '../addresses.ts';
import { KernelImageError } from '../errors.ts';

/** What a table reader throws: `verify` makes a finding of it. */
export function badTable(
  what: string,
  offset: FileOffset,
  { found, expected }: { readonly found: number | string; readonly expected: string },
): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: `relocation table: ${what}`, offset, found, expected });
}
