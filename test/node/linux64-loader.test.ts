/** The loader's file and its data. That the program works is for test/boot. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOOT_PARAMS } from '../../src/base/boot-params.ts';
import { Reader } from '../../src/base/bytes.ts';
import { PT_LOAD, XEN_ELFNOTE_PHYS32_ENTRY } from '../../src/elf/constants.ts';
import { readElf, readNotes, segmentBytes } from '../../src/elf/read.ts';
import type { ElfFile } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { buildElf } from '../../src/node/qemu/elf-executable.ts';
import { buildLinux64Loader } from '../../src/node/qemu/linux64-loader.ts';
import type { Linux64Options } from '../../src/node/qemu/linux64-loader.ts';

const TEXT = Uint8Array.from({ length: 5000 }, (_, i) => i);
const kernelAt = (...addresses: number[]): Uint8Array =>
  buildElf({
    entry: 0x100_0123,
    segments: addresses.map((address) => ({ address, bytes: TEXT, memsz: 0x1_0000 })),
  });
const kernel = kernelAt(0x100_0000, 0x120_0000);

function load(image: Uint8Array, options?: Linux64Options): { elf: ElfFile; loader: Reader; address: number } {
  const elf = readElf(buildLinux64Loader(image, options));
  const segment = elf.segments.find(({ type }) => type === PT_LOAD)!;
  return { elf, loader: new Reader(segmentBytes(elf, segment)), address: segment.paddr };
}

const PARAMS = 0x1000;

test("the kernel's segments lie at their addresses plus the physical slide; the PVH note points at the loader", () => {
  const { elf, address } = load(kernel, { physicalSlide: 0x20_0000 });
  const [, first, second] = elf.segments.filter(({ type }) => type === PT_LOAD);
  assert.deepEqual([first!.paddr, first!.memsz], [0x120_0000, 0x1_0000]);
  assert.deepEqual([second!.paddr, second!.memsz], [0x140_0000, 0x1_0000]);
  assert.deepEqual(segmentBytes(elf, first!), TEXT);
  const [note] = readNotes(elf);
  assert.deepEqual([note!.owner, note!.type], ['Xen', XEN_ELFNOTE_PHYS32_ENTRY]);
  assert.equal(new Reader(note!.desc).u64(0, 'entry'), BigInt(address));
});

test('the loader takes the lowest room from 1 MiB that the kernel leaves', () => {
  assert.equal(load(kernel).address, 0x10_0000);
  assert.equal(load(kernelAt(0x10_0000)).address, 0x11_0000);
  assert.equal(load(kernelAt(0x10_8000)).address, 0x11_8000); // 32 KiB are not enough
  assert.equal(load(kernelAt(0x10_0000, 0x12_0000)).address, 0x11_0000);
  assert.equal(load(kernelAt(0x10_0000, 0x12_0000), { identityGib: 64 }).address, 0x13_0000);
  assert.equal(load(kernelAt(0x10_0000), { physicalSlide: 0x20_0000 }).address, 0x10_0000);
});

test('boot_params is zero but for what the protocol wants', () => {
  const { loader } = load(kernel, { kaslrFlag: true });
  const params = loader.slice(PARAMS, 0x1000, 'boot_params');
  const set = [...params.entries()].filter(([, value]) => value !== 0).map(([at, value]) => [at.toString(16), value]);
  assert.deepEqual(set, [
    ['1fe', 0x55],
    ['1ff', 0xaa],
    ...[...'HdrS'].map((letter, i) => [(0x202 + i).toString(16), letter.charCodeAt(0)]),
    ['206', 0x0f],
    ['207', 0x02],
    ['210', 0xff],
    ['211', 0x03],
  ]);
});

test('a seed is a setup_data node of type 9', () => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
  const { loader, address } = load(kernel, { rngSeed: seed });
  const node = Number(loader.u64(PARAMS + BOOT_PARAMS.setup_data, 'setup_data')) - address;
  assert.equal(loader.u64(node, 'next'), 0n);
  assert.equal(loader.u32(node + 8, 'type'), 9);
  assert.equal(loader.u32(node + 12, 'len'), 32);
  assert.deepEqual(loader.slice(node + 16, 32, 'data'), seed);
});

/** What the page tables map an address to, as the processor walks them. */
function walk(loader: Reader, origin: number, address: number, levels: number): number | undefined {
  let table = 0x3000;
  for (let level = levels - 1; level >= 1; level--) {
    const index = Math.floor(address / 2 ** (12 + 9 * level)) % 512;
    const entry = loader.u64(table + 8 * index, 'page table entry');
    if ((entry & 1n) === 0n) return undefined;
    const target = Number(entry & 0xf_ffff_ffff_f000n);
    if ((entry & 0x80n) !== 0n) return level === 1 ? target + (address % 0x20_0000) : undefined;
    table = target - origin;
  }
  return undefined;
}

for (const fiveLevel of [false, true]) {
  test(`the identity map covers what was asked, not more, in ${fiveLevel ? 5 : 4} levels`, () => {
    for (const identityGib of [1, 4, 16]) {
      const { loader, address } = load(kernel, { fiveLevel, identityGib });
      const size = identityGib * 2 ** 30;
      const levels = fiveLevel ? 5 : 4;
      for (const mapped of [0, 0x1234, 0x10_0000, size / 2 + 5, size - 1]) {
        assert.equal(walk(loader, address, mapped, levels), mapped);
      }
      assert.equal(walk(loader, address, size, levels), undefined);
    }
  });
}

test('what cannot be is refused', () => {
  assert.throws(() => buildLinux64Loader(new Uint8Array(100)), KernelImageError);
  assert.throws(() => buildLinux64Loader(kernel, { identityGib: 0 }), RangeError);
  assert.throws(() => buildLinux64Loader(kernel, { identityGib: 513 }), RangeError);
  assert.throws(() => buildLinux64Loader(kernel, { commandLine: { copiedTo: 2 ** 32 } }), RangeError);
  assert.throws(() => buildLinux64Loader(kernel, { rngSeed: new Uint8Array(5000) }), RangeError);
});

test('the same kernel and options give the same bytes', () => {
  assert.deepEqual(buildLinux64Loader(kernel), buildLinux64Loader(kernel));
});
