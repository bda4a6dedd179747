/**
 * Decodes x86-64 instructions as far as finding addresses in code needs: where each ends, which operation it is, and where its displacement and its immediate
 * operand lie. 32-bit code too, for PVH entries.
 *
 * Not a disassembler: no mnemonics, no operands by name. iced-x86 gives those, at 0.2 µs an instruction and 2 MB; this takes some 0.02 µs and runs wherever the core does.
 * iced-x86 judges it (test/x86).
 *
 * Encodings: Intel's Software Developer's Manual, volume 2, chapter 2 and appendix A; AMD's manual, volume 3.
 */

/** Which opcode map. One-byte opcodes; after 0x0f; after 0x0f 0x38; after 0x0f 0x3a; and others, which only EVEX, XOP and VEX reach. */
export const MAP = { one: 0, two: 0x100, three38: 0x200, three3a: 0x300, other: 0x400 } as const;

/** Prefixes that an instruction has, as bits. */
export const PREFIX = {
  operand16: 1,
  address: 2,
  repne: 4,
  rep: 8,
  lock: 16,
  fs: 32,
  gs: 64,
  vex: 128,
  segment: 256,
} as const;

const REX_W = 8;
const VEX_W = 0x80;

/** What follows an opcode, as bits. */
const NONE = 0;
const MODRM = 1;
const IMM8 = 2;
const IMM16 = 4;
/** 4 bytes, or 2 with an operand-size prefix. */
const IMMZ = 8;
/** IMMZ, or 8 bytes with REX.W. */
const IMMV = 16;
/** As wide as an address. */
const OFFSET = 32;
/** IMMZ or IMM8 if ModRM says TEST (/0, /1). */
const TEST_IMM = 64;
/** A branch's distance: always 4 bytes in 64-bit code, whatever the operand size. */
const REL32 = 128;
const INVALID = 256;
const PREFIX_BYTE = 512;
/** An immediate of two parts: IMM16 and IMM8, or IMMZ and IMM16. */
const FAR = 1024;

type Row = readonly [from: number, to: number, form: number];

function tabulate(rows: readonly Row[], base: number): Uint16Array {
  const forms = new Uint16Array(256).fill(base);
  for (const [from, to, form] of rows) forms.fill(form, from, to + 1);
  return forms;
}

const ALU: readonly Row[] = Array.from({ length: 8 }, (_, index) => index * 8).flatMap((row): Row[] => [
  [row, row + 3, MODRM],
  [row + 4, row + 4, IMM8],
  [row + 5, row + 5, IMMZ],
  [row + 6, row + 7, INVALID],
]);

