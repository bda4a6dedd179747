/**
 * What the kernel's tool prints for people: `--abs-syms`, `--abs-relocs` and `--reloc-info`, column for column.
 *
 * Symbol names are bytes in no known encoding, so lines are put together as bytes. They are returned piece by piece, because the `--reloc-info` of a
 * debug kernel has 71 MB.
 */
import { viewOf } from '../../base/bytes.ts';
import { oneLine } from '../../base/text.ts';
import { SHN_ABS, SHT_SYMTAB } from '../../elf/constants.ts';
import { REL, REL_SIZE } from '../../elf/fields.ts';
import type { RelocsImage } from './image.ts';
import { isKnownAbsolute } from './rules.ts';
import type { SymbolTable } from './symbols.ts';
import { RELOCATION_TYPES, relocationTypeName } from './types.ts';
import { PIECE, readPieces, relocationSections, symbolOf, typeOf } from './relocation-entries.ts';
import type { RelocationSection } from './relocation-entries.ts';

const PIECE_OF_TEXT = 1 << 20;

/** How many lists the table would have. A function, because finding out takes a search of all symbols, and only some outputs need it. */
export type Lists = () => 2 | 3;

/** `--abs-syms`: every absolute symbol. */
export function* listAbsoluteSymbols(image: RelocsImage): Generator<Uint8Array> {
  const { sections } = image;
  const out = new ByteText();
  out.add('Absolute symbols\n Num:    Value Size  Type       Bind        Visibility  Name\n');
  for (let index = 0; index < sections.count; index++) {
    if (sections.word(index, 'sh_type') !== SHT_SYMTAB) continue;
    const symbols = image.symbols(index, 'the list of absolute symbols');
    for (let symbol = 0; symbol < symbols.count; symbol++) {
      if (symbols.shndx(symbol) !== SHN_ABS) continue;
      out.add(describeSymbol(symbols, symbol, sections.bits));
      out.add(listed(symbols.name(symbol)));
      out.add('\n');
      if (out.isFull) yield out.take();
    }
  }
  out.add('\n');
  yield out.take();
}

const SYMBOL_TYPES = ['NOTYPE', 'OBJECT', 'FUNC', 'SECTION', 'FILE', 'COMMON', 'TLS'];
const SYMBOL_BINDS = ['LOCAL', 'GLOBAL', 'WEAK'];
const SYMBOL_VISIBILITIES = ['DEFAULT', 'INTERNAL', 'HIDDEN', 'PROTECTED'];

/** All columns before the name. */
function describeSymbol(symbols: SymbolTable, symbol: number, bits: 32 | 64): string {
  const number = String(symbol).padStart(5);
  const value = fullHex(symbols.value(symbol), bits);
  const gap = bits === 64 ? ' ' : '  ';
  const size = BigInt.asIntN(bits, symbols.size(symbol)).toString().padStart(5); // the tool takes it as signed
  const info = symbols.info(symbol);
  const typeName = SYMBOL_TYPES[info & 15];
  const type = (typeName === undefined ? 'unknown sym type name' : `STT_${typeName}`).padStart(10);
  const bindName = SYMBOL_BINDS[info >> 4];
  const bind = (bindName === undefined ? 'unknown sym bind name' : `STB_${bindName}`).padStart(10);
  const visibility = `STV_${SYMBOL_VISIBILITIES[symbols.other(symbol) & 3]}`.padStart(12);
  return `${number} ${value}${gap}${size} ${type} ${bind} ${visibility} `;
}

/** `--abs-relocs`: relocations that name an absolute symbol, unless it is known to be right (rules.ts). No output at all if there are none. */
export function* listAbsoluteRelocations(
  image: RelocsImage,
  { realMode, lists }: { readonly realMode: boolean; readonly lists: Lists },
): Generator<Uint8Array> {
  const { bits } = image.sections;
  const out = new ByteText();
  const [[offsetField], [infoField]] = [REL[bits].r_offset, REL[bits].r_info];
  let head = 'WARNING: Absolute relocations present\nOffset     Info     Type     Sym.Value Sym.Name\n';
  for (const { section, view, at } of relocations(image)) {
    const { symbols } = section;
    const symbol = section.checkSymbol(symbolOf(view, at, bits));
    if (symbols.shndx(symbol) !== SHN_ABS) continue;
    const name = symbols.name(symbol);
    if (isKnownAbsolute(name, bits === 64 ? lists() : undefined, realMode)) continue;
    const [offset, info] =
      bits === 64
        ? [view.getBigUint64(at + offsetField, true), view.getBigUint64(at + infoField, true)]
        : [BigInt(view.getUint32(at + offsetField, true)), BigInt(view.getUint32(at + infoField, true))];
    const type = typeTitle(bits, typeOf(view, at, bits), lists).padStart(10);
    const value = fullHex(symbols.value(symbol), bits);
    out.add(`${head}${fullHex(offset, bits)} ${fullHex(info, bits)} ${type} ${value}  ${listed(name)}\n`);
    head = '';
    if (out.isFull) yield out.take();
  }
  if (head === '') out.add('\n');
  yield out.take();
}

