/** Functions, and the module that exports them. */
import { OPCODE, VALUE_TYPE } from './opcodes.ts';
import { emitAll, returns, when, type Statements } from './statements.ts';
import { i32, Local, type I32, type Statement, type ValueType } from './values.ts';
import { WasmWriter } from './writer.ts';

/** One exported function: i32 parameters, an i32 result. */
export class FunctionBuilder {
  readonly name: string;
  readonly parameterNames: string[] = [];
  /** What each negative result means, -1 first. Empty: the function cannot fail, and its result is a plain number. */
  readonly failures: string[] = [];
  readonly #locals: ValueType[] = [];
  #code: Statements = [];
  #result: I32 = i32(0);

  constructor(name: string) {
    this.name = name;
  }

  /** Call it before `locals`. */
  parameters<N extends string>(...names: N[]): Record<N, Local<'i32'>> {
    this.parameterNames.push(...names);
    return this.locals('i32', ...names);
  }

  /** Names are for the caller only; a name that is used again makes another local. */
  locals<T extends ValueType, N extends string>(type: T, ...names: N[]): Record<N, Local<T>> {
    const locals = names.map((name) => [name, new Local(type, this.#locals.push(type) - 1)]);
    return Object.fromEntries(locals) as Record<N, Local<T>>;
  }

  /** Returns at once if `condition` holds. `problem` is a phrase that says what is wrong with the data. */
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
  emitType(to: WasmWriter): void {
    to.byte(FUNCTION_TYPE);
    to.unsigned(this.parameterNames.length);
    for (let i = 0; i < this.parameterNames.length; i++) to.byte(VALUE_TYPE.i32);
    to.unsigned(1);
    to.byte(VALUE_TYPE.i32);
  }

  /** Sections 5.5.13 and 5.4.9: groups of locals, here of one each, then the instructions. */
  emitCode(to: WasmWriter): void {
    const locals = this.#locals.slice(this.parameterNames.length);
    to.unsigned(locals.length);
    for (const type of locals) {
      to.unsigned(1);
      to.byte(VALUE_TYPE[type]);
    }
    emitAll(this.#code, to);
    this.#result.emit(to);
    to.byte(OPCODE.end);
  }
}

/** Section 5.3.6. */
const FUNCTION_TYPE = 0x60;
/** Section 5.5.16: "\0asm", version 1. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** Section 5.5.2. */
const SECTION = { TYPE: 1, IMPORT: 2, FUNCTION: 3, EXPORT: 7, CODE: 10 } as const;
/** Sections 5.5.5 and 5.5.10: kinds of imports and exports. */
const FUNCTION = 0;
const MEMORY = 2;

/** A module that imports its memory as `env.memory`, and exports `functions`. */
export function assemble(functions: readonly FunctionBuilder[]): Uint8Array {
  const to = new WasmWriter();
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
  // Function n has type n.
  section(SECTION.FUNCTION, (_, index) => to.unsigned(index));
  section(SECTION.EXPORT, (f, index) => {
    to.name(f.name);
    to.byte(FUNCTION);
    to.unsigned(index);
  });
  section(SECTION.CODE, (f) => to.sized(() => f.emitCode(to)));
  return to.finish();
}
