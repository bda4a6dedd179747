/** The pages of `bench` and `audit` in a real browser: on a desk, on a phone, in the dark, on paper, and without a network. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { reportAuditPage } from '../../src/cli/reports/audit-html.ts';
import { reportBenchPage } from '../../src/cli/reports/bench-html.ts';
import type { AuditRecord } from '../../src/measure/audit/record.ts';
import { summarizeAudit } from '../../src/measure/audit/summary.ts';
import { makeSummary } from '../measure/bench-summary.ts';
import { Browser } from './browser.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-pages-'));
after(() => rmSync(directory, { recursive: true }));

const records = Array.from({ length: 200 }, (_, i): AuditRecord => {
  const guest = { memoryMib: 256, cpu: 'max', append: '' };
  return {
    id: `run-${i}`,
    image: 'a1'.repeat(32),
    slots: { align: 0x20_0000, count: 480 },
    entry: 'pvh',
    boot: i,
    slide: ((i * 7919) % 480) * 0x20_0000,
    end: 'panic',
    ms: 2000,
    at: '2026-11-23T20:00:00.000Z',
    machine: { cpu: 'a CPU', cpus: 2, accel: 'tcg', qemu: '7.2.22', guest },
  };
});

/** Each with how many figures it has. */
const PAGES = {
  bench: { html: reportBenchPage(makeSummary()), figures: 4 },
  audit: { html: reportAuditPage(summarizeAudit(records), records, { title: 'x'.repeat(200) }), figures: 2 },
};

/** What a reader would see, as the browser has it. */
const LOOK = `(() => {
  const shown = [...document.querySelectorAll('svg')].filter((svg) => svg.getClientRects().length > 0);
  const { backgroundColor } = getComputedStyle(document.body);
  const texts = shown.flatMap((svg) => [...svg.querySelectorAll('text')].map((text) => {
    const [inner, outer] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
    return inner.left >= outer.left - 1 && inner.right <= outer.right + 1 ? '' : text.textContent;
  }));
  return {
    tooWide: document.documentElement.scrollWidth > innerWidth,
    figures: shown.length,
    narrow: shown.every((svg) => svg.closest('.narrow') !== null),
    background: backgroundColor,
    drawn: shown.every((svg) => [...svg.querySelectorAll('rect')].some((rect) => rect.getBoundingClientRect().width > 1)),
    cut: texts.filter((text) => text !== ''),
  };
})()`;

/** A folder for screenshots, to look at the pages yourself. */
const screenshots = process.env['KSLIDE_SCREENSHOTS'];

const skip = Browser.isInstalled() ? false : 'no chromium; scripts/test-setup.sh installs it where it is a package';

describe('pages in a browser', { skip }, async () => {
  const browser = skip === false ? await Browser.start() : undefined;
  after(() => browser?.close());

  for (const [name, { html, figures }] of Object.entries(PAGES)) {
    test(`${name}: readable on every screen and on paper, without asking for anything`, async () => {
      const file = join(directory, `${name}.html`);
      writeFileSync(file, html);
      const address = pathToFileURL(file).href;
      await browser!.open(address);
      const good = { tooWide: false, figures, drawn: true, cut: [] };
      const [white, black] = ['rgb(255, 255, 255)', 'rgb(20, 24, 29)'];
      let views = 0;
      const look = async (): Promise<unknown> => {
        if (screenshots !== undefined)
          writeFileSync(join(screenshots, `${name}-${views++}.png`), await browser!.screenshot());
        return browser!.evaluate(LOOK);
      };

      await browser!.show({ width: 1200 });
      assert.deepEqual(await look(), { ...good, narrow: false, background: white });
      await browser!.show({ width: 1200, scheme: 'dark' });
      assert.deepEqual(await look(), { ...good, narrow: false, background: black });
      for (const width of [390, 360]) {
        await browser!.show({ width });
        assert.deepEqual(await look(), { ...good, narrow: true, background: white }, `${width} pixels`);
      }
      // Paper is white, whatever the screen is.
      await browser!.show({ width: 720, scheme: 'dark', media: 'print' });
      assert.deepEqual(await look(), { ...good, narrow: false, background: white });
      assert.deepEqual(browser!.requests, [address]);
    });
  }

  test('what a report is made to ask for, the page forbids', async () => {
    const file = join(directory, 'tampered.html');
    const image = join(directory, 'image.svg');
    writeFileSync(image, '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
    writeFileSync(file, PAGES.bench.html.replace('<main>', `<main><img src="${pathToFileURL(image).href}">`));
    await browser!.open(pathToFileURL(file).href);
    assert.equal(await browser!.evaluate("document.querySelector('img').naturalWidth"), 0);
  });
});
