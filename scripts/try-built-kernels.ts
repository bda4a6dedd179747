/**
 * Tries the kernels of scripts/build-kernels.sh in every way that kslide has for a kernel, and prints a row for each:
 *
 *     nice node --import tsx scripts/try-built-kernels.ts [--record] [--boots 5] [NAME …]
 *
 * Without names, all that are built. Each kernel has the true table beside it, as the tree's own tool made it. Ten minutes a kernel on two cores, in
 * QEMU (TCG). Each failure is a line on standard error, and the exit code is then 1.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { randomBytes } from 'node:crypto';
import { hex, KernelImageError } from '../src/base/errors.ts';
import { firstDifference } from '../src/base/bytes.ts';
import { integer } from '../src/cli/options.ts';
import { convert } from '../src/convert.ts';
import type { ConvertOptions, Converted } from '../src/convert.ts';
import { insertRelocations } from '../src/insert.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { systemEncoders } from '../src/node/processes/compressors.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import type { BootOptions } from '../src/node/qemu/qemu.ts';
import { randomize } from '../src/randomize.ts';
import { rebuildBzImage } from '../src/rebuild.ts';
import { readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { memorySource } from '../src/relocs/tool/byte-source.ts';
import { runRelocsTool } from '../src/relocs/tool/tool.ts';
import type { RelocsToolOptions } from '../src/relocs/tool/tool.ts';
import { verify } from '../src/verify/verify.ts';
import { STUB } from './docs/program.ts';
import { takeRecordOption, tableOf, withEarlierRows } from './docs/record.ts';
import type { Cell } from './docs/results.ts';
import { builtKernels, builtPath, ENTRIES, GUEST } from './kernels/built.ts';
import { FORMS } from './kernels/forms.ts';
import type { Row as RecoverRow } from './try-recover.ts';

const MODES: readonly (readonly [string[], RelocsToolOptions, file: string])[] = [
  [[], { print: 'table', realMode: false }, 'vmlinux.rela'],
  [['--text'], { print: 'text', realMode: false }, 'vmlinux.rela'],
  [['--abs-syms'], { print: 'abs-syms', realMode: false }, 'vmlinux.rela'],
  [['--abs-relocs'], { print: 'abs-relocs', realMode: false }, 'vmlinux.rela'],
  [['--reloc-info'], { print: 'reloc-info', realMode: false }, 'vmlinux.rela'],
  [['--realmode'], { print: 'table', realMode: true }, 'realmode.elf'],
  [['--realmode', '--text'], { print: 'text', realMode: true }, 'realmode.elf'],
];
const COLUMNS = [
  'kernel',
  'compiler',
  'relocations',
  'slots',
  '`relocs` modes',
  'converted from',
  'recovered',
  'pvh',
  'linux64',
  'randomize',
  'bzimage',
  'regions that moved',
] as const;
const codecs = nodeCodecs;
/** Room for the table in a section that a linker script would reserve. */
const RESERVED = 0x20_0000;

const { record, rest } = takeRecordOption();
const { values, positionals } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: { boots: { type: 'string', default: '5' } },
});
const boots = integer('--boots', values.boots, 1);

interface Built {
  readonly name: string;
  /** A file of it. */
  read(file: string): Promise<Uint8Array>;
  path(file: string): string;
  /** CONFIG_RANDOMIZE_BASE. */
  readonly randomizes: boolean;
  readonly relocs: Uint8Array;
  readonly compiler: string;
}

function fail(what: string): string {
  process.exitCode = 1;
  process.stderr.write(`FAILED ${what}\n`);
  return '**FAILED**';
}

/** What `work` gives, or its refusal. */
async function attempt<T>(work: () => Promise<T>): Promise<T | KernelImageError> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
}

