/**
 * Finds out by boots in which steps a kernel may move whose CONFIG_PHYSICAL_ALIGN is more than 2 MiB, and keeps the answer in docs/results/slots.json:
 *
 *     nice node --import tsx scripts/try-slots.ts [--record] [--boots 5] [NAME …]
 *
 * The kernels are those of scripts/build-kernels.sh; without names, all whose PHYSICAL_ALIGN is more than 2 MiB. First the host moves them by slides
 * that are multiples of 2 MiB, and of nothing more, whatever the rules of `randomize` say. Then every form that moves itself boots, and one boots another
 * by kexec_file_load. Five minutes a kernel, in QEMU (TCG). Each failure is a line on standard error, and the exit code is then 1.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { MIB, PMD_SIZE } from '../src/base/addresses.ts';
import type { Slide } from '../src/base/addresses.ts';
import { hex } from '../src/base/errors.ts';
import { integer } from '../src/cli/options.ts';
import { convert } from '../src/convert.ts';
import { extract } from '../src/extract.ts';
import type { Slots } from '../src/kaslr/slots.ts';
import { readInput } from '../src/kernel/input.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { systemEncoders } from '../src/node/processes/compressors.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import type { BootOptions } from '../src/node/qemu/qemu.ts';
import { openRandomizer } from '../src/randomize.ts';
import type { Randomizer } from '../src/randomize.ts';
import { rebuildBzImage } from '../src/rebuild.ts';
import { verify } from '../src/verify/verify.ts';
import { packKexecGuest } from '../test/guest/kexec.ts';
import { STUB } from './docs/program.ts';
import { tableOf, takeRecordOption, withEarlierRows } from './docs/record.ts';
import type { Cell } from './docs/results.ts';
import { builtKernels, builtPath, ENTRIES, GUEST } from './kernels/built.ts';
import { FORMS } from './kernels/forms.ts';

const COLUMNS = [
  'kernel',
  'PHYSICAL_ALIGN',
  'what moves it',
  'entry',
  'CPUs',
  'virtual slides',
  'physical slides',
  'boots',
];
const COMMAND_LINE = 'console=ttyS0 panic=-1 no_timer_check';
const codecs = nodeCodecs;

const { record, rest } = takeRecordOption();
const { values, positionals } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: { boots: { type: 'string', default: '5' } },
});
const boots = integer('--boots', values.boots, 1);

interface Kernel {
  readonly name: string;
  readonly bzImage: Uint8Array;
  /** With its .rela sections. */
  readonly vmlinux: Uint8Array;
  /** CONFIG_PHYSICAL_ALIGN. */
  readonly align: number;
  /** Where _text is linked. */
  readonly link: number;
}

/** Where a boot was found, by /proc/kallsyms and /proc/iomem. */
interface Seen {
  readonly virt: Slide;
  readonly phys: Slide;
}

function fail(what: string): undefined {
  process.exitCode = 1;
  process.stderr.write(`FAILED ${what}\n`);
  return undefined;
}

async function open(name: string): Promise<Kernel> {
  const bzImage = await readFile(builtPath(name, 'bzImage'));
  const { header } = await readInput(bzImage, { codecs });
  if (header?.prefAddress === undefined) throw new Error(`${name}: no setup header with pref_address`);
  const vmlinux = await readFile(builtPath(name, 'vmlinux.rela'));
  return { name, bzImage, vmlinux, align: header.kernelAlignment, link: header.prefAddress };
}

async function look({ name, link }: Kernel, what: string, options: BootOptions): Promise<Seen | undefined> {
  const { slide: virt, end, report, console: text } = await boot({ ...GUEST, ...options });
  const { done, physicalText } = report.guest;
  if (done && virt !== undefined && physicalText !== undefined) return { virt, phys: physicalText - link };
  return fail(`${name}: ${what}: ${end}, ${report.panic ?? `no panic: ${text.slice(-300)}`}`);
}