const ONE_BYTE: readonly Row[] = [
  ...ALU,
  [0x26, 0x26, PREFIX_BYTE],
  [0x2e, 0x2e, PREFIX_BYTE],
  [0x36, 0x36, PREFIX_BYTE],
  [0x3e, 0x3e, PREFIX_BYTE],
  [0x40, 0x4f, PREFIX_BYTE],
  [0x60, 0x61, INVALID],
  [0x62, 0x62, INVALID], // EVEX is taken before
  [0x63, 0x63, MODRM],
  [0x64, 0x67, PREFIX_BYTE],
  [0x68, 0x68, IMMZ],
  [0x69, 0x69, MODRM | IMMZ],
  [0x6a, 0x6a, IMM8],
  [0x6b, 0x6b, MODRM | IMM8],
  [0x70, 0x7f, IMM8],
  [0x80, 0x80, MODRM | IMM8],
  [0x81, 0x81, MODRM | IMMZ],
  [0x82, 0x82, INVALID],
  [0x83, 0x83, MODRM | IMM8],
  [0x84, 0x8f, MODRM],
  [0x9a, 0x9a, INVALID],
  [0xa0, 0xa3, OFFSET],
  [0xa8, 0xa8, IMM8],
  [0xa9, 0xa9, IMMZ],
  [0xb0, 0xb7, IMM8],
  [0xb8, 0xbf, IMMV],
  [0xc0, 0xc1, MODRM | IMM8],
  [0xc2, 0xc2, IMM16],
  [0xc4, 0xc5, INVALID], // VEX is taken before
  [0xc6, 0xc6, MODRM | IMM8],
  [0xc7, 0xc7, MODRM | IMMZ],
  [0xc8, 0xc8, IMM16 | FAR],
  [0xca, 0xca, IMM16],
  [0xcd, 0xcd, IMM8],
  [0xce, 0xce, INVALID],
  [0xd0, 0xd3, MODRM],
  [0xd4, 0xd5, INVALID],
  [0xd6, 0xd6, NONE], // UDB: undefined by definition. FineIBT puts it where nothing may be executed
  [0xd8, 0xdf, MODRM],
  [0xe0, 0xe7, IMM8],
  [0xe8, 0xe9, REL32],
  [0xea, 0xea, INVALID],
  [0xeb, 0xeb, IMM8],
  [0xf0, 0xf0, PREFIX_BYTE],
  [0xf2, 0xf3, PREFIX_BYTE],
  [0xf6, 0xf6, MODRM | TEST_IMM | IMM8],
  [0xf7, 0xf7, MODRM | TEST_IMM | IMMZ],
  [0xfe, 0xff, MODRM],
];
/** What 32-bit code has in their place. */
const ONE_BYTE_32: readonly Row[] = [
  ...[0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f].map((byte): Row => [byte, byte, NONE]),
  [0x40, 0x4f, NONE],
  [0x60, 0x61, NONE],
  [0x62, 0x62, MODRM],
  [0x82, 0x82, MODRM | IMM8],
  [0x9a, 0x9a, IMMZ | FAR],
  [0xc4, 0xc5, MODRM],
  [0xce, 0xce, NONE],
  [0xd4, 0xd5, IMM8],
  [0xd6, 0xd6, NONE],
  [0xea, 0xea, IMMZ | FAR],
];

const TWO_BYTE: readonly Row[] = [
  [0x04, 0x04, INVALID],
  [0x05, 0x09, NONE],
  [0x0a, 0x0a, INVALID],
  [0x0b, 0x0b, NONE],
  [0x0c, 0x0c, INVALID],
  [0x0e, 0x0e, NONE],
  [0x0f, 0x0f, MODRM | IMM8], // 3DNow!: the byte after the operands is the opcode
  [0x24, 0x27, INVALID],
  [0x30, 0x35, NONE],
  [0x36, 0x36, INVALID],
  [0x37, 0x37, NONE],
  [0x39, 0x39, INVALID],
  [0x3b, 0x3f, INVALID],
  [0x70, 0x73, MODRM | IMM8],
  [0x77, 0x77, NONE],
  [0x7a, 0x7b, INVALID],
  [0x80, 0x8f, REL32],
  [0xa0, 0xa2, NONE],
  [0xa4, 0xa4, MODRM | IMM8],
  [0xa8, 0xaa, NONE],
  [0xac, 0xac, MODRM | IMM8],
  [0xba, 0xba, MODRM | IMM8],
  [0xc2, 0xc2, MODRM | IMM8],
  [0xc4, 0xc6, MODRM | IMM8],
  [0xc8, 0xcf, NONE],
  [0xff, 0xff, NONE], // UD0: processors read ModRM, but kernels of 4.11 to 5.1 put it between instructions without one
];

const FORMS_64 = tabulate(ONE_BYTE, NONE);
const FORMS_32 = tabulate([...ONE_BYTE, ...ONE_BYTE_32], NONE);
const FORMS_TWO = tabulate(TWO_BYTE, MODRM);
/** With VEX, XOP or EVEX every opcode has ModRM, but VZEROUPPER. */
const FORMS_VEX_TWO = tabulate(
  [
    [0x70, 0x73, MODRM | IMM8],
    [0x77, 0x77, NONE],
    [0xc2, 0xc2, MODRM | IMM8],
    [0xc4, 0xc6, MODRM | IMM8],
  ],
  MODRM,
);

