/**
 * The opcodes that the decoders' loops are made of, under the names that the WebAssembly Core Specification 2.0 gives them (sections 5.4.1 to
 * 5.4.7 for the bytes, chapter 4.4 for what each does). Only what is emitted is listed: add what you need.
 */

/** Sections 5.4.1 (control), 5.4.3 (parametric), 5.4.4 (variables), 5.4.6 (memory), and the conversions of 5.4.7. */
export const OPCODE = {
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  br_if: 0x0d,
  return: 0x0f,
  select: 0x1b,
  'local.get': 0x20,
  'local.set': 0x21,
  'i32.load': 0x28,
  'i64.load': 0x29,
  'i32.load8_u': 0x2d,
  'i32.load16_u': 0x2f,
  'i32.store': 0x36,
  'i64.store': 0x37,
  'i32.store8': 0x3a,
  'i32.store16': 0x3b,
  'i32.const': 0x41,
  'i64.const': 0x42,
  'i32.wrap_i64': 0xa7,
  'i64.extend_i32_u': 0xad,
  /** The first byte of several instructions; the number of the one that is meant follows. */
  prefix_fc: 0xfc,
} as const;

/** What follows `prefix_fc`. */
export const PREFIXED = { 'memory.fill': 11 } as const;

/**
 * Section 5.4.7, numeric instructions, by the type of their operands: `NUMERIC.shr_u.i64` is i64.shr_u. Where a type is missing, no loop uses the
 * instruction with it, and a program that does so does not compile. `_u` means that the operands are unsigned, `_s` signed.
 */
export const NUMERIC = {
  eqz: { i32: 0x45, i64: 0x50 },
  eq: { i32: 0x46 },
  ne: { i32: 0x47 },
  lt_u: { i32: 0x49 },
  gt_u: { i32: 0x4b },
  le_u: { i32: 0x4d },
  ge_u: { i32: 0x4f },
  clz: { i32: 0x67 },
  ctz: { i64: 0x7a },
  add: { i32: 0x6a, i64: 0x7c },
  sub: { i32: 0x6b, i64: 0x7d },
  mul: { i32: 0x6c, i64: 0x7e },
  rem_u: { i32: 0x70 },
  and: { i32: 0x71, i64: 0x83 },
  or: { i32: 0x72, i64: 0x84 },
  xor: { i32: 0x73, i64: 0x85 },
  shl: { i32: 0x74, i64: 0x86 },
  shr_s: { i32: 0x75 },
  shr_u: { i32: 0x76, i64: 0x88 },
  rotl: { i32: 0x77, i64: 0x89 },
} as const;

/** Section 5.3.1: value types. */
export const VALUE_TYPE = { i32: 0x7f, i64: 0x7e } as const;
/** Section 5.4.1: the type of a block that takes no values and leaves none. */
export const EMPTY_BLOCK_TYPE = 0x40;
