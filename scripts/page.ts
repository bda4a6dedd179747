/**
 * Builds the page for browsers, dist/kslide.html:
 *
 *     npm run page
 *     npm run page -- --screenshot [KERNEL]    also writes docs/pictures/page.webp, with Debian's cloud kernel or one of yours, in Chromium
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildPage } from './page/build.ts';

const path = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
const OUTPUT = 'dist/kslide.html';
const PICTURE = 'docs/pictures/page.webp';

const { html } = await buildPage();
mkdirSync(path('dist'), { recursive: true });
writeFileSync(path(OUTPUT), html);
process.stdout.write(`${OUTPUT}: ${Buffer.byteLength(html)} bytes\n`);
const [option, kernel] = process.argv.slice(2);
if (option === '--screenshot') {
  const { takePicture } = await import('../test/page/picture.ts');
  writeFileSync(path(PICTURE), await takePicture(pathToFileURL(path(OUTPUT)).href, kernel));
  process.stdout.write(`${PICTURE}\n`);
}
