/**
 * Rebuilds bzImages in every form and boots each everywhere that there is: SeaBIOS and OVMF, 256 MiB and 4 GiB, with and without nokaslr; kexec_file_load
 * out of a rebuilt kernel; the extracted vmlinux by pvh and linux64. A line each, and exit code 1 if one of them is not as it should be.
 *
 *     npx tsx scripts/try-bzimage.ts [--extract-vmlinux PATH] [IMAGE …]
 *
 * Without IMAGE, Debian's 6.1 and 6.12, cloud and generic. --extract-vmlinux: the kernel tree's scripts/extract-vmlinux, an independent
 * reader of the compressed forms. Guests run one after the other: allow an hour.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { physToVirt } from '../src/addresses.ts';
import { hex, KernelImageError } from '../src/errors.ts';
import { extract } from '../src/extract.ts';
import { readInput } from '../src/input.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { systemEncoders } from '../src/node/compressors.ts';
import { fetchKernel } from '../src/node/debian.ts';
import { runProgram } from '../src/node/processes.ts';
import { boot } from '../src/node/qemu.ts';
import type { BootOptions } from '../src/node/qemu.ts';
import { rebuildBzImage } from '../src/rebuild.ts';
import type { RebuildOptions, RebuildSummary } from '../src/rebuild.ts';
import { verify } from '../src/verify.ts';
import { readVmlinux } from '../src/vmlinux.ts';
import { UEFI } from '../test/boot/firmware.ts';
import { packGuest } from '../test/guest/init.ts';
import { packKexecGuest } from '../test/guest/kexec.ts';

const FORMS: Readonly<Record<string, Partial<RebuildOptions>>> = {
  compressed: {},
  'table-at-end': { tableAtEnd: true },
  uncompressed: { uncompressed: true },
};
const PMD = 0x20_0000;
const TIMEOUT_MS = 600_000;
const COMMAND_LINE = 'console=ttyS0 panic=-1 no_timer_check';

const { values: options, positionals: images } = parseArgs({
  allowPositionals: true,
  options: { 'extract-vmlinux': { type: 'string' } },
});

let failures = 0;
function say(what: string, ok: boolean, detail: string): void {
  if (!ok) failures++;
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${what}: ${detail}\n`);
}

interface Subject {
  readonly name: string;
  readonly image: Uint8Array;
  /** Physical link address of _text. */
  readonly link: number;
}

interface Placed {
  readonly virtual: number;
  readonly physical: number;
}

const initrd = packGuest();

/** Boots to the guest's end; undefined when it does not come there. */
async function place(image: Uint8Array, link: number, how: Partial<BootOptions>): Promise<Placed | string> {
  const result = await boot({ image, initrd, timeoutMs: TIMEOUT_MS, ...how });
  const { guest } = result.report;
  if (!guest.done || guest.text === undefined || guest.physicalText === undefined)
    return `${result.end} after ${result.milliseconds} ms: ${result.console.trimEnd().split('\n').at(-1)}`;
  return { virtual: Number(guest.text - physToVirt(link)), physical: guest.physicalText - link };
}

async function tryBoot(what: string, image: Uint8Array, link: number, how: Partial<BootOptions>): Promise<void> {
  const placed = await place(image, link, how);
  if (typeof placed === 'string') return say(what, false, placed);
  const { virtual, physical } = placed;
  const still = how.append === 'nokaslr';
  const right = virtual % PMD === 0 && physical % PMD === 0 && virtual >= 0 && (!still || virtual === 0);
  say(what, right, `virtual slide ${hex(virtual)}, physical ${hex(physical)}`);
}

async function tryForm(subject: Subject, form: string, image: Uint8Array): Promise<void> {
  const { name, link } = subject;
  for (const [firmware, how] of Object.entries({ SeaBIOS: {}, OVMF: UEFI }))
    for (const memoryMib of [256, 4096])
      for (const append of [undefined, 'nokaslr']) {
        const what = `${name} ${form} ${firmware} ${memoryMib} MiB ${append ?? ''}`.trimEnd();
        await tryBoot(what, image, link, { ...how, memoryMib, append });
      }
  const { vmlinux } = await extract(image, { codecs: nodeCodecs });
  for (const entry of ['pvh', 'linux64'] as const)
    await tryBoot(`${name} ${form} extracted ${entry}`, vmlinux, link, { entry });
  const next = packKexecGuest({ image, initrd, commandLine: COMMAND_LINE });
  await tryBoot(`${name} ${form} kexec_file_load`, image, link, { initrd: next, memoryMib: 1024 });
  await tryExtractVmlinux(`${name} ${form} extract-vmlinux`, image, vmlinux);
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
    say(what, same, `${found.length} bytes, ${same ? 'the same vmlinux' : 'another'}`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function describe({ payload, initSize }: RebuildSummary, seconds: number): string {
  const room = payload.compression === undefined ? '' : `, ${payload.room - payload.length} bytes to spare`;
  return `payload ${payload.length}${room}; init_size ${hex(initSize.before)} to ${hex(initSize.now)}; ${seconds.toFixed(0)} s`;
}

async function tryKernel(subject: Subject): Promise<void> {
  for (const [form, how] of Object.entries(FORMS)) {
    const what = `${subject.name} ${form}`;
    try {
      const started = performance.now();
      const built = await rebuildBzImage(subject.image, { codecs: nodeCodecs, encoders: systemEncoders, ...how });
      say(`${what} rebuild`, true, describe(built.summary, (performance.now() - started) / 1000));
      const { verdict, offence } = await verify(subject.image, built.bytes, { codecs: nodeCodecs });
      say(`${what} verify`, verdict === 'proved', offence?.what ?? verdict);
      await tryForm(subject, form, built.bytes);
    } catch (error) {
      if (!(error instanceof KernelImageError)) throw error;
      say(`${what} rebuild`, false, error.message);
    }
  }
}

async function open(name: string, path: string): Promise<Subject> {
  const image = await readFile(path);
  const { vmlinux } = await readInput(image, { codecs: nodeCodecs });
  return { name, image, link: readVmlinux(vmlinux).imageStart };
}

const subjects: Subject[] = [];
for (const path of images) subjects.push(await open(basename(path), path));
if (images.length === 0)
  for (const series of ['6.1', '6.12'])
    for (const flavour of ['cloud', 'generic'] as const) {
      const found = await fetchKernel({ series, flavour }, { onStep: (text) => console.error(text) });
      subjects.push(await open(`${series} ${flavour}`, found.image));
    }
for (const subject of subjects) await tryKernel(subject);
process.stdout.write(`${failures === 0 ? 'all as it should be' : `${failures} failed`}\n`);
process.exitCode = failures === 0 ? 0 : 1;
