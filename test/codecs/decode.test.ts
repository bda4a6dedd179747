/** Every compression, in every form that its tool can give it, against the bytes that went in and against what the tool decodes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { coreCodecs, detectCompression, type Compression } from '../../src/codecs/formats.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { assertSame, DECODERS, KERNEL_ENCODERS, machineCode, Random, realCode, run, type Tool } from './tools.ts';

const random = new Random(7);
const noise = random.bytes(300_000);

/** More than one block of every format but bzip2's 900 kB and LZ4's 8 MiB ones; for those there is `long`. */
const code = machineCode(700_000);
const long = machineCode(9_000_000);

const INPUTS: Record<string, Uint8Array> = {
  code,
  real: realCode(),
  noise,
  zeros: new Uint8Array(400_000),
  mixed: Uint8Array.from([
    ...noise.subarray(0, 90_000),
    ...new Uint8Array(90_000),
    ...code.subarray(0, 90_000),
    ...noise,
  ]),
};
/** Around what formats treat apart: nothing, stripes of 32 bytes, the 4 last bytes of the x86 filter, 5 equal bytes and 255 more. */
const LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000];

async function check(compression: Compression, data: Uint8Array, payload: Uint8Array, name: string): Promise<void> {
  assert.equal(detectCompression(payload), compression, name);
  assertSame(run(...DECODERS[compression], payload), data, `${name}, by ${DECODERS[compression][0]}`);
  assertSame(await nodeCodecs[compression](payload, data.length), data, name);
  if (nodeCodecs[compression] !== coreCodecs[compression]) {
    assertSame(await coreCodecs[compression](payload, data.length), data, `${name}, core`);
  }
}

describe('as the kernel build compresses', () => {
  for (const compression of Object.keys(KERNEL_ENCODERS) as Compression[]) {
    for (const [name, data] of Object.entries(INPUTS)) {
      it(`${compression}: ${name}`, () => check(compression, data, run(...KERNEL_ENCODERS[compression], data), name));
    }
  }
});

/** [compression, tool, options] for what else the tools can be told. */
const FORMS: readonly (readonly [Compression, Tool, string])[] = [
  ['gzip', 'gzip', '-1'],
  ['gzip', 'gzip', '-6 -N'],
  ['bzip2', 'bzip2', '-1'],
  ['bzip2', 'bzip2', '-5'],
  ['lzma', 'xz', '--format=lzma -0'],
  ['lzma', 'xz', '--format=lzma --lzma1=lc=3,lp=0,pb=2,dict=64KiB,mf=hc4,nice=273'],
  ['xz', 'xz', '-0'],
  ['xz', 'xz', '-9e'],
  ['xz', 'xz', '--check=none'],
  ['xz', 'xz', '--check=crc64'],
  ['xz', 'xz', '--check=crc64 --x86 --lzma2'],
  ['xz', 'xz', '--x86=start=4096 --lzma2=dict=4KiB'],
  ['xz', 'xz', '--check=crc32 --block-size=65536 --x86 --lzma2=lc=0,lp=4,pb=4'],
  ['xz', 'xz', '--block-size=100001 --threads=2'],
  ['xz', 'xz', '--lzma2=lc=4,lp=0,pb=0,mode=fast'],
  ['xz', 'xz', '--lzma2=lc=1,lp=3,pb=1'],
  ['lzo', 'lzop', '-1'],
  ['lzo', 'lzop', '-3 --crc32'],
  ['lzo', 'lzop', '-7 -CC'],
  ['lzo', 'lzop', '-9 -F'],
  ['lz4', 'lz4', '-l -1 - -'],
  ['lz4', 'lz4', '-l -12 - -'],
  ['zstd', 'zstd', '-1'],
  ['zstd', 'zstd', '-3 --no-check'],
  ['zstd', 'zstd', '-19'],
  ['zstd', 'zstd', '--fast=5'],
  ['zstd', 'zstd', '-9 --long=31 --memory=2048MB'],
  ['zstd', 'zstd', '-12 --zstd=wlog=10,clog=10,hlog=10'],
  ['zstd', 'zstd', '-1 --no-compress-literals'],
];

describe('as the tools can also be told to', () => {
  for (const [compression, tool, options] of FORMS) {
    for (const name of ['code', 'mixed', 'real']) {
      const data = INPUTS[name]!;
      it(`${tool} ${options}: ${name}`, () => check(compression, data, run(tool, options, data), name));
    }
  }
});

