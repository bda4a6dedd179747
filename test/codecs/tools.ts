/**
 * What the codec tests share: inputs, and the system's compressors, which are the second source of every expectation here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Codecs, Compression } from '../../src/codecs/formats.ts';
import { KernelImageError } from '../../src/base/errors.ts';

const PACKAGES = {
  gzip: 'gzip',
  bzip2: 'bzip2',
  xz: 'xz-utils',
  lzop: 'lzop',
  lz4: 'lz4',
  zstd: 'zstd',
} as const;

export type Tool = keyof typeof PACKAGES;

/** Runs a system tool as a filter. A missing tool is a failure, not a reason to skip. */
export function run(tool: Tool, options: string, input: Uint8Array): Uint8Array {
  const { error, status, stdout, stderr } = spawnSync(tool, options.split(' '), { input, maxBuffer: 2 ** 30 });
  if (error && 'code' in error && error.code === 'ENOENT') {
    throw new Error(`${tool} is needed to test the decoders: apt-get install ${PACKAGES[tool]}`);
  }
  assert.equal(status, 0, `${tool} ${options}: ${stderr}`);
  return new Uint8Array(stdout);
}

/** The tool of each compression, and how it decodes. */
export const DECODERS: Record<Compression, readonly [Tool, string]> = {
  gzip: ['gzip', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzma: ['xz', '--format=lzma -dc'],
  xz: ['xz', '-dc'],
  lzo: ['lzop', '-dc'],
  lz4: ['lz4', '-dc'],
  zstd: ['zstd', '-dc --memory=2048MB'],
};

/** As the kernel's scripts/Makefile.lib and scripts/xz_wrap.sh compress. */
export const KERNEL_ENCODERS: Record<Compression, readonly [Tool, string]> = {
  gzip: ['gzip', '-n -f -9'],
  bzip2: ['bzip2', '-9'],
  lzma: ['xz', '--format=lzma -9'],
  xz: ['xz', '--check=crc32 --threads=1 --x86 --lzma2=dict=32MiB'],
  lzo: ['lzop', '-9'],
  lz4: ['lz4', '-l -9 - -'],
  zstd: ['zstd', '-22 --ultra'],
};

export function compress(compression: Compression, data: Uint8Array): Uint8Array {
  return run(...KERNEL_ENCODERS[compression], data);
}

/** xorshift32: the same on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  /** Below 2^32. */
  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  below(limit: number): number {
    return this.next() % limit;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/**
 * Bytes that resemble a kernel: instructions with many calls of few functions, opcode bytes in clusters (which is where the x86 filter
 * has its rules), tables of pointers, text, noise, and long runs of zeros.
 */
export function machineCode(length: number, seed = 1): Uint8Array {
  const random = new Random(seed);
  const bytes = new Uint8Array(length);
  const functions = Array.from({ length: 64 }, () => random.below(length));
  const idioms = Array.from({ length: 200 }, () => random.bytes(2 + random.below(9)));
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put = (some: Uint8Array): void => {
    bytes.set(some.subarray(0, length - at), at);
    at = Math.min(length, at + some.length);
  };
  const call = (opcode: number): void => {
    if (length - at < 5) return put(Uint8Array.of(opcode));
    bytes[at] = opcode;
    view.setInt32(at + 1, functions[random.below(functions.length)]! - (at + 5), true);
    at += 5;
  };
  while (at < length) {
    const kind = random.below(1000);
    if (kind < 700) put(idioms[random.below(random.below(idioms.length) + 1)]!);
    else if (kind < 900) call(random.below(5) === 0 ? 0xe9 : 0xe8);
    else if (kind < 940)
      put(Uint8Array.from({ length: 1 + random.below(9) }, () => [0xe8, 0xe9, 0x00, 0xff][random.below(4)]!));
    else if (kind < 970) put(new TextEncoder().encode(`drivers/net/some_function_${random.below(500)}: error %d\n\0`));
    else if (kind < 985) put(random.bytes(random.below(60)));
    else if (kind < 997) {
      for (let i = random.below(40); i > 0 && length - at >= 8; i--, at += 8) {
        view.setBigUint64(at, 0xffff_ffff_8100_0000n + BigInt(random.below(length)), true);
      }
    } else put(new Uint8Array(random.below(20_000)));
  }
  return bytes;
}

/** Real code, of this machine. */
export function realCode(): Uint8Array {
  return new Uint8Array(readFileSync('/bin/bash'));
}

/** Time that no decode of a small payload comes near, on any machine. */
const TOO_LONG_MS = 10_000;

/** Decodes; whatever is wrong, only `KernelImageError` may say so, and soon. Undefined if it did. */
export async function attempt(
  codecs: Codecs,
  compression: Compression,
  data: Uint8Array,
  size: number,
): Promise<Uint8Array | undefined> {
  const begin = performance.now();
  try {
    const decoded = await codecs[compression](data, size);
    assert.equal(decoded.length, size);
    return decoded;
  } catch (error) {
    if (error instanceof KernelImageError) return undefined;
    throw error;
  } finally {
    const took = performance.now() - begin;
    assert.ok(took < TOO_LONG_MS, `${compression} of ${data.length} bytes took ${took} ms`);
  }
}

/** Equal, without a listing of a million bytes when not. */
export function assertSame(found: Uint8Array, expected: Uint8Array, message: string): void {
  assert.equal(found.length, expected.length, `${message}: length`);
  const same = Buffer.compare(found, expected) === 0;
  const at = same ? -1 : found.findIndex((byte, i) => byte !== expected[i]);
  assert.ok(same, `${message}: differs at ${at}: ${found[at]}, expected ${expected[at]}`);
}