/** XOP's maps 8, 9 and 10. */
const XOP_FIRST_MAP = 8;
const XOP_FORMS = [MODRM | IMM8, MODRM, MODRM | IMMZ] as const;

/** No instruction is longer. */
const LONGEST = 15;

export class Decoder {
  readonly code: Uint8Array;
  /** Of the last instruction: where it begins and where the next one does, as offsets in `code`. */
  start = 0;
  next = 0;
  /** MAP plus the opcode byte. */
  opcode = 0;
  /** PREFIX bits. */
  prefixes = 0;
  /** The REX byte, or 0. With VEX and EVEX only its W bit. */
  rex = 0;
  /** The ModRM byte; -1 without one. */
  modrm = -1;
  /** The SIB byte; -1 without one. */
  sib = -1;
  /** Where a displacement of 4 or 8 bytes lies; 0 without one. Those of one and two bytes cannot hold an address. */
  displacement = 0;
  displacementSize = 0;
  /** Where an immediate operand, or a branch's distance, of 4 or 8 bytes lies; 0 without one. */
  immediate = 0;
  immediateSize = 0;
  readonly #forms: Uint16Array;
  readonly #is64: boolean;
  /** The opcode map as VEX, XOP and EVEX number it. */
  #map = 0;

  constructor(code: Uint8Array, bits: 32 | 64 = 64) {
    this.code = code;
    this.#is64 = bits === 64;
    this.#forms = this.#is64 ? FORMS_64 : FORMS_32;
  }

  /** Whether the operation is one of 64 bits by REX.W. PUSH and branches, which need none, are not counted. */
  get isWide(): boolean {
    return (this.rex & REX_W) !== 0;
  }

  /** Bits 3 to 5 of ModRM: a register, or which operation of a group. */
  get reg(): number {
    return (this.modrm >> 3) & 7;
  }

  get mod(): number {
    return this.modrm >> 6;
  }

  /** Whether the displacement is from the end of the instruction. */
  get isRipRelative(): boolean {
    return this.#is64 && (this.modrm & 0xc7) === 0x05 && this.modrm >= 0;
  }

  /** The register that ModRM's r/m names, alone or as the base of an address: 0 to 15; -1 for none. */
  get rmRegister(): number {
    if (this.modrm < 0 || this.isRipRelative) return -1;
    const low = this.sib >= 0 ? this.sib & 7 : this.modrm & 7;
    if (this.mod === 0 && low === 5) return -1;
    return low | ((this.rex & 1) << 3);
  }

  /** The register that ModRM's reg field names: 0 to 15. */
  get regRegister(): number {
    return this.reg | ((this.rex & 4) << 1);
  }

  /**
   * The general register that the operation writes, among those that compilers compute addresses with: moves, LEA, arithmetic, shifts, POP. -1 for others.
   */
  get writtenRegister(): number {
    const { opcode } = this;
    if (opcode < 0x40) {
      const form = opcode & 7;
      if ((opcode & 0x38) === 0x38) return -1; // CMP
      if (form === 3) return this.regRegister;
      if (form === 1) return this.mod === 3 ? this.rmRegister : -1;
      return form === 5 ? 0 : -1;
    }
    if (opcode >= 0x58 && opcode <= 0x5f) return (opcode & 7) | ((this.rex & 1) << 3);
    if (opcode >= 0xb8 && opcode <= 0xbf) return (opcode & 7) | ((this.rex & 1) << 3);
    switch (opcode) {
      case 0x63:
      case 0x69:
      case 0x6b:
      case 0x8b:
      case 0x8d:
      case 0x1af:
      case 0x1b6:
      case 0x1b7:
      case 0x1be:
      case 0x1bf:
        return this.regRegister;
      case 0x81:
      case 0x83:
        return this.mod === 3 && this.reg !== 7 ? this.rmRegister : -1;
      case 0x89:
      case 0xc1:
      case 0xc7:
      case 0xd1:
      case 0xd3:
        return this.mod === 3 ? this.rmRegister : -1;
      default:
        return opcode >= 0x140 && opcode <= 0x14f ? this.regRegister : -1; // CMOVcc
    }
  }

