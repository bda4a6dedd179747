/**
 * Which slides a host may give a kernel, and the choice of one.
 *
 * The following slides are refused. For each rule, a boot that fails shows that it is needed (test/boot/randomize.test.ts):
 *
 * - a virtual slide with which the image would end above 0xffffffffc0000000, or 0xffffffffa0000000 without CONFIG_RANDOMIZE_BASE;
 * - a physical slide with which anything loaded would end beyond the guest's memory, in the devices' gap below 4 GiB, in the initrd
 *   that the loader puts at the top of low memory, or beyond the identity map. The 64-bit protocol requires a loader to map only the kernel;
 *   Firecracker's map ends at 1 GiB, as does the PVH entry's own;
 * - with PVH, a virtual and a physical slide that do not go together (kernel/pvh.ts).
 *
 * A request for a random slide is also refused if only one slide is left. Otherwise the caller would believe that it was random.
 */
import { GIB, MIB, physToVirt, PMD_SIZE } from '../base/addresses.ts';
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { alignUp } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import type { PvhEntry } from '../kernel/pvh.ts';
import { pvhAllows } from '../kernel/pvh.ts';
import type { Draw } from '../kaslr/draw.ts';
import { largestSlide } from '../kaslr/slots.ts';
import type { Slots } from '../kaslr/slots.ts';

export type Entry = 'linux64' | 'pvh' | 'both';

/** What the caller asks for. Sizes in bytes. */
export interface SlideRequest {
  /** The entries at which the kernel must boot. Undefined: all that it has. */
  readonly entry?: Entry | undefined;
  readonly virt: Slide | 'random';
  /** Undefined: 0, or the virtual slide if the PVH entry needs that. */
  readonly phys?: Slide | 'random' | undefined;
  /** The guest's memory. Undefined: a random slide assumes DEFAULT_MEMORY, and a given slide is not checked against it. */
  readonly memory?: number | undefined;
  readonly initrdSize?: number | undefined;
  /** The end of the memory that a loader for the 64-bit protocol maps one to one. */
  readonly identityMap?: number | undefined;
}

/** The properties of the kernel that the choice depends on. */
export interface MovableKernel {
  readonly slots: Slots;
  /** Where the image, virtual slide included, must end (kernel/image-limit.ts). */
  readonly limit: number;
  /** Where everything that is loaded ends before it is moved: the image and the added segment. */
  readonly loadEnd: PhysAddr;
  readonly pvh: PvhEntry | undefined;
}

export interface Choice {
  readonly entry: Entry;
  readonly virt: Slide;
  readonly phys: Slide;
  /** How many slides there were to choose from; 1 if there was no choice. */
  readonly ways: { readonly virt: number; readonly phys: number };
}

/** The default of Firecracker and QEMU, the smallest of any VMM. */
export const DEFAULT_MEMORY = 128 * MIB;
/** Firecracker's (src/vmm/src/arch/x86_64/regs.rs, setup_page_tables). */
export const DEFAULT_IDENTITY_MAP = GIB;
/** Device memory begins at 2 GiB on QEMU's q35 with 2.75 GiB of memory or more. On all other machines it begins higher. */
const LOW_MEMORY_AT_MOST = 2 * GIB;
/**
 * Left free between a moved kernel and the end of memory. Firmware keeps tables there, and Linux 5.10 does not boot 4 MiB from the end of memory
 * (measured; 6.1 to 7.3 do, and 5.10 does at 16 MiB).
 */
const SPARE = 16 * MIB;

