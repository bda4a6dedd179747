/** The summary of `kslide bench`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import type { BenchRow, BenchSummary, KaslrCost, StubCount } from '../../measure/bench/summary.ts';
import { PLAIN } from '../../measure/bench/subject.ts';
import { rows, size, table } from '../text.ts';
import { countSites } from './facts.ts';

export function reportBench(summary: BenchSummary): string {
  return `${benchAnswer(summary)}\n\n${rows(benchFacts(summary))}\n${table(benchTable(summary))}\n${rows(benchCosts(summary))}`;
}

type Row = readonly [label: string, value: string];

/**
 * What a reader came for, as one sentence. For kslide the stub's own instructions, which are exact, as a part of the plain vmlinux's boot; where time was
 * measured, the difference of medians, with what boots differ by.
 */
export function benchAnswer({ rows: boots, stubs, unit }: BenchSummary): string {
  const plain = boots.find(({ name }) => name === PLAIN)!;
  const randomized = boots.filter(({ nokaslr }) => !nokaslr);
  const converted = randomized.find((row) => row.table !== null && !row.decompressor);
  const stock = randomized.find((row) => row.table === null && row.decompressor);
  const stub = stubs.find((each) => each.table === converted?.table);
  const bzImage = stock === undefined ? '' : `; the bzImage pays ${percent(stock.overPlain / plain.median)}`;
  if (unit === 'instructions' && stub !== undefined)
    return `KASLR for ${percent(stub.instructions / plain.median)} of the boot${bzImage}`;
  if (converted === undefined) return `No converted kernel was booted${bzImage}`;
  return `KASLR for ${overPlain(converted)} of the boot${differing(plain)}${bzImage}`;
}

function differing(row: BenchRow): string {
  return row.boots.length < 2 ? ', by one boot of each' : `, where boots of one kind differ by ${spread(row)}`;
}

/** What was booted, how, and to which point. */
export function benchFacts({ kernel, guest, unit, point, rows: boots }: BenchSummary): readonly Row[] {
  const how = {
    instructions: 'TCG counts guest instructions (-icount shift=0; 1 takes 1 ns of guest time)',
    microseconds: 'KVM, time from power-on',
  }[unit];
  const words = guest.append === '' ? '' : `, ${JSON.stringify(guest.append)}`;
  return [
    ['kernel', `${kernel.version ?? 'version unknown'}, ${count(countSites(kernel.relocations))} relocations`],
    ['guest', `${guest.memoryMib} MiB, ${kernel.entry}${words}, QEMU ${guest.qemu}`],
    ['measure', guest.fellBack ? `${how}; KVM cannot run this kernel here` : how],
    ['to', point === 'init' ? 'the first instruction of /init' : "the guest's own end"],
    [
      'boots',
      boots[0]!.boots.length === 1
        ? 'one of each: no spread'
        : `${count(boots[0]!.boots.length)} of each; median, and spread from least to most`,
    ],
  ];
}

/** A line of column titles, then one line for each row. */
export function benchTable({ rows: boots, unit, kaslr }: BenchSummary): readonly (readonly string[])[] {
  const share = (row: BenchRow): string => {
    const cost = kaslr.find(({ of }) => of === row.name);
    return cost === undefined ? '' : percent(cost.share);
  };
  return [
    ['', unit === 'instructions' ? unit : 'time', 'spread', 'over vmlinux', 'relocation', 'file', 'loaded'],
    ...boots.map((row) => [
      row.title,
      amount(row.median, unit),
      spread(row),
      overPlain(row),
      share(row),
      size(row.file),
      size(row.loaded),
    ]),
  ];
}

/** The cost of the stub by itself, and the whole cost of randomizing. */
export function benchCosts({ stubs, kaslr, rows: boots }: BenchSummary): readonly Row[] {
  return [
    ...stubs.flatMap(describeStub),
    ...kaslr.map((cost): Row => {
      const row = rowOf(cost, boots);
      return [
        row.title,
        `relocation ${million(cost.relocation)}, the kernel's own randomization ${million(cost.inKernel)} (${differences(row)})`,
      ];
    }),
  ];
}

export function rowOf({ of }: KaslrCost, boots: readonly BenchRow[]): BenchRow {
  return boots.find(({ name }) => name === of)!;
}

function describeStub(stub: StubCount): Row[] {
  const steps = Object.entries(stub.steps).map(([step, instructions]) => `${step} ${count(instructions)}`);
  return [
    [
      `stub, ${stub.table} table`,
      `${count(stub.instructions)} instructions, ${stub.perRelocation.toFixed(2)} per relocation; in a second boot ${count(stub.again)}; with nokaslr ${count(stub.nokaslr)}; table ${size(stub.tableBytes)}`,
    ],
    ['', steps.join(', ')],
  ];
}

export function amount(value: number, unit: BenchSummary['unit']): string {
  return unit === 'instructions' ? million(value) : `${(value / 1000).toFixed(1)} ms`;
}

/** Instructions in millions: "1,379.8 M". */
export function million(value: number): string {
  const tenths = Math.round(Math.abs(value) / 100_000);
  return `${value < 0 && tenths > 0 ? '−' : ''}${count(Math.floor(tenths / 10))}.${tenths % 10} M`;
}

/** "+53.6%"; empty for the plain vmlinux itself. */
export function overPlain({ name, overPlain: more, median }: BenchRow): string {
  if (name === PLAIN) return '';
  return `${more < 0 ? '−' : '+'}${percent(Math.abs(more) / (median - more))}`;
}

/** What two medians that are compared may differ by. */
function differences({ boots, least, most }: BenchRow): string {
  return boots.length < 2
    ? 'one boot of each, compared with nokaslr: how far boots differ is not known'
    : `medians, compared with nokaslr; boots differ by ${million(most - least)}`;
}

/** The difference between the most and the least of all boots, as a part of the median. One boot has none. */
export function spread({ boots, least, most, median }: BenchRow): string {
  if (boots.length < 2) return '–';
  return percent((most - least) / median);
}

export function percent(part: number): string {
  const value = part * 100;
  return `${value >= 10 ? value.toFixed(1) : value.toFixed(2)}%`;
}
