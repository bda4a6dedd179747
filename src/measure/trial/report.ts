/** Reads what the guest of a trial printed, and compares it with what the unmoved kernel's printed. */
import type { PhysAddr, Slide } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { short } from '../../base/text.ts';
import { MARKER } from '../../node/qemu/console.ts';
import type { BootResult } from '../../node/qemu/qemu.ts';
import { CALLS, GROUP } from './guest.ts';

export interface TrialReport {
  readonly end: BootResult['end'];
  readonly done: boolean;
  /** What /proc/kallsyms and a panic say, if they do not contradict each other. */
  readonly slide: Slide | undefined;
  readonly physicalText: PhysAddr | undefined;
  /** `<lines> <sum>` of each group of symbols. */
  readonly symbols: readonly string[];
  readonly results: ReadonlyMap<string, bigint>;
  readonly files: ReadonlyMap<string, string>;
  /** The functions of the panic's call trace, of which the unwinder is sure. */
  readonly backtrace: readonly string[];
  /** Complaints of the kernel. */
  readonly alarms: readonly string[];
}

const ALARM =
  /(?:WARNING: |BUG: |Oops|general protection|unable to handle|unchecked MSR|W\+X mapping.*FAILED|jump_label: Fatal)/;

export function readTrial({ console, end, report, slide }: BootResult): TrialReport {
  const text = console.replaceAll('\r', '');
  const results = [...text.matchAll(new RegExp(`${MARKER}result ([\\w-]+) ([0-9a-f]{16})\n`, 'g'))];
  const files = [...text.matchAll(new RegExp(`${MARKER}begin (\\w+)\n([^]*?)${MARKER}end \\1\n`, 'g'))];
  return {
    end,
    done: report.guest.done,
    slide,
    physicalText: report.guest.physicalText,
    symbols: [...text.matchAll(new RegExp(`${MARKER}symbols ([0-9a-f]{16} [0-9a-f]{16})\n`, 'g'))].map(
      ([, sum]) => sum!,
    ),
    results: new Map(results.map(([, name, value]) => [name!, BigInt.asIntN(64, BigInt(`0x${value}`))])),
    files: new Map(files.map(([, name, content]) => [name!, content!])),
    backtrace: readBacktrace(text),
    alarms: text.split('\n').filter((line) => ALARM.test(line)),
  };
}

function readBacktrace(text: string): string[] {
  const [, trace = ''] = /.*Call Trace:\n([^]*?)<\/TASK>/.exec(text.slice(text.lastIndexOf('Kernel panic'))) ?? [];
  return [...trace.matchAll(/^(?:\[ *[\d.]+\])? +([\w.]+\+0x[0-9a-f]+)\/0x[0-9a-f]+/gm)].map(([, name]) => name!);
}

