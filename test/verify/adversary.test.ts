/**
 * Kernels, and files made of them, that loaders and decompressors treat otherwise than a reader of ELF headers expects. Such an original is refused, or the
 * file is refuted: `verify` proves only what a machine treats as `verify` does.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { KERNEL_IMAGE_SIZE, physToVirt } from '../../src/base/addresses.ts';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { hex, KernelImageError } from '../../src/base/errors.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { buildHook, buildSegment } from '../../src/segment/build.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { TABLE_FORMAT } from '../../src/segment/layout.ts';
import { checkUnpacking } from '../../src/verify/decompressor-model.ts';
import { Refutation } from '../../src/verify/evidence.ts';
import { FORMS, readOriginal } from '../../src/verify/original.ts';
import { addSegment } from '../../src/elf/write.ts';
import { slotsOf } from '../../src/kaslr/slots.ts';
import { verify } from '../../src/verify/verify.ts';
import { DATA, ENTRY, entryAt, LINK, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';
import { examined, forge, original, program } from './forge.ts';

const codecs = coreCodecs;
const PHDR = 56;
const header = (index: number): number => 64 + index * PHDR;

/** Both `convert` and `verify` refuse the original. */
async function refusedByBoth(image: Uint8Array, message: RegExp): Promise<void> {
  const matches = (error: Error): boolean => {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.match(error.message, message);
    return true;
  };
  await assert.rejects(convert(image, { codecs }), matches);
  await assert.rejects(verify(image, makeVmlinux(), { codecs }), matches);
}

test('notes under the hook: a loader reads them from the file, where they have changed', async () => {
  const message = /e_entry at offset 0x18 is 0x1000[0-9a-f]+, expected an entry outside the notes/;
  // The descriptor at the entry, and the entry's last byte in the note.
  for (const entry of [LINK + 0x810, LINK + 0x800 - 7, LINK + 0x817])
    await refusedByBoth(makeVmlinux({ edit: (elf) => elf.u64(24, entry) }), message);
  // A note that only section headers show.
  const note = (elf: Writer): void => {
    const sections = DATA.offset + DATA.size + 32;
    elf.u32(header(3), 0);
    elf.u32(sections + 64 + 4, 7);
    elf.u64(sections + 64 + 24, TEXT.offset + 0x230);
    elf.u64(sections + 64 + 32, 24);
  };
  await refusedByBoth(makeVmlinux({ edit: note }), message);
  // Directly before and after it, both are what they were.
  for (const entry of [LINK + 0x800 - 8, LINK + 0x818])
    await convert(makeVmlinux({ edit: (elf) => elf.u64(24, entry) }), { codecs });
});

/** The PT_NOTE, with one header at the given place and type. */
function noteAt(elf: Writer, at: number, { name = 0, type = 18, size = 12 } = {}): void {
  elf.u64(header(3) + 8, at);
  elf.u64(header(3) + 32, size);
  elf.u64(header(3) + 40, size);
  elf.u32(at, name);
  elf.u32(at + 4, 8);
  elf.u32(at + 8, type);
}

test('notes for which loaders read what the conversion changes: they would enter the converted kernel elsewhere', async () => {
  const refused = (what: string): RegExp =>
    new RegExp(`\\(PT_NOTE\\) at offset 0x[0-9a-f]+ is notes for which loaders read ${what}`);
  // The last bytes of the ELF file are a note's header. Its descriptor is what follows: a table, or in the converted file the parameter `entry`.
  for (const sections of [true, false]) {
    const end = readVmlinux(makeVmlinux({ sections })).elf.bytes.length;
    for (const name of [0, 4, 0x10, 0x20, 0x1000])
      await refusedByBoth(
        makeVmlinux({ sections, edit: (elf) => noteAt(elf, end - 12, { name }) }),
        refused('what follows the ELF file'),
      );
  }
  await refusedByBoth(makeVmlinux({ edit: (elf) => elf.u64(header(3) + 8, 0x30) }), refused('the ELF header'));
  await refusedByBoth(
    makeVmlinux({ edit: (elf) => elf.u64(header(3) + 8, header(3)) }),
    refused('the program headers'),
  );
  // QEMU finds no note of the type in the segment, and the next header after it is at the entry.
  const walk = TEXT.offset + ENTRY - LINK - 32;
  const beforeEntry = (elf: Writer): void => {
    noteAt(elf, walk, { name: 4, type: 5, size: 24 });
    elf.u64(walk + 24, 0n);
  };
  await refusedByBoth(makeVmlinux({ edit: beforeEntry }), refused('the bytes at the entry'));
  // It stops at a note that is larger than the segment.
  const stops = (elf: Writer): void => {
    noteAt(elf, walk - 32, { name: 4, type: 5, size: 24 });
    elf.u64(walk - 8, 0xffffn);
  };
  assert.equal((await convert(makeVmlinux({ edit: stops }), { codecs })).summary.entries.length, 1);
});