/** A row of the table. `seen`: of each boot, or undefined for one that failed. */
function row(kernel: Kernel, what: string, entry: string, cpus: number, seen: readonly (Seen | undefined)[]): Cell[] {
  const good = seen.filter((one) => one !== undefined);
  const slides = (of: keyof Seen): string => {
    const all = [...new Set(good.map((one) => one[of]))].toSorted((a, b) => a - b);
    const fine = all.filter((slide) => slide % kernel.align !== 0).length;
    if (all.length === 1) return inMib(all[0]!);
    return `${all.map(inMib).join(', ')} (${fine} of ${all.length} no multiple)`;
  };
  const cells = [kernel.name, inMib(kernel.align), what, entry, cpus, slides('virt'), slides('phys')];
  process.stderr.write(`${cells.join(' | ')} | ${good.length} of ${seen.length}\n`);
  return [...cells, `${good.length} of ${seen.length}`];
}

function inMib(bytes: number): string {
  return bytes === 0 ? '0' : `${bytes / MIB} MiB`;
}

/** Slides given by the host. The slides of each boot are exactly those. */
async function tryMoved(kernel: Kernel, randomizer: Randomizer, largest: Slide): Promise<Cell[][]> {
  const step = PMD_SIZE;
  const steps = [step, 7 * step, 9 * step, 21 * step];
  const top = largest - (largest % (2 * step) === 0 ? step : 0);
  // With memory for 1 GiB, all of which the PVH entry and the loader map.
  const high = 600 * MIB + step;
  const plans: readonly (readonly [string, (typeof ENTRIES)[number], cpus: number, (readonly [Slide, Slide])[]])[] = [
    ['virtual only', 'linux64', 1, [...steps, top, largest].map((virt) => [virt, 0])],
    ['physical only', 'linux64', 1, [...steps, high].map((phys) => [0, phys])],
    [
      'both',
      'linux64',
      2,
      [
        [step, 7 * step],
        [9 * step, step],
        [top, high],
        [step, kernel.align],
        [kernel.align, step],
      ],
    ],
    ['both alike', 'pvh', 1, [...steps, high].map((slide) => [slide, slide])],
    ['both alike', 'pvh', 2, [step, high].map((slide) => [slide, slide])],
  ];
  const rows: Cell[][] = [];
  for (const [what, entry, cpus, slides] of plans) {
    const all: (Seen | undefined)[] = [];
    for (const [virt, phys] of slides) {
      const image = randomizer.randomize({ virt, phys, force: true }).bytes();
      const about = `${what}, ${hex(virt)} and ${hex(phys)}`;
      const seen = await look(kernel, `randomize, ${about}, ${entry}`, { image, entry, cpus });
      if (seen !== undefined && (seen.virt !== virt || seen.phys !== phys))
        all.push(fail(`${kernel.name}: ${about}: is at ${hex(seen.virt)} and ${hex(seen.phys)}`));
      else all.push(seen);
    }
    rows.push(row(kernel, `\`randomize\`, ${what}`, entry, cpus, all));
  }
  return rows;
}

/** A kernel that moves itself: its virtual slide is one of its slots. */
async function bootOften(
  kernel: Kernel,
  what: string,
  slots: Slots,
  options: BootOptions,
): Promise<(Seen | undefined)[]> {
  const all: (Seen | undefined)[] = [];
  for (let i = 0; i < boots; i++) {
    const seen = await look(kernel, what, options);
    const inSlot = seen === undefined || (seen.virt % slots.align === 0 && seen.virt / slots.align < slots.count);
    all.push(inSlot ? seen : fail(`${kernel.name}: ${what}: ${hex(seen.virt)} is no slot`));
  }
  return all;
}

/** The kernel as it is in the bzImage, and the bzImage: each is the original of what was made from the other, and all have the same slots. */
async function proveAcross({ name, bzImage }: Kernel, expected: Slots): Promise<void> {
  const { vmlinux, relocs } = await extract(bzImage, { codecs });
  const forms = [{ image: bzImage }, { image: vmlinux, relocs: relocs() }];
  for (const made of forms) {
    const converted = await convert(made.image, { codecs, relocs: made.relocs });
    const { count, align } = converted.summary.slots;
    if (count !== expected.count || align !== expected.align) fail(`${name}: ${count} slots of ${hex(align)}`);
    for (const { image, relocs: table } of forms) {
      const { verdict, offence } = await verify(image, converted.bytes(), { codecs, relocs: table });
      if (verdict !== 'proved') fail(`${name}: verify across the forms: ${offence?.what ?? verdict}`);
    }
  }
}