async function open(name: string): Promise<Built> {
  const path = (file: string): string => builtPath(name, file);
  const read = (file: string): Promise<Uint8Array> => readFile(path(file));
  const text = async (file: string): Promise<string> => readFile(path(file), 'utf8');
  const config = await text('.config');
  const compiler = /^compiler: (.*)$/m.exec(await text('about'))?.[1] ?? '';
  return {
    name,
    read,
    path,
    randomizes: config.includes('\nCONFIG_RANDOMIZE_BASE=y\n'),
    relocs: await read('vmlinux.relocs'),
    compiler: /^(gcc|clang)/i.exec(compiler.replace(/.*clang/i, 'clang'))?.[0] + ` ${/\d+/.exec(compiler)?.[0]}`,
  };
}

/** `kslide relocs` and the tree's tool, byte for byte. */
async function compareTools({ name, path, read }: Built): Promise<string> {
  let agree = 0;
  for (const [flags, mode, file] of MODES) {
    const theirs = spawnSync(path('relocs'), [...flags, path(file)], { maxBuffer: 1 << 30 });
    const ours = await attempt(async () => Buffer.concat([...runRelocsTool(memorySource(await read(file)), mode)]));
    const what = `${name}: relocs ${flags.join(' ')}`;
    if (ours instanceof KernelImageError) {
      if (theirs.status === 0) fail(`${what}: refused: ${ours.message}`);
      else agree++;
    } else if (theirs.status !== 0) fail(`${what}: the tree's tool refuses: ${theirs.stderr.toString().trim()}`);
    else if (!ours.equals(theirs.stdout))
      fail(`${what}: differs at ${hex(firstDifference(ours, theirs.stdout) ?? -1)}`);
    else agree++;
  }
  return `${agree} of ${MODES.length} alike`;
}

