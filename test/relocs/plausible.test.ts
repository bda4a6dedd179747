/** Whether a table is this kernel's and whole: small kernels, in which everything is known. test/boot/tables.test.ts does the same with real ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { encodeRelocationTable, readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { verify } from '../../src/verify/verify.ts';
import { makeRoomyVmlinux } from '../verify/roomy.ts';
import { DATA, entryAt, LINK, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';

const codecs = coreCodecs;
const NONE = new Uint32Array(0);
const TWO: RelocationTable = { ...TABLE, inverse32: NONE, lists: 2 };
const SIGNED = '~Module signature appended~\n';

const bareOf = (image: Uint8Array): Uint8Array => image.subarray(0, endOfElf(readElf(image)));
const zeros = (count: number): Uint8Array => new Uint8Array(count);
const text = (characters: string): Uint8Array => new TextEncoder().encode(characters);

/** struct module_signature and the magic, after a signature of `size` bytes. */
function signature(size: number): Uint8Array {
  const info = new Writer(new Uint8Array(12));
  info.u8(2, 2);
  info.u32(8, (((size & 0xff) << 24) | ((size & 0xff00) << 8)) >>> 0);
  return joinParts([new Uint8Array(size).fill(0x30), info.bytes, text(SIGNED)]);
}

async function refused(image: Uint8Array, message: RegExp, relocs?: Uint8Array): Promise<void> {
  for (const ask of [() => convert(image, { codecs, relocs }), () => verify(image, makeVmlinux(), { codecs, relocs })])
    await assert.rejects(ask, (error: Error & { code: string }) => {
      assert.match(error.message, message);
      assert.ok(['bad-value', 'no-relocations'].includes(error.code), error.code);
      return true;
    });
}

test('padding and a signature after a table, in the file and in a file of its own, are left out and named', async () => {
  for (const table of [TABLE, TWO, { ...TWO, lists: 3 as const }]) {
    const image = makeVmlinux({
      table,
      // Without SMP: three lists, of which the inverse one is empty, and nothing linked at 0.
      ...(table.inverse32.length === 0 && { edit: (elf) => elf.u64(64 + 56 + 16, 0xffff_ffff_8100_3000n) }),
    });
    const right = (await convert(image, { codecs })).bytes();
    for (const [after, named] of [
      [zeros(1), '1 zero bytes'],
      [zeros(4), '4 zero bytes'],
      [zeros(8), '8 zero bytes'],
      [zeros(4096), '4096 zero bytes'],
      [signature(680), 'a signature (with what surrounds it 720 bytes)'],
      [joinParts([zeros(12), signature(680), zeros(100)]), 'a signature (with what surrounds it 832 bytes)'],
      // No well-formed signature, but it cannot be taken for sites.
      [joinParts([new Uint8Array(700).fill(0x77), text(SIGNED)]), 'a signature (with what surrounds it 728 bytes)'],
    ] as const) {
      const padded = joinParts([image, after]);
      const converted = await convert(padded, { codecs });
      assert.equal(converted.summary.ignored, named);
      assert.deepEqual(converted.bytes(), right);
      assert.equal((await verify(padded, right, { codecs })).verdict, 'proved');
      const relocs = joinParts([encodeRelocationTable(table), after]);
      assert.deepEqual((await convert(bareOf(image), { codecs, relocs })).bytes(), right);
    }
    assert.equal((await convert(image, { codecs })).summary.ignored, undefined);
  }
});

test('what follows a table and is neither is refused', async () => {
  const image = makeVmlinux();
  await refused(
    joinParts([image, zeros(4), text('abcd')]),
    /number of lists in relocation table at offset 0x\w+ is larger, expected three/,
  );
  await refused(
    joinParts([image, text('abcd')]),
    /entry 2 of the 32-bit list .* is 0x64636261|expected more than|inside the kernel image/,
  );
  // A signature without a readable length, that begins like a site.
  const site = entryAt(LINK + 0x500);
  const bytes = Uint8Array.of(site & 0xff, (site >> 8) & 0xff, (site >> 16) & 0xff, site >>> 24);
  await refused(joinParts([image, bytes, text(SIGNED)]), /end of relocation table at offset 0x\w+/);
});

