/**
 * What the kernel itself confirms of its debug vmlinux.
 *
 * Shuffling and its proof believe the debug vmlinux: its symbols say where code begins, its relocations what a field means. Whoever changes one entry of it
 * would change the result, and the proof with it. Much of it can be held against the kernel that boots, which does not come from that file:
 *
 *     confirm.ts      the build-id, and every loaded byte
 *     symbols.ts      symbols against kallsyms, in which the kernel has names and addresses of its own
 *     sorted.ts       the symbols around __ex_table, ORC and __mcount_loc against sections, the entries against code
 *     relocations.ts  relocations against the bytes that they made, against the kernel's relocation table, against tables of known formats, and against
 *                     the instructions of code outside .text
 *
 * A contradiction is refused with the number of such entries and three examples, before anything is written or proved.
 *
 * What no kernel confirms: which symbol a relocation names, where two names with two addends give the same sum. `verify --shuffled` counts the fields where that
 * matters, and states it as a premise of its verdict.
 *
 * Nothing here decides what is written, so the proof may use it as well. Debian's 6.1: see the figures in docs/shuffle.md.
 */
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { Disassembler } from '../disassembler.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import { expectSameBuildId, expectSameContents } from '../read/same-build.ts';
import { Contradictions } from './contradictions.ts';
import { confirmRelocations } from './relocations.ts';
import { confirmSortedTables } from './sorted.ts';
import { confirmSymbols } from './symbols.ts';

export interface ConfirmInput {
  readonly kernel: Vmlinux;
  readonly image: ImageBytes;
  readonly debug: DebugKernel;
  /** The kernel's own relocation table. */
  readonly table: RelocationTable;
  /** Leave out the relocations of `debug`. */
  readonly recover: boolean;
  readonly makeDisassembler: (code: Uint8Array) => Disassembler;
}

/** How many entries of the debug vmlinux the kernel has confirmed. */
export interface Confirmed {
  /** Symbols that kallsyms has too; 0 for a kernel without kallsyms. */
  readonly symbols: number;
  /** Relocations whose fields hold what they say; 0 if they are not used. */
  readonly relocations: number;
}

/** Throws KernelImageError when the kernel contradicts its debug vmlinux. */
export function confirmDebugKernel(input: ConfirmInput): Confirmed {
  const { kernel, image, debug, recover } = input;
  expectSameBuildId(kernel, debug);
  expectSameContents(image, debug);
  const contradictions = new Contradictions();
  const symbols = confirmSymbols(debug, image, contradictions);
  confirmSortedTables(debug, image, contradictions);
  const relocations = recover ? 0 : confirmRelocations(input, contradictions);
  return { symbols, relocations };
}
