/** The self-relocation program, made when it is first asked for. Not to be changed. */
import { assembledStub } from './assembled.ts';

let assembled: Uint8Array | undefined;

export function stubProgram(): Uint8Array {
  return (assembled ??= assembledStub());
}
