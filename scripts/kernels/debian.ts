/**
 * Finds a distribution's kernel for the demo and the tests, through apt.
 *
 * Versions come and go on the mirrors, so none is named here: a meta-package (linux-image-cloud-amd64) says which package is the newest,
 * and where there is none the package lists are searched. Packages are unpacked, never installed, into `<cache>/<package name>/`, and
 * a cache that has a kernel of the wanted kind is enough when apt or the network is not there.
 *
 * A kernel may come in parts: on Ubuntu modules are in linux-modules-*; on Debian since 6.19 linux-image-* is empty, and linux-binary-* has the
 * kernel, with its modules, not in /boot. All parts go into the one folder.
 */
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { EnvironmentError } from '../../src/node/errors.ts';
import { runProgram } from '../../src/node/processes/run-program.ts';
import type { Ended } from '../../src/node/processes/run-program.ts';

/** `cloud` is the small one for virtual machines; Ubuntu builds none, there it is what linux-image-virtual names. */
export type Flavour = 'cloud' | 'generic' | 'rt';

export interface KernelWish {
  /** `6.12`; undefined takes what the distribution calls current. */
  readonly series?: string | undefined;
  readonly flavour: Flavour;
}

export interface KernelPackage {
  /** `linux-image-6.12.117+deb12-cloud-amd64`. */
  readonly name: string;
  /** `6.12.117+deb12-cloud-amd64`. */
  readonly release: string;
  /** Path of the bzImage. */
  readonly image: string;
  /** Folder of its modules, if the package has them or apt could get those that do. */
  readonly modules: string | undefined;
}

export interface FetchOptions {
  /** Where packages are kept: $KSLIDE_CACHE or ~/.cache/kslide by default. */
  readonly cache?: string | undefined;
  /** What takes long, before it begins. */
  readonly onStep?: ((text: string) => void) | undefined;
  /** For apt-get and apt-cache, before all others, as openSuite gives them: the lists of another release. Those are not updated here. */
  readonly apt?: readonly string[] | undefined;
}

type Apt = readonly string[];

/** What stands behind the version in package names, Debian first. */
const SUFFIX: Record<Flavour, { readonly metas: readonly string[]; readonly names: string }> = {
  cloud: { metas: ['cloud-amd64', 'virtual', 'kvm'], names: 'cloud-amd64|kvm|generic' },
  generic: { metas: ['amd64', 'generic'], names: 'amd64|generic' },
  rt: { metas: ['rt-amd64', 'realtime'], names: 'rt-amd64|realtime' },
};

const QUERY_MS = 60_000;
const UPDATE_MS = 300_000;
const DOWNLOAD_MS = 900_000;
const UNPACK_MS = 120_000;

const PASS_AN_IMAGE = 'pass a kernel image of your own';

const byVersion = new Intl.Collator('en', { numeric: true });

let listsUpdated = false;

export function cacheFolder(): string {
  return process.env['KSLIDE_CACHE'] ?? join(homedir(), '.cache', 'kslide');
}

/**
 * The newest kernel of a kind, fetched if it is not in the cache. Throws EnvironmentError when there is none and none can be got; its
 * message says what to run.
 */
export async function fetchKernel(wish: KernelWish, options: FetchOptions = {}): Promise<KernelPackage> {
  const cache = options.cache ?? cacheFolder();
  const fetchNewest = async (): Promise<KernelPackage> => {
    const name = await resolvePackage(wish, options.apt ?? []);
    return (await openPackage(cache, name)) ?? (await downloadPackage(cache, name, options));
  };
  try {
    return await fetchNewest();
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    const cached = await newestInCache(cache, wish);
    if (cached !== undefined) {
      options.onStep?.(`using ${cached.name} from the cache: ${error.message}`);
      return cached;
    }
    if (error.problem === 'missing-program' || listsUpdated || options.apt !== undefined) throw error;
    // No lists at all on a fresh machine, or lists so old that the mirror has moved on. Once a process is enough.
    listsUpdated = true;
    options.onStep?.(`updating apt's package lists: ${error.what}`);
    // Whether it went well shows in what comes next; without root it does not.
    await runAsRoot(['apt-get', 'update'], UPDATE_MS).catch(() => {});
    return fetchNewest();
  }
}

