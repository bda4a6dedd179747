/**
 * The direction of imports. Every file under src/ stands in a room, and each room may import from the rooms that rooms.ts names and from no other.
 * A file in no room fails, and so does a rule that nothing needs any more. What each room is for: docs/design.md, "The map of the source".
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ROOMS } from './rooms.ts';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));

/** The doors: files that only re-export, and so import from anywhere below. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  'index.ts': ['cli', 'measure', 'node', 'shuffle', 'shuffle/verify'],
  'node/index.ts': ['cli', 'measure', 'shuffle', 'shuffle/verify'],
  'shuffle/index.ts': ['cli', 'measure', 'node'],
};

/** Folders of pipelines that have more than a page. */
const PIPELINE_FOLDERS = new Set(['inspect', 'randomize']);

/**
 * `verify` proves what the writers wrote, so it must decide everything by itself. It shares readers, names of fields and formats, and the assembled
 * programs. These are all the files that it may import; a new one is added only if it decides nothing about what is written.
 */
const SHARED_WITH_VERIFY: readonly string[] = [
  'base/addresses.ts',
  'base/bytes.ts',
  'base/errors.ts',
  'base/search.ts',
  'bzimage/crc32.ts',
  'bzimage/header.ts',
  'bzimage/payload.ts',
  'bzimage/pe.ts',
  'codecs/formats.ts',
  'elf/constants.ts',
  'elf/fields.ts',
  'elf/read.ts',
  'kernel/input.ts',
  'kernel/open.ts',
  'kernel/vmlinux.ts',
  'relocs/find.ts',
  'relocs/tables/apply.ts',
  'relocs/tables/kernel-table.ts',
  'segment/layout.ts',
  'stub/segment-loader-program.ts',
  'stub/segment-loader.ts',
  'stub/program.ts',
];
/** What segment/layout.ts says about a finished segment is shared. Where the parts of one go is the writer's decision, and `verify`'s own. */
const DECIDED_BY_THE_WRITER = ['layOutSegment', 'segmentAddress'];

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'));

function roomOf(file: string): string | undefined {
  const [first = ''] = file.split('/');
  if (!file.includes('/') || PIPELINE_FOLDERS.has(first)) return 'pipelines';
  return Object.keys(ROOMS)
    .filter((room) => file.startsWith(`${room}/`))
    .toSorted((a, b) => b.length - a.length)[0];
}

interface Import {
  readonly file: string;
  readonly names: string;
}

/** Relative imports of a file, static and dynamic, as paths below src/. */
function importsOf(file: string): Import[] {
  const source = readFileSync(join(SRC, file), 'utf8');
  const found = source.matchAll(
    /(?:\b(?:import|export)\b([^;'"]*?)from\s*|\bimport\s*\(\s*|\bimport\s+)['"](\.[^'"]+)['"]/g,
  );
  return Array.from(found, ([, names = '', path]) => ({ file: normalize(join(dirname(file), path!)), names }));
}

test('every file has a room, and imports only what its room may', () => {
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const file of files) {
    const room = roomOf(file);
    if (room === undefined) {
      wrong.push(`${file} is in no room`);
      continue;
    }
    for (const { file: imported } of importsOf(file)) {
      const other = roomOf(imported);
      assert.ok(files.includes(imported), `${file} imports ${imported}`);
      if (other === room || other === undefined) continue;
      used.add(`${room} ${other}`);
      const doors = DOORS[file];
      const allowed = doors === undefined ? ROOMS[room]!.includes(other) : !doors.includes(other);
      if (!allowed) wrong.push(`${file} (${room}) imports ${imported} (${other})`);
    }
  }
  assert.deepEqual(wrong, []);
  const unused = Object.entries(ROOMS).flatMap(([room, others]) =>
    others.filter((other) => !used.has(`${room} ${other}`)).map((other) => `${room} need not import ${other}`),
  );
  assert.deepEqual(unused, []);
});

test('no two rooms import each other, directly or around', () => {
  const order = Object.keys(ROOMS);
  for (const [room, others] of Object.entries(ROOMS))
    for (const other of others) assert.ok(order.indexOf(other) < order.indexOf(room), `${room} stands below ${other}`);
});

test('nothing that decides for the writer decides in verify', () => {
  const used = new Set<string>();
  for (const file of files.filter((path) => path.startsWith('verify/'))) {
    for (const { file: imported, names } of importsOf(file)) {
      if (imported.startsWith('verify/')) continue;
      used.add(imported);
      assert.ok(SHARED_WITH_VERIFY.includes(imported), `${file} imports ${imported}`);
      const decided = DECIDED_BY_THE_WRITER.filter((name) => names.includes(name));
      assert.deepEqual(decided, [], file);
    }
  }
  assert.deepEqual(
    SHARED_WITH_VERIFY.filter((file) => !used.has(file)),
    [],
  );
});

test('nothing imports the command line, and the core reaches neither Node nor the disassembler', () => {
  for (const file of files) {
    const room = roomOf(file)!;
    const source = readFileSync(join(SRC, file), 'utf8');
    if (!['node', 'measure', 'cli'].includes(room)) assert.doesNotMatch(source, /from 'node:/, file);
    if (!['shuffle', 'shuffle/verify'].includes(room)) assert.doesNotMatch(source, /from 'iced-x86'/, file);
  }
});

/** The page for browsers stands outside of src/. */
test('of the command line, the page imports words and drawings only; and neither Node nor the disassembler', () => {
  const PAGE = fileURLToPath(new URL('../page/', import.meta.url));
  const words = /^cli\/(reports\/(convert|facts|failure|inspect|verify)|html\/\w+(-\w+)*|text)\.ts$/;
  for (const file of readdirSync(PAGE).filter((path) => path.endsWith('.ts'))) {
    const source = readFileSync(join(PAGE, file), 'utf8');
    assert.doesNotMatch(source, /from '(node:|iced-x86|commander)/, file);
    for (const [, imported = ''] of source.matchAll(/from '\.\.\/src\/([^']+)'/g)) {
      const room = roomOf(imported)!;
      const allowed =
        room === 'cli' ? words.test(imported) : !['node', 'measure', 'shuffle', 'shuffle/verify'].includes(room);
      assert.ok(allowed, `page/${file} imports ${imported}`);
    }
  }
});
