/** Measures one boot: the addresses that an image passes, and the cost from one to the next. */
import { MIB } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { PARAMS } from '../../segment/layout.ts';
import { countGuest, timeGuest, wouldNotBoot, nameOf } from './guest.ts';
import type { Arrival, CountedGuest, GuestOptions } from './guest.ts';
import { INIT_ENTRY, INIT_SAYS } from './init.ts';
import type { Subject, Variant } from './subject.ts';

/**
 * `loader`: firmware, QEMU's option ROM and, with PVH, the kernel's own few instructions before startup_64. `decompressor`: includes a bzImage's
 * setup code. `stub`: until startup_64 is reached for the second time. `kernel`: until the point that boots are measured to.
 */
export const PHASES = ['loader', 'decompressor', 'stub', 'kernel'] as const;
export type Phase = (typeof PHASES)[number];

export interface MeasuredBoot {
  /** Instructions, or microseconds, from power-on. */
  readonly total: number;
  /** Undefined when time was measured: the stops between phases would take time too. */
  readonly phases: Partial<Record<Phase, number>> | undefined;
  readonly point: Point;
}

/** `init`: the first instruction of the bench's own /init. `end`: the guest ended by a panic, a restart or a power-off. */
export type Point = 'init' | 'end';

export interface GuestSettings extends Omit<GuestOptions, 'title' | 'original' | 'image' | 'entry'> {
  readonly memoryMib: number;
  readonly append: string;
  /** Where boots are measured to: `init`, or `end` if the user gave another initramfs. */
  readonly point: Point;
}

/** The entry of a bzImage's setup code: QEMU loads it to 0x10000 (hw/i386/x86.c) and enters with cs = 0x1020 (pc-bios/optionrom/linuxboot_dma.c). */
const SETUP_ENTRY: PhysAddr = 0x1_0200;

export function countBoot(
  subject: Subject,
  variant: Variant,
  settings: GuestSettings,
  seed: number,
): Promise<MeasuredBoot> {
  const options = { ...guestOf(subject, variant, settings), seed };
  return countGuest(options, async (guest) => {
    const phases = new PhaseCounter(guest, nameOf(options));
    let startup = subject.plain.entry;
    if (variant.decompressor) {
      await phases.next('loader', 'the setup code', [SETUP_ENTRY]);
      startup = phases.add('decompressor', 'startup_64', await findStartup(guest, subject, variant, settings));
    } else {
      await phases.next('loader', 'startup_64', [startup]);
    }
    if (variant.stub !== undefined) {
      // The guest is at startup_64 now. It has to leave before a breakpoint there can mean that it came back.
      const program = variant.stub.segment + PARAMS.size + startup - subject.plain.entry;
      await phases.next('stub', 'the stub', [program]);
      await phases.next('stub', 'startup_64 again', [startup]);
    }
    return phases.end(
      await guest.runTo(settings.point === 'init' ? [INIT_ENTRY] : [], settings.point === 'init' ? '/init' : 'its end'),
    );
  });
}

export async function timeBoot(subject: Subject, variant: Variant, settings: GuestSettings): Promise<MeasuredBoot> {
  const { point } = settings;
  const total = await timeGuest(guestOf(subject, variant, settings), point === 'init' ? INIT_SAYS : undefined);
  return { total, phases: undefined, point };
}

/** A bzImage is booted with `entry: 'pvh'`, which hands the file to QEMU as it is. */
export function guestOf(
  { entry }: Subject,
  { title, image, decompressor, stub, nokaslr }: Variant,
  settings: GuestSettings,
): GuestOptions {
  const append = nokaslr ? `${settings.append} nokaslr`.trimStart() : settings.append;
  return { ...settings, title, original: stub === undefined, image, append, entry: decompressor ? 'pvh' : entry };
}

/**
 * The decompressor may put the kernel anywhere in memory. So there is a breakpoint at the entry of every possible place. Where the guest stops, the
 * bytes there tell whether it is the kernel's entry or the decompressor's own code; in the latter case that breakpoint is removed.
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
    const arrival = await guest.runTo(places, 'startup_64');
    if (arrival.at === undefined) return arrival;
    const found = await guest.readMemory(arrival.at, entryBytes.length);
    if (entryBytes.every((byte, i) => found[i] === byte)) return arrival;
    places.splice(places.indexOf(arrival.at), 1);
  }
}

/** Enough for 4 GiB at an alignment of 2 MiB. Each place costs one exchange with QEMU before a run and one after it. */
const PLACES = 2048;

/** The addresses that a guest has passed, and the instructions between them. */
class PhaseCounter {
  readonly #guest: CountedGuest;
  readonly #title: string;
  readonly #phases: Partial<Record<Phase, number>> = {};
  #before = 0;

  constructor(guest: CountedGuest, title: string) {
    this.#guest = guest;
    this.#title = title;
  }

  async next(phase: Phase, place: string, addresses: readonly number[]): Promise<number> {
    return this.add(phase, place, await this.#guest.runTo(addresses, place));
  }

  /** Returns the address of the arrival. */
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
