/** The pictures in docs/pictures are those that scripts/pictures draws, and can be read. After a change: `npm run docs`, and look at them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { renderPictures } from '../../scripts/pictures/pictures.ts';
import { Browser } from '../cli/browser.ts';

const pictures = renderPictures();

for (const { name, before, after: drawn } of pictures)
  test(`${name} is as \`npm run docs\` draws it, with words for readers who do not see it`, () => {
    assert.equal(before, drawn);
    assert.match(drawn, /<title id="title">[^<]+<\/title>\n<desc id="description">[^<]+<\/desc>/);
    assert.doesNotMatch(drawn, /<script|<image|href|@import|url\(/);
  });

/** Where words are cut off, lie over each other, or are too small to read. */
const LOOK = `(() => {
  const svg = document.querySelector('svg');
  const outer = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map((text) => ({ words: text.textContent, at: text.getBoundingClientRect(), size: parseFloat(getComputedStyle(text).fontSize) }));
  const apart = (one, other) => one.right <= other.left || other.right <= one.left || one.bottom <= other.top + 2 || other.bottom <= one.top + 2;
  return {
    width: outer.width,
    cut: texts.filter(({ at }) => at.left < outer.left + 8 || at.right > outer.right - 8 || at.bottom > outer.bottom - 4).map(({ words }) => words),
    small: texts.filter(({ size }) => size < 11).map(({ words }) => words),
    over: texts.flatMap((one, i) => texts.slice(i + 1).filter((other) => !apart(one.at, other.at)).map(({ words }) => one.words + ' / ' + words)),
    page: getComputedStyle(svg.querySelector('.page')).fill,
    ink: getComputedStyle(svg.querySelector('.heading')).fill,
  };
})()`;

const skip = Browser.isInstalled() ? false : 'no chromium; scripts/test-setup.sh installs it where it is a package';

describe('pictures in a browser', { skip }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kslide-pictures-'));
  const browser = skip === false ? await Browser.start() : undefined;
  after(async () => {
    await browser?.close();
    rmSync(directory, { recursive: true });
  });

  pictures.forEach(({ name, after: drawn }, i) =>
    test(`${name}: every word can be read, in light and in dark`, async () => {
      const file = join(directory, `${i}.html`);
      writeFileSync(file, `<!doctype html><meta charset="utf-8"><body style="margin:0">${drawn}`);
      await browser!.open(pathToFileURL(file).href);
      const good = { width: 860, cut: [], small: [], over: [] };
      await browser!.show({ width: 1000 });
      const light = { page: 'rgb(255, 255, 255)', ink: 'rgb(27, 31, 36)' };
      assert.deepEqual(await browser!.evaluate(LOOK), { ...good, ...light });
      await browser!.show({ width: 1000, scheme: 'dark' });
      const dark = { page: 'rgb(20, 24, 29)', ink: 'rgb(230, 233, 236)' };
      assert.deepEqual(await browser!.evaluate(LOOK), { ...good, ...dark });
    }),
  );
});