async function tryConverted(kernel: Kernel): Promise<Cell[][]> {
  const rows: Cell[][] = [];
  const converted = await convert(kernel.vmlinux, { codecs });
  const image = converted.bytes();
  const { slots } = converted.summary;
  await proveAcross(kernel, slots);
  for (const entry of ENTRIES) {
    for (const cpus of [1, 2]) {
      const seen = await bootOften(kernel, `convert, ${entry}`, slots, { image, entry, cpus });
      rows.push(row(kernel, '`convert`', entry, cpus, seen));
    }
  }
  const all: (Seen | undefined)[] = [];
  for (let i = 0; i < boots; i++) {
    const physicalSlide = (2 * i + 1) * PMD_SIZE;
    all.push(await look(kernel, 'convert, loaded higher', { image, entry: 'linux64', linux64: { physicalSlide } }));
  }
  rows.push(row(kernel, '`convert`, loaded higher', 'linux64', 1, all));
  return rows;
}

/** The forms of a bzImage, by firmware code, and from one to the next by kexec_file_load. */
async function tryForms(kernel: Kernel): Promise<Cell[][]> {
  const rows: Cell[][] = [];
  const forms = new Map<string, Uint8Array>([['as built', kernel.bzImage]]);
  const { slots } = (await convert(kernel.bzImage, { codecs })).summary;
  for (const [form, how] of Object.entries(FORMS)) {
    try {
      const { bytes } = await rebuildBzImage(kernel.bzImage, { codecs, encoders: systemEncoders, ...how });
      const { verdict } = await verify(kernel.bzImage, bytes, { codecs });
      if (verdict !== 'proved') fail(`${kernel.name}: bzimage, ${form}: ${verdict}`);
      forms.set(form, bytes);
    } catch (error) {
      // The kernel's own table may be larger than what there is room for.
      process.stderr.write(`${kernel.name}: bzimage, ${form}: ${(error as Error).message}\n`);
    }
  }
  for (const [form, image] of forms) {
    const seen = await bootOften(kernel, `bzimage, ${form}`, slots, { image });
    rows.push(row(kernel, `bzImage, ${form}`, 'SeaBIOS', 1, seen));
  }
  const first = forms.get('compressed')!;
  for (const [form, image] of forms) {
    const next = packKexecGuest({ image, initrd: GUEST.initrd, commandLine: COMMAND_LINE });
    const seen = await bootOften(kernel, `kexec_file_load, ${form}`, slots, { image: first, initrd: next });
    rows.push(row(kernel, `bzImage, ${form}`, 'kexec_file_load', 1, seen));
  }
  return rows;
}

async function tryKernel(name: string): Promise<Cell[][]> {
  const kernel = await open(name);
  const { slots } = (await convert(kernel.vmlinux, { codecs })).summary;
  const randomizer = await openRandomizer(kernel.vmlinux, { codecs });
  return [
    ...(await tryMoved(kernel, randomizer, (slots.count - 1) * slots.align)),
    ...(await tryConverted(kernel)),
    ...(await tryForms(kernel)),
  ];
}

function alignOf(name: string): number {
  const config = readFileSync(builtPath(name, '.config'), 'utf8');
  return Number(/^CONFIG_PHYSICAL_ALIGN=(\w+)$/m.exec(config)?.[1] ?? 0);
}

const built = builtKernels().filter((name) => alignOf(name) > PMD_SIZE);
const rows: Cell[][] = [];
for (const name of positionals.length > 0 ? positionals : built) {
  rows.push(...(await tryKernel(name)));
  // After each kernel, so that one can stop and go on.
  record?.('slots', {
    machine: `QEMU ${await qemuVersion()} (TCG), -cpu max, ${GUEST.memoryMib} MiB`,
    parts: [STUB],
    before: 'scripts/build-kernels.sh',
    note: `Each kernel was built from Debian's linux-source packages. Where it picks its own slide, it booted ${boots} times.`,
    tables: { boots: tableOf(COLUMNS, withEarlierRows('slots', 'boots', rows)) },
  });
}
