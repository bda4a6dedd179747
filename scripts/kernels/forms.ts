/** The forms of `kslide bzimage`, for scripts that try each. */
import type { RebuildOptions } from '../../src/rebuild.ts';

export const FORMS: Readonly<Record<string, Partial<RebuildOptions>>> = {
  compressed: {},
  'table-at-end': { tableAtEnd: true },
  uncompressed: { uncompressed: true },
};
