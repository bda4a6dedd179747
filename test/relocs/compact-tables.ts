/** Tables to try the compact format with. */
import fc from 'fast-check';
import { physToTableEntry } from '../../src/base/addresses.ts';
import type { PhysAddr } from '../../src/base/addresses.ts';
import type { Sites } from '../../src/relocs/tables/apply.ts';
import { CHAIN } from '../../src/relocs/tables/compact-chains.ts';
import { ITEM } from '../../src/relocs/tables/compact-items.ts';

export const at = (...addresses: PhysAddr[]): Uint32Array => Uint32Array.from(addresses, physToTableEntry);

/** Distances that a format could get wrong, and any others. */
const distance = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 40 }) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.constantFrom(CHAIN.distance, CHAIN.step, ITEM.span, ITEM.run * 8, ITEM.run * 8 + 8),
        fc.nat({ max: 16 }),
      )
      .map(([boundary, step]) => boundary - 8 + step),
  },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 100_000 }) },
);

function listOf(width: 4 | 8): fc.Arbitrary<Uint32Array> {
  const step = fc.record({
    gap: distance,
    aligned: fc.boolean(),
    // 64-bit sites come in rows.
    row: width === 4 ? fc.constant(1) : fc.oneof(fc.nat({ max: 9 }), fc.constantFrom(126, 127, 128, 129, 144, 160)),
  });
  return fc
    .tuple(fc.constantFrom(0, 5, 0x0100_0000, 0x3f00_0000), fc.array(step, { maxLength: 20 }))
    .map(([start, steps]) => {
      const sites: number[] = [];
      let free = start;
      for (const { gap, aligned, row } of steps) {
        free += gap;
        if (aligned) free = Math.ceil(free / 8) * 8;
        for (let index = 0; index < row; index++, free += width) sites.push(free);
      }
      return at(...sites);
    });
}

export const tables: fc.Arbitrary<Sites> = fc.record({ abs32: listOf(4), inverse32: listOf(4), abs64: listOf(8) });
