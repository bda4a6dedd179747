/**
 * The legacy frame of LZ4, which is what `lz4 -l` writes and the only one that kernels use.
 *
 *   u32 magic 0x184C2102 | (u32 compressed size | block) ...
 *
 * Each block decodes to 8 MiB, the last to less, and is independent of the others. There is no end mark and no checksum: the data
 * ends where the file does, and a changed literal goes unnoticed. Frames may follow each other, and a block size of 0 may end the data.
 *
 * The kernel does not use the block sizes: it decodes until 8 MiB are full, or all of the output, and takes what comes next in the payload for the next
 * block size. So it reads only blocks of exactly that size as we do. It also insists on the format's end of a block: five literals or more after the
 * last match. Before 5.13 it did not know the block size 0.
 *
 * Sources: lz4_Frame_format.md, "Legacy frame"; lz4_Block_format.md; lib/decompress_unlz4.c and LZ4_decompress_fast() in the kernel.
 */
import { Reader } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { Arena } from './arena.ts';
import { Faults, magicBytes, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import { keep, struct, u32 } from './workspace.ts';
import { copyApart, copyMatch } from './lz77-copy.ts';
import {
  FunctionBuilder,
  i32,
  load16,
  load8,
  loop,
  returns,
  store32,
  when,
  type Statement,
} from '../wasm/assembler.ts';

const MAGIC = 0x184c2102;
const BLOCK_SIZE = 8 << 20;
const MIN_MATCH = 4;
/** A length of 15 continues in the bytes that follow, up to the first that is not 255. */
const LENGTH_CONTINUES = 15;

const faults = new Faults('lz4');
const program = new DecoderProgram(() => [decodeSequences()]);

/** Literals that end a block, unless it has no match. */
const LAST_LITERALS = 5;

/** Where the loop keeps its place between calls: the next byte of the payload, and of the output. And how many literals ended the block. */
const WORKSPACE = struct({ AT: u32, TO: u32, LAST_LITERALS: u32 });

/** Result of decodeSequences, when it has reached the end of the block. */
const BLOCK_ENDS = 1;

/** How many bytes one call of the loop decodes. Not more: V8 replaces a running function with its optimised version only at the next call. */
const STEP = 64 << 10;

/**
 * Decodes sequences (literals, then a match) up to the address `end` of the payload, or until `stopAt` is reached. The output of the
 * block begins at `start` and may not pass `limit`.
 */
function decodeSequences(): FunctionBuilder {
  const f = new FunctionBuilder('decodeSequences');
  const { end, start, stopAt, limit } = f.parameters('end', 'start', 'stopAt', 'limit');
  const { at, to, from, stop, token, length, more, offset } = f.locals(
    'i32',
    'at',
    'to',
    'from',
    'stop',
    'token',
    'length',
    'more',
    'offset',
  );
  const copy = { to, from, stop };
  const { load, save } = keep([
    [at, WORKSPACE.AT],
    [to, WORKSPACE.TO],
  ]);
  const readMore = (): Statement =>
    when(length.equals(LENGTH_CONTINUES), [
      loop((again) => [
        f.failIf(at.atLeast(end), 'a length that ends after the block'),
        more.set(load8(at)),
        at.increase(1),
        length.increase(more),
        again.goIf(more.equals(255)),
      ]),
    ]);

  return f.body([
    load,
    loop((again) => [
      f.failIf(at.atLeast(end), 'a block that ends with a match'),
      token.set(load8(at)),
      at.increase(1),
      length.set(token.shr(4)),
      readMore(),
      f.failIf(length.above(end.sub(at)), 'more literals than the block has'),
      f.failIf(length.above(limit.sub(to)), 'more bytes than a block or the payload may have'),
      from.set(at),
      stop.set(to.add(length)),
      at.increase(length),
      copyApart(copy),
      // The last sequence has no match.
      when(at.equals(end), [save, store32(i32(0), length, WORKSPACE.LAST_LITERALS), returns(i32(BLOCK_ENDS))]),

      f.failIf(end.sub(at).below(2), 'an offset that ends after the block'),
      offset.set(load16(at)),
      at.increase(2),
      // 0 wraps round to the largest number.
      f.failIf(offset.sub(1).atLeast(to.sub(start)), 'an offset to before the block'),
      length.set(token.and(15)),
      readMore(),
      length.increase(MIN_MATCH),
      f.failIf(length.above(limit.sub(to)), 'more bytes than a block or the payload may have'),
      stop.set(to.add(length)),
      copyMatch(copy, offset),
      again.goIf(to.below(stopAt)),
    ]),
    save,
  ]);
}

const decodeLz4: Decoder = async (data, size, watch, differs, onRead) => {
  if (data.length < 4) throw faults.ends('magic', data.length);
  const reader = new Reader(data);
  const magic = reader.u32(0, 'magic');
  if (magic !== MAGIC) throw faults.corrupt('magic', { offset: 0, found: magic, expected: MAGIC });

  const arena = await Arena.create({ program, faults, data, size, workspace: WORKSPACE.SIZE, watch, differs, onRead });
  for (let offset = 4; offset < data.length;) {
    if (data.length - offset < 4) throw faults.ends('block size', data.length);
    const length = reader.u32(offset, 'block size');
    if (length === MAGIC) {
      // Another frame.
      offset += 4;
      continue;
    }
    const left = data.length - offset - 4;
    if (length === 0) {
      if (left > 0) throw faults.corrupt('data', { offset: offset + 4, found: 'bytes after its end' });
      arena.differs('block size', { offset, found: 0, expected: 'none after the last block' });
      break;
    }
    if (length > left) throw faults.corrupt('block size', { offset, found: length, expected: `at most ${hex(left)}` });
    offset += 4;
    decodeBlock(arena, offset, length);
    offset += length;
    arena.pace(offset);
  }
  return arena.finish();
};

function decodeBlock(arena: Arena, offset: number, length: number): void {
  const start = arena.end;
  const room = Math.min(BLOCK_SIZE, arena.limit - start);
  const at = arena.input + offset;
  arena.reserve(room);
  arena.set(WORKSPACE.AT, at);
  arena.set(WORKSPACE.TO, start);
  let result: number;
  do {
    const bounds = { end: at + length, start, stopAt: arena.get(WORKSPACE.TO) + STEP, limit: start + room };
    result = arena.call('decodeSequences', bounds, arena.get(WORKSPACE.AT));
    arena.end = arena.get(WORKSPACE.TO);
    arena.settle();
  } while (result !== BLOCK_ENDS);
  const decoded = arena.end - start;
  if (decoded !== room) arena.differs('block', { offset, found: `${hex(decoded)} bytes`, expected: hex(room) });
  const lastLiterals = arena.get(WORKSPACE.LAST_LITERALS);
  if (lastLiterals < LAST_LITERALS && lastLiterals !== decoded) {
    arena.differs('end of a block', {
      offset: offset + length,
      found: `${lastLiterals} literals after the last match`,
      expected: `at least ${LAST_LITERALS}`,
    });
  }
}

export const lz4: Format = { magic: magicBytes(MAGIC), decode: decodeLz4, program };
