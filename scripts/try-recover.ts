/**
 * Recovers the relocations of kernels that have a table, without looking at it, and compares:
 *
 *     node --import tsx scripts/try-recover.ts [--record] KERNEL[=TABLE] …
 *
 * TABLE is the true one of a kernel that has none itself: a vmlinux, or a bzImage whose configuration makes none.
 *
 * Each kernel is a process of its own, for time and memory. `--record`: docs/results/recover.json. Exit code 1 when a table differs in a site that the kernel needs.
 */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tableEntryToPhys, tableEntryToVirt } from '../src/base/addresses.ts';
import { viewOf } from '../src/base/bytes.ts';
import { hex } from '../src/base/errors.ts';
import { openKernel } from '../src/kernel/open.ts';
import { fileOffsetOf } from '../src/kernel/vmlinux.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { processorHere, rightAligned, takeRecordOption, tableOf, withEarlierRows } from './docs/record.ts';
import { recoverRelocations } from '../src/recover/recover.ts';
import { leaveOutNotes } from '../src/relocs/note-sites.ts';
import { readRelocations } from '../src/relocs/find.ts';
import { countRelocations, differencesOf } from '../src/relocs/tables/kernel-table.ts';

/** What `--one` prints, as JSON. */
export interface Row {
  readonly kernel: string;
  readonly sites: number;
  /** In the true table only, and not zero. */
  readonly missed: number;
  /** Words of 8 bytes that hold zero and stand in the true table: call sites of functions that were dropped. They need no relocation. */
  readonly zeros: number;
  readonly invented: number;
  readonly doubts: number;
  /** Of processor time, for the recovery alone. */
  readonly seconds: number;
  readonly mebibytes: number;
  readonly examples: readonly string[];
}

async function tryKernel(argument: string): Promise<Row> {
  const [path = '', table] = argument.split('=');
  const relocs = table === undefined ? undefined : await readFile(table);
  const opened = await openKernel(await readFile(path), 'extract', { codecs: nodeCodecs, relocs });
  const { kernel, input } = opened;
  // Sites in notes are left out on purpose: everybody in the guest can read them.
  const truth = leaveOutNotes(readRelocations(opened), kernel).table;
  const view = viewOf(kernel.elf.bytes);
  const start = process.cpuUsage();
  const recovery = recoverRelocations(kernel);
  const { user, system } = process.cpuUsage(start);
  const seconds = (user + system) / 1e6;
  const count = { missed: 0, zeros: 0, invented: 0 };
  const examples: string[] = [];
  for (const { list, entry, isOnlyIn } of differencesOf(truth, recovery.table)) {
    const offset = fileOffsetOf(kernel.loads, tableEntryToPhys(entry)!)!;
    const value = list.width === 8 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true));
    if (isOnlyIn === 'first' && list.width === 8 && value === 0n) {
      count.zeros++;
      continue;
    }
    const kind = isOnlyIn === 'first' ? 'missed' : 'invented';
    count[kind]++;
    if (examples.length < 12)
      examples.push(`${kind}: ${list.title} ${hex(tableEntryToVirt(entry))} holds ${hex(value)}`);
  }
  for (const { place, value, rule } of recovery.doubts.slice(0, 12))
    examples.push(`doubt: ${rule} ${hex(place)} holds ${hex(BigInt.asUintN(64, value))}`);
  return {
    kernel: input.kernelVersion?.split(' ')[0] ?? basename(path),
    sites: countRelocations(truth),
    ...count,
    doubts: recovery.doubts.length,
    seconds,
    mebibytes: process.resourceUsage().maxRSS / 1024,
    examples,
  };
}

const { record, rest } = takeRecordOption();
if (rest[0] === '--one') {
  console.log(JSON.stringify(await tryKernel(rest[1]!)));
} else {
  const rows: Row[] = [];
  for (const path of rest) {
    const self = fileURLToPath(import.meta.url);
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--import', 'tsx', self, '--one', path], {
      encoding: 'utf8',
      timeout: 300_000,
    });
    if (status !== 0) {
      console.log(
        `${path}: ${
          stderr
            .trim()
            .split('\n')
            .find((line) => /Error/.test(line)) ?? `exit code ${status}`
        }`,
      );
      process.exitCode = 1;
      continue;
    }
    const row = JSON.parse(stdout) as Row;
    rows.push(row);
    const { kernel, sites, missed, zeros, invented, doubts, seconds, mebibytes, examples } = row;
    console.log(
      `${kernel}: ${sites} sites, ${missed} missed (and ${zeros} zeros), ${invented} invented, ${doubts} doubts, ${seconds.toFixed(2)} s, ${mebibytes.toFixed(0)} MiB`,
    );
    for (const example of examples) console.log(`    ${example}`);
    if (missed > 0 || invented > 0) process.exitCode = 1;
  }
  record?.('recover', {
    machine: processorHere(),
    parts: ['src/recover', 'src/x86'],
    args: 'KERNEL …',
    note: 'Each table was recovered from the image alone, and compared with the one in the bzImage. Seconds are processor time, in a new process.',
    tables: {
      kernels: tableOf(
        [
          'kernel',
          ...['sites', 'missed', 'zeros', 'invented', 'doubts'].map((name) => rightAligned(name)),
          rightAligned('seconds', { digits: 2 }),
        ],
        withEarlierRows(
          'recover',
          'kernels',
          rows.map(({ kernel, sites, missed, zeros, invented, doubts, seconds }) => [
            kernel,
            sites,
            missed,
            zeros,
            invented,
            doubts,
            Number(seconds.toFixed(2)),
          ]),
        ),
      ),
    },
  });
}