/** What of a trace is the guest program's own. Its process has number 1; the kernel learns names when it switches tasks, and prints <...> for one that it has not switched. */
function hits(report: TrialReport, name: 'ftrace' | 'kprobe'): string[] {
  const what = name === 'ftrace' ? /\S-1 +\[\d+\] .*?: (vfs_read <-\S+)/g : /\S-1 +\[\d+\] .*?: (kslide: \(.*)/g;
  return [...(report.files.get(name) ?? '').matchAll(what)].map(([, hit]) => hit!);
}

/** One thing that is compared, if the unmoved kernel has it. */
interface Check {
  readonly what: string;
  has(reference: TrialReport): boolean;
  /** Undefined: the same. */
  differs(report: TrialReport, reference: TrialReport, moved: Moved): string | undefined;
}

/** By how much a kernel was moved. Undefined: unknown. */
export interface Moved {
  readonly virt: Slide | undefined;
  readonly phys: Slide | undefined;
}

const EFAULT = -14n;
const isEfault = ([name]: readonly [string, bigint]): boolean => name.startsWith('efault-');

function sameList(what: string, found: readonly string[], expected: readonly string[]): string | undefined {
  const at = expected.findIndex((item, index) => item !== found[index]);
  if (at < 0 && found.length === expected.length) return undefined;
  const index = at < 0 ? expected.length : at;
  return `${what}: ${short(found[index] ?? 'nothing')}, expected ${short(expected[index] ?? 'nothing more')}`;
}

const CHECKS: readonly Check[] = [
  {
    what: 'every symbol of /proc/kallsyms, its name and its address less the slide',
    has: ({ symbols }) => symbols.length > 0,
    differs({ symbols }, reference) {
      const at = reference.symbols.findIndex((sum, index) => sum !== symbols[index]);
      if (at < 0 && symbols.length === reference.symbols.length) return undefined;
      const group = at < 0 ? reference.symbols.length : at;
      return `/proc/kallsyms differs in lines ${group * GROUP + 1} to ${(group + 1) * GROUP}`;
    },
  },
  {
    what: 'the physical address of the code, by /proc/iomem',
    has: ({ physicalText }) => physicalText !== undefined,
    differs({ physicalText }, reference, { phys }) {
      if (phys === undefined) return undefined;
      const expected = reference.physicalText! + phys;
      return physicalText === expected
        ? undefined
        : `/proc/iomem has the kernel's code at ${physicalText === undefined ? 'no address' : hex(physicalText)}, expected ${hex(expected)}`;
    },
  },
  {
    what: 'system calls with bad pointers end with EFAULT',
    has: ({ results }) => [...results].some((entry) => isEfault(entry) && entry[1] === EFAULT),
    differs: ({ results }, reference) => differentResults(results, reference, isEfault),
  },
  ...(['stack', 'wchan'] as const).map((name): Check => ({
    what: `/proc/self/${name}`,
    has: ({ files }) => (files.get(name) ?? '').trim() !== '',
    differs: ({ files }, reference) =>
      sameList(
        `/proc/self/${name}`,
        (files.get(name) ?? '').split('\n'),
        (reference.files.get(name) ?? '').split('\n'),
      ),
  })),
  ...(['ftrace', 'kprobe'] as const).map((name): Check => ({
    what: name === 'ftrace' ? 'a traced function and who calls it' : 'a kprobe event',
    has: (reference) => hits(reference, name).length >= CALLS,
    differs: (report, reference) =>
      sameList(name, hits(report, name).slice(0, CALLS), hits(reference, name).slice(0, CALLS)) ??
      differentResults(report.results, reference, ([key]) => key.startsWith(name)),
  })),
  {
    what: 'a trace event switched on and off',
    has: ({ results }) => (results.get('event-on') ?? -1n) >= 0n,
    differs: ({ results }, reference) => differentResults(results, reference, ([key]) => key.startsWith('event-')),
  },
  {
    what: "the call trace of the kernel's panic",
    has: ({ backtrace }) => backtrace.length > 0,
    differs: ({ backtrace }, reference) => sameList('call trace', backtrace, reference.backtrace),
  },
];

function differentResults(
  results: ReadonlyMap<string, bigint>,
  reference: TrialReport,
  of: (entry: readonly [string, bigint]) => boolean,
): string | undefined {
  for (const entry of reference.results) {
    const [name, expected] = entry;
    const found = results.get(name);
    if (of(entry) && found !== expected) return `${name}: ${found ?? 'no result'}, expected ${expected}`;
  }
  return undefined;
}

/** What can be compared with this kernel, and what it lacks. */
export function comparable(reference: TrialReport): { compared: string[]; notCompared: string[] } {
  const by = (has: boolean): string[] => CHECKS.filter((check) => check.has(reference) === has).map(({ what }) => what);
  return { compared: by(true), notCompared: [...by(false), 'modules', 'more than one function traced at a time'] };
}

/** What is not as it is in the unmoved kernel, a phrase each. */
export function compareTrial(report: TrialReport, reference: TrialReport, moved: Moved): string[] {
  if (!report.done) return [`the guest's program did not reach its end (${report.end})`];
  const found = CHECKS.filter((check) => check.has(reference)).map((check) => check.differs(report, reference, moved));
  const where = moved.virt === undefined || report.slide === moved.virt ? undefined : wrongSlide(report, moved.virt);
  // Numbers in them are addresses and times.
  const known = new Set(reference.alarms.map(withoutNumbers));
  const alarm = report.alarms.find((line) => !known.has(withoutNumbers(line)));
  return [where, ...found, alarm === undefined ? undefined : `the kernel says: ${short(alarm.trim())}`].filter(
    (text) => text !== undefined,
  );
}

function wrongSlide({ slide }: TrialReport, expected: Slide): string {
  return `the kernel says that its slide is ${slide === undefined ? 'unknown, or two different ones' : hex(slide)}, expected ${hex(expected)}`;
}

function withoutNumbers(line: string): string {
  return line.replaceAll(/(?:0x)?[0-9a-f]*\d[0-9a-f]*/g, '#');
}
