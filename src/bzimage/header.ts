/**
 * The setup header of a bzImage: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "Details of Header Fields".
 *
 * A bzImage is one boot sector, `setup_sects` sectors of 16-bit setup code, then the protected-mode code, which carries the compressed
 * kernel. The header lies across the end of the boot sector. Newer protocols only append fields, so `version` says which fields exist.
 */
import { cString, Reader } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PMD_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';

export interface SetupField {
  readonly name: string;
  readonly offset: FileOffset;
  readonly width: 1 | 2 | 4 | 8;
  /** The first boot protocol that has it. */
  readonly since: number;
}

/** Only the fields that kslide reads or rewrites. */
export const SETUP = {
  setup_sects: { name: 'setup_sects', offset: 0x1f1, width: 1, since: 0x0200 },
  syssize: { name: 'syssize', offset: 0x1f4, width: 4, since: 0x0204 },
  boot_flag: { name: 'boot_flag', offset: 0x1fe, width: 2, since: 0x0200 },
  header: { name: 'header', offset: 0x202, width: 4, since: 0x0200 },
  version: { name: 'version', offset: 0x206, width: 2, since: 0x0200 },
  kernel_version: { name: 'kernel_version', offset: 0x20e, width: 2, since: 0x0200 },
  loadflags: { name: 'loadflags', offset: 0x211, width: 1, since: 0x0200 },
  code32_start: { name: 'code32_start', offset: 0x214, width: 4, since: 0x0200 },
  kernel_alignment: { name: 'kernel_alignment', offset: 0x230, width: 4, since: 0x0205 },
  relocatable_kernel: { name: 'relocatable_kernel', offset: 0x234, width: 1, since: 0x0205 },
  min_alignment: { name: 'min_alignment', offset: 0x235, width: 1, since: 0x020a },
  xloadflags: { name: 'xloadflags', offset: 0x236, width: 2, since: 0x020c },
  cmdline_size: { name: 'cmdline_size', offset: 0x238, width: 4, since: 0x0206 },
  payload_offset: { name: 'payload_offset', offset: 0x248, width: 4, since: 0x0208 },
  payload_length: { name: 'payload_length', offset: 0x24c, width: 4, since: 0x0208 },
  pref_address: { name: 'pref_address', offset: 0x258, width: 8, since: 0x020a },
  init_size: { name: 'init_size', offset: 0x260, width: 4, since: 0x020a },
  handover_offset: { name: 'handover_offset', offset: 0x264, width: 4, since: 0x020b },
  kernel_info_offset: { name: 'kernel_info_offset', offset: 0x268, width: 4, since: 0x020f },
} as const satisfies Record<string, SetupField>;

export const BOOT_FLAG = 0xaa55;
export const HDRS = 0x53726448; // "HdrS", little-endian
export const SECTOR = 512;
/** loadflags: the protected-mode code is loaded at 1 MiB. Not set in a zImage. */
export const LOADED_HIGH = 1 << 0;
/** xloadflags: there is a 64-bit entry, so the kernel is x86-64. */
export const XLF_KERNEL_64 = 1 << 0;
/** xloadflags: XLF_EFI_HANDOVER_32 and XLF_EFI_HANDOVER_64, the entry at handover_offset. */
export const XLF_EFI_HANDOVER = (1 << 2) | (1 << 3);

/** Offsets below count from the start of the bzImage unless said otherwise. Fields newer than the image's protocol are undefined. */
export interface SetupHeader {
  /** (major << 8) + minor: 0x020f is 2.15. */
  readonly protocol: number;
  /** As the kernel prints it: "6.12.117+deb12-amd64 (builder@host) #1 SMP …"; undefined if the header's pointer is not usable. */
  readonly kernelVersion: string | undefined;
  readonly protectedModeStart: FileOffset;
  /** In bytes, from `syssize`. That counts paragraphs of 16 bytes, so the file may have up to 15 bytes less. */
  readonly protectedModeLength: number;
  readonly loadflags: number;
  readonly xloadflags: number | undefined;
  readonly code32Start: PhysAddr;
  /** CONFIG_PHYSICAL_ALIGN: a power of two, at least PMD_SIZE; with any other, arch/x86/include/asm/boot.h does not compile. */
  readonly kernelAlignment: number;
  readonly relocatable: boolean;
  /** The exponent of a power of two. */
  readonly minAlignment: number | undefined;
  readonly cmdlineSize: number;
  /** From the start of the protected-mode code. */
  readonly payloadOffset: number;
  readonly payloadLength: number;
  readonly prefAddress: PhysAddr | undefined;
  /** Bytes of memory that decompressing and starting the kernel takes, counted from the address where it is loaded. */
  readonly initSize: number | undefined;
  readonly handoverOffset: number | undefined;
  readonly kernelInfoOffset: number | undefined;
}

export function isBzImage(bytes: Uint8Array): boolean {
  return bytes.length >= SETUP.header.offset + 4 && new Reader(bytes).u32(SETUP.header.offset, 'header') === HDRS;
}

