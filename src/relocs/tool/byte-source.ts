/**
 * Where the bytes of a vmlinux come from, when most of them are not wanted: a debug kernel is 590 MB, of which collecting its relocations
 * needs 31. The core never touches a file; src/node/files/byte-source.ts reads one through this.
 */
export interface ByteSource {
  readonly size: number;
  /**
   * The `length` bytes at `offset`, all of which must lie before `size`; read only. A source that has to copy them puts them into
   * `scratch` when that is long enough, and then they are good until the caller uses `scratch` again.
   */
  readAt(offset: number, length: number, scratch?: Uint8Array): Uint8Array;
}

/** A source over bytes in memory; gives views of them. */
export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    readAt: (offset, length) => bytes.subarray(offset, offset + length),
  };
}
