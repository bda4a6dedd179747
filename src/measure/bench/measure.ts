/** One boot, measured: the places that an image passes, and what it took from one to the next. */
import { MIB } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { PARAMS } from '../../segment/layout.ts';
import { countGuest, timeGuest, wouldNotBoot } from './guest.ts';
import type { Arrival, CountedGuest, GuestOptions } from './guest.ts';
import { INIT_ENTRY, INIT_SAYS } from './init.ts';
import type { Subject, Variant } from './subject.ts';

/**
 * `loader`: firmware, QEMU's option ROM and, by PVH, the kernel's own few instructions before startup_64. `decompressor`: a bzImage's
 * setup code too. `stub`: to the second arrival at startup_64. `kernel`: to the point that is measured to.
 */
export const PHASES = ['loader', 'decompressor', 'stub', 'kernel'] as const;
export type Phase = (typeof PHASES)[number];

export interface MeasuredBoot {
  /** Instructions, or microseconds, from power-on. */
  readonly total: number;
  /** Undefined when time was measured: a stop would be in it. */
  readonly phases: Partial<Record<Phase, number>> | undefined;
  readonly point: Point;
}

/** `end`: the guest's own, by a panic, a restart or a power-off. */
export type Point = 'init' | 'end';

export interface GuestSettings extends Omit<GuestOptions, 'title' | 'image' | 'entry'> {
  readonly memoryMib: number;
  readonly append: string;
  /** Where boots are measured to: the first instruction of our /init, or the end of a guest that has another. */
  readonly point: Point;
}

/** Where QEMU puts a bzImage's setup code, one paragraph row in: hw/i386/x86.c, and cs = 0x1020 in pc-bios/optionrom/linuxboot_dma.c. */
const SETUP_ENTRY: PhysAddr = 0x1_0200;

export function countBoot(
  subject: Subject,
  variant: Variant,
  settings: GuestSettings,
  seed: number,
): Promise<MeasuredBoot> {
  return countGuest({ ...guestOf(subject, variant, settings), seed }, async (guest) => {
    const passed = new Passed(guest, variant.title);
    let startup = subject.plain.entry;
    if (variant.decompressor) {
      await passed.next('loader', 'the setup code', [SETUP_ENTRY]);
      startup = passed.add('decompressor', 'startup_64', await findStartup(guest, subject, variant, settings));
    } else {
      await passed.next('loader', 'startup_64', [startup]);
    }
    if (variant.stub !== undefined) {
      // The guest stands at startup_64 already: it must be led away from there before it can come back.
      const program = variant.stub.segment + PARAMS.size + startup - subject.plain.entry;
      await passed.next('stub', 'the stub', [program]);
      await passed.next('stub', 'startup_64 again', [startup]);
    }
    return passed.end(await guest.runTo(settings.point === 'init' ? [INIT_ENTRY] : []));
  });
}

export async function timeBoot(subject: Subject, variant: Variant, settings: GuestSettings): Promise<MeasuredBoot> {
  const { point } = settings;
  const total = await timeGuest(guestOf(subject, variant, settings), point === 'init' ? INIT_SAYS : undefined);
  return { total, phases: undefined, point };
}

/** QEMU boots a bzImage by the entry that it calls pvh. */
export function guestOf(
  { entry }: Subject,
  { title, image, decompressor, nokaslr }: Variant,
  settings: GuestSettings,
): GuestOptions {
  const append = nokaslr ? `${settings.append} nokaslr`.trimStart() : settings.append;
  return { ...settings, title, image, append, entry: decompressor ? 'pvh' : entry };
}

/**
 * The decompressor puts the kernel anywhere in memory. So the guest is stopped at the entry of each place there is, and what stands there
 * tells whether it is the kernel; a place where the decompressor itself runs is none.
 */
async function findStartup(
  guest: CountedGuest,
  { plain, align }: Subject,
  { entryBytes }: Variant,
  { memoryMib }: GuestSettings,
): Promise<Arrival> {
  const places: number[] = [];
  for (let at = plain.entry % align; at < memoryMib * MIB && places.length < PLACES; at += align)
    if (at >= MIB) places.push(at);
  for (;;) {
    const arrival = await guest.runTo(places);
    if (arrival.at === undefined) return arrival;
    const found = await guest.readMemory(arrival.at, entryBytes.length);
    if (entryBytes.every((byte, i) => found[i] === byte)) return arrival;
    places.splice(places.indexOf(arrival.at), 1);
  }
}

/** Up to 4 GiB at an alignment of 2 MiB; each costs a word with QEMU at either end of a run. */
const PLACES = 2048;

/** What was passed, and the counts between. */
class Passed {
  readonly #guest: CountedGuest;
  readonly #title: string;
  readonly #phases: Partial<Record<Phase, number>> = {};
  #before = 0;

  constructor(guest: CountedGuest, title: string) {
    this.#guest = guest;
    this.#title = title;
  }

  async next(phase: Phase, place: string, addresses: readonly number[]): Promise<number> {
    return this.add(phase, place, await this.#guest.runTo(addresses));
  }

  /** Gives the address. */
  add(phase: Phase, place: string, { at, instructions }: Arrival): number {
    if (at === undefined) throw wouldNotBoot(this.#title, 'a guest that ended', `${place} to be reached`);
    this.#count(phase, instructions);
    return at;
  }

  end({ at, instructions }: Arrival): MeasuredBoot {
    this.#count('kernel', instructions);
    return { total: instructions, phases: this.#phases, point: at === undefined ? 'end' : 'init' };
  }

  #count(phase: Phase, instructions: number): void {
    this.#phases[phase] = (this.#phases[phase] ?? 0) + instructions - this.#before;
    this.#before = instructions;
  }
}
