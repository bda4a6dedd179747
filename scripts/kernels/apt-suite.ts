/**
 * Another release of this machine's distribution, through apt: package lists of its own in the cache, so that kernels can be had that this
 * release does not have. Nothing of the machine's own apt changes, and it takes no root.
 *
 * Debian only: its mirrors carry all releases side by side and sign them with keys that every release has.
 */
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from './debian.ts';
import { EnvironmentError } from '../../src/node/errors.ts';
import { runProgram } from '../../src/node/processes/run-program.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const UPDATE_MS = 300_000;
const QUERY_MS = 60_000;
/** Mirrors keep a package for days after a newer one. */
const FRESH_MS = 12 * 3_600_000;

/**
 * Options for apt-get and apt-cache that make them see the suite, `bullseye` or `trixie-backports`, and nothing else. Throws EnvironmentError
 * (no-kernel) when there is no such suite, or no mirror that has it.
 */
export async function openSuite(suite: string, cache = cacheFolder()): Promise<readonly string[]> {
  const suites = join(cache, 'suites');
  const folder = join(suites, suite);
  const made = await stat(folder).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
  if (made !== undefined && Date.now() - made < FRESH_MS) return aptOptions(folder);

  const mirror = await findMirror();
  await mkdir(suites, { recursive: true });
  const incoming = await mkdtemp(join(suites, '.incoming-'));
  try {
    for (const name of ['lists', 'archives']) await mkdir(join(incoming, name, 'partial'), { recursive: true });
    await writeFile(join(incoming, 'sources.list'), `deb [arch=amd64 signed-by=${KEYRING}] ${mirror} ${suite} main\n`);
    const update = ['-o', 'APT::Update::Error-Mode=any', 'update'];
    const { code, errors } = await runProgram('apt-get', [...aptOptions(incoming), ...update], {
      timeoutMs: UPDATE_MS,
    });
    if (code !== 0) {
      if (made !== undefined) return aptOptions(folder); // old lists rather than none
      throw lacking(suite, errors.trim().split('\n').at(-1) || 'no message');
    }
    await rm(folder, { recursive: true, force: true });
    // Another process may be faster; its lists are as good.
    await rename(incoming, folder).catch(() => {});
  } finally {
    await rm(incoming, { recursive: true, force: true });
  }
  return aptOptions(folder);
}

function aptOptions(folder: string): string[] {
  const settings = {
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::Cache': folder,
    // As root apt would give its work to a user who cannot write here.
    'APT::Sandbox::User': 'root',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** The mirror that this machine's own packages come from. */
async function findMirror(): Promise<string> {
  const query = ['indextargets', '--format', '$(LABEL) $(REPO_URI)', 'Created-By: Packages'];
  const { output } = await runProgram('apt-get', query, { timeoutMs: QUERY_MS });
  const uri = /^Debian (\S+)$/m.exec(output)?.[1];
  if (uri !== undefined) return uri;
  throw lacking('of Debian', 'apt has no package lists of a Debian mirror');
}

function lacking(suite: string, reason: string): EnvironmentError {
  return new EnvironmentError({ problem: 'no-kernel', what: `apt has no suite ${suite}: ${reason}` });
}
