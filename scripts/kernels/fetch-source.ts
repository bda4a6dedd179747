/**
 * Fetches one of Debian's linux-source packages, unless the folder has that version of it, and prints the path of the newest there is:
 *
 *     node --import tsx scripts/kernels/fetch-source.ts 6.12|newest FOLDER
 *
 * `newest` looks into the backports of the release after this machine's as well: new series are built there first.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EnvironmentError } from '../../src/node/errors.ts';
import { runProgram } from '../../src/node/processes/run-program.ts';
import { openSuite } from './apt-suite.ts';

/** Where series can be had, the machine's own lists first. */
const SUITES = [undefined, 'trixie-backports'] as const;
const QUERY_MS = 60_000;
const DOWNLOAD_MS = 900_000;
const byVersion = new Intl.Collator('en', { numeric: true });

interface Source {
  readonly series: string;
  readonly apt: readonly string[];
}

/** Every series that a suite has; none if there is no such suite, or no network. */
async function sourcesIn(suite: string | undefined): Promise<Source[]> {
  const apt = suite === undefined ? [] : await openSuite(suite).catch(() => undefined);
  if (apt === undefined) return [];
  const search = [...apt, 'search', '--names-only', String.raw`^linux-source-[0-9]+\.[0-9]+$`];
  const { output } = await runProgram('apt-cache', search, { timeoutMs: QUERY_MS });
  return Array.from(output.matchAll(/^linux-source-(\S+)/gm), ([, series = '']) => ({ series, apt }));
}

async function newestIn(folder: string, series: string): Promise<string | undefined> {
  const pattern = series === 'newest' ? String.raw`\d+\.\d+` : series.replaceAll('.', String.raw`\.`);
  const names = (await readdir(folder)).filter((name) => new RegExp(`^linux-source-${pattern}_.*\\.deb$`).test(name));
  return names.toSorted(byVersion.compare).at(-1);
}

async function fetchSource(series: string, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  // A series has one source in the cache, however old: kernels are built from it that later runs add to.
  const cached = series === 'newest' ? undefined : await newestIn(folder, series);
  if (cached !== undefined) return join(folder, cached);
  let sources = (await Promise.all(SUITES.map(sourcesIn))).flat();
  if (series !== 'newest') sources = sources.filter((source) => source.series === series);
  const [newest] = sources.toSorted((a, b) => byVersion.compare(b.series, a.series));
  if (newest !== undefined && (await newestIn(folder, newest.series)) === undefined) {
    const download = [...newest.apt, 'download', '-qq', `linux-source-${newest.series}`];
    await runProgram('apt-get', download, { timeoutMs: DOWNLOAD_MS, directory: folder });
  }
  // Whether that went well shows here.
  const name = await newestIn(folder, newest?.series ?? series);
  if (name !== undefined) return join(folder, name);
  throw new EnvironmentError({
    problem: 'no-kernel',
    what: `apt has no linux-source package of series ${series}`,
    command: 'sudo apt-get update',
  });
}

const [series, folder] = process.argv.slice(2);
if (series === undefined || folder === undefined) throw new Error('usage: fetch-source.ts SERIES|newest FOLDER');
console.log(await fetchSource(series, folder));
