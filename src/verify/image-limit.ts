/**
 * How far the original's page tables map its image, as `verify` reads it: from the relocation sites. `convert` looks for the same page tables by their
 * shape (kernel/image-limit.ts), so the two can only agree if the image has one limit.
 *
 * The kernel is reached through entry 510 of a level 3 page table (__START_KERNEL_map, arch/x86/kernel/head_64.S). That entry holds an address, so it
 * is a 64-bit site, and it is the last but one of its page. It leads to the level 2 table, whose entries map 2 MiB each.
 */
import { KERNEL_IMAGE_SIZE, PAGE_SIZE, physToVirt, PMD_SIZE, tableEntryToPhys } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { SHF_ALLOC } from '../elf/constants.ts';
import { sectionName } from '../elf/read.ts';
import { fileOffsetOf } from '../kernel/vmlinux.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';

/** Where entry 510 is in its page. */
const KERNEL_MAP_ENTRY = 510 * 8;

/**
 * KERNEL_IMAGE_SIZE of this kernel: 1 GiB, or 512 MiB without CONFIG_RANDOMIZE_BASE. 1 GiB is also the answer for an image without such page tables;
 * the smallest one for an image whose page tables map different sizes.
 */
export function limitOf(kernel: Vmlinux, { abs64 }: RelocationTable): number {
  let limit: number | undefined;
  for (const site of abs64) {
    if (site % PAGE_SIZE !== KERNEL_MAP_ENTRY) continue;
    const entry = read(kernel, tableEntryToPhys(site) ?? 0);
    // Present, and a table, not a page.
    if (entry === undefined || (entry & 0x81n) !== 1n) continue;
    const mapped = mappedBy(kernel, Number(BigInt.asUintN(52, entry) & ~0xfffn));
    if (mapped >= kernel.imageEnd && (limit === undefined || mapped < limit)) limit = mapped;
  }
  return limit ?? KERNEL_IMAGE_SIZE;
}

/**
 * Whether the address after the image is _end, which __startup_64() looks up in level2_kernel_pgt: that must not be where the table ends. After _end there
 * may be one more section, and that is known by its name.
 */
export function looksUpItsEnd({ elf, imageEnd }: Vmlinux): boolean {
  const end = physToVirt(imageEnd);
  for (const section of elf.sections) {
    if ((section.flags & SHF_ALLOC) === 0n || section.addr + BigInt(section.size) !== end) continue;
    if (sectionName(elf, section) === '.init.scratch') return false;
  }
  return true;
}

/** The bytes that a level 2 table maps from physical link address 0 on; 0 if it is not one that maps the image alone. */
function mappedBy(kernel: Vmlinux, table: PhysAddr): number {
  const first = read(kernel, table) ?? 0n;
  if ((first & 0x83n) !== 0x83n || first >= BigInt(PAGE_SIZE)) return 0;
  let mapped = 0;
  let ended = false;
  for (let at = table; at < table + PAGE_SIZE; at += 8) {
    const entry = read(kernel, at);
    if (entry === BigInt(mapped) + first && !ended) mapped += PMD_SIZE;
    else if (entry === 0n) ended = true;
    else return 0;
  }
  return mapped;
}

/** Undefined where the file has no bytes for it. */
function read({ elf, loads }: Vmlinux, address: PhysAddr): bigint | undefined {
  const [offset, last] = [fileOffsetOf(loads, address), fileOffsetOf(loads, address + 7)];
  return offset === undefined || last !== offset + 7 ? undefined : new Reader(elf.bytes).u64(offset, 'page table');
}
