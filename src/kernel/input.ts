/**
 * Finds out what a given file is, and reads the vmlinux in it.
 *
 * Only the content decides, outermost container first: UKI → bzImage → payload → ELF. Files that are not kernels which kslide reads are recognized
 * too, where possible: "you gave me an initramfs" helps, "bad magic" does not.
 */
import { ascii, cString, indexOfBytes, Reader } from '../base/bytes.ts';
import { hex, KernelImageError, type ErrorCode } from '../base/errors.ts';
import { ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC } from '../elf/constants.ts';
import { EHDR, readNumber } from '../elf/fields.ts';
import { isElf } from '../elf/read.ts';
import { detectCompression, prepareDecoder, type Codecs, type Compression, type Watch } from '../codecs/formats.ts';
import { isBzImage, peekPayload, readSetupHeader, type SetupHeader } from '../bzimage/header.ts';
import { decodePayload, readPayload } from '../bzimage/payload.ts';
import { describeForeign, foreignKernel } from './foreign.ts';
import type { ForeignFile } from './foreign.ts';
import { findPeSection, IMAGE_FILE_MACHINE_AMD64, isPe, readPe } from '../bzimage/pe.ts';

export interface KernelInput {
  /** The outermost container; in a UKI there is a bzImage. */
  readonly kind: 'uki' | 'bzimage' | 'vmlinux';
  /** An ELF64 x86-64 file with everything that follows it. A view of the input if nothing had to be decompressed. */
  readonly vmlinux: Uint8Array;
  /** The bzImage itself: the input, or a UKI's .linux section. Undefined for a vmlinux, as is `header`. */
  readonly bzImage: Uint8Array | undefined;
  readonly header: SetupHeader | undefined;
  /** Undefined for a vmlinux, and for a bzImage whose payload is not compressed. */
  readonly compression: Compression | undefined;
  /** Why the decompressors in kernels would not read the payload as it was decoded here, if there is a reason. */
  readonly payloadDiffers: KernelImageError | undefined;
  /** "6.12.117+deb12-amd64 (builder@host) #1 SMP …" from the setup header. From a vmlinux's banner, only the part up to the builder. */
  readonly kernelVersion: string | undefined;
  /** The relocation table that the caller gave separately, unchanged. */
  readonly relocs: Uint8Array | undefined;
}

export interface InputOptions {
  readonly codecs: Codecs;
  readonly relocs?: Uint8Array | undefined;
  /** Called with `KernelInput.vmlinux` as it arrives, the last time with all of it. At that time it is not yet checked. */
  readonly watch?: Watch | undefined;
}

const READABLE = 'a bzImage, a UKI or an ELF vmlinux';

/** Throws KernelImageError, with a message of its own for each kind of file that people mistake for a kernel. */
export async function readInput(bytes: Uint8Array, { codecs, relocs, watch }: InputOptions): Promise<KernelInput> {
  if (isElf(bytes)) {
    checkElf(bytes);
    watch?.(bytes, bytes.length);
    return {
      kind: 'vmlinux',
      vmlinux: bytes,
      bzImage: undefined,
      header: undefined,
      compression: undefined,
      payloadDiffers: undefined,
      // A getter, because the banner lies far into the file: it is searched only if a caller asks.
      get kernelVersion() {
        return readBanner(bytes);
      },
      relocs,
    };
  }
  if (isBzImage(bytes)) return { kind: 'bzimage', ...(await readBzImage(bytes, codecs, watch)), relocs };
  const foreign = foreignKernel(bytes);
  if (foreign !== undefined) throw notReadable(foreign);
  // A bzImage with an EFI stub is PE as well, but its setup header was recognized above.
  if (isPe(bytes)) {
    const kernel = readUkiKernel(bytes);
    return { kind: 'uki', ...(await within('.linux section', () => readBzImage(kernel, codecs, watch))), relocs };
  }
  throw notReadable(describeForeign(bytes));
}

function notReadable({ code, found, hint }: ForeignFile): KernelImageError {
  return new KernelImageError({ code, what: 'file', found, expected: READABLE, hint });
}

/** For callers that have read only the start of a file: prepares the decoder that reading the whole file will need. Refuses nothing. */
export function expectInput(head: Uint8Array): void {
  const payload = peekPayload(head);
  const compression = payload === undefined ? undefined : detectCompression(head.subarray(payload));
  if (compression !== undefined) prepareDecoder(compression);
}

type BzImageContent = Omit<KernelInput, 'kind' | 'relocs'>;

