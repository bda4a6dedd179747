/** Trials with guests that are made up here: which boots there are, and what is found in what they print. Real guests are in test/boot/recover.test.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Reader } from '../../../src/base/bytes.ts';
import { coreCodecs as codecs } from '../../../src/codecs/formats.ts';
import { convert } from '../../../src/convert.ts';
import { PT_LOAD } from '../../../src/elf/constants.ts';
import { isElf, readElf } from '../../../src/elf/read.ts';
import { chooseSlides } from '../../../src/measure/trial/slides.ts';
import { packTrialGuest } from '../../../src/measure/trial/guest.ts';
import { tryKernel, TrialError } from '../../../src/measure/trial/trial.ts';
import type { TrialSummary } from '../../../src/measure/trial/trial.ts';
import { parseConsole } from '../../../src/node/qemu/console.ts';
import type { BootOptions, BootResult } from '../../../src/node/qemu/qemu.ts';
import { DATA, LINK, makeVmlinux, TABLE } from '../../make-vmlinux.ts';

const PMD = 0x20_0000;

describe('the slides', () => {
  test('of a distribution kernel: the ends, byte 2 full and empty, and two patterns that have each bit once', () => {
    const slides = chooseSlides({ align: PMD, count: 477 });
    assert.deepEqual(
      slides.map(({ slide }) => slide),
      [PMD, 0x3b80_0000, 0x3ae0_0000, 0x3b00_0000, 0x2aa0_0000, 0x1540_0000],
    );
    // Here the largest has all bits of byte 2.
    assert.equal(chooseSlides({ align: PMD, count: 480 }).length, 5);
    const [every, other] = slides.slice(4).map(({ slide }) => slide) as [number, number];
    assert.equal(every & other, 0);
    assert.equal(every | other, 0x3fe0_0000);
  });

  test('are slots, different, and not 0, whatever the alignment and however few', () => {
    for (let align = PMD; align <= 0x1000_0000; align *= 2)
      for (let count = 1; count * align < 0x4000_0000; count = count < 20 ? count + 1 : count * 2) {
        const slides = chooseSlides({ align, count }).map(({ slide }) => slide);
        assert.equal(new Set(slides).size, slides.length);
        assert.ok(slides.every((slide) => slide > 0 && slide % align === 0 && slide < count * align));
        assert.equal(slides.length > 0, count > 1);
      }
  });
});

test('the guest: an archive with one static program', () => {
  const archive = Buffer.from(packTrialGuest());
  assert.ok(isElf(archive.subarray(archive.indexOf('\x7fELF', 0, 'latin1'))));
  assert.deepEqual(packTrialGuest(), packTrialGuest());
});

/** What a guest prints at this slide. */
interface Says {
  readonly slide: number;
  readonly phys: number;
  readonly symbols: string;
  readonly efault: string;
  readonly kprobe: string;
  readonly task: string;
  readonly trace: string;
  readonly extra: string;
  readonly done: boolean;
}

const digits = (value: bigint | number): string => BigInt.asUintN(64, BigInt(value)).toString(16).padStart(16, '0');

function consoleOf({ slide, phys, symbols, efault, kprobe, task, trace, extra, done }: Says): string {
  const text = 0xffff_ffff_8000_0000n + BigInt(LINK + slide);
  return [
    `kslide-guest: text=${digits(text)}`,
    `kslide-guest: symbols ${digits(0x200)} ${symbols}`,
    `kslide-guest: result efault-read ${efault}`,
    'kslide-guest: begin iomem',
    `  ${(LINK + phys).toString(16).padStart(8, '0')}-0fffffff : Kernel code`,
    'kslide-guest: end iomem',
    'kslide-guest: begin kprobe',
    ...Array.from({ length: 3 }, () => `  ${task}-1       [000] ..... 1.2: kslide: (${kprobe}+0x0/0x10)`),
    '  init-11 [000] ..... 1.2: kslide: (another+0x0/0x10)',
    'kslide-guest: end kprobe',
    extra,
    ...(done ? ['kslide-guest: done'] : []),
    'Kernel panic - not syncing: Attempted to kill init!',
    'Call Trace:',
    ' <TASK>',
    ` ${trace}+0x1/0x2`,
    ' </TASK>',
    '',
  ].join('\r\n');
}

const image = makeVmlinux();
const converted = await convert(image, { codecs });
const linked = BigInt(LINK) + 0xffff_ffff_8000_0000n;
const seen: BootOptions[] = [];

