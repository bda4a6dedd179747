/**
 * Expressions: code that leaves one value, of type i32 or i64.
 *
 * A method is an instruction: `a.add(b)` is the code of `a`, the code of `b`, then i32.add or i64.add. Operands may be plain numbers. An
 * expression that is used twice is emitted, and runs, twice; keep in a local what must be computed once.
 */
import { NUMERIC, OPCODE, type VALUE_TYPE } from './opcodes.ts';
import type { WasmWriter } from './writer.ts';

export type ValueType = keyof typeof VALUE_TYPE;

/** Code that leaves no value. */
export interface Statement {
  emit(to: WasmWriter): void;
}

const NONE: readonly never[] = [];

/** Operands, which leave their values, then the opcode and its immediates. */
export class Instruction implements Statement {
  // Not #private: thousands of these are made in a cold process, where private fields took 2 ms more.
  readonly opcode: number;
  readonly operands: readonly Instruction[];
  readonly immediates: readonly number[];

  constructor(opcode: number, operands: readonly Instruction[], immediates: readonly number[] = NONE) {
    this.opcode = opcode;
    this.operands = operands;
    this.immediates = immediates;
  }

  emit(to: WasmWriter): void {
    for (const operand of this.operands) operand.emit(to);
    to.byte(this.opcode);
    for (const immediate of this.immediates) to.unsigned(immediate);
  }
}

export type Operand<T extends ValueType> = Value<T> | number | bigint;
type Opcodes<T extends ValueType> = Readonly<Record<T, number>>;

/** An expression. Methods with a `this` of one type exist for that type alone. */
export class Value<T extends ValueType> extends Instruction {
  readonly type: T;

  constructor(type: T, opcode: number, operands: readonly Instruction[], immediates?: readonly number[]) {
    super(opcode, operands, immediates);
    this.type = type;
  }

  unary(opcodes: Opcodes<T>): Value<T> {
    return new Value(this.type, opcodes[this.type], [this]);
  }

  binary(opcodes: Opcodes<T>, operand: Operand<T>): Value<T> {
    return new Value(this.type, opcodes[this.type], [this, valueOf(this.type, operand)]);
  }

  // Comparisons leave 1 or 0. All of them are unsigned.
  isZero(): Value<'i32'> {
    return new Value('i32', NUMERIC.eqz[this.type], [this]);
  }
  equals(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.eq, operand);
  }
  differs(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.ne, operand);
  }
  below(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.lt_u, operand);
  }
  above(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.gt_u, operand);
  }
  atMost(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.le_u, operand);
  }
  atLeast(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.ge_u, operand);
  }

  leadingZeros(this: I32): I32 {
    return this.unary(NUMERIC.clz);
  }
  trailingZeros(this: I64): I64 {
    return this.unary(NUMERIC.ctz);
  }
  add(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.add, operand);
  }
  sub(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.sub, operand);
  }
  mul(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.mul, operand);
  }
  /** Unsigned. A divisor of 0 would trap. */
  remainder(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.rem_u, operand);
  }
  and(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.and, operand);
  }
  or(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.or, operand);
  }
  xor(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.xor, operand);
  }
  /** Shifts and rotations count modulo the width of the type. */
  shl(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.shl, operand);
  }
  /** Keeps the sign. */
  sar(this: I32, operand: Operand<'i32'>): I32 {
    return this.binary(NUMERIC.shr_s, operand);
  }
  /** Fills with zeros. */
  shr(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.shr_u, operand);
  }
  rotl(operand: Operand<T>): Value<T> {
    return this.binary(NUMERIC.rotl, operand);
  }

  /** The low half. */
  low32(this: I64): I32 {
    return new Value('i32', OPCODE['i32.wrap_i64'], [this]);
  }
  /** The upper half is zeros. */
  wide(this: I32): I64 {
    return new Value('i64', OPCODE['i64.extend_i32_u'], [this]);
  }
}

export type I32 = Value<'i32'>;
export type I64 = Value<'i64'>;

class Constant<T extends ValueType> extends Value<T> {
  readonly value: number | bigint;

  constructor(type: T, value: number | bigint) {
    super(type, type === 'i32' ? OPCODE['i32.const'] : OPCODE['i64.const'], NONE);
    this.value = value;
  }

  override emit(to: WasmWriter): void {
    super.emit(to);
    if (this.type === 'i32') to.signed(Number(this.value) | 0);
    else to.signed64(BigInt.asIntN(64, BigInt(this.value)));
  }
}

function valueOf<T extends ValueType>(type: T, operand: Operand<T>): Value<T> {
  return operand instanceof Value ? operand : new Constant(type, operand);
}

export function i32(value: number): I32 {
  return new Constant('i32', value);
}

export function i64(value: bigint): I64 {
  return new Constant('i64', value);
}

/** `condition` ? `yes` : `no`, both evaluated: a conditional move, where the machine has one. */
export function select<T extends ValueType>(condition: I32, yes: Value<T>, no: Value<T>): Value<T> {
  return new Value(yes.type, OPCODE.select, [yes, no, condition]);
}

/** A local variable. It is 0 when its function begins. */
export class Local<T extends ValueType> extends Value<T> {
  constructor(type: T, index: number) {
    super(type, OPCODE['local.get'], NONE, [index]);
  }

  set(operand: Operand<T>): Statement {
    return new Instruction(OPCODE['local.set'], [valueOf(this.type, operand)], this.immediates);
  }

  /** `this += operand`. */
  increase(operand: Operand<T>): Statement {
    return this.set(this.add(operand));
  }
}

/** Section 5.4.6: a memory argument is the log2 of an alignment, of which 0 promises nothing, and an offset, which is added without wrapping. */
export function memoryArgument(offset: number): readonly number[] {
  return [0, offset];
}

export function load8(address: I32, offset = 0): I32 {
  return new Value('i32', OPCODE['i32.load8_u'], [address], memoryArgument(offset));
}
export function load16(address: I32, offset = 0): I32 {
  return new Value('i32', OPCODE['i32.load16_u'], [address], memoryArgument(offset));
}
export function load32(address: I32, offset = 0): I32 {
  return new Value('i32', OPCODE['i32.load'], [address], memoryArgument(offset));
}
export function load64(address: I32, offset = 0): I64 {
  return new Value('i64', OPCODE['i64.load'], [address], memoryArgument(offset));
}
