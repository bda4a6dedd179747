/**
 * The kernel's own relocs tool, built by scripts/build-relocs-judge.sh, and what `kslide relocs` does of it: status and standard output.
 *
 * The script needs a network once (153 MB) and a distribution that has linux-source-6.12. Without either, tests that need the tool are skipped, and
 * the reason is the script's own last words. Under CI they fail instead.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KernelImageError } from '../../src/base/errors.ts';
import { cacheFolder } from '../../scripts/kernels/debian.ts';
import { memorySource } from '../../src/relocs/tool/byte-source.ts';
import { runRelocsTool } from '../../src/relocs/tool/tool.ts';
import type { RelocsToolOptions } from '../../src/relocs/tool/tool.ts';
import { scratchFile } from './fixtures.ts';

const script = fileURLToPath(new URL('../../scripts/build-relocs-judge.sh', import.meta.url));
const built = spawnSync('sh', [script], { encoding: 'utf8', timeout: 600_000 });
const folder = built.status === 0 ? built.stdout.trim() : undefined;

if (folder === undefined && process.env['CI'] === 'true')
  throw new Error(`the kernel's relocs tool could not be built:\n${built.stderr}`);

/** For `test`: false, or why there is no judge. */
export const skip: string | false =
  folder === undefined
    ? `the kernel's relocs tool could not be built: ${built.stderr.trim().split('\n').at(-1)}`
    : false;

/**
 * The tool of a kernel with two lists, where the script has been run for one: `build-relocs-judge.sh 7.2`, on a machine whose apt knows such a
 * linux-source package. Debian 12 has none.
 */
const newer = ((): string | undefined => {
  const cache = cacheFolder();
  const names = existsSync(cache) ? readdirSync(cache) : [];
  const name = names.find((entry) => {
    const [, major, minor] = /^relocs-judge-(\d+)\.(\d+)$/.exec(entry) ?? [];
    return Number(major) * 1000 + Number(minor) >= 6015;
  });
  return name === undefined ? undefined : join(cache, name);
})();
export const skipNewer: string | false =
  newer === undefined && 'no relocs tool of Linux 6.15 or newer in the cache: scripts/build-relocs-judge.sh VERSION';

export type Flag = '--abs-syms' | '--abs-relocs' | '--reloc-info' | '--text' | '--realmode';

export interface Outcome {
  /** 0 or 1; 99 from the judge with checks when the plain one would read where nothing is. */
  readonly status: number | null;
  readonly stdout: Buffer;
  /** Our words for it. */
  readonly refusal?: string;
}

/** The kernel's tool. `checked` takes the build that stops at a read outside of a table; `lists` 2 that of a newer kernel. */
export function judge(file: string, flags: readonly Flag[], { checked = false, lists = 3 } = {}): Outcome {
  const from = lists === 3 ? folder : newer;
  assert.ok(from);
  const tool = join(from, checked ? 'relocs-asan' : 'relocs');
  const env = { ...process.env, ASAN_OPTIONS: 'exitcode=99:detect_leaks=0:allocator_may_return_null=1' };
  const { status, stdout } = spawnSync(tool, [...flags, file], { maxBuffer: 1 << 30, env });
  return { status, stdout };
}

/** Ours, in this process. Throws what is neither output nor a refusal. */
export function kslideRelocs(bytes: Uint8Array, flags: readonly Flag[], lists?: 2 | 3): Outcome {
  const prints = { '--abs-syms': 'abs-syms', '--abs-relocs': 'abs-relocs', '--reloc-info': 'reloc-info' } as const;
  const listing = (['--abs-syms', '--abs-relocs', '--reloc-info'] as const).find((flag) => flags.includes(flag));
  const options: RelocsToolOptions = {
    print: listing ? prints[listing] : flags.includes('--text') ? 'text' : 'table',
    realMode: flags.includes('--realmode'),
    lists,
  };
  const pieces: Uint8Array[] = [];
  try {
    for (const piece of runRelocsTool(memorySource(bytes), options)) pieces.push(piece);
    return { status: 0, stdout: Buffer.concat(pieces) };
  } catch (error) {
    if (!(error instanceof KernelImageError)) throw error;
    return { status: 1, stdout: Buffer.concat(pieces), refusal: error.message };
  }
}

let files = 0;

/** Both must do the same with this file. `what` names the case in a failure; `lists` 2 takes the newer tool, and makes ours one. */
export function assertAgree(bytes: Uint8Array, flags: readonly Flag[], what: string, lists?: 2): void {
  const file = scratchFile(`judged-${files++ % 8}.elf`);
  writeFileSync(file, bytes);
  const theirs = judge(file, flags, { lists });
  const ours = kslideRelocs(bytes, flags, lists);
  const title = `${what}, ${flags.join(' ') || 'no flags'}`;
  assert.equal(ours.status, theirs.status, `${title}: exit status`);
  // Where a listing is cut off by a refusal, what was printed before it is not the point.
  if (theirs.status === 0) assert.ok(ours.stdout.equals(theirs.stdout), `${title}: standard output`);
}