/** Throws KernelImageError `would-not-boot`, with the reason and the nearest choice that works. */
export function choose(kernel: MovableKernel, request: SlideRequest, draw: Draw): Choice {
  const entry = chooseEntry(kernel, request.entry);
  const rules = new Rules(kernel, request, entry);
  if (request.virt !== 'random') rules.checkVirt(request.virt);
  if (typeof request.phys === 'number') rules.checkPhys(request.phys);

  const virts = request.virt === 'random' ? rules.virts() : [request.virt];
  if (request.virt === 'random' && virts.length < 2) throw rules.nothingLeft('virtual');
  const virt = virts[draw('virtual slide', virts.length)]!;

  const physs = rules.physs(virt);
  if (physs.length === 0) throw rules.doNotGoTogether(virt);
  // A physical slide that follows from a random virtual slide is random as well.
  if (request.phys === 'random' && physs.length < 2 && virts.length < 2) throw rules.nothingLeft('physical', virt);
  const phys = physs[draw('physical slide', physs.length)]!;
  return { entry, virt, phys, ways: { virt: virts.length, phys: physs.length } };
}

/** Takes the requested slides, even if the kernel will not boot with them. For the tests which show that the rules are needed. */
export function chooseByForce(kernel: MovableKernel, request: SlideRequest): Choice {
  if (typeof request.virt !== 'number' || request.phys === 'random')
    throw new RangeError('only given slides can be forced');
  const entry = request.entry ?? (kernel.pvh === undefined ? 'linux64' : 'both');
  return { entry, virt: request.virt, phys: request.phys ?? 0, ways: { virt: 1, phys: 1 } };
}

function chooseEntry({ pvh }: MovableKernel, wanted: Entry | undefined): Entry {
  if (pvh !== undefined) return wanted ?? 'both';
  if (wanted === undefined || wanted === 'linux64') return 'linux64';
  throw new KernelImageError({
    code: 'would-not-boot',
    what: 'entry',
    found: wanted,
    expected: 'linux64: this kernel has no PVH entry (CONFIG_PVH)',
  });
}

/** An end of the memory that the kernel can use. `why` says in messages why it ends there. */
interface Ceiling {
  readonly end: PhysAddr;
  /** How much a moved kernel must leave free below the end. */
  readonly spare?: number;
  readonly why: string;
  /** What would let a kernel end at `end`; undefined if nothing would. */
  readonly remedy?: (end: PhysAddr) => string;
}

class Rules {
  readonly #kernel: MovableKernel;
  readonly #request: SlideRequest;
  /** Undefined if the kernel need not boot by PVH. */
  readonly #pvh: PvhEntry | undefined;
  readonly #largest: { readonly virt: Slide; readonly phys: Slide };
  readonly #ceilings: readonly Ceiling[];
  /** The lowest one. */
  readonly #ceiling: Ceiling;

