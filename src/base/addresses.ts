/**
 * The kinds of address that a kernel image talks about, as types that do not mix.
 *
 * x86-64 maps its image at `__START_KERNEL_map`: link-time virtual address = physical link address + __START_KERNEL_map
 * (arch/x86/include/asm/page_64_types.h). Physical addresses and offsets fit a double exactly; virtual ones do not and are bigint.
 */
declare const kind: unique symbol;

/** Bytes from the start of a file. */
export type FileOffset = number & { readonly [kind]?: 'FileOffset' };
/** A guest-physical address; for an image, the one it is linked for unless a physical slide is added. */
export type PhysAddr = number & { readonly [kind]?: 'PhysAddr' };
/** A virtual address as u64. */
export type VirtAddr = bigint & { readonly [kind]?: 'VirtAddr' };
/** What is added to link addresses: a multiple of PMD_SIZE, 0 up to almost 1 GiB. */
export type Slide = number & { readonly [kind]?: 'Slide' };

/** Where the kernel's image is mapped: virtual address of physical link address 0. */
export const START_KERNEL_MAP: VirtAddr = 0xffff_ffff_8000_0000n;
/** KERNEL_IMAGE_SIZE with CONFIG_RANDOMIZE_BASE: the image, slide included, must end here or below (measured: above it, no boot). */
export const KERNEL_IMAGE_SIZE = 0x4000_0000;

export const MIB = 0x10_0000;
export const GIB = 0x4000_0000;
export const PAGE_SIZE = 0x1000;
/** What one PMD entry maps. The kernel maps its image in pages of this size, so no slide can be finer, and none need be coarser (kaslr/slots.ts). */
export const PMD_SIZE = 0x20_0000;

/** Whether a kernel can have been moved by that much: a multiple of 2 MiB below 1 GiB. */
export function isPossibleSlide(value: number): value is Slide {
  return value >= 0 && value < KERNEL_IMAGE_SIZE && value % PMD_SIZE === 0;
}

export function physToVirt(address: PhysAddr): VirtAddr {
  return START_KERNEL_MAP + BigInt(address);
}

/** The physical link address of an image address, or undefined when it is not within KERNEL_IMAGE_SIZE of the map's start. */
export function virtToPhys(address: VirtAddr): PhysAddr | undefined {
  const physical = address - START_KERNEL_MAP;
  return physical >= 0n && physical < BigInt(KERNEL_IMAGE_SIZE) ? Number(physical) : undefined;
}

/** A relocation table entry: the low half of a link address; the kernel sign-extends it. */
export function tableEntryToVirt(entry: number): VirtAddr {
  return BigInt.asUintN(64, BigInt(entry | 0));
}

/** The same entry as a physical link address, in plain numbers for loops over all of a table; undefined outside the kernel's map. */
export function tableEntryToPhys(entry: number): PhysAddr | undefined {
  const physical = entry - 0x8000_0000;
  return physical >= 0 && physical < KERNEL_IMAGE_SIZE ? physical : undefined;
}

/**
 * The same for the hottest loops: an entry read as int32, ^ this, is its physical link address, negative for what lies below the kernel's map, and
 * order is kept. As u32, which are above 2^31, entries are an object each until the loop is compiled, and a kernel has a third of a million.
 */
export const INT32_ENTRY_TO_PHYS = 0x8000_0000;

/** A table's entries as int32: a view. */
export function int32Entries({ buffer, byteOffset, length }: Uint32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length);
}

/** The table entry of a physical link address. */
export function physToTableEntry(address: PhysAddr): number {
  return address + 0x8000_0000;
}
