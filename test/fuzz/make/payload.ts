/** The target of a payload's compression: what `readPayload` and the decoder make of bytes that begin with its magic. */
import assert from 'node:assert/strict';
import { crc32, inflateRawSync } from 'node:zlib';
import { Writer } from '../../../src/base/bytes.ts';
import type { SetupHeader } from '../../../src/bzimage/header.ts';
import { decodePayload, readPayload } from '../../../src/bzimage/payload.ts';
import { coreCodecs, detectCompression } from '../../../src/codecs/formats.ts';
import type { Codecs, Compression } from '../../../src/codecs/formats.ts';
import { nodeCodecs } from '../../../src/node/codecs.ts';
import { withSizeWord } from '../../bzimage/make-image.ts';
import { compress, machineCode, run } from '../../codecs/tools.ts';
import type { Tool } from '../../codecs/tools.ts';
import { readNumber } from '../fields.ts';
import type { FieldAt } from '../fields.ts';
import type { Target } from '../target.ts';

const HEADER = { protectedModeStart: 0, payloadOffset: 0, initSize: undefined } as unknown as SetupHeader;

/** Other forms than the kernel's, whose checks do not stop mutated data, or whose paths differ. */
const FORMS: Readonly<Record<Compression, readonly (readonly [Tool, string])[]>> = {
  gzip: [['gzip', '-1']],
  bzip2: [['bzip2', '-1']],
  lzma: [['xz', '--format=lzma --lzma1=preset=0,dict=64KiB']],
  xz: [
    ['xz', '--check=none --block-size=1500 --x86 --lzma2=preset=1'],
    ['xz', '--check=crc64 -0'],
  ],
  lzo: [['lzop', '-1 -F']],
  lz4: [['lz4', '-l -1 - -']],
  zstd: [
    ['zstd', '-3 --no-check'],
    ['zstd', '-19 --no-check --single-thread --no-content-size'],
  ],
};

/** Code, a run of zeros, noise: some 3,000 bytes, so that thousands of executions a second are possible. */
const DATA = machineCode(3000, 5);
const RUN = new Uint8Array(20_000).fill(0x90, 100, 200);

export function payloadTarget(compression: Compression, executions: number): Target {
  const sized = (stream: Uint8Array, size: number): Uint8Array =>
    compression === 'gzip' ? stream : withSizeWord(stream, size);
  return {
    seeds: () =>
      [DATA, RUN].flatMap((data) => {
        const others = FORMS[compression].map(([tool, options]) => run(tool, options, data));
        return [compress(compression, data), ...others].map((stream) => sized(stream, data.length));
      }),
    async run(input) {
      const payload = readPayload(input, { ...HEADER, payloadLength: input.length });
      if (payload.compression !== compression) return 'another compression';
      const decoded = await decode(input, nodeCodecs);
      if (compression === 'gzip' && decoded.length < 1 << 20)
        assert.ok(Buffer.from(await decode(input, coreCodecs)).equals(decoded), 'the two gzip decoders differ');
      return 'decoded';
    },
    fields: (input) => fieldsOf(compression, input),
    repair: (input) => repair(compression, input),
    longest: 4096,
    executions,
  };
}

function decode(input: Uint8Array, codecs: Codecs): Promise<Uint8Array> {
  return decodePayload(readPayload(input, { ...HEADER, payloadLength: input.length }), codecs);
}

/** The size word, and the bytes of the headers, which are fields or parts of them in every format. */
function fieldsOf(compression: Compression, input: Uint8Array): FieldAt[] {
  const at = (offset: number, width: FieldAt['width']): FieldAt[] =>
    offset >= 0 && offset + width <= input.length ? [{ offset, width }] : [];
  const bytes = Array.from({ length: 40 }, (_, offset) => at(offset, 1)).flat();
  const words = [4, 5, 8, 12, 13, 16, 38].flatMap((offset) => at(offset, 4));
  return [...bytes, ...words, ...at(input.length - 4, 4), ...(compression === 'lzma' ? at(5, 8) : [])];
}

function repair(compression: Compression, input: Uint8Array): Uint8Array {
  if (detectCompression(input) !== compression) return input;
  if (compression === 'xz') repairXz(input);
  if (compression === 'gzip') repairGzip(input);
  return input;
}

/** The CRC-32 of stream header, block header, index and footer. (The .xz file format, 2 to 4.) */
function repairXz(input: Uint8Array): void {
  const writer = new Writer(input);
  const put = (from: number, to: number, at: number): void => {
    if (from >= 0 && from <= to && at + 4 <= input.length && at >= 0) writer.u32(at, crc32(input.subarray(from, to)));
  };
  put(6, 8, 8);
  const block = 12 + ((input[12] ?? 0) + 1) * 4;
  put(12, block - 4, block - 4);
  const end = input.length - 4; // the size word
  const footer = end - 12;
  const index = footer - (readNumber(input, footer + 4, 4) + 1) * 4;
  put(index, footer - 4, footer - 4);
  put(footer + 4, footer + 10, footer);
}

/** CRC-32 and ISIZE of what the stream gives, if it gives anything. */
function repairGzip(input: Uint8Array): void {
  if (input.length < 18 || input[3] !== 0) return;
  try {
    const data = inflateRawSync(input.subarray(10, -8), { maxOutputLength: 1 << 20 });
    const writer = new Writer(input);
    writer.u32(input.length - 8, crc32(data));
    writer.u32(input.length - 4, data.length);
  } catch {
    // Not a stream any more: left for the decoders to refuse.
  }
}
