/**
 * Makes a bzImage around the converted kernel. Any boot loader can load it, and if you extract its payload, you have a vmlinux that boots directly.
 * Both ways to boot use the same table: the one inside the added segment.
 *
 * The decompressor is the stock one. Its table is empty, so it relocates nothing, but it still picks the physical slide and sets KASLR_FLAG. A flag
 * in the parameters (STUB_FLAGS.despite_kaslr_flag) tells the stub to relocate anyway; the stub picks the virtual slide. Both obey `nokaslr`.
 *
 * With `tableAtEnd`, the table is in the kernel's own format and ends the file. The decompressor takes it for the table that the build put there, and
 * relocates. On a direct boot the stub reads the same bytes; after a decompressor it sees KASLR_FLAG and does nothing.
 */
import type { PhysAddr } from './base/addresses.ts';
import { firstDifference, unshared } from './base/bytes.ts';
import { stockCodecs } from './codecs/formats.ts';
import type { Codecs, Compression, Encoders } from './codecs/formats.ts';
import type { SetupHeader } from './bzimage/header.ts';
import { encodePayload, readPayload } from './bzimage/payload.ts';
import { isSigned } from './bzimage/pe.ts';
import { rewritePayload } from './bzimage/rewrite.ts';
import { buildUncompressed } from './bzimage/uncompressed.ts';
import { checkUnpacking, EMPTY_TABLE, unpackedSize } from './bzimage/unpacking.ts';
import { convertKernel } from './convert.ts';
import type { ConvertSummary } from './convert.ts';
import { KernelImageError } from './base/errors.ts';
import { readInput } from './kernel/input.ts';
import type { KernelInput } from './kernel/input.ts';
import { checkKernel } from './kernel/open.ts';
import { STUB_FLAGS } from './segment/layout.ts';
import { readVmlinux } from './kernel/vmlinux.ts';

export interface RebuildOptions {
  readonly codecs: Codecs;
  /** Compressors: a kernel build's tools, or any others whose output the kernel's decompressor can read. */
  readonly encoders: Encoders;
  /** A relocation table in the kernel's format, instead of the image's own. */
  readonly relocs?: Uint8Array | undefined;
  /** Use one table in the kernel's format for decompressor and stub. Otherwise the decompressor has an empty table, and the stub has its own. */
  readonly tableAtEnd?: boolean | undefined;
  /** Write the converted kernel uncompressed, with a few instructions that put it in place instead of a decompressor. Excludes `tableAtEnd`. */
  readonly uncompressed?: boolean | undefined;
  /** As for `convert`. */
  readonly align?: number | undefined;
  /** Called as each pass begins. */
  readonly onPass?: ((pass: RebuildPass) => void) | undefined;
}

export type RebuildPass = 'read' | 'relocations' | 'write' | 'compress' | 'check';

/** The shape of `kslide bzimage --json`. Sizes in bytes. */
export interface RebuildSummary extends ConvertSummary {
  readonly payload: {
    /** Undefined if the payload is not compressed. Then it has all the room that it needs. */
    readonly compression: Compression | undefined;
    /** How much room there was, and how much of it is used. */
    readonly room: number;
    readonly length: number;
    /** The payload's size after decompression. */
    readonly unpacked: number;
  };
  readonly initSize: { readonly before: number; readonly now: number };
  readonly signatureDropped: boolean;
}

export interface Rebuilt {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly summary: RebuildSummary;
}

/**
 * Throws KernelImageError for everything that `convert` refuses, for a kernel that does not come in a bzImage, and for a payload that does not fit
 * into the old one's place. Errors of an encoder pass through.
 */