test('a PT_NOTE after which QEMU would search through megabytes of zeros', async () => {
  const size = 0x20_0000;
  const file = makeVmlinux({ sections: false });
  const { elf } = readVmlinux(file);
  const long = joinParts([elf.bytes, new Uint8Array(size), file.subarray(elf.bytes.length)]);
  const writer = new Writer(long);
  const data = header(2);
  writer.u64(data + 32, DATA.size + size);
  writer.u64(data + 40, DATA.size + size);
  noteAt(writer, DATA.offset + DATA.size, { type: 0, size: 24 });
  await refusedByBoth(long, /program header 3 \(PT_NOTE\): notes, as QEMU reads on after the segment/);
});

test('a PT_LOAD with file bytes and without memory: QEMU ignores it, Firecracker and the decompressor load it', async () => {
  const empty = (elf: Writer): void => {
    elf.u32(header(3), 1);
    elf.u64(header(3) + 40, 0);
  };
  await refusedByBoth(makeVmlinux({ edit: empty }), /program header 3: p_filesz is 0x18, expected at most p_memsz 0x0/);
  const less = (elf: Writer): unknown => elf.u64(header(2) + 40, DATA.size - 1);
  await refusedByBoth(makeVmlinux({ edit: less }), /program header 2: p_filesz is 0x2000, expected at most p_memsz/);
});

test('an added segment that ends above what the page tables map', async () => {
  // The image ends a page before 1 GiB.
  const high = await original({ edit: (elf) => elf.u64(header(2) + 40, KERNEL_IMAGE_SIZE - 0x1000 - DATA.paddr) });
  const { offence } = examined(high, forge(high));
  assert.equal(offence?.check, 'placement');
  assert.match(offence.expected, /^an end at 0x40000000 \(KERNEL_IMAGE_SIZE\) or before$/);
});

test('what a kernel’s own headers may hold is compared, whether loaders look at it or not', async () => {
  const kernel = await original();
  const right = forge(kernel);
  // EI_OSABI, EI_ABIVERSION, e_version, e_flags, e_ehsize, e_phentsize; p_flags, p_align, p_vaddr of a PT_NOTE.
  for (const at of [7, 8, 20, 48, 52, 54, header(0) + 4, header(0) + 48, header(3) + 16]) {
    const changed = right.slice();
    changed[at]! ^= 4;
    assert.equal(examined(kernel, changed).verdict, 'refuted', at.toString(16));
    // The original's own is kept, and proved with it.
    if (at === 7 || at === 8 || at === 48) {
      const odd = makeVmlinux({ edit: (elf) => elf.u8(at, 4) });
      assert.equal((await verify(odd, (await convert(odd, { codecs })).bytes(), { codecs })).verdict, 'proved');
    }
  }
});

test('kinds of segments that only some loaders know: the original’s are kept, one more is refuted', async () => {
  const kernel = await original();
  const right = forge(kernel);
  // PT_DYNAMIC, PT_INTERP, PT_PHDR, PT_TLS, PT_GNU_STACK, PT_NULL in the place of the note, and of the added one.
  for (const type of [2, 3, 6, 7, 0x6474_e551, 0]) {
    for (const index of [3, 4]) {
      const changed = new Writer(right.slice());
      changed.u32(header(index), type);
      const { offence } = examined(kernel, changed.bytes);
      assert.equal(offence?.check, 'program-headers', `${type} in ${index}`);
    }
    const odd = makeVmlinux({ edit: (elf) => elf.u32(header(3), type) });
    assert.equal((await verify(odd, (await convert(odd, { codecs })).bytes(), { codecs })).verdict, 'proved');
  }
});

test('converted twice is refused; so is the file as its own original', async () => {
  const right = (await convert(makeVmlinux(), { codecs })).bytes();
  await assert.rejects(convert(right, { codecs }), /already converted/);
  await assert.rejects(verify(right, right, { codecs }), /already converted/);
});

