/** A small but complete summary with a different number in every field, for tests of reports. */
import type { BenchRow, BenchSummary } from '../../src/measure/bench/summary.ts';

const row = (name: string, title: string, median: number, more: Partial<BenchRow>): BenchRow => ({
  name,
  title,
  decompressor: false,
  table: null,
  nokaslr: false,
  boots: [median - 1_000_000, median, median + 2_000_000],
  median,
  least: median - 1_000_000,
  most: median + 2_000_000,
  phases: null,
  overPlain: median - 1_300_000_000,
  file: 50_000_000,
  loaded: 45_000_000,
  ...more,
});

export function makeSummary(changes: Partial<BenchSummary> = {}): BenchSummary {
  return {
    kernel: { version: '6.12.0-test', entry: 'pvh', relocations: { abs64: 1000, inverse32: 100, abs32: 900 } },
    guest: { accel: 'tcg', fellBack: true, qemu: '7.2.22', memoryMib: 256, append: 'quiet <&>', ownInitrd: false },
    unit: 'instructions',
    point: 'init',
    rows: [
      row('bzimage', 'bzImage', 2_000_000_000, {
        decompressor: true,
        phases: { loader: 5_000_000, decompressor: 695_000_000, kernel: 1_300_000_000 },
        file: 11_000_000,
        loaded: 11_000_000,
      }),
      row('vmlinux', 'vmlinux', 1_300_000_000, { phases: { loader: 6_000_000, kernel: 1_294_000_000 } }),
      row('kslide-kernel', 'kslide, kernel table', 1_302_100_000, {
        table: 'kernel',
        phases: { loader: 6_000_000, stub: 12_345, kernel: 1_296_087_655 },
      }),
    ],
    stubs: [
      {
        table: 'kernel',
        tableBytes: 8012,
        instructions: 12_345,
        again: 12_346,
        perRelocation: 6.1725,
        steps: { 'set-up': 501, entropy: 602, paging: 703, relocate: 10_036, leave: 503 },
        nokaslr: 1105,
      },
    ],
    kaslr: [
      { of: 'bzimage', relocation: 2_400_000, share: 0.0012, inKernel: -1_500_000 },
      { of: 'kslide-kernel', relocation: 12_345, share: 0.0000095, inKernel: 900_000 },
    ],
    map: {
      cell: 0x1_0000,
      regions: [
        { name: '.text<', start: 0x100_0000, cells: [500, 501, 0, 0, 0, 0, 0, 7] },
        { name: '.a', start: 0x108_0000, cells: [3] },
        { name: undefined, start: 0x109_0000, cells: [0] },
        { name: '.b', start: 0x10a_0000, cells: [989] },
      ],
    },
    ...changes,
  };
}
