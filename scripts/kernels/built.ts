/** The kernels that scripts/build-kernels.sh has built, and what the scripts that try them have in common. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { packGuest } from '../../test/guest/init.ts';
import { cacheFolder } from './debian.ts';

export const ENTRIES = ['pvh', 'linux64'] as const;

export const GUEST = { initrd: packGuest(), memoryMib: 1024, timeoutMs: 300_000 } as const;

/** A file of a kernel; scripts/build-kernels.sh lists them. */
export function builtPath(name: string, file: string): string {
  return join(cacheFolder(), 'built', name, file);
}

/** Names of those that are whole. */
export function builtKernels(): string[] {
  const folder = join(cacheFolder(), 'built');
  return existsSync(folder) ? readdirSync(folder).filter((name) => existsSync(builtPath(name, 'about'))) : [];
}
