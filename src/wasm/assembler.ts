/**
 * A small WebAssembly assembler, for the inner loops of the decoders.
 *
 * Why not TypeScript: measured cold (one decode in a fresh Node 20 process, 2 cores), xz of 66 MB took 820 ms with a hand-inlined loop in
 * TypeScript and takes 480 ms with this; lz4 of 53 MB 130 ms against 40. The loops want unsigned 32- and 64-bit arithmetic, unaligned
 * loads of eight bytes, and memory that is not copied when it grows. Why not a compiler's output in base64: nobody can review it.
 * And an assembler in a host language comes with a macro processor: "decode one bit" is one function in lzma-loop.ts, where the loop in
 * TypeScript had fifteen copies of it.
 *
 * Code is built from expressions, which leave a value, and statements, which do not. Nothing is computed while building: an expression
 * that is used twice is emitted, and runs, twice. What shall be computed once goes to a local.
 *
 *   when(code.below(bound), [range.set(bound)], [range.set(range.sub(bound)), code.set(code.sub(bound))])
 *
 * Source: WebAssembly Core Specification 2.0; section numbers below. Everything used is in the 1.0 release or in bulk memory
 * operations, which all engines have had since 2021.
 */

import { ascii } from '../base/bytes.ts';

type Type = 'i32' | 'i64';

/** Section 5.3.1. */
const VALUE_TYPE = { i32: 0x7f, i64: 0x7e } as const;
/** Section 5.4.1. */
const EMPTY_BLOCK = 0x40;
const ELSE = 0x05;
const END = 0x0b;

/**
 * The bytes of a module, in the order in which they are written.
 *
 * Not arrays of arrays that are joined in the end: the garbage of those cost more than all the rest (16 ms cold, of which 10 in the
 * garbage collector; now 5).
 */
class Encoder {
  #bytes = new Uint8Array(1 << 14);
  #length = 0;
  readonly #open: Label[] = [];

  byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length++] = value;
  }

  /** Section 5.2.2: LEB128. */
  unsigned(value: number): void {
    if (value < 0) throw new RangeError(`${value} is not unsigned`);
    for (; value >= 0x80; value = Math.floor(value / 0x80)) this.byte((value % 0x80) | 0x80);
    this.byte(value);
  }

  signed(value: number): void {
    for (; value < -64 || value > 63; value >>= 7) this.byte((value & 0x7f) | 0x80);
    this.byte(value & 0x7f);
  }

  signed64(value: bigint): void {
    for (; value < -64n || value > 63n; value >>= 7n) this.byte(Number(value & 0x7fn) | 0x80);
    this.byte(Number(value & 0x7fn));
  }

  name(text: string): void {
    this.unsigned(text.length);
    for (const byte of ascii(text)) this.byte(byte);
  }

  /** What `write` writes, after its size: which is known only then, so it gets three bytes, as LEB128 may. */
  sized(write: () => void): void {
    const at = this.#length;
    for (let i = 0; i < 3; i++) this.byte(0);
    write();
    const size = this.#length - at - 3;
    this.#bytes.set([(size & 0x7f) | 0x80, ((size >> 7) & 0x7f) | 0x80, size >> 14], at);
  }

  open(label: Label): void {
    this.#open.push(label);
  }

  close(): void {
    this.#open.pop();
    this.byte(END);
  }

  /** Branches count outwards from the innermost construct. */
  depth(label: Label): number {
    const at = this.#open.lastIndexOf(label);
    if (at < 0) throw new RangeError('a branch to a label that it is not in');
    return this.#open.length - 1 - at;
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

export interface Statement {
  emit(to: Encoder): void;
}

export type Statements = readonly (Statement | Statements)[];

function emitAll(statements: Statements, to: Encoder): void {
  for (const one of statements) {
    if ('emit' in one) one.emit(to);
    else emitAll(one, to);
  }
}

const NONE: readonly never[] = [];

/** Operands, which leave their values, then the opcode and its immediates. */
class Instruction implements Statement {
  // Not #private: thousands of these are made in a cold process, where private fields took 2 ms more.
  readonly opcode: number;
  readonly operands: readonly Instruction[];
  readonly immediates: readonly number[];

  constructor(opcode: number, operands: readonly Instruction[], immediates: readonly number[] = NONE) {
    this.opcode = opcode;
    this.operands = operands;
    this.immediates = immediates;
  }

  emit(to: Encoder): void {
    for (const operand of this.operands) operand.emit(to);
    to.byte(this.opcode);
    for (const immediate of this.immediates) to.unsigned(immediate);
  }
}

type Operand<T extends Type> = Value<T> | number | bigint;

/** Section 5.4.7: opcodes are those of i32; those of i64 follow at these distances. */
const I64_COMPARISON = 0x0b;
const I64_ARITHMETIC = 0x12;

/** An expression. */
export class Value<T extends Type> extends Instruction {
  readonly type: T;

  constructor(type: T, opcode: number, operands: readonly Instruction[], immediates?: readonly number[]) {
    super(opcode, operands, immediates);
    this.type = type;
  }

  arithmetic(opcode: number, operand?: Operand<T>): Value<T> {
    const operands = operand === undefined ? [this] : [this, valueOf(this.type, operand)];
    return new Value(this.type, this.type === 'i32' ? opcode : opcode + I64_ARITHMETIC, operands);
  }

  comparison(opcode: number, operand?: Operand<T>): Value<'i32'> {
    const operands = operand === undefined ? [this] : [this, valueOf(this.type, operand)];
    return new Value('i32', this.type === 'i32' ? opcode : opcode + I64_COMPARISON, operands);
  }

  // All comparisons are unsigned.
  isZero(): Value<'i32'> {
    return this.comparison(0x45);
  }
  equals(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x46, operand);
  }
  differs(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x47, operand);
  }
  below(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x49, operand);
  }
  above(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x4b, operand);
  }
  atMost(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x4d, operand);
  }
  atLeast(operand: Operand<T>): Value<'i32'> {
    return this.comparison(0x4f, operand);
  }

  leadingZeros(): Value<T> {
    return this.arithmetic(0x67);
  }
  trailingZeros(): Value<T> {
    return this.arithmetic(0x68);
  }
  add(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x6a, operand);
  }
  sub(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x6b, operand);
  }
  mul(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x6c, operand);
  }
  /** A divisor of 0 would trap. */
  remainder(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x70, operand);
  }
  and(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x71, operand);
  }
  or(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x72, operand);
  }
  xor(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x73, operand);
  }
  shl(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x74, operand);
  }
  /** Keeps the sign. */
  sar(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x75, operand);
  }
  /** Fills with zeros. */
  shr(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x76, operand);
  }
  rotl(operand: Operand<T>): Value<T> {
    return this.arithmetic(0x77, operand);
  }

  /** The low half. */
  low32(this: Value<'i64'>): Value<'i32'> {
    return new Value('i32', 0xa7, [this]);
  }
  /** Without sign. */
  wide(this: Value<'i32'>): Value<'i64'> {
    return new Value('i64', 0xad, [this]);
  }
}