describe('many blocks', () => {
  const forms: readonly (readonly [Compression, Tool, string])[] = [
    ['bzip2', 'bzip2', '-1'],
    ['lz4', 'lz4', '-l -1 - -'],
    ['lzo', 'lzop', '-1'],
    ['zstd', 'zstd', '-5'],
    ['xz', 'xz', '--x86 --lzma2=preset=1 --block-size=3MiB'],
    ['lzma', 'xz', '--format=lzma -1'],
    ['gzip', 'gzip', '-1'],
  ];
  for (const [compression, tool, options] of forms) {
    it(`${tool} ${options}`, () => check(compression, long, run(tool, options, long), 'long'));
  }
});

describe('who watches', () => {
  for (const [compression, tool, options] of [
    ['lz4', 'lz4', '-l -1 - -'],
    ['lzo', 'lzop', '-1'],
    ['zstd', 'zstd', '-5'],
  ] as const) {
    it(`${compression}: sees bytes that stay as they are, in the array that is given in the end`, async () => {
      const seen: { readonly array: Uint8Array; readonly copy: Uint8Array }[] = [];
      const payload = run(tool, options, long);
      const decoded = await coreCodecs[compression](payload, long.length, (array, end) =>
        seen.push({ array, copy: array.slice(0, end) }),
      );
      assertSame(decoded, long, 'decoded');
      assert.ok(seen.length >= 1 && seen.length <= 3, `${seen.length} times`);
      let last = 0;
      for (const { array, copy } of seen) {
        assert.equal(array, decoded);
        assert.ok(copy.length > last);
        last = copy.length;
        assertSame(copy, long.subarray(0, last), `up to ${last}`);
      }
    });

    it(`${compression}: sees nothing of a memory that may grow`, async () => {
      const zeros = new Uint8Array(40_000_000);
      const payload = run(tool, options, zeros);
      const ends: number[] = [];
      await coreCodecs[compression](payload, zeros.length, (_, end) => ends.push(end));
      // The last doubling may have made room for everything.
      assert.ok(ends.every((end) => end > zeros.length / 2));
    });
  }
});

/** For many inputs, or long ones. */
const QUICK: readonly (readonly [Compression, Tool, string])[] = [
  ['gzip', 'gzip', '-1'],
  ['bzip2', 'bzip2', '-1'],
  ['lzma', 'xz', '--format=lzma -1'],
  ['xz', 'xz', '--check=crc32 --x86 --lzma2=preset=1'],
  ['lzo', 'lzop', '-1'],
  ['lz4', 'lz4', '-l -1 - -'],
  ['zstd', 'zstd', '-1'],
];

describe('how much has been read', () => {
  for (const [compression, tool, options] of QUICK) {
    it(`${compression}: rising numbers, a hundred at most, nearly up to the end`, async () => {
      const payload = run(tool, options, long);
      const told: number[] = [];
      const decoded = await coreCodecs[compression](payload, long.length, undefined, undefined, (bytes) =>
        told.push(bytes),
      );
      assertSame(decoded, long, 'decoded');
      assert.ok(told.length >= 1 && told.length <= 100, `${told.length} times`);
      let last = 0;
      for (const bytes of told) {
        assert.ok(bytes - last >= payload.length / 100, `${bytes} after ${last}`);
        last = bytes;
      }
      assert.ok(last > payload.length / 3 && last <= payload.length, `the last is ${last} of ${payload.length}`);
    });
  }
});

describe('short inputs', () => {
  for (const [compression, tool, options] of QUICK) {
    it(`${tool} ${options}`, async () => {
      for (const length of LENGTHS) {
        const some = code.subarray(1000, 1000 + length);
        await check(compression, some, run(tool, options, some), `${length} of code`);
        const equal = new Uint8Array(length).fill(0xe8);
        await check(compression, equal, run(tool, options, equal), `${length} equal`);
      }
    });
  }
});

describe('what the output cannot be guessed from', () => {
  // Shrinks a thousandfold and more: the output outgrows its first guess several times.
  const zeros = new Uint8Array(40_000_000);
  zeros.set(code, 20_000_000);
  for (const [compression, tool, options] of QUICK) {
    it(`${compression}: 40 MB, nearly all zeros`, () => check(compression, zeros, run(tool, options, zeros), 'zeros'));
  }
});

describe('detectCompression', () => {
  it('knows nothing else', () => {
    assert.equal(detectCompression(new Uint8Array(0)), undefined);
    assert.equal(detectCompression(Uint8Array.of(0x1f)), undefined);
    assert.equal(detectCompression(code), undefined);
    // The frame of the lz4 tool without -l, which no kernel has.
    assert.equal(detectCompression(Uint8Array.of(0x04, 0x22, 0x4d, 0x18)), undefined);
  });
});
