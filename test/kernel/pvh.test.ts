/**
 * The PVH note, wherever a boot loader finds it: files that GNU ld has linked, and made PT_NOTEs against models of the loaders that are written down
 * here from their sources' rules, not from src/elf.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { ascii, Reader, Writer } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { coreCodecs as codecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readElf } from '../../src/elf/read.ts';
import type { ElfFile, Segment } from '../../src/elf/read.ts';
import { inspect } from '../../src/inspect.ts';
import { openKernel } from '../../src/kernel/open.ts';
import { readPvh } from '../../src/kernel/pvh.ts';
import { openMovedFile } from '../../src/node/files/randomize-file.ts';
import { randomize } from '../../src/randomize.ts';
import { verify } from '../../src/verify/verify.ts';
import { DATA, ENTRY, makeVmlinux, PVH_ENTRY, TABLE } from '../make-vmlinux.ts';

const MIB = 0x10_0000;

/** The entry that a loader takes from one PT_NOTE; undefined if it finds none there. */
type LoaderModel = (bytes: Uint8Array, segment: Segment) => number | undefined;

const up = (value: number, align: number): number => Math.floor((value + align - 1) / align) * align;
const word = (bytes: Uint8Array, at: number): number | undefined =>
  at + 4 <= bytes.length ? new Reader(bytes).u32(at, 'word') : undefined;

/** include/hw/elf_ops.h.inc, get_elf_note_type, and hw/i386/x86.c's reader: any owner, sizes rounded by themselves, the end checked for one entry. */
const qemu: LoaderModel = (bytes, { offset, filesz, align }) => {
  if (align === 0) return undefined;
  for (let at = offset; at + 12 <= offset + filesz;) {
    const [name, desc, type] = [word(bytes, at)!, word(bytes, at + 4)!, word(bytes, at + 8)!];
    if (type === 18) return word(bytes, at + 12 + up(name, align));
    const size = 12 + up(name, align) + up(desc, align);
    if (size > filesz) return undefined;
    at += size;
  }
  return undefined;
};

/** rust-vmm/linux-loader, parse_elf_note. */
const linuxLoader: LoaderModel = (bytes, { offset, filesz, align }) => {
  if (align === 0 || (align & (align - 1)) !== 0) return undefined;
  for (let at = 0; at < filesz && offset + at + 12 <= bytes.length;) {
    const [name, desc, type] = [0, 4, 8].map((field) => word(bytes, offset + at + field)!) as [number, number, number];
    const owner = bytes.subarray(offset + at + 12, offset + at + 16);
    if (type === 18 && name === 4 && Buffer.from(owner).equals(Buffer.from('Xen\0')))
      return desc < 4 ? undefined : word(bytes, offset + at + 12 + up(name, align));
    at += 12 + up(name, align) + up(desc, align);
  }
  return undefined;
};

/** Xen's libelf, elf_xen_parse_notes. */
const xen: LoaderModel = (bytes, { offset, filesz }) => {
  for (let at = offset; at + 12 <= offset + filesz;) {
    const [name, desc, type] = [word(bytes, at)!, word(bytes, at + 4)!, word(bytes, at + 8)!];
    const descAt = at + 12 + up(name, 4);
    if (descAt + desc > offset + filesz) return undefined;
    const owner = Buffer.from(bytes.subarray(at + 12, at + 12 + name)).toString('latin1');
    if (type === 18 && owner === 'Xen\0' && desc >= 4) return word(bytes, descAt);
    at = descAt + up(desc, 4);
  }
  return undefined;
};

/** The gABI's 8-aligned notes, as in a file whose every note is padded to 8. */
const genuineEight: LoaderModel = (bytes, { offset, filesz, align }) => {
  if (align !== 8) return undefined;
  for (let at = 0; at + 12 <= filesz;) {
    const [name, desc, type] = [0, 4, 8].map((field) => word(bytes, offset + at + field)!) as [number, number, number];
    const descAt = up(at + 12 + name, 8);
    if (descAt + desc > filesz) return undefined;
    if (type === 18) return word(bytes, offset + descAt);
    at = up(descAt + desc, 8);
  }
  return undefined;
};

const LOADERS: readonly LoaderModel[] = [qemu, linuxLoader, xen, genuineEight];

/** The file bytes that are loaded, by physical address; the moved kernel's too. */
function isLoaded({ segments }: ElfFile, address: number): boolean {
  return segments.some(({ type, paddr, filesz }) => type === 1 && address >= paddr && address < paddr + filesz);
}

/** What each loader finds in each PT_NOTE, if it is an address in the image. */
function found(elf: ElfFile): number[] {
  const notes = elf.segments.filter(({ type }) => type === 4);
  return notes
    .flatMap((segment) => LOADERS.map((loader) => loader(elf.bytes, segment)))
    .filter((entry) => entry !== undefined)
    .filter((entry) => isLoaded(elf, entry));
}

