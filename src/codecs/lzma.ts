/**
 * The .lzma format ("LZMA_Alone"): 13 bytes of header, then one LZMA stream.
 *
 *   0  u8   properties: (pb * 5 + lp) * 9 + lc
 *   1  u32  dictionary size: not needed to decode, since the output is the dictionary; but kernels refuse longer distances
 *   5  u64  uncompressed size, or all ones: unknown, and the stream ends with a marker
 *
 * There is no checksum: damaged bytes are noticed if they break the structure or change the size. Sources: lzma-specification.txt in
 * the LZMA SDK; lib/decompress_unlzma.c in the kernel.
 */
import { Reader } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { Arena } from './arena.ts';
import { Faults, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import { LzmaState, MATCH_MAX_LEN, lzmaLoop, lzmaWorkspaceSize, propertiesOf } from './lzma-loop.ts';

const HEADER_SIZE = 13;
const UNKNOWN_SIZE = 0xffff_ffff_ffff_ffffn;
/** The stream begins with the bytes that start the range coder. */
const RANGE_CODER_SIZE = 5;

/** With one more, the probabilities (2 bytes for each of 1846 + (768 << lc + lp)) do not fit into BOOT_HEAP_SIZE. */
const MAX_CONTEXT_BITS = 5;

/** How many bytes one call of the loop decodes. Not more: V8 replaces a running function with its optimised version only at the next call. */
const STEP = 64 << 10;

const faults = new Faults('lzma');
const program = new DecoderProgram(() => [lzmaLoop()]);

const decodeLzma: Decoder = async (data, size, watch, differs, onRead) => {
  if (data.length < HEADER_SIZE + RANGE_CODER_SIZE) throw faults.ends('header', data.length);
  const properties = propertiesOf(data[0]!);
  if (!properties) throw faults.corrupt('properties', { offset: 0, found: data[0], expected: 'less than 0xe1' });
  const claimed = new Reader(data).u64(5, 'uncompressed size');
  if (claimed !== UNKNOWN_SIZE && claimed !== BigInt(size)) {
    throw faults.corrupt('uncompressed size', { offset: 5, found: claimed, expected: size });
  }

  const workspace = lzmaWorkspaceSize(properties.lc + properties.lp);
  const arena = await Arena.create({ program, faults, data, size, workspace, watch, differs, onRead });
  const contextBits = properties.lc + properties.lp;
  if (contextBits > MAX_CONTEXT_BITS) {
    const expected = `at most ${MAX_CONTEXT_BITS}, for the kernel's heap of 64 KiB`;
    arena.differs('properties', { offset: 0, found: `lc + lp of ${contextBits}`, expected });
  }
  const state = new LzmaState(arena);
  state.setProperties(properties);
  state.reset();
  const end = arena.input + data.length;
  if (!state.start(arena.input + HEADER_SIZE)) {
    throw faults.corrupt('range coder', { offset: HEADER_SIZE, found: data[HEADER_SIZE], expected: 0 });
  }

  let ended = false;
  while (!ended) {
    const left = arena.limit - arena.end;
    // After the last byte the stream may end if the header has the size; otherwise the end marker must follow.
    if (left === 0 && claimed !== UNKNOWN_SIZE && state.at === end) break;
    arena.reserve(Math.min(left, STEP + MATCH_MAX_LEN));
    const stopAt = arena.end + (left === 0 ? 1 : Math.min(left, STEP));
    const from = state.at - arena.input;
    ended = state.decode({ end, stopAt, limit: arena.limit, dictionary: arena.start });
    arena.pace(from);
  }
  if (state.at !== end) {
    throw faults.corrupt('stream', { offset: state.at - arena.input, found: 'bytes after its end' });
  }
  // 0 counts as 1.
  const dictionary = Math.max(1, new Reader(data).u32(1, 'dictionary size'));
  if (state.reach > dictionary) {
    arena.differs('dictionary size', {
      offset: 1,
      found: dictionary,
      expected: `${hex(state.reach)}, its longest distance`,
    });
  }
  return arena.finish();
};

/** Not a magic: the properties byte of lc=3 lp=0 pb=2, and a dictionary size that is a multiple of 64 KiB. */
const USUAL_START = [0x5d, 0x00, 0x00];

export const lzma: Format = { magic: USUAL_START, decode: decodeLzma, program };
