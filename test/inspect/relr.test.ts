/** RELR against GNU ld, which packs the relative relocations of a position-independent program with `-z pack-relative-relocs`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../src/base/bytes.ts';
import { findSection, readElf, sectionBytes } from '../../src/elf/read.ts';
import { encodeRelr, sitesForRelr } from '../../src/inspect/relr.ts';
import { scratchFile } from '../relocs/fixtures.ts';

/** Addresses of the sites, and the words that ld made of them. */
function packByLinker(gaps: readonly number[]): { readonly sites: number[]; readonly relr: Uint8Array } {
  const [s, o, out] = ['relr.s', 'relr.o', 'relr.elf'].map(scratchFile) as [string, string, string];
  const words = gaps.map((gap) => `.fill ${gap}, 8, 0\n.quad start`).join('\n');
  writeFileSync(s, `.text\n.globl start\nstart: ret\n.section .sites, "aw"\n.balign 8\n${words}\n`);
  execFileSync('as', ['--64', '-o', o, s]);
  execFileSync('ld', ['-pie', '-e', 'start', '-z', 'pack-relative-relocs', '-o', out, o]);
  const elf = readElf(new Uint8Array(readFileSync(out)));
  let at = Number(findSection(elf, '.sites')!.addr);
  const sites = gaps.map((gap) => {
    at += gap * 8 + 8;
    return at - 8;
  });
  return { sites, relr: sectionBytes(elf, findSection(elf, '.relr.dyn')!) };
}

test('packs as GNU ld does', () => {
  const gaps: readonly (readonly number[])[] = [
    [0],
    [5, 0, 0, 0],
    [0, ...Array.from({ length: 200 }, () => 0)],
    [0, 62, 0, 63, 64, 61, 1, 125, 126, 127],
    Array.from({ length: 300 }, (_, index) => (index * index) % 97),
  ];
  for (const list of gaps) {
    const { sites, relr } = packByLinker(list);
    assert.deepEqual(encodeRelr(Uint32Array.from(sites)), relr, list.join(' '));
  }
});

/** As the specification tells a loader to read it. */
function unpack(relr: Uint8Array): bigint[] {
  const view = viewOf(relr);
  const sites: bigint[] = [];
  let where = 0n;
  for (let at = 0; at < relr.length; at += 8) {
    const word = view.getBigUint64(at, true);
    if (word % 2n === 0n) {
      sites.push(word);
      where = word + 8n;
      continue;
    }
    for (let bit = 1n; bit < 64n; bit++) if ((word >> bit) % 2n === 1n) sites.push(where + (bit - 1n) * 8n);
    where += 63n * 8n;
  }
  return sites;
}

test('says what it was given: link addresses of the aligned sites', () => {
  const gaps = fc.array(fc.oneof(fc.nat(2), fc.nat(130), fc.nat(100_000)), { maxLength: 200 });
  fc.assert(
    fc.property(gaps, fc.nat(7), (steps, odd) => {
      let at = 0x8100_0000;
      const sites = steps.map((step) => (at += 8 + step * 8));
      const relr = encodeRelr(Uint32Array.from(sites));
      assert.deepEqual(
        unpack(relr),
        sites.map((site) => 0xffff_ffff_0000_0000n + BigInt(site)),
      );
      assert.ok(relr.length <= sites.length * 8);
      const shifted = Uint32Array.from([...sites, at + 8 + odd]);
      assert.deepEqual(Array.from(sitesForRelr(shifted)), odd === 0 ? [...shifted] : sites);
    }),
  );
});