test('the number of lists follows from the kernel', async () => {
  const [two, three] = [makeVmlinux({ table: TWO }), makeVmlinux()];
  await refused(
    bareOf(three),
    /is two lists, expected three: a program header is linked at 0x0/,
    encodeRelocationTable(TWO),
  );
  await refused(
    bareOf(two),
    /is larger, expected two: no program header is linked at 0x0/,
    encodeRelocationTable(TABLE),
  );
  const before = joinParts([zeros(4), encodeRelocationTable(TWO)]);
  await refused(bareOf(two), /is larger, expected two/, before);
  await refused(bareOf(three), /is larger, expected three/, joinParts([zeros(4), encodeRelocationTable(TABLE)]));
});

test('a table that no kernel can have', async () => {
  const bare = bareOf(makeVmlinux());
  for (const [table, message] of [
    [{ ...TABLE, abs64: NONE }, /count of 64-bit sites in relocation table is 0, expected some/],
    [{ ...TABLE, abs32: NONE }, /is two lists|count of 32-bit sites in relocation table is 0, expected some/],
    [
      { ...TABLE, abs64: Uint32Array.of(...TABLE.abs64, TABLE.abs64.at(-1)! + 4) },
      /expected a site that does not overlap the one before it/,
    ],
    [
      { ...TABLE, abs32: Uint32Array.of(...TABLE.abs32, entryAt(DATA.paddr + DATA.memsz - 8)) },
      /inside one loaded segment/,
    ],
  ] as const)
    await refused(bare, message, encodeRelocationTable(table));
  for (const empty of [zeros(8), zeros(12), zeros(4)]) await refused(bare, /relocation table/, empty);
});

/** A kernel with many sites: pointers in data, MOVs in code. */
const MANY: RelocationTable = {
  abs64: Uint32Array.from({ length: 200 }, (_, index) => entryAt(DATA.paddr + 0x100 + index * 16)),
  inverse32: Uint32Array.from({ length: 40 }, (_, index) => entryAt(LINK + 0x1003 + index * 16)),
  abs32: Uint32Array.from({ length: 120 }, (_, index) => entryAt(LINK + 0x2003 + index * 16)),
  lists: 3,
};
const many = bareOf(
  makeVmlinux({
    table: MANY,
    edit: (elf) => {
      for (const entry of MANY.abs32)
        elf.copy(TEXT.offset + entry - entryAt(LINK) - 3, Uint8Array.of(0x48, 0xc7, 0xc0));
      for (const entry of MANY.inverse32)
        elf.copy(TEXT.offset + entry - entryAt(LINK) - 3, Uint8Array.of(0x65, 0x8b, 0x05));
    },
  }),
);
const without = (list: Uint32Array, from: number, count: number): Uint32Array =>
  Uint32Array.of(...list.subarray(0, from), ...list.subarray(from + count));

test('a table of another build: the count and three sites', async () => {
  const right = encodeRelocationTable(MANY);
  await convert(many, { codecs, relocs: right });
  const moved = (list: Uint32Array): Uint32Array => list.map((entry) => entry + 8);
  await refused(
    many,
    /^invalid value: (original: )?count of 32-bit sites that hold no address in this kernel is 120 of 120 \(0xffffffff8100200b holds 0x\w+, 0xffffffff8100201b holds 0x\w+, 0xffffffff8100202b holds 0x\w+\), expected at most 60; the table is of another build/,
    encodeRelocationTable({ ...MANY, abs32: moved(MANY.abs32) }),
  );
  await refused(
    many,
    /count of 64-bit sites that hold no address/,
    encodeRelocationTable({ ...MANY, abs64: moved(MANY.abs64) }),
  );
  await refused(
    many,
    /count of inverse 32-bit sites that do not lead to per-cpu data is 40 of 40/,
    encodeRelocationTable({ ...MANY, inverse32: moved(MANY.inverse32) }),
  );
});

