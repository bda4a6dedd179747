/** The page for browsers, as tests use it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Browser } from '../cli/browser.ts';

/** A busy machine takes its time. */
const SAVE_MS = 120_000;

export interface Saved {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Page {
  open(): Promise<void>;
  /** Chooses a file, and waits for the end. `meanwhile` is called now and then. */
  choose(file: string, meanwhile?: () => void): Promise<void>;
  /** Waits until a file is done or refused. */
  ended(meanwhile?: () => void): Promise<void>;
  /** Clicks, and waits for the end of what that began. */
  click(selector: string): Promise<void>;
  save(folder: string): Promise<Saved>;
  saveBy(folder: string, begin: () => Promise<unknown>): Promise<Saved>;
  /** Why a file was refused. */
  message(): Promise<string>;
  verdict(): Promise<string>;
  warnings(): Promise<readonly string[]>;
  /** What the page says of the result. */
  sha256(): Promise<string>;
  /** Nothing was loaded but the page and its own worker, and the browser has nothing to complain of. */
  expectNothingAsked(): void;
}

const OUTCOME = "document.getElementById('outcome')";

export function openPage(browser: Browser, address: string): Page {
  const textOf = async (selector: string): Promise<string> => {
    const text = await browser.evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent`);
    assert.ok(
      typeof text === 'string',
      `${selector} is not there; the page says: ${await browser.evaluate(`${OUTCOME}.textContent`)}`,
    );
    return text;
  };
  const page: Page = {
    open: () => browser.open(address),
    async choose(file, meanwhile) {
      // What an earlier file left must not be taken for this one's.
      await browser.evaluate(`${OUTCOME}.hidden = true`);
      await browser.choose('#file', file);
      await page.ended(meanwhile);
    },
    async ended(meanwhile) {
      await browser.waitUntil(`!${OUTCOME}.hidden`, 'the end', meanwhile);
    },
    async click(selector) {
      await browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
      await page.ended();
    },
    save: (folder) => page.saveBy(folder, () => browser.evaluate("document.getElementById('save').click()")),
    async saveBy(folder, begin) {
      const name = String(await browser.evaluate("document.getElementById('save').download"));
      const file = join(folder, name);
      await begin();
      // Until it is whole, the browser gives it another name.
      for (const end = performance.now() + SAVE_MS; !existsSync(file); await sleep(50))
        assert.ok(performance.now() < end, `${file} was not saved in ${SAVE_MS} ms`);
      const bytes = readFileSync(file);
      rmSync(file);
      return { name, bytes };
    },
    message: () => textOf('#message'),
    verdict: () => textOf('#verdict'),
    async warnings() {
      return (await browser.evaluate(
        "Array.from(document.querySelectorAll('#outcome .warn:not(#verdict)'), (each) => each.textContent)",
      )) as readonly string[];
    },
    async sha256() {
      return String(
        await browser.evaluate(
          "Array.from(document.querySelectorAll('#sizes dt')).find((dt) => dt.textContent === 'sha256')?.nextElementSibling.textContent",
        ),
      );
    },
    expectNothingAsked() {
      const foreign = browser.requests.filter((request) => request !== address && !request.startsWith('blob:'));
      assert.deepEqual([foreign, browser.complaints], [[], []]);
    },
  };
  return page;
}