export type I32 = Value<'i32'>;
export type I64 = Value<'i64'>;

class Constant<T extends Type> extends Value<T> {
  readonly value: number | bigint;

  constructor(type: T, value: number | bigint) {
    super(type, type === 'i32' ? 0x41 : 0x42, NONE);
    this.value = value;
  }

  override emit(to: Encoder): void {
    super.emit(to);
    if (this.type === 'i32') to.signed(Number(this.value) | 0);
    else to.signed64(BigInt.asIntN(64, BigInt(this.value)));
  }
}

function valueOf<T extends Type>(type: T, operand: Operand<T>): Value<T> {
  return operand instanceof Value ? operand : new Constant(type, operand);
}

export function i32(value: number): I32 {
  return new Constant('i32', value);
}

export function i64(value: bigint): I64 {
  return new Constant('i64', value);
}

/** `condition` ? `yes` : `no`, both evaluated: a conditional move, where the machine has one. */
export function select<T extends Type>(condition: I32, yes: Value<T>, no: Value<T>): Value<T> {
  return new Value(yes.type, 0x1b, [yes, no, condition]);
}

export class Local<T extends Type> extends Value<T> {
  constructor(type: T, index: number) {
    super(type, 0x20, NONE, [index]);
  }

  set(operand: Operand<T>): Statement {
    return new Instruction(0x21, [valueOf(this.type, operand)], this.immediates);
  }

  /** `this += operand`. */
  increase(operand: Operand<T>): Statement {
    return this.set(this.add(operand));
  }
}

// Section 5.4.6: memory instructions. The first immediate says that any alignment may be; `offset` is added without wrapping.

export function load8(address: I32, offset = 0): I32 {
  return new Value('i32', 0x2d, [address], [0, offset]);
}
export function load16(address: I32, offset = 0): I32 {
  return new Value('i32', 0x2f, [address], [0, offset]);
}
export function load32(address: I32, offset = 0): I32 {
  return new Value('i32', 0x28, [address], [0, offset]);
}
export function load64(address: I32, offset = 0): I64 {
  return new Value('i64', 0x29, [address], [0, offset]);
}
export function store8(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(0x3a, [address, value], [0, offset]);
}
export function store16(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(0x3b, [address, value], [0, offset]);
}
export function store32(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(0x36, [address, value], [0, offset]);
}
export function store64(address: I32, value: I64, offset = 0): Statement {
  return new Instruction(0x37, [address, value], [0, offset]);
}

/** memset. */
export function fillMemory(to: I32, byte: I32, count: I32): Statement {
  return new Instruction(0xfc, [to, byte, count], [11, 0]);
}

class Branch implements Statement {
  readonly label: Label;
  readonly condition: I32 | undefined;

  constructor(label: Label, condition?: I32) {
    this.label = label;
    this.condition = condition;
  }

  emit(to: Encoder): void {
    this.condition?.emit(to);
    to.byte(this.condition ? 0x0d : 0x0c);
    to.unsigned(to.depth(this.label));
  }
}