/** A trial in which `change` is what the guest at a slide says otherwise. The converted file draws `drawn`. */
async function trial(change: (slide: number) => Partial<Says> = () => ({}), drawn = 3 * PMD): Promise<TrialSummary> {
  seen.length = 0;
  const file = converted.bytes();
  return tryKernel({
    codecs,
    image,
    relocs: converted.relocs(),
    converted: file,
    slots: converted.summary.slots,
    entries: converted.summary.entries,
    jobs: 1,
    async bootWith(options): Promise<BootResult> {
      seen.push(options);
      const bytes = options.image as Uint8Array;
      const first = readElf(bytes).segments.find(({ type }) => type === PT_LOAD)!;
      const slide = Buffer.compare(bytes, file) === 0 ? drawn : siteSlide(bytes);
      const says: Says = {
        slide,
        phys: first.paddr - LINK,
        symbols: digits(1),
        efault: digits(-14),
        kprobe: 'vfs_read',
        task: 'init',
        trace: 'panic',
        extra: '',
        done: true,
        ...change(slide),
      };
      const console = consoleOf(says);
      const report = parseConsole(console, linked as never);
      return { end: 'panic', console, report, slide: report.slide, accel: 'tcg', milliseconds: 10, errors: '' };
    },
  });
}

/** The slide that the host gave: from a site. */
function siteSlide(bytes: Uint8Array): number {
  const place = (TABLE.abs64[0]! >>> 0) - 0x8000_0000;
  const offset = DATA.offset + place - DATA.paddr;
  const at = place >= DATA.paddr ? offset : 0x1000 + place - LINK;
  return Number(
    BigInt.asIntN(64, new Reader(bytes).u64(at, 'site')) - BigInt.asIntN(64, new Reader(image).u64(at, 'site')),
  );
}

const failure = async (change: (slide: number) => Partial<Says>, drawn?: number): Promise<TrialError> => {
  try {
    await trial(change, drawn);
  } catch (error) {
    if (error instanceof TrialError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'the trial passed' });
};

const moves = (other: Partial<Says>) => (slide: number) => (slide === PMD ? other : {});

describe('a trial', () => {
  test('runs the converted file by each entry, and the ends of the range by each; says what was compared', async () => {
    const { runs, compared, notCompared, qemu } = await trial();
    assert.equal(qemu, 'none');
    const { largest } = converted.summary.slots;
    const has = (file: string, entry: string, slide: number): boolean =>
      runs.some((run) => run.file === file && run.entry === entry && run.slide === slide);
    for (const entry of ['linux64', 'pvh']) {
      assert.ok(has('converted', entry, 3 * PMD));
      assert.ok(has('moved', entry, PMD));
      assert.ok(runs.some((run) => run.entry === entry && run.slide > largest - 17 * PMD && run.slide <= largest));
    }
    assert.equal(seen.length, runs.length + 1);
    assert.equal(compared.length, 5);
    assert.ok(notCompared.includes('modules'));
    assert.ok(notCompared.includes('/proc/self/stack'));
  });

  test('a PVH boot has the same slide twice, another has two different ones', async () => {
    const { runs } = await trial();
    for (const { file, entry, slide, physicalSlide } of runs) {
      if (file === 'converted') assert.equal(physicalSlide, undefined);
      else assert.equal(physicalSlide === slide, entry === 'pvh', `${entry} ${slide} ${physicalSlide}`);
    }
  });

  const found: readonly [string, Partial<Says>, RegExp][] = [
    ['a symbol is elsewhere', { symbols: digits(2) }, /kallsyms differs in lines 1 to 512/],
    ['the wrong slide', { slide: 2 * PMD }, /says that its slide is 0x400000, expected 0x200000/],
    ['the wrong physical slide', { phys: 0x7000_0000 }, /\/proc\/iomem has the kernel's code at 0x71000000/],
    ['an error other than EFAULT', { efault: digits(-5) }, /efault-read: -5, expected -14/],
    ['a kprobe elsewhere', { kprobe: 'vfs_write' }, /kprobe: kslide: \(vfs_write/],
    ['another call trace', { trace: 'oops_end' }, /call trace: oops_end\+0x1, expected panic\+0x1/],
    ['a warning', { extra: '[ 1.0] WARNING: CPU: 0 at x' }, /the kernel says: \[ 1\.0\] WARNING/],
    ['no end', { done: false }, /did not reach its end \(panic\)/],
  ];
  for (const [what, says, message] of found)
    test(`${what}: found, with the slide`, async () => {
      const error = await failure(moves(says));
      assert.match(error.message, /^trial failed: slide 0x200000 \(the smallest\), physical 0x/);
      assert.match(error.message, message);
    });

  test('a process whose name the kernel does not know is the same process', async () => {
    await trial(moves({ task: '<...>' }));
  });

  test('console lines are safe to show', async () => {
    const { console } = await failure(moves({ extra: '\u001b[31mred\u202e', done: false }));
    assert.ok(console.includes('\\x1b[31mred\\u202e'), console.join('|'));
    assert.ok(console.length <= 12);
  });

  test('a converted kernel that takes no slot', async () => {
    assert.match((await failure(() => ({}), PMD / 2)).message, /^trial failed: the converted kernel/);
  });

  test('what the unmoved kernel lacks is not compared, and one that does not run cannot be tried', async () => {
    const { compared, notCompared } = await trial(() => ({ efault: digits(-38) }));
    assert.ok(notCompared.includes('system calls with bad pointers end with EFAULT'));
    assert.equal(compared.length, 4);
    assert.match((await failure(() => ({ done: false }))).message, /^trial failed: the kernel that was not moved/);
  });
});
