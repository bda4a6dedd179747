/** Images that are whole and valid but hold almost nothing, so that a test can change one thing and see that thing complained about. */
import { gzipSync } from 'node:zlib';
import { alignUp, ascii, Writer } from '../../src/base/bytes.ts';
import { SETUP, type SetupField } from '../../src/bzimage/header.ts';

export type SetupFieldName = keyof typeof SETUP;

export interface BzImageParts {
  readonly kernelVersion?: string;
  /** As it stands in the file, size word included. */
  readonly payload?: Uint8Array;
  /** Put last, so that they can break anything. */
  readonly fields?: Partial<Record<SetupFieldName, number>>;
}

export const KERNEL_VERSION = '6.12.0-test (builder@host) #1 SMP';
const VERSION_AT = 0x300;
const PAYLOAD_OFFSET = 0x40;

/** An ELF64 file header of an x86-64 executable and `size - 64` bytes of filling. */
export function makeVmlinux(size = 0x100): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 64; at < size; at++) bytes[at] = at;
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELFCLASS64, ELFDATA2LSB, EV_CURRENT
  const elf = new Writer(bytes);
  elf.u16(16, 2); // ET_EXEC
  elf.u16(18, 62); // EM_X86_64
  elf.u32(20, 1); // EV_CURRENT
  elf.u16(52, 64); // e_ehsize
  return bytes;
}

/** `stream` as the kernel's build appends the size to all but gzip. */
export function withSizeWord(stream: Uint8Array, size: number): Uint8Array {
  const payload = new Uint8Array(stream.length + 4);
  payload.set(stream);
  new Writer(payload).u32(stream.length, size);
  return payload;
}

/** Boot sector, one sector of setup code, and protected-mode code with a gzip payload unless another is given. */
export function makeBzImage(parts: BzImageParts = {}): Uint8Array {
  const payload = parts.payload ?? gzipSync(makeVmlinux());
  const protectedModeStart = 2 * 512;
  const protectedModeLength = alignUp(PAYLOAD_OFFSET + payload.length + 0x20, 16);
  const bytes = new Uint8Array(protectedModeStart + protectedModeLength);
  const image = new Writer(bytes);
  image.copy(VERSION_AT, ascii(`${parts.kernelVersion ?? KERNEL_VERSION}\0`));
  image.copy(protectedModeStart + PAYLOAD_OFFSET, payload);
  const fields: Record<SetupFieldName, number> = {
    setup_sects: 1,
    syssize: protectedModeLength / 16,
    boot_flag: 0xaa55,
    header: 0x53726448,
    version: 0x020f,
    kernel_version: VERSION_AT - 0x200,
    loadflags: 1,
    code32_start: 0x10_0000,
    kernel_alignment: 0x20_0000,
    relocatable_kernel: 1,
    min_alignment: 21,
    xloadflags: 0x7f,
    cmdline_size: 2047,
    payload_offset: PAYLOAD_OFFSET,
    payload_length: payload.length,
    pref_address: 0x100_0000,
    init_size: 0x10_0000,
    handover_offset: 0x190,
    kernel_info_offset: 0x20,
    ...parts.fields,
  };
  for (const field of Object.values(SETUP)) putField(image, field, fields[field.name]);
  return bytes;
}

function putField(image: Writer, { offset, width }: SetupField, value: number): void {
  if (width === 1) image.u8(offset, value);
  else if (width === 2) image.u16(offset, value);
  else if (width === 4) image.u32(offset, value);
  else image.u64(offset, value);
}

export interface PeParts {
  readonly machine?: number;
  readonly sections: Readonly<Record<string, Uint8Array>>;
}

export const PE_AT = 0x40;
export const PE_SECTIONS_AT = PE_AT + 4 + 20 + 112;

/** DOS header, PE32+ headers and sections, each padded to FileAlignment 0x200 as ukify does. */
export function makePe({ machine = 0x8664, sections }: PeParts): Uint8Array {
  const names = Object.keys(sections);
  let end = alignUp(PE_SECTIONS_AT + names.length * 40, 0x200);
  const placed = names.map((name) => {
    const data = sections[name]!;
    const at = end;
    end += alignUp(data.length, 0x200);
    return { name, data, at };
  });
  const bytes = new Uint8Array(end);
  const pe = new Writer(bytes);
  pe.u16(0, 0x5a4d); // "MZ"
  pe.u32(0x3c, PE_AT);
  pe.u32(PE_AT, 0x4550); // "PE\0\0"
  pe.u16(PE_AT + 4, machine);
  pe.u16(PE_AT + 6, names.length);
  pe.u16(PE_AT + 20, 112); // SizeOfOptionalHeader
  pe.u16(PE_AT + 24, 0x20b); // PE32+
  for (const [index, { name, data, at }] of placed.entries()) {
    const header = PE_SECTIONS_AT + index * 40;
    pe.copy(header, ascii(name));
    pe.u32(header + 8, data.length); // VirtualSize
    pe.u32(header + 16, alignUp(data.length, 0x200)); // SizeOfRawData
    pe.u32(header + 20, at); // PointerToRawData
    pe.copy(at, data);
  }
  return bytes;
}