  constructor(kernel: MovableKernel, request: SlideRequest, entry: Entry) {
    this.#kernel = kernel;
    this.#request = request;
    this.#pvh = entry === 'linux64' ? undefined : kernel.pvh;
    const { align } = kernel.slots;
    const limit = ({ end, spare = 0 }: Ceiling): number => {
      const room = end - kernel.loadEnd;
      return room < 0 ? -align : Math.max(0, Math.floor((room - spare) / align) * align);
    };
    const all = ceilings(request, entry, this.#pvh);
    this.#ceilings = all;
    this.#ceiling = all.reduce((low, other) => (limit(other) < limit(low) ? other : low));
    const phys = limit(this.#ceiling);
    this.#largest = { virt: largestSlide(kernel.slots), phys };
    if (phys < 0) throw this.#tooHigh(0);
  }

  checkVirt(virt: Slide): void {
    const { align } = this.#kernel.slots;
    const largest = this.#largest.virt;
    if (virt > largest) {
      throw wouldNotBoot('virtual slide', virt, {
        reason: `at most ${hex(largest)}: the image must end at ${hex(physToVirt(this.#kernel.limit))} or below, where modules begin`,
        nearest: hex(largest),
      });
    }
    if (!isSlot(virt, align)) throw notAligned('virtual slide', virt, align, largest);
  }

  checkPhys(phys: Slide): void {
    const { align } = this.#kernel.slots;
    if (phys > this.#largest.phys) throw this.#tooHigh(phys);
    if (!isSlot(phys, align)) throw notAligned('physical slide', phys, align, this.#largest.phys);
  }

  /** All virtual slides for which the request allows a physical one. */
  virts(): Slide[] {
    return this.#slides(this.#largest.virt).filter((virt) => this.#hasPhys(virt));
  }

  /** All physical slides that the request allows and that go with this virtual one. */
  physs(virt: Slide): Slide[] {
    const { phys } = this.#request;
    if (phys === 'random') return this.#slides(this.#largest.phys).filter((slide) => this.#goTogether(virt, slide));
    if (phys !== undefined) return this.#goTogether(virt, phys) ? [phys] : [];
    if (this.#goTogether(virt, 0)) return [0];
    return virt <= this.#largest.phys && this.#goTogether(virt, virt) ? [virt] : [];
  }

  /** `virt`: the virtual slide, if it is chosen already and the physical one is to be drawn. */
  nothingLeft(which: 'virtual' | 'physical', virt?: Slide): KernelImageError {
    const { align } = this.#kernel.slots;
    const follows =
      this.#pvh !== undefined && !pvhAllows(this.#pvh, virt ?? align, virt === undefined ? 0 : virt + align);
    if (follows && (virt !== undefined || this.#request.phys === 0)) {
      const free =
        virt === undefined ? 'a physical slide that may follow the virtual one' : 'a virtual slide that is random';
      return wouldNotBoot(
        virt === undefined ? 'virtual slide' : 'physical slide',
        'random, but the other slide is not',
        {
          reason: `the physical one to be ${goTogetherAs(this.#pvh)}`,
          nearest: `${free}, or entry linux64`,
        },
      );
    }
    const room = this.#roomFor(this.#kernel.loadEnd + align, true);
    return wouldNotBoot(`${which} slide`, 'random', {
      reason: `at least two to choose from: ${this.#ceiling.why}${follows ? `, and the physical slide must be ${goTogetherAs(this.#pvh)}` : ''}`,
      nearest: follows && !room.includes(LINUX64) ? `${room}, or ${LINUX64}` : room,
    });
  }

  doNotGoTogether(virt: Slide): KernelImageError {
    const { phys } = this.#request;
    const follow = virt <= this.#largest.phys ? `physical slide ${hex(virt)}, ` : '';
    const lead = typeof phys === 'number' && phys <= this.#largest.virt ? `virtual slide ${hex(phys)}, ` : '';
    return wouldNotBoot('physical slide', typeof phys === 'number' ? phys : 'not given', {
      reason: goTogetherAs(this.#pvh),
      nearest: `${follow}${lead}or entry linux64`,
    });
  }

  #slides(largest: Slide): Slide[] {
    const { align } = this.#kernel.slots;
    return Array.from({ length: 1 + largest / align }, (_, slot) => slot * align);
  }

  #hasPhys(virt: Slide): boolean {
    const { phys } = this.#request;
    if (typeof phys === 'number') return this.#goTogether(virt, phys);
    return this.#goTogether(virt, 0) || (virt <= this.#largest.phys && this.#goTogether(virt, virt));
  }

  #goTogether(virt: Slide, phys: Slide): boolean {
    return this.#pvh === undefined || pvhAllows(this.#pvh, virt, phys);
  }

  #tooHigh(phys: Slide): KernelImageError {
    const { end: top, spare = 0, why } = this.#ceiling;
    const end = phys === 0 ? top : top - spare;
    const largest = this.#largest.phys;
    return wouldNotBoot('physical slide', phys, {
      reason: `what is loaded to end at ${hex(end)} or below, not at ${hex(this.#kernel.loadEnd + phys)}: ${why}`,
      nearest: largest < 0 ? this.#roomFor(this.#kernel.loadEnd, false) : hex(largest),
    });
  }

  /** What raises every ceiling that is below `end`. A moved kernel also leaves a ceiling's spare room free. */
  #roomFor(end: PhysAddr, moved: boolean): string {
    const low = this.#ceilings.filter((ceiling) => ceiling.end - (moved ? (ceiling.spare ?? 0) : 0) < end);
    const fixed = low.find(({ remedy }) => remedy === undefined);
    if (fixed !== undefined) return `none: ${fixed.why}`;
    const remedies = low.map(({ spare = 0, remedy }) => remedy!(end + (moved ? spare : 0)));
    return [...new Set(remedies)].join(', and ');
  }
}

/** What frees a kernel of the rules of its PVH entry. */
const LINUX64 = 'entry linux64';

function ceilings(
  { virt, phys, memory, initrdSize = 0, identityMap = DEFAULT_IDENTITY_MAP }: SlideRequest,
  entry: Entry,
  pvh: PvhEntry | undefined,
): Ceiling[] {
  const all: Ceiling[] = [{ end: 4 * GIB, why: 'no loader enters a kernel above 4 GiB' }];
  if (entry !== 'pvh')
    all.push({
      end: identityMap,
      why: `the loader maps memory one to one up to ${mib(identityMap)}`,
      remedy: (end) => `an identity map of ${mib(end)} or more, if the loader has one`,
    });
  if (pvh !== undefined) {
    all.push({ end: GIB, why: "the PVH entry's page tables map 1 GiB", remedy: () => LINUX64 });
    if (pvh.range !== undefined)
      all.push({ end: pvh.range.max, why: 'the note XEN_ELFNOTE_PHYS32_RELOC says so', remedy: () => LINUX64 });
  }
  // A given slide is not checked against memory if the caller did not say how much there is.
  const drawn =
    phys === 'random' || (phys === undefined && virt === 'random' && pvh !== undefined && !pvh.relocatesItself);
  const size = memory ?? (drawn ? DEFAULT_MEMORY : undefined);
  if (size === undefined) return all;
  const low = Math.min(size, LOW_MEMORY_AT_MOST);
  const given = `guest memory is ${memory === undefined ? 'assumed to be ' : ''}${mib(size)}`;
  all.push({
    end: low,
    spare: SPARE,
    why: low < size ? `devices may use the addresses from ${mib(low)} to 4 GiB` : given,
    ...(low < size ? {} : { remedy: (end: PhysAddr) => `memory of ${mib(end)} or more` }),
  });
  if (initrdSize > 0) {
    const end = low - alignUp(initrdSize, 0x1000);
    const remedy = (wanted: PhysAddr): string => `memory of ${mib(wanted + low - end)} or more, or a smaller initrd`;
    all.push({
      end,
      spare: SPARE,
      why: `an initrd of ${mib(initrdSize)} lies at the top of low memory`,
      remedy: low < LOW_MEMORY_AT_MOST ? remedy : () => 'a smaller initrd',
    });
  }
  return all;
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB`;
}

function goTogetherAs(pvh: PvhEntry | undefined): string {
  if (pvh?.range === undefined)
    return "the same as the virtual slide: this kernel's PVH entry runs where it is linked (it has no XEN_ELFNOTE_PHYS32_RELOC)";
  return 'the same as the virtual slide, unless the virtual slide is 0, for the PVH entry of this kernel';
}

function isSlot(slide: Slide, align: number): boolean {
  return slide >= 0 && slide % align === 0;
}

function notAligned(what: string, found: Slide, align: number, largest: Slide): KernelImageError {
  const nearest = hex(Math.max(0, Math.min((Math.round(found / align) || 0) * align, largest)));
  return wouldNotBoot(what, Number.isInteger(found) ? found : `${found}`, {
    reason:
      align === PMD_SIZE ? `a multiple of ${hex(align)}, the pages that map a kernel` : `a multiple of ${hex(align)}`,
    nearest,
  });
}

function wouldNotBoot(
  what: string,
  found: number | string,
  { reason, nearest }: { readonly reason: string; readonly nearest: string },
): KernelImageError {
  const hint = `the nearest that works: ${nearest}`;
  return new KernelImageError({ code: 'would-not-boot', what, found, expected: reason, hint });
}
