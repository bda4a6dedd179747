import type { FileOffset } from '../base/addresses.ts';
import { KernelImageError } from '../base/errors.ts';

/** What a table reader throws: `verify` makes a finding of it. */
export function badTable(
  what: string,
  offset: FileOffset,
  { found, expected }: { readonly found: number | string; readonly expected: string },
): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: `relocation table: ${what}`, offset, found, expected });
}
