/**
 * Rebuilds bzImages in every form and boots each everywhere that there is: SeaBIOS and OVMF, 256 MiB and 4 GiB, with and without nokaslr; kexec_file_load
 * out of a rebuilt kernel, started by either firmware; the extracted vmlinux by pvh and linux64. A line each, and exit code 1 if one of them is not as it should be.
 *
 *     node --import tsx scripts/try-bzimage.ts [--record] [--extract-vmlinux PATH] [IMAGE …]
 *
 * Without IMAGE, Debian's 6.1 and 6.12, cloud and generic, and its 5.10 and 7.3 cloud kernels. --extract-vmlinux: the kernel tree's scripts/extract-vmlinux, an independent
 * reader of the compressed forms. Guests run one after the other: allow half an
 * hour a kernel. With `--record` each form of a kernel is kept when it is done, so you can stop and continue.
 *
 * A boot is right when the kernel is in one of its slots with its memory regions randomized, or, told nokaslr, where it is linked with
 * none of them randomized; and a form is right when its boots are in different places. What firmware cannot boot is tried with the original, and is
 * `neither` if that does not come up either. `refused`: the payload with the kernel's own table is larger than the original's, which no
 * decompressor could take.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { physToVirt } from '../src/base/addresses.ts';
import { hex, KernelImageError } from '../src/base/errors.ts';
import { extract } from '../src/extract.ts';
import { readInput } from '../src/kernel/input.ts';
import { inspect } from '../src/inspect.ts';
import { hasFixedVmalloc } from './matrix/cells.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { systemEncoders } from '../src/node/processes/compressors.ts';
import { keep } from './docs/keep.ts';
import { STUB } from './docs/program.ts';
import { takeRecordOption, tableOf } from './docs/record.ts';
import type { Cell } from './docs/results.ts';
import { openSuite } from './kernels/apt-suite.ts';
import { fetchKernel } from './kernels/debian.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { runProgram } from '../src/node/processes/run-program.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import type { BootOptions } from '../src/node/qemu/qemu.ts';
import { rebuildBzImage } from '../src/rebuild.ts';
import type { RebuildOptions, RebuildSummary } from '../src/rebuild.ts';
import { verify } from '../src/verify/verify.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { FORMS } from './kernels/forms.ts';
import { UEFI } from '../test/boot/firmware.ts';
import { packGuest } from '../test/guest/init.ts';
import { packKexecGuest } from '../test/guest/kexec.ts';

const FIRMWARE: Readonly<Record<string, Partial<BootOptions>>> = { SeaBIOS: {}, OVMF: UEFI };
const TIMEOUT_MS = 600_000;
const COMMAND_LINE = 'console=ttyS0 panic=-1 no_timer_check';

const { record, rest } = takeRecordOption();
const { values: options, positionals: images } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: { 'extract-vmlinux': { type: 'string' } },
});

type Verdict = 'ok' | 'FAILED' | 'neither' | 'refused';
const counts: Record<Verdict, number> = { ok: 0, FAILED: 0, neither: 0, refused: 0 };
function say(what: string, verdict: Verdict, detail: string): void {
  counts[verdict]++;
  process.stdout.write(`${verdict.padEnd(7)} ${what}: ${detail}\n`);
}

interface Subject {
  readonly name: string;
  readonly image: Uint8Array;
  /** Physical link address of _text. */
  readonly link: number;
}

/** One form of it. */
interface Form {
  readonly what: string;
  readonly image: Uint8Array;
  readonly link: number;
  readonly slots: RebuildSummary['slots'];
}

/** Slides. */
interface Placed {
  readonly virtual: number;
  readonly physical: number;
}

const initrd = packGuest();

/** Where a boot has put the kernel, or what is wrong with it. */
async function place({ image, link, slots }: Form, how: Partial<BootOptions>): Promise<Placed | string> {
  const result = await boot({ image, initrd, timeoutMs: TIMEOUT_MS, ...how });
  const { guest } = result.report;
  if (!guest.done || guest.text === undefined || guest.physicalText === undefined)
    return `${result.end} after ${result.milliseconds} ms: ${result.console.trimEnd().split('\n').at(-1)}`;
  const virtual = Number(guest.text - physToVirt(link));
  const physical = guest.physicalText - link;
  const stays = how.append === 'nokaslr';
  if (stays && virtual !== 0) return `moved by ${hex(virtual)}, though it must stay`;
  if (virtual % slots.align !== 0 || virtual < 0 || virtual > slots.largest) return `slide ${hex(virtual)} is no slot`;
  if (physical % slots.align !== 0) return `kernel code at physical ${hex(guest.physicalText)}`;
  if (hasFixedVmalloc(guest) !== stays) return `vmalloc is ${stays ? '' : 'not '}randomized`;
  return { virtual, physical };
}