/** Everything that kslide makes of a kernel must fit what the loaders find. Returns the entry, or 'refused'. */
async function agree(image: Uint8Array): Promise<number | undefined | 'refused'> {
  const entries = new Set(found(readElf(image)));
  if (entries.size > 1) {
    await assert.rejects(convert(image, { codecs }), { code: 'bad-value', message: /PHYS32_ENTRY at offset/ });
    await assert.rejects(inspect(image, { codecs }), { code: 'bad-value' });
    return 'refused';
  }
  let pvh: number | null;
  try {
    pvh = (await inspect(image, { codecs })).image.entries.pvh;
  } catch (error) {
    // Only a wider reading than the models' can find more.
    assert.ok(error instanceof KernelImageError && error.message.includes('PHYS32_ENTRY'), String(error));
    return 'refused';
  }
  const [entry] = entries;
  if (entry !== undefined) assert.equal(pvh, entry);
  const hidden = readElf((await randomize(image, { codecs, virt: 6 * MIB, phys: 4 * MIB, entry: 'linux64' })).bytes());
  assert.deepEqual(found(hidden), [], 'hidden from every loader');
  if (pvh === null) return undefined;
  for (const flag of [true, false]) {
    const options = { codecs, virt: 6 * MIB, phys: 2 * MIB, entry: 'both', flag, force: true } as const;
    const apart = readElf((await randomize(image, options)).bytes());
    assert.deepEqual(
      [...new Set(found(apart))],
      entry === undefined ? [] : [entry + 2 * MIB],
      'moved for every loader',
    );
  }
  const converted = await convert(image, { codecs });
  assert.deepEqual(converted.summary.entries, ['linux64', 'pvh']);
  assert.equal((await verify(image, converted.bytes(), { codecs })).verdict, 'proved');
  return pvh;
}

const SOURCE = `
        .section .text,"ax"
        .globl startup_64
startup_64: .fill 16,1,0x90
        movq $pvh_start_xen, %rdi
        .fill 41,1,0x90
        .globl pvh_start_xen
pvh_start_xen: .fill 0x400,1,0xf4
        .section .data,"aw"
        .quad startup_64
        .section .note.gnu.property,"a",@note
        .balign 8
        .long 4, 0x10, 5
        .asciz "GNU"
        .long 0xc0000002, 4, 3, 0
        .section .note.Xen,"a",@note
        .balign 4
        .long 4, 4, 99
        .asciz "Xen"
        .long 1
        .long 4, 8, 18
        .asciz "Xen"
        .quad pvh_start_xen - 0xffffffff80000000
`;
const SCRIPT = `
ENTRY(phys_entry)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); note PT_NOTE FLAGS(0); }
SECTIONS {
 . = 0xffffffff81000000;
 phys_entry = startup_64 - 0xffffffff80000000;
 .text : AT(ADDR(.text) - 0xffffffff80000000) { *(.text) } :text
 .notes : AT(ADDR(.notes) - 0xffffffff80000000) { *(.note.*) } :text :note
 . = ALIGN(0x200000);
 .data : AT(ADDR(.data) - 0xffffffff80000000) { *(.data) } :data
 /DISCARD/ : { *(.comment) }
}
`;

