/**
 * Access to the bytes of a vmlinux of which only a small part is needed: a debug kernel is 590 MB, and collecting its relocations
 * reads 31 of them. The core never touches a file; node/files/byte-source.ts reads one through this interface.
 */
export interface ByteSource {
  readonly size: number;
  /**
   * Returns the `length` bytes at `offset`, which callers must not change. All of them must be before `size`. A source that has to copy them may put them
   * into `scratch`, if it is long enough; they are then valid until the caller uses `scratch` again.
   */
  readAt(offset: number, length: number, scratch?: Uint8Array): Uint8Array;
}

/** A source of bytes in memory. `readAt` returns views of them. */
export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    readAt: (offset, length) => bytes.subarray(offset, offset + length),
  };
}