export async function rebuildBzImage(image: Uint8Array, options: RebuildOptions): Promise<Rebuilt> {
  options.onPass?.('read');
  if (options.uncompressed) return rebuildUncompressed(await readInput(image, options), image.length, options);
  // A decompressor reads the input, and will read the output: both must be such that it reads them as kslide does.
  const input = await readInput(image, { ...options, codecs: stockCodecs });
  const { bzImage, header, compression, loadAddress } = expectCompressed(input);
  const opened = checkKernel(input, 'rewrite');
  const old = readPayload(bzImage, header);

  const tableAtEnd = options.tableAtEnd ?? false;
  const flags = tableAtEnd ? 0 : STUB_FLAGS.despite_kaslr_flag;
  const converted = convertKernel(opened, image.length, { ...options, segment: { flags, tableAtEnd } });
  // From here it is known what the decompressor unpacks, where it moves the segments, and what it reads as its table.
  const unpacked = tableAtEnd ? converted.bytes() : withEmptyTable(converted.bytes(), loadAddress);
  const tableSize = tableAtEnd ? converted.summary.sizes.table : EMPTY_TABLE;
  checkUnpacking(unpacked, loadAddress, tableSize);

  options.onPass?.('compress');
  const data = await encodePayload(unpacked, compression, options.encoders);
  const { bytes, initSize, signatureDropped } = rewritePayload(bzImage, header, old, {
    data,
    unpackedSize: unpacked.length,
    tableAtEnd,
  });

  // The compressor is a program of the system. Its output, read through the new headers, must decode to its input.
  options.onPass?.('check');
  const written = await readInput(bytes, { ...options, codecs: stockCodecs });
  if (!sameBytes(written.vmlinux, unpacked))
    throw new RangeError(`${compression}: what was compressed does not decode`);
  return {
    bytes: unshared(bytes),
    summary: {
      ...converted.summary,
      sizes: { ...converted.summary.sizes, output: bytes.length },
      payload: { compression, room: old.length, length: data.length, unpacked: unpacked.length },
      initSize: { before: header.initSize ?? 0, now: initSize },
      signatureDropped,
    },
  };
}

/**
 * The form without a decompressor: the segment loader puts the segments in place, and the kernel relocates itself as on a direct boot. The payload is,
 * byte for byte, what `convert` writes.
 */
function rebuildUncompressed(input: KernelInput, size: number, options: RebuildOptions): Rebuilt {
  const { bzImage, header } = expectBzImage(input);
  const { summary, bytes: convertedBytes } = convertKernel(checkKernel(input, 'rewrite'), size, options);
  const kernel = readVmlinux(convertedBytes());
  const { bytes, initSize } = buildUncompressed(bzImage, header, kernel);
  const length = kernel.elf.bytes.length;
  return {
    bytes: unshared(bytes),
    summary: {
      ...summary,
      sizes: { ...summary.sizes, output: bytes.length },
      payload: { compression: undefined, room: length, length, unpacked: length },
      initSize: { before: header.initSize ?? 0, now: initSize },
      signatureDropped: isSigned(bzImage),
    },
  };
}

function withEmptyTable(vmlinux: Uint8Array, loadAddress: PhysAddr): Uint8Array {
  const unpacked = new Uint8Array(unpackedSize(vmlinux, loadAddress));
  unpacked.set(vmlinux);
  return unpacked;
}

interface BzImageInput {
  readonly bzImage: Uint8Array;
  readonly header: SetupHeader;
  /** LOAD_PHYSICAL_ADDR. */
  readonly loadAddress: PhysAddr;
}

function expectBzImage({ kind, bzImage, header }: KernelInput): BzImageInput {
  if (bzImage === undefined || header === undefined) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'file',
      found: `a ${kind}`,
      expected: 'a bzImage: its setup code and header are kept',
    });
  }
  if (header.prefAddress === undefined || header.initSize === undefined) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'boot protocol version',
      found: header.protocol,
      expected: 'at least 0x20a: older headers have no pref_address and no init_size',
    });
  }
  return { bzImage, header, loadAddress: header.prefAddress };
}

function expectCompressed(input: KernelInput): BzImageInput & { readonly compression: Compression } {
  const { compression } = input;
  if (compression !== undefined) return { ...expectBzImage(input), compression };
  expectBzImage(input);
  throw new KernelImageError({
    code: 'unsupported',
    what: 'payload',
    found: 'not compressed',
    expected: 'a bzImage with a decompressor',
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && firstDifference(a, b) < 0;
}
