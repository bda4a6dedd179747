/**
 * The page for browsers, in a real one: that it gives what the command line gives, says what the command line says, and can be used by everybody. With
 * Debian's kernels: test/boot/page.test.ts.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { buildPage } from '../../scripts/page/build.ts';
import { Writer } from '../../src/base/bytes.ts';
import { SETUP } from '../../src/bzimage/header.ts';
import { COMPRESSIONS } from '../../src/codecs/formats.ts';
import { EHDR, PHDR, SHDR, SHDR_SIZE, writeFields } from '../../src/elf/fields.ts';
import { grow, writeSparse } from '../big-vmlinux.ts';
import { makeBzImage, makePe, withSizeWord } from '../bzimage/make-image.ts';
import { Browser } from '../cli/browser.ts';
import { KSLIDE } from '../cli/program.ts';
import { compress, Random } from '../codecs/tools.ts';
import { DATA, makeVmlinux } from '../make-vmlinux.ts';
import { DATA_AT, link, makeRecoverKernel } from '../recover/make-kernel.ts';
import { openPage } from './driver.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-page-'));
after(() => rmSync(directory, { recursive: true }));

const built = await buildPage();
const pageAddress = pathToFileURL(put('kslide.html', new TextEncoder().encode(built.html))).href;

function put(name: string, bytes: Uint8Array): string {
  const file = join(directory, name);
  writeFileSync(file, bytes);
  return file;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Ended {
  /** Of what was written; undefined if nothing was. */
  readonly sha256: string | undefined;
  /** What it says on standard error, without its name. */
  readonly said: string;
}

/** What the command line makes of the same file. */
function commandLine(file: string, ...options: readonly string[]): Ended {
  const out = join(directory, 'out');
  rmSync(out, { force: true });
  const args = ['convert', file, '-o', out, ...options];
  const { stderr, status } = spawnSync(process.execPath, [...KSLIDE, ...args], { encoding: 'utf8', timeout: 120_000 });
  return {
    sha256: status === 0 ? sha256(readFileSync(out)) : undefined,
    said: stderr.replaceAll(/^kslide: /gm, '').trim(),
  };
}

const kernel = makeVmlinux();
const payloadOf = (name: (typeof COMPRESSIONS)[number]): Uint8Array => {
  const stream = compress(name, kernel);
  return name === 'gzip' ? stream : withSizeWord(stream, kernel.length);
};
const bzImage = makeBzImage({ payload: payloadOf('zstd') });
/** With sections that are loaded, as a real one has them. */
const drawn = makeVmlinux({
  edit: (elf) => {
    for (const [index, flags] of [6, 3, 3].entries())
      elf.u64(DATA.offset + DATA.size + 32 + (index + 1) * SHDR_SIZE[64] + SHDR[64].sh_flags[0], flags);
  },
});

/** A field of the setup header, changed. */
function withField(name: keyof typeof SETUP, value: number): Uint8Array {
  const copy = bzImage.slice();
  new Writer(copy).u32(SETUP[name].offset, value);
  return copy;
}

