/**
 * The direction of imports. Every file under src/ stands in a room, and each room may import from the rooms that are named here and from no other.
 * A file in no room fails, and so does a rule that nothing needs any more. What each room is for: docs/design.md, "The rooms".
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * Rooms, from the ground up; each with those that it may import from. A room is a folder with all below it, but for folders that are rooms of their
 * own; `pipelines` are the files at the root of src/, one a pipeline, with their folders.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  elf: ['base'],
  asm: ['base'],
  wasm: ['base'],
  codecs: ['base', 'wasm'],
  kaslr: ['base'],
  'relocs/tables': ['base', 'elf'],
  segment: ['base', 'elf', 'kaslr', 'relocs/tables'],
  stub: ['base', 'asm', 'segment', 'relocs/tables'],
  bzimage: ['base', 'codecs', 'elf', 'stub'],
  kernel: ['base', 'elf', 'codecs', 'bzimage', 'segment', 'relocs/tables'],
  relocs: ['base', 'elf', 'kernel', 'relocs/tables'],
  pipelines: ['base', 'elf', 'codecs', 'bzimage', 'kaslr', 'kernel', 'relocs', 'relocs/tables', 'segment', 'stub'],
  verify: ['base', 'elf', 'codecs', 'bzimage', 'kernel', 'relocs', 'relocs/tables', 'segment', 'stub'],
  shuffle: ['base', 'elf', 'codecs', 'kernel', 'relocs', 'relocs/tables', 'pipelines'],
  'shuffle/verify': [
    'base',
    'elf',
    'codecs',
    'kernel',
    'relocs',
    'relocs/tables',
    'segment',
    'shuffle',
    'stub',
    'verify',
  ],
  node: ['base', 'elf', 'asm', 'codecs', 'bzimage', 'kernel', 'relocs', 'pipelines'],
  measure: [
    'base',
    'elf',
    'asm',
    'codecs',
    'bzimage',
    'kaslr',
    'kernel',
    'relocs',
    'relocs/tables',
    'segment',
    'stub',
    'pipelines',
    'node',
  ],
  cli: [
    'base',
    'elf',
    'kaslr',
    'kernel',
    'relocs',
    'segment',
    'stub',
    'pipelines',
    'verify',
    'shuffle',
    'shuffle/verify',
    'node',
    'measure',
  ],
};

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