  /** MOV from register to register. */
  get isRegisterMove(): boolean {
    return (this.opcode === 0x89 || this.opcode === 0x8b) && this.mod === 3;
  }

  /** The register that the written one is computed from: the base of LEA, the source of a move, else the written one. */
  get sourceRegister(): number {
    if (this.isRegisterMove) return this.opcode === 0x89 ? this.regRegister : this.rmRegister;
    return this.opcode === 0x8d ? this.rmRegister : this.writtenRegister;
  }

  /** ADD, SUB and LEA: what was added to the register before stays in it. */
  get isAddition(): boolean {
    const { opcode } = this;
    if (opcode === 0x81 || opcode === 0x83) return this.reg === 0 || this.reg === 5;
    return opcode < 0x06 || (opcode >= 0x28 && opcode <= 0x2d) || opcode === 0x8d;
  }

  /** Decodes the instruction at `at`. False where there is no valid one, or it does not end inside the code; `next` is then undefined. */
  decode(at: number): boolean {
    const { code } = this;
    const { length } = code;
    this.start = at;
    this.modrm = -1;
    this.sib = -1;
    this.displacement = 0;
    this.displacementSize = 0;
    this.immediate = 0;
    this.immediateSize = 0;
    let prefixes = 0;
    let rex = 0;
    let form = 0;
    let byte = 0;
    let cursor = at;
    for (;;) {
      if (cursor >= length || cursor - at >= LONGEST) return false;
      byte = code[cursor++]!;
      form = this.#forms[byte]!;
      if ((form & PREFIX_BYTE) === 0) break;
      if ((byte & 0xf0) === 0x40) {
        rex = byte;
        continue;
      }
      rex = 0; // It counts only right before the opcode.
      if (byte === 0x66) prefixes |= PREFIX.operand16;
      else if (byte === 0x67) prefixes |= PREFIX.address;
      else if (byte === 0xf2) prefixes |= PREFIX.repne;
      else if (byte === 0xf3) prefixes |= PREFIX.rep;
      else if (byte === 0xf0) prefixes |= PREFIX.lock;
      else if (byte === 0x64) prefixes |= PREFIX.fs;
      else if (byte === 0x65) prefixes |= PREFIX.gs;
      else prefixes |= PREFIX.segment;
    }
    let opcode = byte;
    if (byte === 0x0f) {
      if (cursor >= length) return false;
      byte = code[cursor++]!;
      if (byte === 0x38 || byte === 0x3a) {
        form = byte === 0x38 ? MODRM : MODRM | IMM8;
        opcode = byte === 0x38 ? MAP.three38 : MAP.three3a;
        if (cursor >= length) return false;
        opcode |= code[cursor++]!;
      } else {
        form = FORMS_TWO[byte]!;
        opcode = MAP.two | byte;
      }
    } else if (byte === 0xc4 || byte === 0xc5 || byte === 0x62 || byte === 0x8f) {
      const escaped = this.#decodeVex(byte, cursor);
      if (escaped < 0) {
        if (form === INVALID) return false;
      } else {
        if (rex !== 0 || (prefixes & (PREFIX.operand16 | PREFIX.rep | PREFIX.repne | PREFIX.lock)) !== 0) return false;
        ({ opcode, rex } = this);
        prefixes |= PREFIX.vex;
        cursor = escaped;
        const map = opcode & ~0xff;
        form = map === MAP.two ? FORMS_VEX_TWO[opcode & 0xff]! : map === MAP.three3a ? MODRM | IMM8 : MODRM;
        if (byte === 0x8f) form = XOP_FORMS[this.#map - XOP_FIRST_MAP] ?? INVALID;
      }
    }
    if ((form & INVALID) !== 0) return false;
    // 16-bit addressing: in no kernel.
    const is16 = !this.#is64 && (prefixes & PREFIX.address) !== 0;
    if (is16 && (form & OFFSET) !== 0) return false;
    this.opcode = opcode;
    this.prefixes = prefixes;
    this.rex = rex;
    if ((form & MODRM) !== 0) {
      if (cursor >= length) return false;
      const modrm = code[cursor++]!;
      this.modrm = modrm;
      // MOV to and from control and debug registers takes every mod for a register.
      const isRegister = modrm >= 0xc0 || (opcode >= 0x120 && opcode <= 0x123);
      if (!isRegister) {
        if (is16) return false;
        const mod = modrm >> 6;
        let base = modrm & 7;
        if (base === 4) {
          if (cursor >= length) return false;
          this.sib = code[cursor++]!;
          base = this.sib & 7;
        }
        if (mod === 1) cursor++;
        else if (mod === 2 || base === 5) {
          this.displacement = cursor;
          this.displacementSize = 4;
          cursor += 4;
        }
      }
      if ((form & TEST_IMM) !== 0 && ((modrm >> 3) & 7) > 1) form = MODRM;
    }
    if ((form & ~MODRM) !== 0) cursor = this.#decodeImmediate(form, cursor);
    this.next = cursor;
    return cursor <= length && cursor - at <= LONGEST;
  }

  #decodeImmediate(form: number, at: number): number {
    let size = 0;
    const is16 = (this.prefixes & PREFIX.operand16) !== 0;
    if ((form & IMM8) !== 0) size = 1;
    if ((form & IMM16) !== 0) size = 2;
    if ((form & IMMZ) !== 0) size = is16 && !this.isWide ? 2 : 4;
    if ((form & IMMV) !== 0) size = this.isWide ? 8 : is16 ? 2 : 4;
    if ((form & REL32) !== 0) size = is16 && !this.#is64 ? 2 : 4;
    if ((form & OFFSET) !== 0) {
      size = this.#is64 && (this.prefixes & PREFIX.address) === 0 ? 8 : 4;
      this.displacement = at;
      this.displacementSize = size;
      return at + size;
    }
    if (size >= 4) {
      this.immediate = at;
      this.immediateSize = size;
    }
    if ((form & FAR) === 0) return at + size;
    return at + size + ((form & IMM16) !== 0 ? 1 : 2);
  }

