/** Parts of measurements that take hours: each is kept in the cache when it is done, so that the script can be stopped, and does not measure it again. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../kernels/debian.ts';
import { programOf } from './program.ts';

/**
 * What `work` gives, which must be plain data; from the cache if an earlier run has got that far with the same program. `name` says what is measured, the kernel's release
 * included: `boot-6.12.117+deb13-cloud-amd64`. `parts`: of the program.
 */
export async function keep<T>(name: string, parts: readonly string[], work: () => Promise<T>): Promise<T> {
  const file = partFile(name, parts, 'json');
  if (existsSync(file)) {
    process.stdout.write(`${name}: measured before\n`);
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  }
  const result = await work();
  writeFileSync(`${file}.tmp`, JSON.stringify(result));
  renameSync(`${file}.tmp`, file);
  return result;
}

/** Where the cache has it: another file for each program. */
export function partFile(name: string, parts: readonly string[], ending: string): string {
  const folder = join(cacheFolder(), 'results');
  mkdirSync(folder, { recursive: true });
  const program = createHash('sha256')
    .update(JSON.stringify(programOf(parts)))
    .digest('hex')
    .slice(0, 12);
  return join(folder, `${name}-${program}.${ending}`);
}
