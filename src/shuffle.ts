/**
 * Function-granular KASLR for a kernel that nobody rebuilt: every function that can move is placed at random, everything that names one is repaired,
 * and the result relocates itself at its entry as any converted kernel does.
 *
 * Two halves. `planShuffle` finds out, once for each kernel, what can move and all that names it. `shuffle` makes a kernel of a plan and a seed: the same
 * seed, the same bytes.
 */
import type { Codecs } from './bzimage/codecs/index.ts';
import { joinParts } from './elf/write.ts';
import { KernelImageError } from './errors.ts';
import { readInput } from './input.ts';
import { findRelocations } from './relocs/find.ts';
import type { ByteSource } from './relocs/byte-source.ts';
import { checkSites } from './relocs/table.ts';
import { analyse, buildIdOf } from './shuffle/analyse.ts';
import type { AnalysePass } from './shuffle/analyse.ts';
import { fingerprint } from './shuffle/fingerprint.ts';
import { layOut } from './shuffle/layout.ts';
import type { Plan } from './shuffle/plan.ts';
import { rewrite } from './shuffle/rewrite.ts';
import { readVmlinux } from './vmlinux.ts';
void joinParts; void KernelImageError; void buildIdOf; void fingerprint;
export interface PlanOptions {
  readonly codecs: Codecs;
  readonly debug: ByteSource;
  readonly relocs?: Uint8Array | undefined;
  readonly onPass?: ((pass: AnalysePass | 'read') => void) | undefined;
}

export async function planShuffle(image: Uint8Array, options: PlanOptions): Promise<{ plan: Plan; vmlinux: Uint8Array }> {
  options.onPass?.('read');
  const input = await readInput(image, options);
  const kernel = readVmlinux(input.vmlinux);
  const table = findRelocations(kernel, input);
  checkSites(table, kernel.loads);
  const plan = await analyse({
    kernel,
    table,
    debug: options.debug,
    kernelVersion: input.kernelVersion,
    onPass: options.onPass,
  });
  return { plan, vmlinux: kernel.elf.bytes };
}

export function shuffleOnce(vmlinux: Uint8Array, plan: Plan, seed: Uint8Array) {
  return rewrite(vmlinux, plan, layOut(plan, seed));
}