/** A place to branch to: the end of a `block`, the beginning of a `loop`. */
export class Label {
  go(): Statement {
    return new Branch(this);
  }

  goIf(condition: I32): Statement {
    return new Branch(this, condition);
  }
}

function construct(opcode: number, label: Label, inner: Statements): Statement {
  return {
    emit: (to) => {
      to.byte(opcode);
      to.byte(EMPTY_BLOCK);
      to.open(label);
      emitAll(inner, to);
      to.close();
    },
  };
}

/** Branching to the label leaves the block. */
export function block(inner: (leave: Label) => Statements): Statement {
  const label = new Label();
  return construct(0x02, label, inner(label));
}

/** Branching to the label goes round again; reaching the end leaves. */
export function loop(inner: (again: Label) => Statements): Statement {
  const label = new Label();
  return construct(0x03, label, inner(label));
}

/** A while loop. */
export function repeatWhile(condition: I32, inner: Statements): Statement {
  return block((done) => [loop((again) => [done.goIf(condition.isZero()), inner, again.go()])]);
}

export function when(condition: I32, then: Statements, otherwise: Statements = []): Statement {
  return {
    emit: (to) => {
      condition.emit(to);
      to.byte(0x04);
      to.byte(EMPTY_BLOCK);
      to.open(new Label());
      emitAll(then, to);
      if (otherwise.length > 0) {
        to.byte(ELSE);
        emitAll(otherwise, to);
      }
      to.close();
    },
  };
}

export function returns(value: I32): Statement {
  return new Instruction(0x0f, [value]);
}

/** One exported function: i32 parameters, an i32 result. */
export class FunctionBuilder {
  readonly name: string;
  readonly parameterNames: string[] = [];
  /** What a result below 0 says: -1 the first. Empty: the result is a plain number. */
  readonly failures: string[] = [];
  readonly #locals: Type[] = [];
  #code: Statements = [];
  #result: I32 = i32(0);

  constructor(name: string) {
    this.name = name;
  }

  /** Before the locals. */
  parameters<N extends string>(...names: N[]): Record<N, Local<'i32'>> {
    this.parameterNames.push(...names);
    return this.locals('i32', ...names);
  }

  /** The names are the caller's alone: the same one may come again. */
  locals<T extends Type, N extends string>(type: T, ...names: N[]): Record<N, Local<T>> {
    const locals = names.map((name) => [name, new Local(type, this.#locals.push(type) - 1)]);
    return Object.fromEntries(locals) as Record<N, Local<T>>;
  }

  /** Returns at once, when `condition` holds, with what is wrong with the data: a phrase. */
  failIf(condition: I32, problem: string): Statement {
    this.failures.push(problem);
    return when(condition, [returns(i32(-this.failures.length))]);
  }

  /** Runs `code`, then returns `result`. */
  body(code: Statements, result: I32 = i32(0)): this {
    this.#code = code;
    this.#result = result;
    return this;
  }

  /** Section 5.3.6. */
  emitType(to: Encoder): void {
    to.byte(0x60);
    to.unsigned(this.parameterNames.length);
    for (let i = 0; i < this.parameterNames.length; i++) to.byte(VALUE_TYPE.i32);
    to.unsigned(1);
    to.byte(VALUE_TYPE.i32);
  }

  /** Section 5.4.9. */
  emitCode(to: Encoder): void {
    const locals = this.#locals.slice(this.parameterNames.length);
    to.unsigned(locals.length);
    for (const type of locals) {
      to.unsigned(1);
      to.byte(VALUE_TYPE[type]);
    }
    emitAll(this.#code, to);
    this.#result.emit(to);
    to.byte(END);
  }
}

/** Section 5.5.16: "\0asm", version 1. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** Section 5.5.2. */
const SECTION = { TYPE: 1, IMPORT: 2, FUNCTION: 3, EXPORT: 7, CODE: 10 } as const;
/** Sections 5.5.5 and 5.5.10: kinds of imports and exports. */
const FUNCTION = 0;
const MEMORY = 2;

/** A module that imports its memory as `env.memory`, and exports `functions`. */
export function assemble(functions: readonly FunctionBuilder[]): Uint8Array {
  const to = new Encoder();
  const section = (id: number, write: (f: FunctionBuilder, index: number) => void): void => {
    to.byte(id);
    to.sized(() => {
      to.unsigned(functions.length);
      functions.forEach(write);
    });
  };
  for (const byte of PREAMBLE) to.byte(byte);
  section(SECTION.TYPE, (f) => f.emitType(to));
  to.byte(SECTION.IMPORT);
  to.sized(() => {
    to.unsigned(1);
    to.name('env');
    to.name('memory');
    to.byte(MEMORY);
    // At least 0 pages, without a limit.
    to.byte(0);
    to.unsigned(0);
  });
  section(SECTION.FUNCTION, (_, index) => to.unsigned(index));
  section(SECTION.EXPORT, (f, index) => {
    to.name(f.name);
    to.byte(FUNCTION);
    to.unsigned(index);
  });
  section(SECTION.CODE, (f) => to.sized(() => f.emitCode(to)));
  return to.finish();
}
