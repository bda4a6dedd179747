/**
 * The second reading of a table that was recovered from the image alone. It asks the opposite question: of every field that looks like an address and was left alone, why is it a number? And of
 * every field in the table, can an address be there?
 *
 * It shares no code with what recovers tables (src/recover, src/x86): it has its own reading of the sections, and iced-x86 decodes the instructions. Both know the same facts of the kernel, so a
 * fact that is wrong for a kernel can deceive both. Therefore nothing is proved here: what is not contradicted is consistent.
 */
import { hex, KernelImageError } from '../../base/errors.ts';
import { physToVirt } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import { fileOffsetOf } from '../../kernel/vmlinux.ts';
import type { Sites } from '../../relocs/tables/apply.ts';
import { LISTS } from '../../relocs/tables/kernel-table.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';
import { refute } from '../evidence.ts';
import { expectAgreement, readNamedCode } from './agreement.ts';
import { countLookalikes, emptySwept, sweepCode } from './code.ts';
import type { Operand } from './code.ts';
import { findCodeInData, judgeCodeInData } from './code-in-data.ts';
import {
  findOddWords,
  isText,
  judgeOddWords,
  judgePageTables,
  judgePerCpu,
  judgeWords,
  judgeZeroWords,
} from './data.ts';
import type { Disassembler, OpenDisassembler } from './disassembler.ts';
import { findPhysBase, judgePhysical } from './flow.ts';
import { Judgement } from './judgement.ts';
import type { Contradiction, JudgedFields, JudgeWatch } from './judgement.ts';
import { PlaceBits } from './place-bits.ts';
import { judgePvh } from './pvh.ts';
import { readJudgedImage, stretchAt } from './sections.ts';
import type { JudgedImage, Stretch } from './sections.ts';
import { findPrinted, judgeZeros } from './zeros.ts';

/**
 * Throws Refutation for the contradiction at the lowest place, and KernelImageError for a kernel that cannot be judged. Every site must be known to lie in the image. Measured on Debian's
 * 5.10 to 7.3: see docs/recover.md.
 */
export function judgeTable(kernel: Vmlinux, table: Sites, open: OpenDisassembler, watch?: JudgeWatch): JudgedFields {
  const image = readJudgedImage(kernel);
  if (image.stretches.every(({ content }) => content !== 'code')) throw missing('section headers', 'sections of code');
  const judgement = new Judgement(image, table, watch);
  const begins = new PlaceBits(image.low, image.high);
  const asked = new PlaceBits(image.low, image.high);
  const swept = emptySwept();
  const context = { image, judgement, begins, asked, swept };

  // What is to be asked of the code comes first.
  const odd = findOddWords(image, asked);
  const printed = findPrinted(image, asked);
  const namedCode = readNamedCode(image);
  const codeInData = findCodeInData(image, namedCode.inData, asked);

  const pvh = judgePvh(image, judgement, open);
  const disassemblers = new Map<Stretch, Disassembler>();
  for (const stretch of image.stretches) {
    if (stretch.content !== 'code') continue;
    const disassembler = open(stretch.bytes);
    disassemblers.set(stretch, disassembler);
    const isInside = pvh !== undefined && pvh.start >= stretch.start && pvh.start < stretch.end;
    sweepCode(context, stretch, disassembler, isInside ? pvh : undefined);
  }
  expectAgreement(namedCode, begins);
  judgeCodeInData(context, codeInData, open, disassemblers);

  const flow = { begins, disassemblers, holdsZero: (place: PhysAddr): boolean => isZeroWord(image, place) };
  const physBase = findPhysBase(flow, swept.widePhysical, swept.physical);
  if (physBase === undefined) throw missing('phys_base', 'a variable that is added to physical addresses');
  judgePhysical(flow, swept.physical, physBase, judgement);
  // In a kernel whose direct map has a fixed place, that is part of the number.
  judgePhysical(flow, swept.wideSums, physBase, judgement, 'abs64');
  judgeZeros(image, swept, printed, judgement);
  judgeFactors(image, judgement, swept.factors);
  for (const disassembler of disassemblers.values()) disassembler.free();

  const named = new Set(swept.naming.map(({ target }) => target));
  judgeWords(context, named);
  judgeOddWords(context, odd, named);
  if (judgePageTables(context) === 0) throw missing('page tables', 'page tables in its data');
  judgePerCpu(context);
  judgeZeroWords(context);
  countOthers(image, judgement);

  const { first, count } = judgement.finish((list, place) => describe(image, begins, list, place));
  if (first !== undefined) refuteField(kernel, first, count);
  return judgement.fields(swept.instructions);
}

function missing(what: string, expected: string): KernelImageError {
  return new KernelImageError({
    code: 'unsupported',
    what: `original: judging relocations that were recovered: ${what}`,
    found: 'none',
    expected,
    hint: 'give the relocation table of this build (--relocs)',
  });
}

function isZeroWord(image: JudgedImage, place: PhysAddr): boolean {
  const stretch = stretchAt(image, place, 8);
  return stretch?.content === 'data' && stretch.view.getBigUint64(place - stretch.start, true) === 0n;
}

/** The address of a text times a condition: compilers make that, where they choose between a text and nothing. */
function judgeFactors(image: JudgedImage, judgement: Judgement, factors: readonly Operand[]): void {
  for (const { stretch, place } of factors) {
    const target = stretch.view.getInt32(place - stretch.start, true) + 0x8000_0000;
    if (stretchAt(image, target)?.content === 'data' && isText(image, target))
      judgement.site('abs32', place, 'a factor that is the address of a text');
    else judgement.open('factor', 'abs32', place);
  }
}

/** Fields that no site can be at are only counted. */
function countOthers(image: JudgedImage, judgement: Judgement): void {
  for (const stretch of image.stretches) {
    const reason = stretch.content === 'code' ? 'no-operand' : stretch.content === 'data' ? 'four-bytes' : 'format';
    judgement.number(reason, undefined, undefined, countLookalikes(stretch, image, judgement));
  }
}

function describe(image: JudgedImage, begins: PlaceBits, list: ListName, place: PhysAddr): string {
  const stretch = stretchAt(image, place);
  if (stretch === undefined) return 'nothing: no section has bytes there';
  if (stretch.content === 'formatted') return `a number: ${stretch.name} has no addresses`;
  if (stretch.content === 'data')
    return list === 'abs64'
      ? 'a number: the word there is no address of this kernel'
      : `a number: no ${list === 'abs32' ? 'address' : 'distance'} of 4 bytes is in data there`;
  let instruction = place;
  while (instruction > place - 15 && !begins.has(instruction)) instruction--;
  return `a number: in the instruction at ${hex(physToVirt(instruction))} no operand field that is ${
    list === 'inverse32' ? 'a distance to per-cpu data' : 'an address'
  } begins there`;
}

function refuteField(kernel: Vmlinux, { list, place, isListed, found, expected }: Contradiction, count: number): never {
  const { title, width } = LISTS.find(({ name }) => name === list)!;
  const offset = fileOffsetOf(kernel.loads, place) ?? 0;
  const { bytes } = kernel.elf;
  const value = [...bytes.subarray(offset, offset + width)].toReversed();
  const text = value.map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const others = count === 1 ? 'the only contradiction' : `the first of ${count} contradictions`;
  refute(
    `${isListed ? `entry of the ${title} list` : `${title} field`} at ${hex(physToVirt(place))} (${others})`,
    offset,
    {
      found: `${found}, holding 0x${text}`,
      expected,
    },
  );
}