/** Path of a kernel's module by its name without folder and ending, or undefined. It may be compressed: `.ko.xz`, `.ko.zst`, `.ko.gz`. */
export async function findModule(kernel: KernelPackage, name: string): Promise<string | undefined> {
  if (kernel.modules === undefined) return undefined;
  const files = await readdir(kernel.modules, { recursive: true });
  const file = files.find((path) => path.split('/').at(-1)?.startsWith(`${name}.ko`));
  return file === undefined ? undefined : join(kernel.modules, file);
}

/** Names of image packages of a kind: `linux-image-6.1.0-56-amd64`, `linux-image-6.12.117+deb12-cloud-amd64-unsigned`. */
function namePattern({ series, flavour }: KernelWish): RegExp {
  const version = `${series?.replaceAll('.', '\\.') ?? '\\d+\\.\\d+'}\\.\\d[^-]*(?:-\\d+)?`;
  return new RegExp(`^linux-image-(?:unsigned-)?${version}-(?:${SUFFIX[flavour].names})(?:-unsigned)?$`);
}

async function resolvePackage(wish: KernelWish, apt: Apt): Promise<string> {
  const name = (await askMetaPackage(wish, apt)) ?? (await searchLists(wish, apt));
  if (name !== undefined) return name;
  throw new EnvironmentError({
    problem: 'no-kernel',
    what: `apt has no kernel package of ${describe(wish)}`,
    command: 'sudo apt-get update',
    otherwise: PASS_AN_IMAGE,
  });
}

const describe = ({ series, flavour }: KernelWish): string =>
  `flavour ${flavour}${series === undefined ? '' : `, series ${series}`}`;

/** What a meta-package depends on is the newest of its kind. Debian's own name their series, where there is a choice of it. */
async function askMetaPackage(wish: KernelWish, apt: Apt): Promise<string | undefined> {
  const { metas } = SUFFIX[wish.flavour];
  const names = wish.series === undefined ? metas : metas.flatMap((suffix) => [`${wish.series}-${suffix}`, suffix]);
  const inSeries = wish.series === undefined ? /^\d/ : new RegExp(`^${wish.series.replaceAll('.', '\\.')}\\.`);
  for (const name of names) {
    for (const dependency of await dependencies(`linux-image-${name}`, apt)) {
      const version = /^linux-image-(?:unsigned-)?(.*)$/.exec(dependency)?.[1];
      if (version !== undefined && inSeries.test(version)) return dependency;
    }
  }
  return undefined;
}

/** None for a package that apt does not know. */
async function dependencies(name: string, apt: Apt): Promise<string[]> {
  const { output } = await run('apt-cache', [...apt, 'depends', name], QUERY_MS);
  return Array.from(output.matchAll(/^ *\|?Depends: (\S+)$/gm), ([, dependency = '']) => dependency);
}

const signed = (name: string): string => name.replaceAll(/unsigned-|-unsigned/g, '');

/** Signed or not, the newest; the signed package if both are there. */
async function searchLists(wish: KernelWish, apt: Apt): Promise<string | undefined> {
  const { output } = await run('apt-cache', [...apt, 'search', '--names-only', '^linux-image-'], QUERY_MS);
  const names = output.split('\n').map((text) => text.split(' ')[0] ?? '');
  return names
    .filter((name) => namePattern(wish).test(name))
    .toSorted((a, b) => byVersion.compare(signed(b), signed(a)) || a.length - b.length)[0];
}

