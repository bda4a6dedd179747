/**
 * Links, anchors and repository paths in the pages: README.md, CONTRIBUTING.md and all of docs. A page that names a file names one that exists.
 *
 * Anchors are made of headings as GitHub makes them: lower case, punctuation dropped, a hyphen for each space. The second heading of a name gets `-1`.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Paths in other projects that look like paths of this repository. */
const ELSEWHERE = new Set(['scripts/extract-vmlinux', 'src/vmm/src/arch/x86_64/mod.rs']);

const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

const read = (page: string): string => readFileSync(join(ROOT, page), 'utf8');

const withoutFences = (text: string): string => text.replace(/^```[^]*?^```$/gm, '');

function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of withoutFences(text).matchAll(/^#{1,6} (.+)$/gm)) {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What is wrong with a link, or undefined. */
function faultOf(page: string, target: string): string | undefined {
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? page : join(dirname(page), path);
  if (!existsSync(join(ROOT, file))) return `${file} does not exist`;
  if (anchor === undefined || anchorsOf(read(file)).has(anchor)) return undefined;
  return `${file} has no heading for #${anchor}`;
}

for (const page of PAGES) {
  test(`${page}: relative links and anchors lead somewhere`, () => {
    const faults: string[] = [];
    for (const [link, target = ''] of withoutFences(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const fault = faultOf(page, target);
      if (fault !== undefined) faults.push(`${link}: ${fault}`);
    }
    assert.deepEqual(faults, []);
  });

  test(`${page}: the paths of this repository that it names exist`, () => {
    const missing = new Set<string>();
    for (const [match] of read(page).matchAll(/(?<![\w./-])(?:src|scripts|test|bench|docs|bin|\.ci)\/[\w./-]*\w/g)) {
      if (!ELSEWHERE.has(match) && !existsSync(join(ROOT, match))) missing.add(match);
    }
    assert.deepEqual([...missing], []);
  });
}

test('anchors as GitHub makes them', () => {
  const text = '# A `b` & c: d-e!\n## Twice\n```\n# in a fence\n```\n## Twice\n### [text](x.md), at the end\n';
  assert.deepEqual([...anchorsOf(text)], ['a-b--c-d-e', 'twice', 'twice-1', 'text-at-the-end']);
});