  /** Takes apart a VEX, XOP or EVEX prefix whose first byte is before `at`. Returns where ModRM begins; -1 if it is none. */
  #decodeVex(first: number, at: number): number {
    const { code } = this;
    const second = code[at] ?? 0;
    // XOP's maps begin at 8; what else begins so is POP.
    if (first === 0x8f && (second & 0x1f) < XOP_FIRST_MAP) return -1;
    // In 32-bit code these are LES, LDS and BOUND unless ModRM would name a register.
    if (!this.#is64 && first !== 0x8f && second < 0xc0) return -1;
    if (first === 0xc5) return this.#escaped(1, code[at + 1] ?? 0, 0, at + 2);
    const map = first === 0x62 ? second & 0x07 : second & 0x1f;
    if (first === 0x8f) return this.#escaped(map, code[at + 2]!, code[at + 1]!, at + 3);
    if (first === 0xc4) return this.#escaped(map, code[at + 2]!, code[at + 1]!, at + 3);
    return this.#escaped(map, code[at + 3]!, code[at + 1]!, at + 4);
  }

  #escaped(map: number, byte: number, withW: number, at: number): number {
    this.rex = (withW & VEX_W) === 0 ? 0 : REX_W;
    this.opcode = (map === 1 ? MAP.two : map === 2 ? MAP.three38 : map === 3 ? MAP.three3a : MAP.other) | byte;
    this.#map = map;
    return map === 0 ? -1 : at;
  }
}
