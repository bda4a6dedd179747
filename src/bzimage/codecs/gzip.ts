/**
 * gzip through the platform's DecompressionStream (Compression Standard, https://compression.spec.whatwg.org/), which browsers, Deno
 * and Node have. It checks the CRC-32 and the size in the trailer. Node's own zlib is faster: src/node/codecs.ts.
 */
import { Faults, Output } from './codec.ts';

const faults = new Faults('gzip');

/** What is used of the Streams Standard; the core compiles without DOM types. */
interface ByteTransform {
  readonly readable: {
    getReader(): {
      read(): Promise<{ done: boolean; value?: Uint8Array }>;
      cancel(reason?: unknown): Promise<void>;
    };
  };
  readonly writable: {
    getWriter(): {
      write(chunk: Uint8Array): Promise<void>;
      close(): Promise<void>;
    };
  };
}

const platform = globalThis as { DecompressionStream?: new (format: 'gzip') => ByteTransform };

export async function decodeGzip(data: Uint8Array, size: number): Promise<Uint8Array> {
  if (!platform.DecompressionStream) {
    throw faults.unsupported('payload', { hint: 'this platform has no DecompressionStream' });
  }
  const output = new Output(size, data.length, faults);
  const stream = new platform.DecompressionStream('gzip');
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  // Errors of the writing side come out of read() as well; unhandled here, they would end a Node process.
  const ignore = (): void => {};
  writer.write(data).catch(ignore);
  writer.close().catch(ignore);
  for (;;) {
    const chunk = await reader.read().catch((cause: unknown) => {
      throw faults.corrupt('payload', { cause });
    });
    if (chunk.done || !chunk.value) break;
    try {
      output.reserve(chunk.value.length);
    } catch (error) {
      reader.cancel().catch(ignore);
      throw error;
    }
    output.bytes.set(chunk.value, output.length);
    output.length += chunk.value.length;
  }
  return output.finish();
}