async function readBzImage(bytes: Uint8Array, codecs: Codecs, watch: Watch | undefined): Promise<BzImageContent> {
  const header = readSetupHeader(bytes);
  const payload = readPayload(bytes, header);
  let payloadDiffers: KernelImageError | undefined;
  const vmlinux = await decodePayload(payload, codecs, watch, (difference) => (payloadDiffers ??= difference));
  await within('payload', () => checkElf(vmlinux));
  watch?.(vmlinux, vmlinux.length);
  const { compression } = payload;
  return { vmlinux, bzImage: bytes, header, compression, payloadDiffers, kernelVersion: header.kernelVersion };
}

function readUkiKernel(bytes: Uint8Array): Uint8Array {
  const { machine } = readPe(bytes);
  if (machine !== IMAGE_FILE_MACHINE_AMD64) {
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: 'PE Machine',
      found: named(machine, PE_MACHINES),
      expected: named(IMAGE_FILE_MACHINE_AMD64, PE_MACHINES),
    });
  }
  const kernel = findPeSection(bytes, '.linux');
  if (kernel !== undefined) return kernel;
  throw new KernelImageError({
    code: 'not-a-kernel',
    what: 'file',
    found: 'a PE program without a .linux section',
    expected: READABLE,
  });
}

/** Checks only the fields that distinguish an x86-64 kernel from other ELF files. src/elf checks the rest when it reads. */
function checkElf(bytes: Uint8Array): void {
  const reader = new Reader(bytes);
  if (!isElf(bytes)) {
    throw new KernelImageError({ code: 'not-a-kernel', what: 'e_ident', offset: 0, expected: '"\\x7fELF"' });
  }
  for (const { field, code, allowed, names, hints } of ELF_KERNEL) {
    const found = readNumber(reader, 0, EHDR[64][field], field);
    if (allowed.includes(found)) continue;
    const [offset] = EHDR[64][field];
    const expected = allowed.map((value) => named(value, names)).join(' or ');
    throw new KernelImageError({
      code,
      what: field,
      offset,
      found: named(found, names),
      expected,
      hint: hints?.[found],
    });
  }
}

type Names = Readonly<Record<number, string>>;

interface Expectation {
  readonly field: 'EI_CLASS' | 'EI_DATA' | 'e_machine' | 'e_type';
  readonly code: ErrorCode;
  readonly allowed: readonly number[];
  readonly names: Names;
  /** What to do instead, by what was found. */
  readonly hints?: Names;
}

/**
 * Class and byte order first: they say where the other fields are and how to read them. The names are for messages; src/elf has only those that it
 * uses.
 */
const ELF_KERNEL: readonly Expectation[] = [
  {
    field: 'EI_CLASS',
    code: 'wrong-architecture',
    allowed: [ELFCLASS64],
    names: { 1: 'ELFCLASS32', 2: 'ELFCLASS64' },
  },
  {
    field: 'EI_DATA',
    code: 'wrong-architecture',
    allowed: [ELFDATA2LSB],
    names: { 1: 'little-endian', 2: 'big-endian' },
  },
  {
    field: 'e_machine',
    code: 'wrong-architecture',
    allowed: [EM_X86_64],
    names: {
      3: 'i386',
      21: 'ppc64',
      22: 's390',
      40: 'arm',
      62: 'x86-64',
      183: 'aarch64',
      243: 'riscv',
      258: 'loongarch',
    },
  },
  {
    field: 'e_type',
    code: 'not-a-kernel',
    allowed: [ET_EXEC, ET_DYN],
    names: { 1: 'ET_REL, an object file or kernel module', 2: 'ET_EXEC', 3: 'ET_DYN', 4: 'ET_CORE, a memory dump' },
    hints: {
      1: 'give the kernel that it belongs to: vmlinuz in /boot, or vmlinux of the build',
      4: 'give the kernel that ran: vmlinuz in /boot, or vmlinux of the build',
    },
  },
];

const PE_MACHINES: Names = {
  0x14c: 'i386',
  0x5064: 'riscv64',
  0x6264: 'loongarch64',
  0x8664: 'x86-64',
  0xaa64: 'aarch64',
};

function named(value: number, names: Names): string {
  const name = names[value];
  return name === undefined ? hex(value) : `${hex(value)} (${name})`;
}

/**
 * Release and builder from linux_banner, which is in every vmlinux's .rodata. The rest of the string is not used: a vmlinux has two banners, and the
 * first is init/version.c's weak one, which lacks the build number (measured on Debian 6.1 and 6.12).
 */
function readBanner(bytes: Uint8Array): string | undefined {
  const start = ascii('Linux version ');
  const at = indexOfBytes(bytes, start);
  if (at < 0) return undefined;
  return /^\d[!-~]* \([ -~]*?\)/.exec(cString(bytes, at + start.length, 512))?.[0];
}

/** Adds to errors which part of the file they are about. Their offsets count from the start of that part. */
async function within<T>(part: string, read: () => T | Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof KernelImageError)) throw error;
    throw new KernelImageError({ ...error.data, what: `${error.data.what} of the ${part}` });
  }
}
