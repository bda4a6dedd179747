/** Programs that kslide is compared with, fetched from Debian's packages: never part of the repository, never of the tests. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../scripts/kernels/debian.ts';

/**
 * A file of the kernel's source out of Debian's newest linux-source-6.x, at `<cache>/src/linux-source-6.x/`. Downloads 150 MB the first
 * time.
 */
export function kernelSource(path: string): string {
  const folder = join(cacheFolder(), 'src');
  mkdirSync(folder, { recursive: true });
  for (const tree of readdirSync(folder).toSorted().toReversed()) {
    const file = join(folder, tree, path);
    if (tree.startsWith('linux-source-') && existsSync(file)) return file;
  }
  const names = execFileSync('apt-cache', ['search', '--names-only', '^linux-source-6'], { encoding: 'utf8' });
  const name = names
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((word) => /^linux-source-6\.\d+$/.test(word))
    .toSorted((a, b) => Number(a.split('.')[1]) - Number(b.split('.')[1]))
    .at(-1);
  if (name === undefined) throw new Error('no linux-source-6.x package; run: apt-get update');
  // Where scripts/*.sh keep packages as well.
  const downloads = join(cacheFolder(), 'dl');
  mkdirSync(downloads, { recursive: true });
  const find = (): string | undefined => readdirSync(downloads).find((file) => file.startsWith(`${name}_`));
  if (find() === undefined) execFileSync('apt-get', ['download', name], { cwd: downloads, stdio: 'inherit' });
  // One tar in a tar; only these few folders of it are wanted.
  const unpack = `dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$2.tar.xz" | tar -xJ "$2/scripts" "$2/arch/x86" "$2/tools"`;
  execFileSync('sh', ['-c', unpack, 'sh', join(downloads, find()!), name], { cwd: folder, stdio: 'inherit' });
  return join(folder, name, path);
}
