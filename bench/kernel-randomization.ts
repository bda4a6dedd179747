/**
 * What is not kslide's: the instructions of the kernel's own memory randomization, kernel_randomize_memory() in arch/x86/mm/kaslr.c, which a
 * kernel runs once KASLR_FLAG says that it was moved. Claim: less than a hundredth of what the stub takes.
 *
 *     node --import tsx bench/kernel-randomization.ts [--record]
 *
 * On Debian's 6.1 cloud kernel, whose debug package says where the function is and where it is called. Counted exactly: from its first
 * instruction to the one behind its call, in a converted kernel, with and without nokaslr.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { VirtAddr } from '../src/base/addresses.ts';
import { tableEntryToPhys } from '../src/base/addresses.ts';
import { Reader } from '../src/base/bytes.ts';
import { countGuest } from '../src/measure/bench/guest.ts';
import { packBenchInit } from '../src/measure/bench/init.ts';
import { guestOf } from '../src/measure/bench/measure.ts';
import { readSubject } from '../src/measure/bench/subject.ts';
import type { Subject, Variant } from '../src/measure/bench/subject.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { takeRecordOption } from '../scripts/docs/record.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { PARAMS } from '../src/segment/layout.ts';
import { fileOffsetOf } from '../src/kernel/vmlinux.ts';
import { claims, report } from './claims.ts';

const FUNCTION = 'kernel_randomize_memory';

/** The function, and the instruction behind its only call, at link addresses. */
function findCall(vmlinux: string): readonly [first: VirtAddr, behind: VirtAddr] {
  const options = { encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  const code = execFileSync('objdump', ['-d', '--no-show-raw-insn', '--disassemble=setup_arch', vmlinux], options);
  const lines = code.split('\n');
  const at = lines.findIndex((line) => line.includes(`<${FUNCTION}>`));
  const target = new RegExp(`([0-9a-f]{16}) <${FUNCTION}>`).exec(lines[at] ?? '')?.[1];
  const behind = /^\s*([0-9a-f]{16}):/.exec(lines[at + 1] ?? '')?.[1];
  if (target === undefined || behind === undefined) throw new Error(`${vmlinux}: setup_arch does not call ${FUNCTION}`);
  return [BigInt(`0x${target}`), BigInt(`0x${behind}`)];
}

interface Counted {
  readonly stub: number;
  readonly inKernel: number;
}

function count(subject: Subject, variant: Variant, [first, behind]: readonly [VirtAddr, VirtAddr]): Promise<Counted> {
  const { plain, relocations } = subject;
  const settings = { memoryMib: 256, append: '', initrd: packBenchInit(), point: 'init', timeoutMs: 600_000 } as const;
  return countGuest({ ...guestOf(subject, variant, settings), signal: undefined, seed: 1 }, async (guest) => {
    const start = await guest.runTo([plain.entry], 'startup_64');
    await guest.runTo([variant.stub!.segment + PARAMS.size], 'the stub');
    const end = await guest.runTo([plain.entry], 'startup_64 again');
    // By how much a site differs from the file is the slide.
    const site = tableEntryToPhys(relocations.abs64[0]!)!;
    const moved = new Reader(await guest.readMemory(site, 8)).u64(0, 'site');
    const slide = moved - new Reader(plain.elf.bytes).u64(fileOffsetOf(plain.loads, site)!, 'site');
    const before = await guest.runTo([first + slide], 'the function');
    const after = await guest.runTo([behind + slide], 'its end');
    return { stub: end.instructions - start.instructions, inKernel: after.instructions - before.instructions };
  });
}

const { record } = takeRecordOption();
const values: Record<string, number> = {};
const script = fileURLToPath(new URL('../scripts/build-relocs-debug-vmlinux.sh', import.meta.url));
const call = findCall(execFileSync('sh', [script], { encoding: 'utf8' }).trim());
const { image } = await fetchKernel({ series: '6.1', flavour: 'cloud' });
const subject = await readSubject(new Uint8Array(readFileSync(image)), { codecs: nodeCodecs });
for (const variant of subject.variants) {
  if (variant.stub === undefined) continue;
  const { stub, inKernel } = await count(subject, variant, call);
  process.stdout.write(`${variant.title}: the stub ${stub} instructions, ${FUNCTION} ${inKernel}\n`);
  values[variant.nokaslr ? 'nokaslr' : 'randomized'] = inKernel;
  if (!variant.nokaslr)
    report({
      what: `${variant.title}: ${FUNCTION}, of the stub's instructions`,
      measured: inKernel / stub,
      atMost: 0.01,
    });
}
record?.('kernel-randomization', {
  machine: `QEMU ${await qemuVersion()} (TCG), 256 MiB, PVH`,
  parts: [],
  note: `Debian 6.1 cloud: ${FUNCTION}(), from its first instruction to the one after its call.`,
  claims,
  values,
});
