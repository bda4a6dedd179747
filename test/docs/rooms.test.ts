/** The map of the source in docs/design.md names the rooms, their order and their imports as test/rooms.ts does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ROOMS } from '../rooms.ts';

test("docs/design.md's map has the rooms, each with what it may import", () => {
  const page = readFileSync(new URL('../../docs/design.md', import.meta.url), 'utf8');
  const map = page.split('\n## ').find((section) => section.startsWith('The map of the source'))!;
  const rows = Array.from(
    map.matchAll(/^\| \[([^\]]+)\]\(([^)]+)\) *\|[^|]*\| (.*?) *\|$/gm),
    ([, room, link, imports]) => ({ room, link, imports }),
  );
  const expected = Object.entries(ROOMS).map(([room, imports]) => ({
    room,
    link: room === 'pipelines' ? '../src' : `../src/${room}`,
    imports: imports.length === 0 ? 'nothing' : imports.join(', '),
  }));
  assert.deepEqual(rows, expected);
});
