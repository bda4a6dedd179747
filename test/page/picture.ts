/** The picture of the page in README.md: what it shows of a kernel that it has converted. */
import assert from 'node:assert/strict';
import { fetchKernel } from '../../scripts/kernels/debian.ts';
import { Browser } from '../cli/browser.ts';

/** CSS pixels. */
const WIDTH = 800;

/** WebP. `kernel`: a file; by default Debian's newest cloud kernel. */
export async function takePicture(address: string, kernel?: string): Promise<Uint8Array> {
  const file = kernel ?? (await fetchKernel({ flavour: 'cloud' })).image;
  const browser = await Browser.start();
  try {
    await browser.open(address);
    await browser.show({ width: WIDTH });
    await browser.choose('#file', file);
    assert.deepEqual(browser.complaints, []);
    await browser.waitUntil("document.getElementById('save')", 'a converted kernel');
    await browser.evaluate('document.activeElement.blur()');
    const end = await browser.evaluate("document.getElementById('map').getBoundingClientRect().bottom + scrollY + 16");
    return await browser.picture(Math.ceil(Number(end)));
  } finally {
    await browser.close();
  }
}
