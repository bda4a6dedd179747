/**
 * A small WebAssembly assembler, for the inner loops of the decoders. Start with docs/codecs.md if you have never read one of those.
 *
 * Why not TypeScript: measured cold (one decode in a fresh Node 20 process, 2 cores), xz of 66 MB took 820 ms with a hand-inlined loop in
 * TypeScript and takes 480 ms with this; lz4 of 53 MB took 130 ms and takes 40. The loops need unsigned 32- and 64-bit arithmetic, unaligned
 * loads of eight bytes, and memory that is not copied when it grows. Why not a compiler's output in base64: nobody can review it.
 * And an assembler in a host language comes with a macro processor: "decode one bit" is one function in lzma-loop.ts, where the loop in
 * TypeScript had fifteen copies of it.
 *
 * Code is built from expressions, which leave a value (values.ts), and statements, which do not (statements.ts). Functions are made of both,
 * and modules of functions (module.ts). Nothing is computed while code is built:
 *
 *   when(code.below(bound), [range.set(bound)], [range.set(range.sub(bound)), code.set(code.sub(bound))])
 *
 * is `if (code < bound) range = bound; else { range -= bound; code -= bound; }`, emitted where it stands.
 *
 * Source: WebAssembly Core Specification 2.0, whose section numbers stand beside the code. Everything used is in the 1.0 release or in bulk
 * memory operations, which all engines have had since 2021.
 */
export { assemble, FunctionBuilder } from './module.ts';
export {
  block,
  BranchTarget,
  fillMemory,
  loop,
  repeatWhile,
  returns,
  store16,
  store32,
  store64,
  store8,
  when,
  type Statements,
} from './statements.ts';
export {
  i32,
  i64,
  load16,
  load32,
  load64,
  load8,
  Local,
  select,
  type I32,
  type I64,
  type Statement,
} from './values.ts';
