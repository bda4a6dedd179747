/**
 * The demo: a kernel of this distribution (or the one given), converted, booted three times and once with `nokaslr`.
 *
 * What the table shows comes from the guests: _text from /proc/kallsyms, the slide and whether KASLR is on from the kernel's own panic.
 */
import { access, constants, mkdir } from 'node:fs/promises';
import { release } from 'node:os';
import { join, resolve } from 'node:path';
import { convert } from '../src/convert.ts';
import { hex, KernelImageError } from '../src/base/errors.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { cacheFolder, fetchKernel } from './kernels/debian.ts';
import { EnvironmentError } from '../src/node/errors.ts';
import { InputFileError } from '../src/node/errors.ts';
import { readInputFile } from '../src/node/files/input-file.ts';
import { writeFileAtomic } from '../src/node/files/output-file.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../src/node/qemu/qemu.ts';
import { packGuest } from '../test/guest/init.ts';

const BOOTS: readonly Pick<BootOptions, 'entry' | 'append'>[] = [
  { entry: 'pvh' },
  { entry: 'linux64' },
  { entry: 'pvh' },
  { entry: 'pvh', append: 'nokaslr' },
];

/** The kernel given, a cloud kernel through apt, or the one that runs here. */
async function chooseKernel(given: string | undefined): Promise<string> {
  if (given !== undefined) return resolve(process.env['INIT_CWD'] ?? '.', given);
  try {
    return (await fetchKernel({ flavour: 'cloud' }, { onStep: (text) => console.error(text) })).image;
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    for (const running of [`/boot/vmlinuz-${release()}`, `/usr/lib/modules/${release()}/vmlinuz`]) {
      const readable = await access(running, constants.R_OK).then(
        () => true,
        () => false,
      );
      if (readable) return running;
    }
    throw error;
  }
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

async function convertKernel(path: string): Promise<string> {
  const started = performance.now();
  const converted = await convert(await readInputFile(path), { codecs: nodeCodecs });
  const { kernelVersion, relocations, slots, sizes } = converted.summary;
  const folder = join(cacheFolder(), 'demo');
  await mkdir(folder, { recursive: true });
  const output = join(folder, `vmlinux-${kernelVersion?.split(' ')[0] ?? 'unknown'}`);
  await writeFileAtomic(output, converted.parts);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  const count = relocations.abs64 + relocations.inverse32 + relocations.abs32;
  console.log(`kernel     ${path} (${mib(sizes.input)})`);
  console.log(`converted  ${output} (${mib(sizes.output)}) in ${seconds} s`);
  console.log(
    `           ${count.toLocaleString('en')} relocations, ${slots.count} slots, ${slots.bits.toFixed(1)} bits of entropy`,
  );
  return output;
}

function row(cells: readonly string[]): string {
  const widths = [4, 7, 12, 10, 18];
  return cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
}

function showBoot(number: number, { entry, append }: (typeof BOOTS)[number], { report, slide }: BootResult): void {
  const text = report.guest.text === undefined ? '?' : hex(report.guest.text);
  const cells = [String(number), entry, append, slide === undefined ? '?' : hex(slide), text, report.kaslr];
  console.log(row(cells.map((cell) => cell ?? '')));
}

async function main(given: string | undefined): Promise<number> {
  const image = await convertKernel(await chooseKernel(given));
  const initrd = packGuest([], 'panic');
  const results: BootResult[] = [];
  console.log(`\n${row(['boot', 'entry', 'command line', 'slide', '_text', 'KASLR'])}`);
  for (const [i, how] of BOOTS.entries()) {
    const result = await boot({ image, initrd, ...how });
    showBoot(i + 1, how, result);
    results.push(result);
    if (result.end === 'panic' && result.slide !== undefined) continue;
    console.error(`\nboot ${i + 1} ended by ${result.end}: ${result.errors}\n${result.console.slice(-2000)}`);
    return 1;
  }
  const last = results.at(-1);
  const slides = new Set(results.slice(0, -1).map(({ slide }) => slide));
  // Three times the same slide happens once in 230,000 demos.
  if (slides.size > 1 && last?.report.kaslr === 'off' && last.slide === 0) return 0;
  console.error('\nthe kernel did not randomize itself as it should');
  return 1;
}

try {
  process.exitCode = await main(process.argv[2]);
} catch (error) {
  const unusable = error instanceof KernelImageError || error instanceof InputFileError;
  if (!unusable && !(error instanceof EnvironmentError)) throw error;
  console.error(`demo: ${error.message}`);
  process.exitCode = unusable ? 2 : 3;
}