/** Where the payload begins, from only the first bytes of a bzImage. Undefined if they do not say. */
export function peekPayload(head: Uint8Array): FileOffset | undefined {
  if (!isBzImage(head) || head.length < SETUP.payload_offset.offset + 4) return undefined;
  const reader = new Reader(head);
  if (readField(reader, SETUP.version) < SETUP.payload_offset.since) return undefined;
  return startOfProtectedMode(reader) + readField(reader, SETUP.payload_offset);
}

/** boot.rst: "For backwards compatibility, if the setup_sects field contains 0, the real value is 4." */
function startOfProtectedMode(reader: Reader): FileOffset {
  return ((readField(reader, SETUP.setup_sects) || 4) + 1) * SECTOR;
}

/**
 * Throws KernelImageError: not a bzImage, too old a protocol, a zImage, a 32-bit kernel, or a file that ends before the protected-mode
 * code does.
 */
export function readSetupHeader(bytes: Uint8Array): SetupHeader {
  if (!isBzImage(bytes)) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'setup header',
      offset: SETUP.header.offset,
      expected: '"HdrS"',
    });
  }
  const reader = new Reader(bytes);
  const protocol = readField(reader, SETUP.version);
  checkKind(reader, protocol);
  const read = (field: SetupField): number => readField(reader, field);
  const readSince = (field: SetupField): number | undefined => (protocol < field.since ? undefined : read(field));

  const protectedModeStart = startOfProtectedMode(reader);
  const protectedModeLength = read(SETUP.syssize) * 16;
  reader.need(0, protectedModeStart, 'setup code (setup_sects)');
  reader.need(protectedModeStart, Math.max(0, protectedModeLength - 15), 'protected-mode code (syssize)');

  const kernelAlignment = read(SETUP.kernel_alignment);
  if (kernelAlignment < PMD_SIZE || (kernelAlignment & (kernelAlignment - 1)) !== 0) {
    throw badField(SETUP.kernel_alignment, kernelAlignment, `a power of two from ${hex(PMD_SIZE)} on`);
  }
  return {
    protocol,
    kernelVersion: readKernelVersion(bytes.subarray(0, protectedModeStart), read(SETUP.kernel_version)),
    protectedModeStart,
    protectedModeLength,
    loadflags: read(SETUP.loadflags),
    xloadflags: readSince(SETUP.xloadflags),
    code32Start: read(SETUP.code32_start),
    kernelAlignment,
    relocatable: read(SETUP.relocatable_kernel) !== 0,
    minAlignment: readSince(SETUP.min_alignment),
    cmdlineSize: read(SETUP.cmdline_size),
    payloadOffset: read(SETUP.payload_offset),
    payloadLength: read(SETUP.payload_length),
    prefAddress: readSince(SETUP.pref_address),
    initSize: readSince(SETUP.init_size),
    handoverOffset: readSince(SETUP.handover_offset),
    kernelInfoOffset: readSince(SETUP.kernel_info_offset),
  };
}

/** Refuses files that have "HdrS" but that kslide does not read. */
function checkKind(reader: Reader, protocol: number): void {
  const bootFlag = readField(reader, SETUP.boot_flag);
  if (bootFlag !== BOOT_FLAG) throw badField(SETUP.boot_flag, bootFlag, BOOT_FLAG);
  if (protocol < SETUP.payload_offset.since) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'boot protocol version',
      offset: SETUP.version.offset,
      found: protocol,
      expected: 'at least 0x208 (Linux 2.6.26): older headers do not say where the payload is',
    });
  }
  const loadflags = readField(reader, SETUP.loadflags);
  if ((loadflags & LOADED_HIGH) === 0) {
    throw new KernelImageError({
      code: 'unsupported',
      what: SETUP.loadflags.name,
      offset: SETUP.loadflags.offset,
      found: loadflags,
      expected: 'LOADED_HIGH (bit 0): this is a zImage, not a bzImage',
    });
  }
  if (protocol >= SETUP.xloadflags.since) {
    const xloadflags = readField(reader, SETUP.xloadflags);
    if ((xloadflags & XLF_KERNEL_64) === 0) {
      throw new KernelImageError({
        code: 'wrong-architecture',
        what: SETUP.xloadflags.name,
        offset: SETUP.xloadflags.offset,
        found: xloadflags,
        expected: 'XLF_KERNEL_64 (bit 0): this is a 32-bit x86 kernel',
      });
    }
  }
}

function readField(reader: Reader, { name, offset, width }: SetupField): number {
  return reader.number(offset, width, name);
}

function badField(field: SetupField, found: number, expected: string | number): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: field.name, offset: field.offset, found, expected });
}

/** Only people read it, so a wrong pointer is no error. It is printed on terminals, so a string with control characters is dropped. */
function readKernelVersion(setup: Uint8Array, pointer: number): string | undefined {
  if (pointer === 0) return undefined;
  const text = cString(setup, pointer + 0x200, 512);
  return /^[ -~]+$/.test(text) ? text : undefined;
}