/** The vmlinux without .rela, with the section that `relocs --keep` fills; as if a linker script had reserved it. */
async function withReservedSection({ path }: Built): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-built-'));
  const run = (...args: string[]): void => {
    const { status, stderr } = spawnSync('objcopy', args, { cwd: folder, encoding: 'utf8' });
    if (status !== 0) throw new Error(`objcopy failed: ${stderr}`);
  };
  try {
    await writeFile(join(folder, 'room'), new Uint8Array(RESERVED));
    run('--add-section', '.data.reloc=room', path('vmlinux.rela'), 'reserved');
    await writeFile(join(folder, 'kept'), insertRelocations(await readFile(join(folder, 'reserved'))));
    run('--remove-section=.rela.*', '--remove-section=.rela__*', 'kept', 'filled');
    return await readFile(join(folder, 'filled'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

interface Conversions {
  readonly cell: string;
  /** The one to boot. */
  readonly image: Uint8Array;
  readonly summary: Converted['summary'];
}

async function convertAll(kernel: Built): Promise<Conversions> {
  const { name, read, randomizes, relocs } = kernel;
  const stripped = await read('vmlinux');
  const sources: readonly (readonly [string, Uint8Array, Uint8Array?])[] = [
    ['bzImage', await read('bzImage')],
    ['.rela', await read('vmlinux.rela')],
    ['section', await withReservedSection(kernel)],
    ['table', stripped, relocs],
  ];
  const done: string[] = [];
  const truth = readRelocationTable(relocs);
  let kept: Omit<Conversions, 'cell'> | undefined;
  for (const [from, input, table] of sources) {
    const how: ConvertOptions = { codecs, relocs: table };
    const converted = await attempt(() => convert(input, how));
    if (converted instanceof KernelImageError) {
      // A bzImage without RANDOMIZE_BASE has no table.
      if (from === 'bzImage' && !randomizes) process.stderr.write(`${name}: bzImage: ${converted.message}\n`);
      else fail(`${name}: convert from ${from}: ${converted.message}`);
      continue;
    }
    const image = converted.bytes();
    const { verdict, offence } = await verify(input, image, how);
    const { relocations, noteSites } = converted.summary;
    const count = relocations.abs64 + relocations.inverse32 + relocations.abs32 + noteSites;
    const expected = truth.abs64.length + truth.inverse32.length + truth.abs32.length;
    if (verdict !== 'proved') fail(`${name}: verify of ${from}: ${offence?.what ?? verdict}`);
    else if (count !== expected) fail(`${name}: ${from}: ${count} sites, not ${expected}`);
    else done.push(from);
    kept ??= { image, summary: converted.summary };
  }
  if (kept === undefined) throw new Error(`${name}: nothing could be converted`);
  return { ...kept, cell: done.join(', ') };
}

/** How a table that is recovered from the image alone differs from the true one. Neither .rela nor symbols help it. */
async function tryRecovery({ name, path }: Built): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-built-'));
  try {
    const stripped = join(folder, name);
    const strip = spawnSync('objcopy', ['--strip-all', '--remove-section=.rela*', path('vmlinux.rela'), stripped]);
    if (strip.status !== 0) throw new Error(`objcopy failed: ${strip.stderr.toString()}`);
    const script = fileURLToPath(new URL('try-recover.ts', import.meta.url));
    const args = ['--import', 'tsx', script, '--one', `${stripped}=${path('vmlinux.relocs')}`];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) return fail(`${name}: recover: ${stderr.trim().split('\n').at(-1)}`);
    const { sites, missed, zeros, invented, doubts, seconds } = JSON.parse(stdout) as RecoverRow;
    const differs = missed + invented > 0;
    if (differs || doubts > 0) fail(`${name}: recover: ${stdout.trim()}`);
    const result = differs ? `${missed} missed, ${invented} invented of ${sites}` : 'exact';
    const but = zeros > 0 ? ` but ${zeros} zeros` : '';
    return `${result}${but}, ${doubts} doubts, ${seconds.toFixed(1)} s`;
  } finally {
    await rm(folder, { recursive: true });
  }
}

interface Seen {
  readonly slide: number;
  /** Starts of the regions in /proc/kcore, in order of their addresses. */
  readonly regions: readonly bigint[];
}

/** Where a boot ends up, or undefined. `slide` is by /proc/kallsyms. */
async function look(what: string, options: BootOptions): Promise<Seen | undefined> {
  const { slide, end, report } = await boot({ ...GUEST, ...options });
  if (report.guest.done && slide !== undefined)
    return { slide, regions: report.guest.kcore.map(({ start }) => start).toSorted((a, b) => (a < b ? -1 : 1)) };
  fail(`${what}: ${end}, ${report.panic ?? 'no panic'}, slide ${slide === undefined ? 'unknown' : hex(slide)}`);
  return undefined;
}

/** Boots it several times by one entry: each must be in a slot, and not all in the same. */
async function bootOften(
  kernel: Built,
  { image, summary }: Conversions,
  entry: (typeof ENTRIES)[number],
): Promise<Seen[]> {
  const all: Seen[] = [];
  for (let i = 0; i < boots; i++) {
    const what = `${kernel.name}: ${entry}, boot ${i + 1}`;
    const seen = await look(what, { image, entry });
    if (seen === undefined) continue;
    if (seen.slide % summary.slots.align === 0 && seen.slide <= summary.slots.largest) all.push(seen);
    else fail(`${what}: slide ${hex(seen.slide)} is no slot`);
  }
  if (boots > 2 && new Set(all.map(({ slide }) => slide)).size < 2) fail(`${kernel.name}: ${entry}: always one slide`);
  return all;
}

/** One kernel for both entries, moved by the host: it is where it was told to be. */
async function tryRandomize({ name, read }: Built): Promise<string> {
  const moved = await attempt(async () =>
    randomize(await read('vmlinux.rela'), { codecs, virt: 'random', seed: randomBytes(16) }),
  );
  if (moved instanceof KernelImageError) return fail(`${name}: randomize: ${moved.message}`);
  const { virt } = moved.summary;
  for (const entry of ENTRIES) {
    const what = `${name}: randomize, ${entry}`;
    const seen = await look(what, { image: moved.bytes(), entry });
    if (seen !== undefined && seen.slide !== virt) fail(`${what}: ${hex(seen.slide)}, not ${hex(virt)}`);
    if (seen?.slide !== virt) return '**FAILED**';
  }
  return hex(virt);
}

/** Each form is proved, and boots through its own firmware code. */
async function tryForms({ name, read, randomizes, relocs }: Built): Promise<string> {
  const done: string[] = [];
  const image = await read('bzImage');
  const table = randomizes ? undefined : relocs;
  for (const [form, how] of Object.entries(FORMS)) {
    const what = `${name}: bzimage, ${form}`;
    const rebuilt = await attempt(() =>
      rebuildBzImage(image, { codecs, encoders: systemEncoders, relocs: table, ...how }),
    );
    if (rebuilt instanceof KernelImageError) {
      // The kernel's own table may be larger than what there is room for, and so may any table where there was none.
      if ((form === 'table-at-end' || !randomizes) && rebuilt.code === 'too-large')
        process.stderr.write(`${what}: ${rebuilt.message}\n`);
      else fail(`${what}: ${rebuilt.message}`);
      continue;
    }
    const { verdict, offence } = await verify(image, rebuilt.bytes, { codecs, relocs: table });
    if (verdict !== 'proved') fail(`${what}: verify: ${offence?.what ?? verdict}`);
    const slides = new Set<number | undefined>();
    for (let i = 0; i < 2; i++) slides.add((await look(what, { image: rebuilt.bytes }))?.slide);
    const [slide] = slides;
    if (slides.has(undefined)) continue;
    if (slides.size === 1 && slide === 0) fail(`${what}: not moved`);
    else if (verdict === 'proved') done.push(form);
  }
  return done.join(', ');
}

/** Of the regions that /proc/kcore lists, how many were not in the same place in each boot. */
function movedRegions(all: readonly Seen[]): string {
  const count = Math.min(...all.map(({ regions }) => regions.length));
  const fixed = (i: number): boolean => new Set(all.map(({ regions }) => regions[i])).size === 1;
  const stays = Array.from({ length: count }, (_, i) => i).filter(fixed);
  const where = stays.map((i) => `0x${all[0]!.regions[i]!.toString(16)}`);
  return stays.length === 0 ? `all ${count}` : `${count - stays.length} of ${count}; fixed: ${where.join(', ')}`;
}

async function tryKernel(name: string): Promise<Cell[]> {
  const kernel = await open(name);
  const step = (what: string): boolean => process.stderr.write(`${name}: ${what}\n`);
  step('relocs');
  const tools = await compareTools(kernel);
  step('convert');
  const converted = await convertAll(kernel);
  const { relocations: count, slots } = converted.summary;
  step('recover');
  const cells: string[] = [await tryRecovery(kernel)];
  const seen: Seen[] = [];
  for (const entry of ENTRIES) {
    step(`boots by ${entry}`);
    const all = await bootOften(kernel, converted, entry);
    seen.push(...all);
    cells.push(`${all.length} of ${boots}`);
  }
  step('randomize');
  cells.push(await tryRandomize(kernel));
  step('bzimage');
  cells.push(await tryForms(kernel));
  return [
    name,
    kernel.compiler,
    `${count.abs64} + ${count.inverse32} + ${count.abs32}`,
    slots.count,
    tools,
    converted.cell,
    ...cells,
    movedRegions(seen),
  ];
}

const rows: Cell[][] = [];
for (const name of positionals.length > 0 ? positionals : builtKernels()) {
  const row = await tryKernel(name);
  process.stdout.write(`${row.join(' | ')}\n`);
  rows.push(row);
  // After each kernel, so that one can stop and go on.
  record?.('built-kernels', {
    machine: `QEMU ${await qemuVersion()} (TCG), -cpu max, ${GUEST.memoryMib} MiB`,
    parts: [STUB],
    before: 'scripts/build-kernels.sh',
    note: `Built from Debian's linux-source packages. Each entry booted ${boots} times.`,
    tables: { kernels: tableOf(COLUMNS, withEarlierRows('built-kernels', 'kernels', rows)) },
  });
}
