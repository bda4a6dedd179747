/**
 * Fields of `struct boot_params`, the zero page: Documentation/arch/x86/zero-page.rst and boot.rst. Byte offsets; each
 * field's comment gives its width. Only the fields that kslide reads or sets.
 */
export const BOOT_PARAMS_SIZE = 4096;

export const BOOT_PARAMS = {
  /** u64, protocol 2.14. */
  acpi_rsdp_addr: 0x070,
  /** u32: bits 63:32 of the command line's address. */
  ext_cmd_line_ptr: 0x0c8,
  /** u8. */
  e820_entries: 0x1e8,
  /** u8, see LOADFLAGS. */
  loadflags: 0x211,
  /** u32: bits 31:0 of the command line's address. */
  cmd_line_ptr: 0x228,
  /** u64: first node of a list. */
  setup_data: 0x250,
  /** Entries of 20 bytes: addr u64, size u64, type u32. */
  e820_table: 0x2d0,
} as const;

/**
 * `loadflags`, bit 1: kernel-internal. The decompressor, or the stub, sets it when it has randomized the image; the kernel's own KASLR code reads it.
 */
export const KASLR_FLAG = 1 << 1;

/** `struct setup_data`: next u64, type u32, len u32, data. */
export const SETUP_DATA = { next: 0, type: 8, len: 12, data: 16 } as const;
/** A seed from the boot loader for the kernel's random number generator (kernels since 6.0). */
export const SETUP_RNG_SEED = 9;
