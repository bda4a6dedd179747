/** The WebAssembly of a decoder: its functions, the module that they are assembled to, and the platform that compiles it. */
import { assemble, type FunctionBuilder } from '../wasm/assembler.ts';

/** What is used of the WebAssembly JavaScript Interface; the core compiles without DOM types. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
export type WasmFunction = (...parameters: number[]) => number;
export type WasmExports = Readonly<Record<string, WasmFunction>>;
interface WasmPlatform {
  readonly Memory: new (limits: { initial: number }) => WasmMemory;
  readonly RuntimeError: new () => Error;
  compile(bytes: Uint8Array): Promise<object>;
  instantiate(module: object, imports: { env: { memory: WasmMemory } }): Promise<{ exports: WasmExports }>;
}

/** Undefined where there is no WebAssembly. */
export const wasmPlatform = (globalThis as unknown as { WebAssembly?: WasmPlatform }).WebAssembly;

/** The loops of one format: assembled and compiled when first used, then kept. */
export class DecoderProgram {
  readonly #build: () => readonly FunctionBuilder[];
  #functions: ReadonlyMap<string, FunctionBuilder> | undefined;
  #module: Promise<object> | undefined;

  constructor(build: () => readonly FunctionBuilder[]) {
    this.#build = build;
  }

  /** By name. */
  get functions(): ReadonlyMap<string, FunctionBuilder> {
    return (this.#functions ??= new Map(this.#build().map((f) => [f.name, f])));
  }

  /** Starts to compile, on another thread, a program that will be used soon. */
  prepare(): void {
    // An error is reported when the program is used.
    if (wasmPlatform) this.compile(wasmPlatform).catch(() => {});
  }

  compile({ compile }: WasmPlatform): Promise<object> {
    return (this.#module ??= compile(assemble([...this.functions.values()])));
  }
}
