/** What programs of ours put into descriptor tables and page tables (SDM vol. 3, 3.4.5 and 4.5). */

/** Segment descriptors, accessed bit set so that the CPU writes none: 64-bit ring 0 code, and ring 0 data. */
export const CODE64_DESCRIPTOR = 0x00af_9b00_0000_ffffn;
export const DATA_DESCRIPTOR = 0x00cf_9300_0000_ffffn;

/** Present, writable. */
export const TABLE_ENTRY = 0x03;
/** Present, writable, accessed, dirty, 2 MiB page. */
export const PAGE_ENTRY = 0xe3;
export const PAGE_2M = 0x20_0000;
