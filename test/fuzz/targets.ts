/** The targets: every file in targets/, by its name. */
import { readdirSync } from 'node:fs';
import type { Target } from './target.ts';

const FOLDER = new URL('targets/', import.meta.url);

export const TARGETS: readonly string[] = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -'.ts'.length))
  .toSorted();

/** Throws RangeError for a name that is no target. */
export async function loadTarget(name: string): Promise<Target> {
  if (!TARGETS.includes(name)) throw new RangeError(`there is no target ${name}; there are ${TARGETS.join(', ')}`);
  const { default: target } = (await import(new URL(`${name}.ts`, FOLDER).href)) as { default: Target };
  return target;
}
