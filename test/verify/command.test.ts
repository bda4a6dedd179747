/** The command: exit codes, what is printed where, and the text of the report. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux, TABLE } from '../make-vmlinux.ts';
import { forge, original } from './forge.ts';
import { KSLIDE } from '../cli/program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-verify-'));
after(() => rmSync(directory, { recursive: true }));

const root = fileURLToPath(new URL('../..', import.meta.url));

function file(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

const kernel = await original();
const right = forge(kernel);
const wrong = right.slice();
wrong[0x8030] = 0xf9;
const bzImage = file('bzImage', makeBzImage({ payload: gzipSync(makeVmlinux()) }));
const vmlinux = file('vmlinux', kernel.kernel.elf.bytes);
const relocs = file('vmlinux.relocs', encodeRelocationTable(TABLE));
const good = file('good', right);
const bad = file('bad', wrong);

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function verify(args: readonly string[], input?: Uint8Array): Ran {
  const ran = spawnSync(process.execPath, [...KSLIDE, 'verify', ...args], {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
    ...(input === undefined ? {} : { input }),
  });
  return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr };
}

const HEAD = `original     6.12.0-test (bzimage, gzip)
relocations  6
slots        504, every 2 MiB up to 0x3ee00000
step         2 MiB, the least that every kernel allows
`;

test('proved: every check with a tick, exit code 0', () => {
  assert.deepEqual(verify([bzImage, good]), {
    code: 0,
    stderr: '',
    stdout: `${HEAD}
✓ elf-header       the original's, except where the header tables are and how many entries they have
✓ program-headers  the original's, and one more PT_LOAD
✓ placement        the added segment lies outside the image; no two segments overlap, physically or virtually
✓ original-bytes   unchanged, except headers and hook
✓ hook             leads from e_entry to the program; the bytes under it are saved
✓ program          the one that this version of kslide writes
✓ parameters       each has the one value that is right for this kernel
✓ slots            one for each multiple of the alignment by which the image can move within KERNEL_IMAGE_SIZE
✓ table            decodes to the original's relocations
✓ section-names    the original's, and the added segment's
✓ section-headers  the original's, and the added segment's with its true ranges
✓ padding          zero
✓ nothing-else     every byte of the file is accounted for
✓ dry-run          slides applied in memory give the image that the original's own table gives

proved: the original, made self-relocating, and nothing else; slides tried: 0x0 0x200000 0x14e00000 0x29e00000 0x3ee00000
form: direct (a vmlinux, as \`kslide convert\` writes it); table: compact
taken as given:
- the original is the kernel that is meant: the converted file is compared with it, and its code is not judged
- the program's machine code does what the model of it does: its tests and real boots show that, not this proof
`,
  });
});

test('refuted: the offence, exit code 1', () => {
  assert.deepEqual(verify([bzImage, bad]), {
    code: 1,
    stderr: '',
    stdout: `${HEAD}
✓ elf-header       the original's, except where the header tables are and how many entries they have
✓ program-headers  the original's, and one more PT_LOAD
✓ placement        the added segment lies outside the image; no two segments overlap, physically or virtually
✓ original-bytes   unchanged, except headers and hook
✓ hook             leads from e_entry to the program; the bytes under it are saved
✓ program          the one that this version of kslide writes
✓ parameters       each has the one value that is right for this kernel
✗ slots            one for each multiple of the alignment by which the image can move within KERNEL_IMAGE_SIZE
- table            not checked
- section-names    not checked
- section-headers  not checked
- padding          not checked
- nothing-else     not checked
- dry-run          not checked

refuted by slots: parameters: slot_count at offset 0x8030 is 0x1f9, expected 0x1f8
`,
  });
});

test('--relocs, standard input, --json and --quiet', () => {
  const json = verify([vmlinux, '-', '--relocs', relocs, '--json'], wrong);
  assert.equal(json.code, 1, json.stderr);
  const { verdict, offence } = JSON.parse(json.stdout) as Record<string, unknown>;
  assert.equal(verdict, 'refuted');
  assert.deepEqual(offence, {
    check: 'slots',
    what: 'parameters: slot_count',
    offset: 0x8030,
    found: '0x1f9',
    expected: '0x1f8',
  });
  assert.deepEqual(verify([vmlinux, good, '--relocs', relocs, '--quiet']), { code: 0, stdout: '', stderr: '' });
  assert.deepEqual(verify([bzImage, bad, '--quiet']), { code: 1, stdout: '', stderr: '' });
});

test('unusable: one line, exit code 2', () => {
  const refused = (args: readonly string[], line: RegExp): void => {
    const { code, stdout, stderr } = verify(args);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, line);
    assert.equal(stderr.trimEnd().split('\n').length, 1);
  };
  refused([vmlinux, good], /^kslide: kernel has no relocation table: original: vmlinux: expected/);
  refused([good, bzImage], /^kslide: kernel is already converted: original/);
  refused([vmlinux, bzImage, '--relocs', relocs], /^kslide: not a kernel image: converted: file is a bzimage/);
  refused([bzImage, join(directory, 'missing')], /missing/);
  refused(['-', '-'], /^kslide: ORIGINAL and CONVERTED both want standard input\n$/);
});
