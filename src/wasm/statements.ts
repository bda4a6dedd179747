/** Statements: code that leaves no value. Stores, blocks, loops, conditions and branches; assignments are methods of `Local`. */
import { EMPTY_BLOCK_TYPE, OPCODE, PREFIXED } from './opcodes.ts';
import { Instruction, memoryArgument, type I32, type I64, type Statement } from './values.ts';
import type { WasmWriter } from './writer.ts';

/** Lists may be nested: a function that returns several statements is used like one that returns one. */
export type Statements = readonly (Statement | Statements)[];

export function emitAll(statements: Statements, to: WasmWriter): void {
  for (const one of statements) {
    if ('emit' in one) one.emit(to);
    else emitAll(one, to);
  }
}

export function store8(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(OPCODE['i32.store8'], [address, value], memoryArgument(offset));
}
export function store16(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(OPCODE['i32.store16'], [address, value], memoryArgument(offset));
}
export function store32(address: I32, value: I32, offset = 0): Statement {
  return new Instruction(OPCODE['i32.store'], [address, value], memoryArgument(offset));
}
export function store64(address: I32, value: I64, offset = 0): Statement {
  return new Instruction(OPCODE['i64.store'], [address, value], memoryArgument(offset));
}

/** memset. The last immediate is the number of the memory. */
export function fillMemory(to: I32, byte: I32, count: I32): Statement {
  return new Instruction(OPCODE.prefix_fc, [to, byte, count], [PREFIXED['memory.fill'], 0]);
}

class Branch implements Statement {
  readonly target: BranchTarget;
  readonly condition: I32 | undefined;

  constructor(target: BranchTarget, condition?: I32) {
    this.target = target;
    this.condition = condition;
  }

  emit(to: WasmWriter): void {
    this.condition?.emit(to);
    to.byte(this.condition ? OPCODE.br_if : OPCODE.br);
    to.unsigned(to.depth(this.target));
  }
}

/** A place to branch to, from inside: the end of a `block`, or the beginning of a `loop`. */
export class BranchTarget {
  go(): Statement {
    return new Branch(this);
  }

  goIf(condition: I32): Statement {
    return new Branch(this, condition);
  }
}

function construct(opcode: number, target: BranchTarget, inner: Statements): Statement {
  return {
    emit: (to) => {
      to.byte(opcode);
      to.byte(EMPTY_BLOCK_TYPE);
      to.open(target);
      emitAll(inner, to);
      to.close();
    },
  };
}

/** Branching to `leave` leaves the block. */
export function block(inner: (leave: BranchTarget) => Statements): Statement {
  const target = new BranchTarget();
  return construct(OPCODE.block, target, inner(target));
}

/** Branching to `again` starts the next round. Reaching the end leaves the loop. */
export function loop(inner: (again: BranchTarget) => Statements): Statement {
  const target = new BranchTarget();
  return construct(OPCODE.loop, target, inner(target));
}

/** A while loop. */
export function repeatWhile(condition: I32, inner: Statements): Statement {
  return block((done) => [loop((again) => [done.goIf(condition.isZero()), inner, again.go()])]);
}

export function when(condition: I32, then: Statements, otherwise: Statements = []): Statement {
  return {
    emit: (to) => {
      condition.emit(to);
      to.byte(OPCODE.if);
      to.byte(EMPTY_BLOCK_TYPE);
      // Branches count an `if` as a construct too, though none of ours branches to one.
      to.open(new BranchTarget());
      emitAll(then, to);
      if (otherwise.length > 0) {
        to.byte(OPCODE.else);
        emitAll(otherwise, to);
      }
      to.close();
    },
  };
}

export function returns(value: I32): Statement {
  return new Instruction(OPCODE.return, [value]);
}