/** Into a folder of its own, which gets its name when it is complete: two processes may do it at once. */
async function downloadPackage(cache: string, name: string, options: FetchOptions): Promise<KernelPackage> {
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, '.incoming-'));
  try {
    options.onStep?.(`downloading ${name}`);
    const apt = options.apt ?? [];
    await downloadInto(folder, name, apt);
    if ((await releaseIn(folder)) === undefined) {
      const parts = (await dependencies(name, apt)).filter((part) => /^linux-(?:binary|modules)-/.test(part));
      for (const part of parts) await downloadInto(folder, part, apt);
    }
    const release = await releaseIn(folder);
    // Without modules the kernel still boots.
    if (release !== undefined && (await modulesIn(folder, release)) === undefined) {
      await downloadInto(folder, `linux-modules-${release}`, apt).catch(() => {});
    }
    await rename(folder, join(cache, name)).catch(async (error: unknown) => {
      if ((await openPackage(cache, name)) === undefined) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const opened = await openPackage(cache, name);
  if (opened !== undefined) return opened;
  throw new EnvironmentError({
    problem: 'no-kernel',
    what: `package ${name} has no kernel`,
    otherwise: PASS_AN_IMAGE,
  });
}

async function downloadInto(folder: string, name: string, apt: Apt): Promise<void> {
  const download = await run('apt-get', [...apt, 'download', name], DOWNLOAD_MS, folder);
  const file = (await readdir(folder)).find((entry) => entry.endsWith('.deb'));
  if (download.code !== 0 || file === undefined) {
    throw new EnvironmentError({
      problem: 'command-failed',
      what: `apt-get download ${name} failed: ${lastLine(download) ?? 'no message'}`,
      command: 'sudo apt-get update',
      otherwise: PASS_AN_IMAGE,
    });
  }
  const unpack = await run('dpkg-deb', ['-x', file, '.'], UNPACK_MS, folder);
  await rm(join(folder, file));
  if (unpack.code === 0) return;
  throw new EnvironmentError({
    problem: 'command-failed',
    what: `dpkg-deb -x ${file} failed: ${lastLine(unpack) ?? 'no message'}`,
  });
}

async function newestInCache(cache: string, wish: KernelWish): Promise<KernelPackage | undefined> {
  const names = (await list(cache)).filter((name) => namePattern(wish).test(name));
  for (const name of names.toSorted((a, b) => byVersion.compare(b, a))) {
    const opened = await openPackage(cache, name);
    if (opened !== undefined) return opened;
  }
  return undefined;
}

/** A package that is in the cache, or undefined. */
export async function openPackage(cache: string, name: string): Promise<KernelPackage | undefined> {
  const folder = join(cache, name);
  const release = await releaseIn(folder);
  if (release === undefined) return undefined;
  return { name, release, image: await imageOf(folder, release), modules: await modulesIn(folder, release) };
}

const MODULES = ['lib/modules', 'usr/lib/modules'] as const;

async function releaseIn(folder: string): Promise<string | undefined> {
  const image = (await list(join(folder, 'boot'))).find((name) => name.startsWith('vmlinuz-'));
  if (image !== undefined) return image.slice('vmlinuz-'.length);
  for (const parent of MODULES) {
    for (const release of await list(join(folder, parent))) {
      if ((await list(join(folder, parent, release))).includes('vmlinuz')) return release;
    }
  }
  return undefined;
}

async function imageOf(folder: string, release: string): Promise<string> {
  for (const parent of MODULES) {
    const beside = join(folder, parent, release);
    if ((await list(beside)).includes('vmlinuz')) return join(beside, 'vmlinuz');
  }
  return join(folder, 'boot', `vmlinuz-${release}`);
}

/** Where there is nothing but a kernel, there are no modules. */
async function modulesIn(folder: string, release: string): Promise<string | undefined> {
  for (const parent of MODULES) {
    const modules = join(folder, parent, release);
    if ((await list(modules)).includes('kernel')) return modules;
  }
  return undefined;
}

/** Names in a folder; none if there is no such folder. */
function list(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

function run(program: string, args: readonly string[], timeoutMs: number, directory?: string): Promise<Ended> {
  return runProgram(program, args, { timeoutMs, directory });
}

function runAsRoot(command: readonly string[], timeoutMs: number): Promise<Ended> {
  const [program = '', ...args] = process.getuid?.() === 0 ? command : ['sudo', '-n', ...command];
  return run(program, args, timeoutMs);
}

function lastLine({ errors, by }: Ended): string | undefined {
  if (by === 'timeout') return 'it took too long';
  return errors.trim().split('\n').at(-1) || undefined;
}