/** Undefined if it is not as it should be. With `original`, a boot of that in the same machine says whose fault it is. */
async function tryBoot(
  what: string,
  form: Form,
  how: Partial<BootOptions>,
  original?: Uint8Array,
): Promise<Placed | undefined> {
  const placed = await place(form, how);
  if (typeof placed !== 'string') {
    say(what, 'ok', `virtual slide ${hex(placed.virtual)}, physical ${hex(placed.physical)}`);
    return placed;
  }
  const control = original && (await place({ ...form, image: original }, how));
  if (typeof control === 'string') say(what, 'neither', `${placed}; the original: ${control}`);
  else say(what, 'FAILED', placed);
  return undefined;
}

/** `12 of 12`: the boots that were right. */
async function tryForm(subject: Subject, form: Form, { uncompressed }: Partial<RebuildOptions>): Promise<string> {
  let [right, boots] = [0, 0];
  const counted = async (placed: Promise<Placed | undefined>): Promise<Placed | undefined> => {
    boots++;
    const result = await placed;
    if (result !== undefined) right++;
    return result;
  };
  const { what, image } = form;
  const whole: (Placed | undefined)[] = [];
  for (const [firmware, machine] of Object.entries(FIRMWARE))
    for (const memoryMib of [256, 4096]) {
      const where = `${what} ${firmware} ${memoryMib} MiB`;
      whole.push(await counted(tryBoot(where, form, { ...machine, memoryMib }, subject.image)));
      const nokaslr = { ...machine, memoryMib, append: 'nokaslr' };
      const still = await counted(tryBoot(`${where} nokaslr`, form, nokaslr, subject.image));
      // An EFI stub takes what memory the firmware has left.
      if (firmware === 'SeaBIOS' && still !== undefined && still.physical !== 0)
        say(`${where} nokaslr`, 'FAILED', `moved to physical ${hex(still.physical)}, though it must stay`);
    }
  const { vmlinux } = await extract(image, { codecs: nodeCodecs });
  const direct: (Placed | undefined)[] = [];
  for (const entry of ['pvh', 'linux64'] as const)
    direct.push(await counted(tryBoot(`${what} extracted ${entry}`, { ...form, image: vmlinux }, { entry })));
  const next = packKexecGuest({ image, initrd, commandLine: COMMAND_LINE });
  const loaded: (Placed | undefined)[] = [];
  for (const [firmware, machine] of Object.entries(FIRMWARE))
    loaded.push(
      await counted(
        tryBoot(`${what} ${firmware} kexec_file_load`, form, { ...machine, initrd: next, memoryMib: 1024 }),
      ),
    );

  checkDifferent(
    `${what} virtual slides`,
    [...whole, ...direct, ...loaded].map((placed) => placed?.virtual),
  );
  if (!uncompressed) {
    checkDifferent(
      `${what} physical slides`,
      [...whole, ...loaded].map((placed) => placed?.physical),
    );
    const free = whole.some((placed) => placed !== undefined && placed.physical !== placed.virtual);
    say(`${what} two slides`, free ? 'ok' : 'FAILED', free ? 'free of each other' : 'the same each time');
  } else {
    // SeaBIOS has it loaded below pref_address, where it is moved to; OVMF and kexec_file_load give it a place to run in.
    const [low, high] = [whole.slice(0, 2), [...whole.slice(2), ...loaded]];
    const asGiven =
      low.every((placed) => placed === undefined || placed.physical === 0) &&
      high.every((placed) => placed === undefined || placed.physical > 0);
    say(
      `${what} physical places`,
      asGiven ? 'ok' : 'FAILED',
      asGiven ? 'as the loaders give them' : 'others than expected',
    );
  }
  await tryExtractVmlinux(`${what} extract-vmlinux`, image, vmlinux);
  return `${right} of ${boots}`;
}

/** One pair may be alike: eight of 480 slots have two alike by chance once in 18 times, and two pairs once in some 700. */
function checkDifferent(what: string, slides: readonly (number | undefined)[]): void {
  const known = slides.filter((slide) => slide !== undefined);
  const distinct = new Set(known).size;
  say(
    what,
    known.length > 1 && distinct >= known.length - 1 ? 'ok' : 'FAILED',
    `${distinct} of ${known.length} differ`,
  );
}

