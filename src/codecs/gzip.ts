/**
 * gzip through the platform's DecompressionStream (Compression Standard, https://compression.spec.whatwg.org/), which browsers, Deno
 * and Node have. It checks the CRC-32 and the size in the trailer. In Node, node:zlib is faster: src/node/codecs.ts.
 */
import { Faults, type Format } from './codec.ts';

const faults = new Faults('gzip');

/** The part of the Streams Standard that is used; the core compiles without DOM types. */
interface ByteTransform {
  readonly readable: {
    getReader(): {
      read(): Promise<{ done: boolean; value?: Uint8Array }>;
      cancel(): Promise<void>;
    };
  };
  readonly writable: {
    getWriter(): {
      write(chunk: Uint8Array): Promise<void>;
      close(): Promise<void>;
    };
  };
}

const platform = globalThis as unknown as { DecompressionStream?: new (format: 'gzip') => ByteTransform };

/** DEFLATE (RFC 1951) makes at most 258 bytes of two bits. A larger claim is refused before memory is spent on it. */
export const MAX_GZIP_RATIO = 1032;

function ignore(): void {}

async function decodeGzip(data: Uint8Array, size: number): Promise<Uint8Array> {
  if (!platform.DecompressionStream) {
    throw faults.unsupported('payload', { hint: 'this platform has no DecompressionStream' });
  }
  if (size > data.length * MAX_GZIP_RATIO) throw faults.wrongSize(undefined, size);
  const stream = new platform.DecompressionStream('gzip');
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  // read() reports errors of the writing side too. Without a handler here, they would end a Node process.
  writer.write(data).catch(ignore);
  writer.close().catch(ignore);

  const decoded = allocate(size);
  let length = 0;
  for (;;) {
    const { value } = await reader.read().catch((cause: unknown) => {
      throw faults.corrupt('payload', { cause });
    });
    if (!value) break;
    if (value.length > size - length) {
      reader.cancel().catch(ignore);
      throw faults.wrongSize(undefined, size);
    }
    decoded.set(value, length);
    length += value.length;
  }
  if (length !== size) throw faults.wrongSize(length, size);
  return decoded;
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch (cause) {
    throw faults.tooLarge(size, cause);
  }
}

/** RFC 1952, section 2.3.1: ID1, ID2, and the method DEFLATE. */
const MAGIC = [0x1f, 0x8b, 0x08];

export const gzip: Format = { magic: MAGIC, decode: decodeGzip };