test('it is small, and has neither the disassembler nor anything of Node in it', () => {
  assert.ok(Buffer.byteLength(built.html) < 250_000, `${Buffer.byteLength(built.html)} bytes`);
  const foreign = built.sources.filter((path) => !/^(page|src)\//.test(path));
  assert.deepEqual(foreign, []);
  // Of the command line only words and drawings.
  const wrong = built.sources.filter((path) =>
    /^src\/(node|measure|shuffle|cli\/(?!reports\/(convert|facts|failure|inspect|verify)\.ts$|html\/|text\.ts$))/.test(
      path,
    ),
  );
  assert.deepEqual(wrong, []);
});

const skip = Browser.isInstalled() ? false : 'no chromium; scripts/test-setup.sh installs it where it is a package';

describe('the page in a browser', { skip }, async () => {
  const browser = skip === false ? await Browser.start() : undefined;
  after(() => browser?.close());
  const page = openPage(browser!, pageAddress);
  const downloads = join(directory, 'downloads');
  mkdirSync(downloads);
  await browser?.saveTo(downloads);

  for (const name of COMPRESSIONS) {
    test(`a bzImage with ${name}: the file that the command line writes`, async () => {
      const file = put(`vmlinuz-${name}`, makeBzImage({ payload: payloadOf(name) }));
      const expected = commandLine(file).sha256;
      assert.ok(expected !== undefined);
      await page.open();
      await page.choose(file);
      assert.match(await page.verdict(), /^Proved: /);
      assert.equal(await page.sha256(), expected);
      const saved = await page.save(downloads);
      assert.equal(saved.name, 'vmlinux-6.12.0-test');
      assert.equal(sha256(saved.bytes), expected);
      page.expectNothingAsked();
    });
  }

  test('a vmlinux of 100 MB: the same file, and memory of a few times its size', async () => {
    const file = writeSparse(join(directory, 'large'), grow(kernel, 100_003_840));
    const { size } = statSync(file);
    const expected = commandLine(file).sha256;
    await page.open();
    const before = browser!.memory();
    let peak = 0;
    await page.choose(file, () => (peak = Math.max(peak, browser!.memory() - before)));
    assert.match(await page.verdict(), /^Proved: /);
    assert.equal(await page.sha256(), expected);
    // Measured: 4.1 to 4.4 times: the file, the Blob and its way to the browser, and the copy that is proved.
    assert.ok(peak < 7 * size, `${peak} bytes`);
    rmSync(file);
  });

  test('a UKI that is dropped anywhere on the page', async () => {
    const file = put('kernel.efi', makePe({ sections: { '.linux': bzImage } }));
    const expected = commandLine(file).sha256;
    await page.open();
    await browser!.show({ width: 1000 });
    for (const [x, y] of [
      [500, 250],
      [20, 20],
    ] as const) {
      await browser!.dropFile(file, x, y);
      await page.ended();
      assert.equal(await page.sha256(), expected);
    }
  });

  const noise = new Random(7).bytes(3_000_000);
  const HOSTILE: Readonly<Record<string, () => Uint8Array>> = {
    'an empty file': () => new Uint8Array(),
    'one byte': () => Uint8Array.of(0x7f),
    noise: () => noise,
    '100 MB of noise': () => {
      const bytes = new Uint8Array(100_000_000);
      for (let at = 0; at < bytes.length; at += noise.length) bytes.set(noise.subarray(0, bytes.length - at), at);
      return bytes;
    },
    text: () => new TextEncoder().encode('<script>alert(1)</script>\n'.repeat(100)),
    'a kernel that ends in its header': () => bzImage.subarray(0, 0x210),
    'a kernel that ends in its payload': () => bzImage.subarray(0, bzImage.length - 0x200),
    'a vmlinux that ends early': () => kernel.subarray(0, 0x5800),
    'a payload with a bit flipped': () => {
      const copy = bzImage.slice();
      copy[0x400 + 0x40 + 0x60]! ^= 1;
      return copy;
    },
    'a payload that claims 4 GiB': () => {
      const copy = bzImage.slice();
      copy.fill(0xff, 0x400 + 0x40 + payloadOf('zstd').length - 4, 0x400 + 0x40 + payloadOf('zstd').length);
      return copy;
    },
    'a payload of 4 GiB': () => withField('payload_length', 0xffff_fff0),
    'a payload that begins at 4 GiB': () => withField('payload_offset', 0xffff_fff0),
    'a segment of 16 EiB': () =>
      makeVmlinux({ edit: (elf) => writeFields(elf, 64, PHDR[64], { p_filesz: 0xffff_ffff_ffff_fff0n }) }),
    '65,535 segments': () => makeVmlinux({ edit: (elf) => writeFields(elf, 0, EHDR[64], { e_phnum: 0xffff }) }),
    '65,535 sections': () => makeVmlinux({ edit: (elf) => writeFields(elf, 0, EHDR[64], { e_shnum: 0xffff }) }),
    'an i386 kernel': () => makeVmlinux({ edit: (elf) => writeFields(elf, 0, EHDR[64], { e_machine: 3 }) }),
    'a converted kernel': () => {
      const file = put('original', kernel);
      const out = join(directory, 'converted');
      spawnSync(process.execPath, [...KSLIDE, 'convert', file, '-o', out]);
      return readFileSync(out);
    },
    'an object file': () => makeVmlinux({ edit: (elf) => writeFields(elf, 0, EHDR[64], { e_type: 1 }) }),
  };
  for (const [name, make] of Object.entries(HOSTILE)) {
    test(`${name}: refused in the words of the command line`, async () => {
      const file = put('hostile', make());
      const expected = commandLine(file);
      assert.equal(expected.sha256, undefined, 'the command line takes it');
      await page.open();
      await page.choose(file);
      assert.equal(await page.message(), expected.said);
      page.expectNothingAsked();
      // The page is as good as before.
      await page.choose(put('good', bzImage));
      assert.match(await page.verdict(), /^Proved: /);
    });
  }

  test('a kernel without relocations: found in the image if asked for, with the warnings, and not called proved', async () => {
    const code = `48c7c7${link(DATA_AT)} 48c7c6${link(DATA_AT + 8)}`;
    const file = put('bare', makeRecoverKernel({ code }));
    await page.open();
    await page.choose(file);
    assert.equal(await page.message(), commandLine(file).said);
    await page.click('#recover');
    const expected = commandLine(file, '--recover', '-q');
    assert.ok(expected.sha256 !== undefined);
    assert.equal(await page.sha256(), expected.sha256);
    assert.deepEqual(await page.warnings(), expected.said.replaceAll(/^warning: /gm, 'Warning: ').split('\n'));
    const verdict = await page.verdict();
    assert.match(verdict, /^Every byte of the file follows from the original and the recovered relocations\./);
    assert.match(verdict, /Whether the relocations are right is not judged here/);
    assert.doesNotMatch(verdict, /[Pp]roved/);
  });

  test('a kernel with doubts: each is shown, and nothing is written until they are accepted', async () => {
    const code = `48c7c7${link(DATA_AT)} 48c7c6${link(DATA_AT + 8)} 48c7c3[00000000]`;
    const file = put('doubtful', makeRecoverKernel({ code }));
    await page.open();
    await page.choose(file);
    await page.click('#recover');
    const told = commandLine(file, '--recover').said.split('\n');
    assert.deepEqual(
      await browser!.evaluate(
        "Array.from(document.querySelectorAll('#outcome li'), (item) => `doubt: ${item.textContent}`)",
      ),
      told.slice(0, -1),
    );
    assert.ok(told.at(-1)!.startsWith(`${await page.message()}: decide each`));
    assert.equal(await browser!.evaluate("document.getElementById('save')"), null);
    await page.click('#accept');
    assert.equal(await page.sha256(), commandLine(file, '--recover', '--accept-doubts').sha256);
  });

  test('markup in names is shown, and is no markup', async () => {
    const image = makeBzImage({ payload: payloadOf('zstd'), kernelVersion: '6.12<b>x</b>/../y (a@b) #1 <i>z</i>' });
    const file = put('<u>k', image);
    await page.open();
    await page.choose(file);
    assert.match(await page.verdict(), /^Proved: /);
    assert.equal(await browser!.evaluate("document.querySelectorAll('b, i, u').length"), 0);
    assert.match(
      String(await browser!.evaluate("document.querySelector('#map figcaption').textContent")),
      /, <u>k, converted\.$/,
    );
    const saved = await page.save(downloads);
    assert.equal(saved.name, 'vmlinux-6.12_b_x_b_.._y');
    assert.equal(sha256(saved.bytes), commandLine(file).sha256);
    page.expectNothingAsked();
  });

  test('by keyboard alone: choose, cancel, read, save', async () => {
    const file = put('vmlinuz', bzImage);
    await page.open();
    const focused = (): Promise<unknown> =>
      browser!.evaluate('document.activeElement.id || document.activeElement.textContent');
    const ring = (): Promise<unknown> => browser!.evaluate('getComputedStyle(document.activeElement).outlineStyle');
    await browser!.press('Tab');
    assert.equal(await focused(), 'file');
    assert.equal(await ring(), 'solid');
    await browser!.chooseWhenAsked(file, () => browser!.press('Space'));
    await page.ended();
    assert.equal(await focused(), 'outcome');
    await browser!.press('Tab');
    assert.equal(await focused(), 'save');
    assert.equal(await ring(), 'solid');
    const saved = await page.saveBy(downloads, () => browser!.press('Enter'));
    assert.equal(sha256(saved.bytes), commandLine(file).sha256);
    // Everything else that can be used is reached too, and opened.
    const reached: unknown[] = [];
    for (let folds = 0; folds < 5; folds++) {
      await browser!.press('Tab');
      reached.push(await focused());
      assert.equal(await ring(), 'solid');
      await browser!.press('Enter');
      assert.equal(await browser!.evaluate('document.activeElement.parentElement.open'), true);
      // A table that is open can be scrolled by keyboard, so it is the next.
      if (await browser!.evaluate("document.activeElement.nextElementSibling.className === 'scroll'"))
        await browser!.press('Tab');
    }
    assert.deepEqual(reached, [
      'The proof',
      'Segments',
      'Relocations by section',
      'How far apart relocations are',
      'Size of the table in each form',
    ]);
  });

  test('what is cancelled, and what another file replaces, says nothing more', async () => {
    await page.open();
    // In one go, so that the worker cannot be quicker.
    const state = await browser!.evaluate(`(() => {
      const input = document.getElementById('file');
      const give = (name, bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name));
        input.files = transfer.files;
        input.dispatchEvent(new Event('change'));
      };
      const shown = (id) => !document.getElementById(id).hidden;
      give('first', new Uint8Array(5000));
      const during = [shown('working'), document.getElementById('status').textContent];
      document.getElementById('cancel').click();
      const cancelled = [shown('working'), shown('outcome'), document.getElementById('status').textContent, document.activeElement.id];
      give('second', new Uint8Array(5000));
      give('third', new TextEncoder().encode('hello'));
      return { during, cancelled };
    })()`);
    assert.deepEqual(state, {
      during: [true, 'Reading the file'],
      cancelled: [false, false, 'Cancelled', 'file'],
    });
    await page.ended();
    assert.equal(await page.message(), commandLine(put('hello', new TextEncoder().encode('hello'))).said);
    assert.equal(await browser!.evaluate("document.getElementById('name').textContent"), 'third, 5 bytes');
  });

  test('progress: moves inside of decoding, never back, and each step is spoken', async () => {
    const noisy = new Uint8Array(9_000_000);
    for (let at = 0; at < noisy.length; at += noise.length) noisy.set(noise, at);
    const large = makeVmlinux();
    const sparse = grow(large, 8_998_912);
    const bytes = new Uint8Array(sparse.size);
    for (const piece of sparse.pieces) bytes.set(piece.bytes, piece.offset);
    const from = sparse.pieces[0]!.bytes.length;
    bytes.set(noisy.subarray(0, 8_998_912), from);
    const file = put(
      'slow',
      makeBzImage({ payload: withSizeWord(compress('bzip2', bytes), bytes.length), fields: { init_size: 0x200_0000 } }),
    );
    await page.open();
    await browser!.evaluate(`(() => {
      window.seen = [];
      const look = () => seen.push([document.getElementById('step').textContent, document.getElementById('bar').value]);
      new MutationObserver(look).observe(document.getElementById('percent'), { childList: true, characterData: true, subtree: true });
      window.spoken = [];
      new MutationObserver(() => spoken.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), { childList: true });
    })()`);
    await page.choose(file);
    assert.match(await page.verdict(), /^Proved: /);
    const seen = (await browser!.evaluate('seen')) as readonly (readonly [string, number])[];
    let last = 0;
    for (const [, value] of seen) {
      assert.ok(value >= last && value <= 100, `${value} after ${last}`);
      last = value;
    }
    // Ten blocks of 900 kB: what two of them have in common is that the last may come with the first of the next step.
    for (const step of ['Decompressing the kernel', 'Reading and decompressing the original again, for the proof'])
      assert.ok(new Set(seen.filter(([name]) => name === step).map(([, value]) => value)).size >= 3, step);
    const spoken = (await browser!.evaluate('spoken')) as readonly string[];
    assert.ok(spoken.includes('Decompressing the kernel'));
    assert.equal(spoken.at(-1), '6.12.0-test (bzimage, bzip2): converted');
    assert.ok(spoken.length < 10, `${spoken.length} times`);
  });

  test('readable on every screen, light and dark, and the picture is whole', async () => {
    await page.open();
    await page.choose(put('vmlinux', drawn));
    const screenshots = process.env['KSLIDE_SCREENSHOTS'];
    for (const width of [1200, 390, 320])
      for (const scheme of ['light', 'dark'] as const) {
        await browser!.show({ width, scheme });
        await browser!.waitUntil(
          "document.querySelector('#map svg').getBoundingClientRect().width === Math.floor(document.getElementById('facts').clientWidth)",
          'a picture as wide as the page',
        );
        if (screenshots !== undefined)
          writeFileSync(join(screenshots, `page-${scheme}-${width}.png`), await browser!.screenshot());
        assert.deepEqual(
          await browser!.evaluate(LOOK),
          {
            tooWide: false,
            cut: [],
            background: scheme === 'dark' ? 'rgb(20, 24, 29)' : 'rgb(255, 255, 255)',
            added: 2,
            contrast: true,
          },
          `${width}, ${scheme}`,
        );
      }
    await browser!.show({ width: 1200 });
  });

  test('labels: every control has a name, and the picture says what it shows', async () => {
    await page.open();
    await page.choose(put('vmlinux', drawn));
    const names = await browser!.evaluate(`Array.from(
      document.querySelectorAll('input, button, progress, a, summary, svg'),
      (element) => element.labels?.[0]?.textContent ?? element.getAttribute('aria-label') ?? element.textContent,
    )`);
    assert.ok(
      (names as readonly string[]).every((name) => name.trim() !== ''),
      JSON.stringify(names),
    );
    assert.match(
      String(await browser!.evaluate("document.querySelector('#map svg').getAttribute('aria-label')")),
      /^The kernel in memory, 2\.19 MB from physical 0x1000000: 3 segments, code about 12\.3 kB, data about 8\.21 kB, zeros about 12\.3 kB, kslide's own part at the end$/,
    );
    assert.equal(await browser!.evaluate("document.getElementById('status').getAttribute('role')"), 'status');
  });

  test('the policy: no network, no script but its own', async () => {
    await page.open();
    assert.equal(
      await browser!.evaluate("fetch('https://example.org/').then(() => 'read', () => 'refused')"),
      'refused',
    );
    assert.equal(
      await browser!.evaluate(`(() => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        return window.ran === true;
      })()`),
      false,
    );
    assert.deepEqual(
      browser!.requests.filter((request) => !/^(file|blob):/.test(request)),
      [],
    );
  });
});

/** WCAG: 4.5 to 1 for text. */
const LOOK = `(() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((value) => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const { backgroundColor: c } = getComputedStyle(e); if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const readable = (element, colour) => { const [a, b] = [luminance(colour), luminance(behind(element))].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05) >= 4.5; };
  const texts = [...document.querySelectorAll('h1, h2, h3, p, dt, dd, summary, a, label, th, td, figcaption')].filter((e) => e.checkVisibility());
  const svg = document.querySelector('#map svg');
  const outer = svg.getBoundingClientRect();
  return {
    tooWide: document.documentElement.scrollWidth > innerWidth,
    background: getComputedStyle(document.body).backgroundColor,
    cut: [...svg.querySelectorAll('text')].filter((text) => { const inner = text.getBoundingClientRect(); return inner.left < outer.left - 1 || inner.right > outer.right + 1; }).map((text) => text.textContent),
    added: [...svg.querySelectorAll('rect.added')].filter((rect) => rect.getBoundingClientRect().width >= 3 && rect.querySelector('title')).length,
    contrast: texts.every((e) => readable(e, getComputedStyle(e).color)) && [...svg.querySelectorAll('text')].every((e) => readable(svg, getComputedStyle(e).fill)),
  };
})()`;
