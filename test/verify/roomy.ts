/**
 * A small bzImage that can be rebuilt in every form and with every compression: its relocation table compresses badly in the kernel's format and well in
 * the compact one, so that the stub fits into the room of the old payload.
 */
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { Writer } from '../../src/base/bytes.ts';
import type { Compression } from '../../src/codecs/formats.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeBzImage, withSizeWord } from '../bzimage/make-image.ts';
import { compress, Random } from '../codecs/tools.ts';

const LINK = 0x100_0000;
const FILE_AT = 0x1000;
const SIZE = 0x4_0000;
const SITES = 12_000;

/** The ELF file with its table. The sites hold the address of the image's first byte. */
export function makeRoomyVmlinux(lists: 2 | 3 = 3): Uint8Array {
  const random = new Random(7);
  const sites = new Uint32Array(SITES);
  let at = 0x400;
  for (let index = 0; index < SITES; index++) {
    sites[index] = 0x8000_0000 + LINK + at;
    at += 4 + (random.next() % 32);
  }
  const elf = new Writer(new Uint8Array(FILE_AT + SIZE));
  elf.copy(0, Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
  elf.u16(16, 2);
  elf.u16(18, 62);
  elf.u32(20, 1);
  elf.u64(24, LINK + 0x100);
  elf.u64(32, 64);
  elf.u16(52, 64);
  elf.u16(54, 56);
  elf.u16(56, 1);
  elf.u32(64, 1);
  elf.u32(68, 7);
  elf.u64(72, FILE_AT);
  elf.u64(80, START_KERNEL_MAP + BigInt(LINK));
  elf.u64(88, LINK);
  elf.u64(96, SIZE);
  elf.u64(104, SIZE + 0x1000);
  elf.u64(112, 0x20_0000);
  for (const site of sites) elf.u32(FILE_AT + site - 0x8000_0000 - LINK, 0x8100_0000);
  const [none, abs64] = [new Uint32Array(0), Uint32Array.of(0x8000_0000 + LINK + 0x200)];
  elf.u64(FILE_AT + 0x200, 0xffff_ffff_8100_0000n);
  const table = encodeRelocationTable({ abs64, inverse32: none, abs32: sites, lists });
  const bytes = new Uint8Array(elf.bytes.length + table.length);
  bytes.set(elf.bytes);
  bytes.set(table, elf.bytes.length);
  return bytes;
}

/** With input_len and output_len after the payload, and a CRC-32 at the end, as tools/build wrote it. */
export function makeRoomyImage(compression: Compression, lists: 2 | 3 = 3): Uint8Array {
  const vmlinux = makeRoomyVmlinux(lists);
  const stream = compress(compression, vmlinux);
  const payload = compression === 'gzip' ? stream : withSizeWord(stream, vmlinux.length);
  const image = makeBzImage({ payload, fields: { init_size: 0x40_0000, kernel_info_offset: 0 } });
  const writer = new Writer(image);
  const lengths = 0x400 + 0x40 + payload.length + 4;
  writer.u32(lengths, payload.length);
  writer.u32(lengths + 4, vmlinux.length);
  return image;
}