test('a table at the end with a site under the hook: the decompressor would move the jump', async () => {
  for (const [at, right] of [
    [ENTRY - 4, true],
    [ENTRY - 3, false],
    [ENTRY + 4, false],
    [ENTRY + 7, false],
    [ENTRY + 8, true],
  ] as const) {
    const table = { ...TABLE, abs32: Uint32Array.of(entryAt(at), ...TABLE.abs32) };
    const kernel = { ...(await readOriginal(makeVmlinux({ table }), { codecs })), form: FORMS['table-at-end'] };
    const segment = buildSegment(
      kernel.kernel,
      program,
      slotsOf({ imageEnd: kernel.kernel.imageEnd, limit: kernel.limit }),
      { name: 'kernel', format: TABLE_FORMAT.kernel, bytes: encodeRelocationTable(table) },
      { tableAtEnd: true },
    );
    const hook = { offset: kernel.kernel.entryOffset, bytes: buildHook(ENTRY, segment.paddr) };
    const { offence } = examined(kernel, joinParts(addSegment(kernel.kernel.elf, segment, [hook])));
    assert.equal(offence?.check, right ? undefined : 'hook');
    if (!right) assert.match(offence!.found, new RegExp(`^a site at ${hex(physToVirt(at))}, which`));
  }
});

/** An ELF file of PT_LOADs, given as offset, address and sizes from LINK on, as a decompressor unpacks it. */
function unpackedFile(
  loads: readonly (readonly [offset: number, to: number, filesz: number, memsz: number, align?: number])[],
  length: number,
): Uint8Array {
  const elf = new Writer(new Uint8Array(length).map((_, at) => Math.imul(at, 0x9e37_79b1) >>> 24));
  elf.bytes.fill(0, 0, 64 + loads.length * PHDR);
  elf.copy(0, Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
  elf.u64(32, 64);
  elf.u16(54, PHDR);
  elf.u16(56, loads.length);
  for (const [index, [offset, to, filesz, memsz, align = 0x20_0000]] of loads.entries()) {
    elf.u32(header(index), 1);
    elf.u64(header(index) + 8, offset);
    elf.u64(header(index) + 24, LINK + to);
    elf.u64(header(index) + 32, filesz);
    elf.u64(header(index) + 40, memsz);
    elf.u64(header(index) + 48, align);
  }
  return elf.bytes;
}

test('how a decompressor puts segments in place', () => {
  const found = (file: Uint8Array, table = 12): string => {
    try {
      checkUnpacking(file, LINK, table);
      return 'right';
    } catch (error) {
      assert.ok(error instanceof Refutation, String(error));
      const { what, found: is, expected } = error.finding;
      return `${what} is ${is}, expected ${expected}`;
    }
  };
  const one = [0x1000, 0, 0x2000, 0x3000] as const;
  assert.equal(found(unpackedFile([one, [0x3000, 0x4000, 0x1000, 0x1000]], 0x6000)), 'right');
  // A buffer of Node's, whose slice() is no copy.
  const file = unpackedFile([one, [0x3000, 0x4000, 0x1000, 0x1000]], 0x6000);
  const before = file.slice();
  assert.equal(found(Buffer.from(file.buffer)), 'right');
  assert.deepEqual(file, before);
  // The first move goes over what the second one has to move.
  assert.match(
    found(
      unpackedFile(
        [
          [0x1000, 0x2800, 0x1000, 0x1000],
          [0x3000, 0x4000, 0x1000, 0x1000],
        ],
        0x6000,
      ),
    ),
    /^program header 1, as the decompressor puts it in place: byte 0x0 is/,
  );
  // In the other order of the headers it does not.
  assert.equal(
    found(
      unpackedFile(
        [
          [0x3000, 0x4000, 0x1000, 0x1000],
          [0x1000, 0x2800, 0x1000, 0x1000],
        ],
        0x6000,
      ),
    ),
    'right',
  );
  assert.match(
    found(unpackedFile([one, [0x3000, 0x5000, 0x1000, 0x1000]], 0x6000)),
    /^table, as the decompressor puts it in place: byte 0x0 is/,
  );
  assert.match(
    found(unpackedFile([[0x1000, 0, 0x1000, 0x1000, 0x1000]], 0x3000)),
    /^program header 0: p_align is 0x1000/,
  );
  assert.match(
    found(unpackedFile([[0x1000, -0x1000, 0x1000, 0x1000]], 0x3000)),
    /^program header 0: p_paddr is 0xfff000/,
  );
  assert.match(
    found(unpackedFile([[0x1000, 0, 0x1000, 0x4000]], 0x3000)),
    /^program header 0: p_memsz is 0x4000, expected an end at 0x1003000/,
  );
});

test('a bzImage is no original of an ELF file that it does not hold', async () => {
  const right = (await convert(makeVmlinux(), { codecs })).bytes();
  await assert.rejects(verify(gzipSync(makeVmlinux()), right, { codecs }), KernelImageError);
});