function linked(source: string): { image: Uint8Array; readelf: string; path: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-pvh-'));
  const path = join(folder, 'kernel');
  writeFileSync(`${path}.s`, source);
  writeFileSync(`${path}.lds`, SCRIPT);
  execFileSync('as', [`${path}.s`, '-o', `${path}.o`]);
  execFileSync('ld', ['-T', `${path}.lds`, '-z', 'max-page-size=0x200000', '--emit-relocs', `${path}.o`, '-o', path]);
  return {
    image: new Uint8Array(readFileSync(path)),
    readelf: execFileSync('readelf', ['-lWn', path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    path,
    remove: () => rmSync(folder, { recursive: true }),
  };
}

test('ld gives the notes p_align 8 beside a .note.gnu.property, and pads each to 4: the PVH note is found', async () => {
  const { image, readelf, path, remove } = linked(SOURCE);
  try {
    assert.match(readelf, /NOTE .* 0x8\n/);
    assert.equal(await agree(image), 0x100_0040);
    const { notes } = await inspect(image, { codecs });
    assert.deepEqual(
      notes.map(({ owner, type, bytes }) => [owner, type, bytes]),
      [
        ['GNU', 5, 16],
        ['Xen', 99, 4],
        ['Xen', 18, 8],
      ],
    );
    // Piece by piece, as the command moves a vmlinux.
    assert.equal(await openMovedFile(path, { codecs, virt: 0 }), undefined, 'its .rela sections are read whole');
  } finally {
    remove();
  }
});

test('without the property the same notes have p_align 4', async () => {
  const { image, readelf, remove } = linked(SOURCE.replace(/ *\.section \.note\.gnu[^]*?0xc0000002.*\n/, ''));
  try {
    assert.match(readelf, /NOTE .* 0x4\n/);
    assert.equal(await agree(image), 0x100_0040);
  } finally {
    remove();
  }
});

interface MadeNote {
  readonly owner: string;
  readonly type: number;
  readonly desc: readonly number[];
}

/** `pad`: to which name and descriptor are padded; 'gabi': as genuine 8-aligned notes are. */
function encodeNotes(notes: readonly MadeNote[], pad: number | 'gabi'): Uint8Array {
  const bytes = new Writer(new Uint8Array(0x400));
  let at = 0;
  for (const { owner, type, desc } of notes) {
    const name = ascii(owner);
    bytes.u32(at, name.length);
    bytes.u32(at + 4, desc.length * 4);
    bytes.u32(at + 8, type);
    bytes.copy(at + 12, name);
    const descAt = pad === 'gabi' ? up(at + 12 + name.length, 8) : at + 12 + up(name.length, pad);
    desc.forEach((value, index) => bytes.u32(descAt + index * 4, value));
    at = pad === 'gabi' ? up(descAt + desc.length * 4, 8) : descAt + up(desc.length * 4, pad);
  }
  return bytes.bytes.subarray(0, at);
}

const NOTES_AT = 0x1800;
const NOTE_HEADER = 64 + 3 * 56;

function withNotes(content: Uint8Array, align: number, filesz = content.length): Uint8Array {
  return makeVmlinux({
    edit: (writer) => {
      writer.copy(NOTES_AT, content);
      writer.u64(NOTE_HEADER + 32, filesz);
      writer.u64(NOTE_HEADER + 40, filesz);
      writer.u64(NOTE_HEADER + 48, align);
    },
  });
}

const PVH: MadeNote = { owner: 'Xen\0', type: 18, desc: [PVH_ENTRY, 0] };
const BUILD_ID: MadeNote = { owner: 'GNU\0', type: 3, desc: [1, 2, 3, 4, 5] };
const PROPERTY: MadeNote = { owner: 'GNU\0', type: 5, desc: [0xc000_0002, 4, 3, 0] };

for (const [name, image, expected] of [
  ['genuine notes of 8', withNotes(encodeNotes([BUILD_ID, PVH], 'gabi'), 8), PVH_ENTRY],
  ['notes padded to 4 in p_align 8', withNotes(encodeNotes([BUILD_ID, PROPERTY, PVH], 4), 8), PVH_ENTRY],
  ['notes padded to 8 by themselves, as only QEMU reads', withNotes(encodeNotes([BUILD_ID, PVH], 8), 8), PVH_ENTRY],
  ...[0, 1, 2].map(
    (align) => [`p_align ${align}`, withNotes(encodeNotes([BUILD_ID, PVH], 4), align), PVH_ENTRY] as const,
  ),
  ['notes padded to 16', withNotes(encodeNotes([BUILD_ID, PVH], 16), 16), PVH_ENTRY],
  ['notes padded to 4 in p_align 16', withNotes(encodeNotes([BUILD_ID, PVH], 4), 16), PVH_ENTRY],
  ['a name without NUL, which QEMU takes', withNotes(encodeNotes([{ ...PVH, owner: 'Xen' }], 4), 4), PVH_ENTRY],
  ['another owner, which QEMU takes', withNotes(encodeNotes([{ ...PVH, owner: 'foo\0' }], 4), 4), PVH_ENTRY],
  ['4 bytes', withNotes(encodeNotes([{ ...PVH, desc: [PVH_ENTRY] }], 4), 4), PVH_ENTRY],
  ['a segment that ends after the header', withNotes(encodeNotes([PVH], 4), 4, 12), PVH_ENTRY],
  ['a segment that ends in the header, which linux-loader reads', withNotes(encodeNotes([PVH], 4), 4, 11), PVH_ENTRY],
  ['an entry that is not in the image', withNotes(encodeNotes([{ ...PVH, desc: [0x100, 0] }], 4), 4), undefined],
  ['no notes', withNotes(new Uint8Array(24), 4, 0), undefined],
  ['two notes that agree', withNotes(encodeNotes([PVH, PVH], 4), 4), PVH_ENTRY],
  // The descriptor is at 16 or at 20.
  [
    'two readings of one note that differ',
    withNotes(encodeNotes([{ ...PVH, desc: [PVH_ENTRY, PVH_ENTRY + 4] }], 4), 8),
    'refused',
  ],
] as const) {
  test(`the PVH note: ${name}`, async () => {
    assert.equal(await agree(image), expected);
  });
}

test('two PVH notes that differ are refused, in one PT_NOTE or in two', async () => {
  const other = { ...PVH, desc: [PVH_ENTRY + 16, 0] };
  const message =
    /^invalid value: XEN_ELFNOTE_PHYS32_ENTRY at offset 0x1828 is 0x1000910, expected 0x1000900, as in the note whose descriptor is at 0x1810: loaders differ in which one they take$/;
  const one = withNotes(encodeNotes([PVH, other], 4), 4);
  const two = makeVmlinux({
    edit: (writer) => {
      writer.copy(NOTES_AT, encodeNotes([PVH, other], 4));
      // The per-cpu segment's header becomes a second PT_NOTE.
      writer.u32(64 + 56, 4);
      writer.u64(64 + 56 + 8, NOTES_AT + 24);
      writer.u64(64 + 56 + 32, 24);
      writer.u64(64 + 56 + 48, 4);
    },
  });
  await assert.rejects(convert(one, { codecs }), { code: 'bad-value', message });
  await assert.rejects(convert(two, { codecs }), { code: 'bad-value' });
  await assert.rejects(randomize(one, { codecs, virt: 0 }), { code: 'bad-value' });
  await assert.rejects(verify(one, one, { codecs }), { code: 'bad-value' });
});

test('a PVH note that two PT_NOTEs name is moved and hidden in both', async () => {
  const image = makeVmlinux({
    // The first PT_NOTE takes the place of the per-cpu segment, so the table has two lists.
    table: { ...TABLE, abs64: TABLE.abs64.filter((_, index) => index > 0), inverse32: new Uint32Array(), lists: 2 },
    edit: (writer) => {
      writer.u32(64 + 56, 4);
      writer.u64(64 + 56 + 8, NOTES_AT);
      writer.u64(64 + 56 + 32, 24);
      writer.u64(64 + 56 + 48, 4);
    },
  });
  assert.equal(await agree(image), PVH_ENTRY);
});

test('the range note: up to three words, with defaults; two that differ are refused', async () => {
  const range = async (...descs: readonly (readonly number[])[]): Promise<unknown> => {
    const notes = [PVH, ...descs.map((desc) => ({ owner: 'Xen\0', type: 19, desc }))];
    const { kernel } = await openKernel(withNotes(encodeNotes(notes, 4), 4), 'rewrite', { codecs });
    return readPvh(kernel, TABLE)!.range;
  };
  assert.equal(await range(), undefined);
  assert.deepEqual(await range([]), { align: 2 * MIB, min: 0, max: 2 ** 32 });
  assert.deepEqual(await range([4 * MIB]), { align: 4 * MIB, min: 0, max: 2 ** 32 });
  const whole = [2 * MIB, 16 * MIB, 0x3fff_ffff];
  assert.deepEqual(await range(whole, whole), { align: 2 * MIB, min: 16 * MIB, max: 0x4000_0000 });
  await assert.rejects(range(whole, [4 * MIB]), {
    code: 'bad-value',
    message:
      /^invalid value: XEN_ELFNOTE_PHYS32_RELOC at offset 0x1844 is another range, expected what the note has whose descriptor is at 0x1828$/,
  });
  await assert.rejects(range([0]), { code: 'bad-value', message: /RELOC: alignment at offset 0x1828 is 0x0/ });
});

test('whatever the notes are, kslide and every loader agree', async () => {
  const note = fc.record({
    owner: fc.constantFrom('Xen\0', 'Xen', 'GNU\0', '', 'Linux\0'),
    type: fc.constantFrom(18, 18, 3, 5, 19),
    desc: fc.oneof(
      fc.constantFrom([PVH_ENTRY, 0], [PVH_ENTRY], [2 * MIB, 16 * MIB, 0x3fff_ffff], [ENTRY, 0], [DATA.paddr, 0]),
      fc.array(fc.nat(0x20), { maxLength: 5 }),
    ),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(note, { minLength: 1, maxLength: 4 }),
      fc.constantFrom<(number | 'gabi')[]>(4, 8, 16, 1, 'gabi'),
      fc.constantFrom(0, 1, 2, 3, 4, 8, 16),
      fc.nat(16),
      async (notes, pad, align, cut) => {
        const content = encodeNotes(notes, pad);
        const image = withNotes(content, align, Math.max(0, content.length - cut));
        try {
          await agree(image);
        } catch (error) {
          // Notes for which loaders read bytes that kslide changes are refused by all commands alike.
          if (error instanceof KernelImageError && /PHYS32_RELOC|for which loaders read/.test(error.message)) return;
          throw error;
        }
      },
    ),
    { numRuns: 400 },
  );
});
