/**
 * Which kernels the rules were tried on: recovered tables of these releases and compilers were compared with the true ones (docs/recover.md). A table of any other is a guess by rules that have
 * not met its compiler, and is called untested.
 */
import { cString } from '../base/bytes.ts';
import type { RecoverImage } from './image.ts';

/** Major and minor release, as `major * 1000 + minor`, first to last. */
const RELEASES = { first: 4015, last: 7003 } as const;
/** Oldest and newest major version of each compiler that built them. */
const COMPILERS = { gcc: { first: 7, last: 15 } } as const;

export interface Build {
  /** "6.12.1-amd64", from linux_banner; undefined for a kernel without one. */
  readonly release: string | undefined;
  /** "gcc 12", "clang 19"; undefined if the banner does not say. */
  readonly compiler: string | undefined;
  /** Whether kernels of that release and that compiler were tried. */
  readonly tested: boolean;
}

const BANNER = 'Linux version ';
const LONGEST = 512;

export function readBuild(image: RecoverImage): Build {
  const banner = findBanner(image);
  const [, release, major, minor] = /^Linux version ((\d+)\.(\d+)\S*)/.exec(banner ?? '') ?? [];
  const clang = /clang version (\d+)/.exec(banner ?? '')?.[1];
  const gcc = /\(?gcc(?:-\d+)?(?: \([^)]*\)|\.real \([^)]*\)| version)? (\d+)\./.exec(banner ?? '')?.[1];
  const number = Number(major) * 1000 + Number(minor);
  return {
    release,
    compiler: clang !== undefined ? `clang ${clang}` : gcc !== undefined ? `gcc ${gcc}` : undefined,
    tested:
      number >= RELEASES.first &&
      number <= RELEASES.last &&
      clang === undefined &&
      Number(gcc) >= COMPILERS.gcc.first &&
      Number(gcc) <= COMPILERS.gcc.last,
  };
}

/** linux_banner says the compiler; linux_proc_banner, which may come first, has `%s` in the place of the release. */
function findBanner({ data }: RecoverImage): string | undefined {
  const first = BANNER.charCodeAt(0);
  for (const { bytes } of data)
    for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
      if (bytes[at + 1] !== BANNER.charCodeAt(1) || bytes[at + 6] !== BANNER.charCodeAt(6)) continue;
      const text = cString(bytes, at, LONGEST);
      if (/^Linux version \d/.test(text)) return text;
    }
  return undefined;
}
