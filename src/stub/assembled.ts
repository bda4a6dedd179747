/**
 * The program, assembled. Assembling takes 10 ms, and gives the same bytes each time: so the build of the command line puts those in place of this file
 * (scripts/bundle.js).
 */
import { assembleStub } from './program.ts';

export function assembledStub(): Uint8Array {
  return assembleStub().code;
}