/** Its output is the ELF file and what lies behind it. */
async function tryExtractVmlinux(what: string, image: Uint8Array, vmlinux: Uint8Array): Promise<void> {
  const script = options['extract-vmlinux'] && resolve(options['extract-vmlinux']);
  const { compression } = await readInput(image, { codecs: nodeCodecs });
  if (script === undefined || compression === undefined) return;
  const folder = await mkdtemp(join(tmpdir(), 'try-bzimage-'));
  try {
    await writeFile(join(folder, 'bzImage'), image);
    const command = `sh ${script} bzImage > vmlinux`;
    await runProgram('sh', ['-c', command], { timeoutMs: TIMEOUT_MS, directory: folder });
    const found = await readFile(join(folder, 'vmlinux'));
    const same = Buffer.compare(found.subarray(0, vmlinux.length), vmlinux) === 0;
    say(what, same ? 'ok' : 'FAILED', `${found.length} bytes, ${same ? 'the same vmlinux' : 'another'}`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function describe({ payload, initSize }: RebuildSummary, seconds: number): string {
  const room = payload.compression === undefined ? '' : `, ${payload.room - payload.length} bytes to spare`;
  return `payload ${payload.length}${room}; init_size ${hex(initSize.before)} to ${hex(initSize.now)}; ${seconds.toFixed(0)} s`;
}

/** A row of the table. */
async function tryKernel(subject: Subject): Promise<Cell[]> {
  const { compression } = await readInput(subject.image, { codecs: nodeCodecs });
  const cells: Cell[] = [];
  for (const name of Object.keys(FORMS)) {
    const work = (): Promise<string> => tryNamedForm(subject, name);
    cells.push(record === undefined ? await work() : await keep(`bzimage-${subject.name}-${name}`, [STUB], work));
  }
  return [subject.name, compression ?? 'none', ...cells];
}

/** The boots that were right, and the bytes that the payload leaves of the old one's room. */
async function tryNamedForm(subject: Subject, name: string): Promise<string> {
  const how = FORMS[name]!;
  const what = `${subject.name} ${name}`;
  const failed = counts.FAILED;
  try {
    const started = performance.now();
    const { bytes, summary } = await rebuildBzImage(subject.image, {
      codecs: nodeCodecs,
      encoders: systemEncoders,
      ...how,
    });
    say(`${what} rebuild`, 'ok', describe(summary, (performance.now() - started) / 1000));
    const { verdict, offence } = await verify(subject.image, bytes, { codecs: nodeCodecs });
    say(`${what} verify`, verdict === 'proved' ? 'ok' : 'FAILED', offence?.what ?? verdict);
    await tryInspect(`${what} inspect`, bytes, summary);
    const boots = await tryForm(subject, { what, image: bytes, link: subject.link, slots: summary.slots }, how);
    const { compression, room, length } = summary.payload;
    const left = compression === undefined ? '' : `, ${(room - length).toLocaleString('en-US')}`;
    // A failed check is not always one of a boot.
    return `${boots}${left}${counts.FAILED > failed ? ', **FAILED**' : ''}`;
  } catch (error) {
    if (!(error instanceof KernelImageError)) throw error;
    const noRoom = how.tableAtEnd === true && error.code === 'too-large';
    say(`${what} rebuild`, noRoom ? 'refused' : 'FAILED', error.message);
    if (!noRoom) return '**FAILED**';
    const { found, expected } = error.data;
    const more = typeof found === 'number' && typeof expected === 'string' ? tooMany(found, expected) : undefined;
    return more === undefined ? 'refused' : `refused, ${more.toLocaleString('en-US')} bytes too many`;
  }
}

/** By how much the payload is larger than what the refusal allows: `at most 0x…`. */
function tooMany(found: number, expected: string): number | undefined {
  const most = Number(/\b(0x[0-9a-f]+|\d+)\b/.exec(expected)?.[1]);
  return Number.isNaN(most) ? undefined : found - most;
}

/** It has to see the kernel that was converted, with its slots and its table. */
async function tryInspect(what: string, image: Uint8Array, { slots, payload, sizes }: RebuildSummary): Promise<void> {
  const { input, compression, converted } = await inspect(image, { codecs: nodeCodecs });
  const found = `${input}, ${compression ?? 'not compressed'}, table ${converted?.table.format}, ${converted?.table.bytes} bytes`;
  const right =
    compression === (payload.compression ?? null) &&
    converted?.slots.count === slots.count &&
    converted.table.bytes === sizes.table;
  say(what, right ? 'ok' : 'FAILED', found);
}

async function open(path: string): Promise<Subject> {
  const image = await readFile(path);
  const { vmlinux, kernelVersion } = await readInput(image, { codecs: nodeCodecs });
  return { name: kernelVersion?.split(' ')[0] ?? basename(path), image, link: readVmlinux(vmlinux).imageStart };
}

const subjects: Subject[] = [];
for (const path of images) subjects.push(await open(path));
if (images.length === 0) {
  for (const series of ['6.1', '6.12'])
    for (const flavour of ['cloud', 'generic'] as const) {
      const found = await fetchKernel({ series, flavour }, { onStep: (text) => console.error(text) });
      subjects.push(await open(found.image));
    }
  for (const suite of ['bullseye', 'trixie-backports']) {
    const apt = await openSuite(suite);
    const found = await fetchKernel({ flavour: 'cloud' }, { apt, onStep: (text) => console.error(text) });
    subjects.push(await open(found.image));
  }
}
const rows: Cell[][] = [];
for (const subject of subjects) rows.push(await tryKernel(subject));
record?.('bzimage', {
  machine: `QEMU ${await qemuVersion()} (TCG, -cpu max), OVMF`,
  parts: [STUB],
  note: "Boots that were right, and the bytes that the payload leaves of the old one's room.",
  tables: { forms: tableOf(['kernel', 'payload', 'compressed', 'table at the end', 'uncompressed'], rows) },
});
const total = Object.entries(counts).map(([verdict, count]) => `${count} ${verdict}`);
process.stdout.write(`${total.join(', ')}\n`);
process.exitCode = counts.FAILED === 0 ? 0 : 1;
