/**
 * Writes the figures and pictures of the documentation anew:
 *
 *     npm run docs
 *
 * Figures come from docs/results (its README has the format) and from the constants of the code. A test compares what this writes with what is there.
 */
import { writeFileSync } from 'node:fs';
import { renderPages } from './docs/pages.ts';
import { renderPictures } from './pictures/pictures.ts';

for (const { name, path, before, after } of [...renderPages().pages, ...renderPictures()]) {
  if (before === after) continue;
  writeFileSync(path, after);
  process.stdout.write(`${name}\n`);
}
