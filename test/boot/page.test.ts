/** The page for browsers with a real kernel: the command line's file, whatever the kernel is compressed with. Nothing is booted: what it writes is what other tests boot. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { buildPage } from '../../scripts/page/build.ts';
import { readSetupHeader } from '../../src/bzimage/header.ts';
import { decodePayload, readPayload } from '../../src/bzimage/payload.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import type { Compression } from '../../src/codecs/formats.ts';
import { makeBzImage, withSizeWord } from '../bzimage/make-image.ts';
import { Browser } from '../cli/browser.ts';
import { KSLIDE } from '../cli/program.ts';
import { run } from '../codecs/tools.ts';
import type { Tool } from '../codecs/tools.ts';
import { openPage } from '../page/driver.ts';
import { findKernels, inTurn, oldestAndNewest } from './lane.ts';

/** Quick ones: how well it is compressed does not matter here. */
const WAYS: readonly (readonly [Compression, Tool, string])[] = [
  ['gzip', 'gzip', '-n -1'],
  ['xz', 'xz', '--check=crc32 --x86 --lzma2=preset=0'],
  ['lz4', 'lz4', '-l -1 - -'],
  ['zstd', 'zstd', '-1'],
];

/** What the browser's processes may take for it, for each byte of the vmlinux. Measured with Debian's cloud kernels: 5.1 to 6.9 bytes, 290 to 360 MB. */
const MOST_MEMORY = 12;

const skip = Browser.isInstalled() ? false : 'no chromium; scripts/test-setup.sh installs it where it is a package';
const directory = mkdtempSync(join(tmpdir(), 'kslide-page-'));
after(() => rmSync(directory, { recursive: true }));
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe("the page and Debian's kernels", { skip }, async () => {
  const browser = skip === false ? await Browser.start() : undefined;
  after(() => browser?.close());
  const downloads = join(directory, 'downloads');
  mkdirSync(downloads);
  await browser?.saveTo(downloads);
  const html = join(directory, 'kslide.html');
  writeFileSync(html, (await buildPage()).html);
  const page = openPage(browser!, pathToFileURL(html).href);

  async function compare(file: string): Promise<void> {
    const out = join(directory, 'out');
    const { status, stderr } = spawnSync(process.execPath, [...KSLIDE, 'convert', file, '-o', out, '-q']);
    assert.equal(status, 0, String(stderr));
    const expected = readFileSync(out);
    await page.open();
    const before = browser!.memory();
    let peak = 0;
    await page.choose(file, () => (peak = Math.max(peak, browser!.memory() - before)));
    assert.match(await page.verdict(), /^Proved: /);
    assert.equal(await page.sha256(), sha256(expected));
    const saved = await page.save(downloads);
    assert.equal(sha256(saved.bytes), sha256(expected));
    assert.ok(peak < MOST_MEMORY * expected.length, `${peak} bytes for a vmlinux of ${expected.length}`);
    page.expectNothingAsked();
  }

  const found = await findKernels();
  for (const kernel of oldestAndNewest(found)) {
    test(`${kernel.name}: as it is`, () => inTurn(() => compare(kernel.image)));
  }

  const [kernel] = oldestAndNewest(found).slice(-1);
  for (const [compression, tool, options] of WAYS) {
    test(`${kernel!.name}: compressed anew with ${compression}`, () =>
      inTurn(async () => {
        const image = new Uint8Array(readFileSync(kernel!.image));
        const whole = await decodePayload(readPayload(image, readSetupHeader(image)), coreCodecs);
        const stream = run(tool, options, whole);
        const payload = compression === 'gzip' ? stream : withSizeWord(stream, whole.length);
        const file = join(directory, compression);
        writeFileSync(file, makeBzImage({ payload, fields: { init_size: 0x800_0000 } }));
        await compare(file);
        rmSync(file);
      }));
  }
});
