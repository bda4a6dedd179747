/**
 * Names files that people mistake for a kernel that kslide reads, and says what to do instead. Only the content decides. None of this is a format
 * reader: a file is told by its magic number, at a fixed offset.
 */
import { ascii, indexOfBytes } from '../base/bytes.ts';
import type { ErrorCode } from '../base/errors.ts';
import { detectCompression } from '../codecs/formats.ts';

export interface ForeignFile {
  readonly code: ErrorCode;
  /** As a phrase that follows "is". */
  readonly found: string;
  readonly hint?: string | undefined;
}

interface Magic {
  readonly found: string;
  readonly offset: number;
  /** Latin-1. One of them is there. */
  readonly magic: readonly string[];
  readonly hint: string;
}

const OTHER_MACHINE = 'kslide reads kernels for x86-64 only';

/**
 * Kernels for other machines that are neither ELF nor recognized by PE's Machine field: Documentation/arch/{arm64,riscv},
 * drivers/firmware/efi/libstub. Asked before PE: the first two and the last are PE as well.
 */
const FOREIGN_KERNELS: readonly Magic[] = [
  { found: 'an arm64 Image', offset: 0x38, magic: ['ARM\x64'], hint: OTHER_MACHINE },
  { found: 'a RISC-V Image', offset: 0x38, magic: ['RSC\x05'], hint: OTHER_MACHINE },
  { found: 'a 32-bit ARM zImage', offset: 0x24, magic: ['\x18\x28\x6f\x01'], hint: OTHER_MACHINE },
  {
    found: 'an EFI zboot image (arm64, RISC-V or LoongArch)',
    offset: 4,
    magic: ['zimg'],
    hint: 'the kernel is in it, compressed; kslide reads kernels for x86-64 only',
  },
];

const MOUNT = 'the kernel is a file in it: mount it, and take vmlinuz from its /boot';
const UNPACK = 'unpack it, and take the vmlinuz or vmlinux in it';

/** Everything else, the most telling first. */
const FOREIGN_FILES: readonly Magic[] = [
  {
    found: 'a U-Boot uImage',
    offset: 0,
    magic: ['\x27\x05\x19\x56'],
    hint: 'its data begins at offset 0x40: dumpimage -T kernel -p 0 -o OUT FILE takes it out',
  },
  {
    found: 'a U-Boot FIT image, or another device tree',
    offset: 0,
    magic: ['\xd0\x0d\xfe\xed'],
    hint: 'dumpimage -l FILE lists what is in it; take the kernel out',
  },
  {
    found: 'an Android boot image',
    offset: 0,
    magic: ['ANDROID!', 'VNDRBOOT'],
    hint: 'unpack_bootimg --boot_img FILE takes the kernel out',
  },
  // cpio(5): newc, newc with checksums, odc, and the old binary format.
  {
    found: 'a cpio archive (an initramfs?)',
    offset: 0,
    magic: ['070701', '070702', '070707', '\xc7\x71'],
    hint: 'the kernel is the file beside it, vmlinuz in /boot',
  },
  { found: 'a qcow2 disk image', offset: 0, magic: ['QFI\xfb'], hint: MOUNT },
  { found: 'a VMDK disk image', offset: 0, magic: ['KDMV'], hint: MOUNT },
  { found: 'a VHDX disk image', offset: 0, magic: ['vhdxfile'], hint: MOUNT },
  { found: 'a squashfs file system', offset: 0, magic: ['hsqs', 'sqsh'], hint: MOUNT },
  { found: 'an XFS file system', offset: 0, magic: ['XFSB'], hint: MOUNT },
  { found: 'an EROFS file system', offset: 0x400, magic: ['\xe2\xe1\xf5\xe0'], hint: MOUNT },
  { found: 'a btrfs file system', offset: 0x1_0040, magic: ['_BHRfS_M'], hint: MOUNT },
  { found: 'an ext2, ext3 or ext4 file system', offset: 0x438, magic: ['\x53\xef'], hint: MOUNT },
  { found: 'an ISO 9660 image (a CD)', offset: 0x8001, magic: ['CD001'], hint: MOUNT },
  { found: 'a disk image with a GPT', offset: 0x200, magic: ['EFI PART'], hint: MOUNT },
  { found: 'a LUKS volume', offset: 0, magic: ['LUKS\xba\xbe'], hint: MOUNT },
  { found: 'a compressed crash dump (kdump)', offset: 0, magic: ['KDUMP   '], hint: 'it is no kernel; crash reads it' },
  {
    found: 'a Debian package',
    offset: 0,
    magic: ['!<arch>\ndebian-binary'],
    hint: 'dpkg-deb -x FILE DIRECTORY unpacks it',
  },
  { found: 'an ar archive (a static library?)', offset: 0, magic: ['!<arch>\n'], hint: UNPACK },
  { found: 'an RPM package', offset: 0, magic: ['\xed\xab\xee\xdb'], hint: 'rpm2cpio FILE | cpio -id unpacks it' },
  { found: 'a zip archive', offset: 0, magic: ['PK\x03\x04'], hint: UNPACK },
  { found: 'a 7z archive', offset: 0, magic: ['7z\xbc\xaf\x27\x1c'], hint: UNPACK },
  { found: 'a tar archive', offset: 257, magic: ['ustar'], hint: UNPACK },
  { found: 'LLVM bitcode', offset: 0, magic: ['BC\xc0\xde'], hint: 'link it first' },
  { found: 'a script', offset: 0, magic: ['#!'], hint: 'kslide reads kernels' },
  { found: 'a disk image with partitions, or a boot sector', offset: 510, magic: ['\x55\xaa'], hint: MOUNT },
];

function findMagic(bytes: Uint8Array, magics: readonly Magic[]): Magic | undefined {
  return magics.find(({ offset, magic }) =>
    magic.some((text) => ascii(text).every((byte, at) => bytes[offset + at] === byte)),
  );
}

/** A kernel for another machine; undefined for anything else. */
export function foreignKernel(bytes: Uint8Array): ForeignFile | undefined {
  const magic = findMagic(bytes, FOREIGN_KERNELS);
  return magic && { code: 'wrong-architecture', found: magic.found, hint: magic.hint };
}

/** What a file is that is neither ELF nor a bzImage nor PE. */
export function describeForeign(bytes: Uint8Array): ForeignFile {
  const code = 'not-a-kernel';
  if (bytes.length === 0) return { code, found: 'empty' };
  const compression = detectCompression(bytes);
  if (compression !== undefined)
    return { code, found: `${compression} data`, hint: 'decompress it and try what is inside' };
  const magic = findMagic(bytes, FOREIGN_FILES);
  if (magic !== undefined) return { code, found: magic.found, hint: magic.hint };
  // linux_banner is in every kernel's .rodata.
  if (indexOfBytes(bytes, ascii('Linux version ')) >= 0) {
    return {
      code,
      found: 'the memory image of a kernel, without headers (vmlinux.bin, by objcopy -O binary?)',
      hint: 'give the vmlinux that it was made from, or the bzImage of the same build',
    };
  }
  return { code, found: 'of an unknown kind' };
}