test('sites that were added to the right table: `verify` looks at each, and 64 of them may hold no address', async () => {
  const roomy = makeRoomyVmlinux();
  const { elf, trailer, loads } = readVmlinux(roomy);
  const { abs32 } = readRelocationTable(trailer);
  const withOdd = (count: number): Uint8Array => {
    const image = new Writer(roomy.slice());
    for (const entry of abs32.subarray(6000, 6000 + count)) image.u32(loads[0]!.offset + entry - entryAt(LINK), 0x1234);
    return image.bytes;
  };
  assert.equal(elf.bytes.length + trailer.length, roomy.length);
  const at = async (count: number): Promise<string> => {
    const image = withOdd(count);
    const bytes = (await convert(image, { codecs })).bytes();
    return (await verify(image, bytes, { codecs })).verdict;
  };
  assert.equal(await at(64), 'proved');
  await assert.rejects(
    at(65),
    /count of 32-bit sites that hold no address in this kernel is 65 of 12000 \(.*\), expected at most 64; /,
  );
});

test('lost sites: the count and three of them, wherever they were', async () => {
  for (const [name, message] of [
    [
      'abs64',
      /count of aligned words that are addresses in this kernel, but not in the relocation table, is 5 \(0x\w+ holds 0xffffffff\w+, .*, .*\), expected at most [14]; the table is not whole/,
    ],
    ['abs32', /count of operands that are addresses in this kernel, but not in the relocation table, is 5/],
    ['inverse32', /count of operands that lead to per-cpu data, but not in the relocation table, is 5/],
  ] as const)
    for (const from of [0, 17, MANY[name].length - 5])
      await refused(many, message, encodeRelocationTable({ ...MANY, [name]: without(MANY[name], from, 5) }));
});

test('lost sites that are addresses of tables, with an index: the count and three of them', async () => {
  // `mov table(,%rcx,4), %eax`, `movzbl`, `xor`, `call *`, `cmp $table, %rbx`, by turns; each is 16 bytes.
  const forms = [
    [0x90, 0x8b, 0x0c, 0x8d],
    [0x0f, 0xb6, 0x04, 0x05],
    [0x90, 0x33, 0x1c, 0x95],
    [0x90, 0xff, 0x14, 0xc5],
    [0x90, 0x48, 0x81, 0xfb],
  ];
  const table: RelocationTable = {
    ...MANY,
    abs32: Uint32Array.from({ length: 170 }, (_, index) => entryAt(LINK + 0x2004 + index * 16)),
  };
  const image = bareOf(
    makeVmlinux({
      table,
      edit: (elf) => {
        for (const [index, entry] of table.abs32.entries())
          elf.copy(TEXT.offset + entry - entryAt(LINK) - 4, Uint8Array.from(forms[index % forms.length]!));
        for (const entry of MANY.inverse32)
          elf.copy(TEXT.offset + entry - entryAt(LINK) - 3, Uint8Array.of(0x65, 0x8b, 0x05));
      },
    }),
  );
  const right = encodeRelocationTable(table);
  const converted = (await convert(image, { codecs, relocs: right })).bytes();
  assert.equal((await verify(image, converted, { codecs, relocs: right })).verdict, 'proved');
  for (const from of [0, 33, table.abs32.length - 70]) {
    const relocs = encodeRelocationTable({ ...table, abs32: without(table.abs32, from, 70) });
    // Its samples are of other forms.
    const made = (await convert(image, { codecs, relocs })).bytes();
    await assert.rejects(verify(image, made, { codecs, relocs }), {
      code: 'bad-value',
      message:
        /count of addresses of tables that are addresses in this kernel, but not in the relocation table, is 70 \((0x\w+ holds 0x\w+, ){2}0x\w+ holds 0x\w+\), expected at most 4; the table is not whole/,
    });
  }
});