/** `--reloc-info`: every relocation of a loaded section. */
export function* listRelocations(image: RelocsImage, lists: Lists): Generator<Uint8Array> {
  const { bits } = image.sections;
  const out = new ByteText();
  out.add('reloc section\treloc type\tsymbol\tsymbol section\n');
  for (const { section, view, at } of relocations(image)) {
    const { symbols } = section;
    const symbol = section.checkSymbol(symbolOf(view, at, bits));
    out.add(listed(image.sectionTitle(section.target)));
    out.add('\t');
    out.add(typeTitle(bits, typeOf(view, at, bits), lists));
    out.add('\t');
    out.add(listed(symbols.name(symbol)));
    out.add('\t');
    out.add(listed(image.sectionTitle(symbols.sectionIndex(symbol))));
    out.add('\n');
    if (out.isFull) yield out.take();
  }
  yield out.take();
}

/** All relocations, one by one. The entry is at `at` in `view`; both are valid until the next one is requested. */
function* relocations(
  image: RelocsImage,
): Generator<{ readonly section: RelocationSection; readonly view: DataView; readonly at: number }> {
  const size = REL_SIZE[image.sections.bits];
  const scratch = new Uint8Array(PIECE * size);
  for (const section of relocationSections(image)) {
    for (const { bytes } of readPieces(image, section, scratch)) {
      const view = viewOf(bytes);
      for (let at = 0; at < bytes.length; at += size) yield { section, view, at };
    }
  }
}

/**
 * The kernel's tool prints names as they are, to a terminal too. Here what a terminal would obey is an escape. A name has a character for each byte, in no
 * known encoding: the bytes from 0x80 to 0x9f are taken for controls, which also breaks up nearly every format character in UTF-8. The others are named.
 */
function listed(name: string): string {
  if (!NOT_PLAIN.test(name)) return name;
  return oneLine(name.replaceAll(FORMAT_IN_UTF8, (bytes) => Array.from(bytes, escapedByte).join('')));
}

const NOT_PLAIN = /[^ -~]/;
/** U+FEFF, and U+FFF9 to U+FFFB. (U+00AD is also a format character as a byte.) */
const FORMAT_IN_UTF8 = /\u00ef(?:\u00bb\u00bf|\u00bf[\u00b9-\u00bb])/g;

function escapedByte(byte: string): string {
  return `\\x${byte.charCodeAt(0).toString(16)}`;
}

/** Only the tools that write two lists have a name for R_X86_64_REX_GOTPCRELX. */
function typeTitle(bits: 32 | 64, type: number, lists: Lists): string {
  const unnamed = type === RELOCATION_TYPES[64].R_X86_64_REX_GOTPCRELX && lists() === 3;
  return (unnamed ? undefined : relocationTypeName(bits, type)) ?? 'unknown type rel type name';
}

/** All digits of an address, without 0x. */
function fullHex(value: bigint, bits: 32 | 64): string {
  return value.toString(16).padStart(bits / 4, '0');
}

/** Collects text as bytes, one for each character, in pieces of about 1 MB. */
class ByteText {
  #bytes = new Uint8Array(PIECE_OF_TEXT + 4096);
  #length = 0;

  get isFull(): boolean {
    return this.#length >= PIECE_OF_TEXT;
  }

  add(text: string): void {
    const end = this.#length + text.length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(end * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    for (let index = 0; index < text.length; index++) this.#bytes[this.#length + index] = text.charCodeAt(index);
    this.#length = end;
  }

  /** Returns what was added since the last call. The caller may keep it. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#bytes = new Uint8Array(PIECE_OF_TEXT + 4096);
    this.#length = 0;
    return taken;
  }
}
