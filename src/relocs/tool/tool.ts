/** The kernel's relocs tool (arch/x86/tools/relocs) as one function: takes a vmlinux, returns what the tool would print. */
import { ascii, bytesOfWords } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { collectSites32, collectTable, decideLists } from './collect.ts';
import type { CollectOptions } from './collect.ts';
import { openRelocsImage } from './image.ts';
import type { RelocsImage } from './image.ts';
import { expectRelocatedText } from './relocated-text.ts';
import { listAbsoluteRelocations, listAbsoluteSymbols, listRelocations } from './listings.ts';

export interface RelocsToolOptions extends CollectOptions {
  /** The table as bytes or as source for GNU as, or one of the listings. */
  readonly print: 'table' | 'text' | 'abs-syms' | 'abs-relocs' | 'reloc-info';
  /** Rules and table for real-mode code (i386 only) instead of the kernel's. */
  readonly realMode: boolean;
  /** Refuse to make a table of a vmlinux without relocations of its code. The kernel's tool makes one of what is left. */
  readonly needsCode?: boolean | undefined;
}

/** Yields the output piece by piece. Throws KernelImageError for input that the tool would refuse; a listing may have yielded some pieces by then. */
export function* runRelocsTool(source: ByteSource, options: RelocsToolOptions): Generator<Uint8Array> {
  const image = openRelocsImage(source);
  const { print, realMode } = options;
  let decided = options.lists;
  const lists = (): 2 | 3 => (decided ??= decideLists(image)); // once, because it searches all symbols
  if (print === 'abs-syms') yield* listAbsoluteSymbols(image);
  else if (print === 'abs-relocs') yield* listAbsoluteRelocations(image, { realMode, lists });
  else if (print === 'reloc-info') yield* listRelocations(image, lists);
  else {
    if (options.needsCode === true && !realMode) expectRelocatedText(image);
    const words = realMode ? realModeTable(image) : kernelTable(image, options);
    yield print === 'text' ? encodeWordsAsText(words) : bytesOfWords(words);
  }
}

const ZERO = Uint32Array.of(0);

/** The table for this kernel's decompressor, which reads it backwards: the zero before each list ends it. */
export function kernelTable(image: RelocsImage, options: CollectOptions): Uint32Array {
  if (image.sections.bits === 32) return join(ZERO, collectSites32(image, 'kernel').abs32);
  const { abs64, inverse32, abs32, lists } = collectTable(image, options);
  return lists === 3 ? join(ZERO, abs64, ZERO, inverse32, ZERO, abs32) : join(ZERO, abs64, ZERO, abs32);
}

/** The table of the real-mode trampoline, which is read forwards: each list's length is before it. */
function realModeTable(image: RelocsImage): Uint32Array {
  if (image.sections.bits === 64) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'EI_CLASS',
      offset: 4,
      found: '2 (ELFCLASS64)',
      expected: '1 (ELFCLASS32): real-mode code is linked as i386',
    });
  }
  const { segment16, abs32 } = collectSites32(image, 'real-mode');
  return join(Uint32Array.of(segment16.length), segment16, Uint32Array.of(abs32.length), abs32);
}

function join(...runs: Uint32Array[]): Uint32Array {
  const words = new Uint32Array(runs.reduce((sum, run) => sum + run.length, 0));
  let at = 0;
  for (const run of runs) {
    words.set(run, at);
    at += run.length;
  }
  return words;
}

const TEXT_HEAD = '.section ".data.reloc","a"\n.balign 4\n';
const TEXT_LINE = '\t.long 0x00000000\n';
const HEX = ascii('0123456789abcdef');

/** The table as source for GNU as. */
function encodeWordsAsText(words: Uint32Array): Uint8Array {
  const head = ascii(TEXT_HEAD);
  const line = ascii(TEXT_LINE);
  const bytes = new Uint8Array(head.length + words.length * line.length);
  bytes.set(head);
  for (let index = 0, at = head.length; index < words.length; index++, at += line.length) {
    bytes.set(line, at);
    let rest = words[index]!;
    for (let digit = at + line.length - 2; rest > 0; digit--, rest >>>= 4) bytes[digit] = HEX[rest & 15]!;
  }
  return bytes;
}
