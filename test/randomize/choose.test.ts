/** What a host may choose, in words and against the rules written down once more; draws; and SHA-256 against OpenSSL's. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { KERNEL_IMAGE_SIZE } from '../../src/base/addresses.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { choose } from '../../src/randomize/choose.ts';
import type { Choice, MovableKernel, SlideRequest } from '../../src/randomize/choose.ts';
import { drawFrom } from '../../src/kaslr/draw.ts';
import { sha256 } from '../../src/kaslr/sha256.ts';
import { slotsOf } from '../../src/kaslr/slots.ts';
import type { PvhEntry } from '../../src/kernel/pvh.ts';

const MIB = 0x10_0000;
const GIB = 0x4000_0000;
const IMAGE_END = 66 * MIB;
const LOAD_END = IMAGE_END + 2 * MIB + 0x2000;
const SEED = new Uint8Array(16);

/** As pvh.ts tells them: up to 6.11, 6.12, and since 6.13. */
const PVH: Record<'linked' | 'free' | 'note', PvhEntry> = (() => {
  const segment = { index: 0, type: 4, flags: 0, offset: 0, vaddr: 0n, paddr: 0, filesz: 0, memsz: 0, align: 4 };
  const entry = { entry: 16 * MIB, notes: [{ entry: 16 * MIB, offset: 0, size: 8, segment }] } as const;
  // The alignment decides nothing.
  const range = { align: 16 * MIB, min: 16 * MIB, max: GIB };
  return {
    linked: { ...entry, range: undefined, relocatesItself: false },
    free: { ...entry, range, relocatesItself: true },
    note: { ...entry, range, relocatesItself: false },
  };
})();
const NONE = undefined;

function kernel(pvh: PvhEntry | undefined, align = 2 * MIB, limit = KERNEL_IMAGE_SIZE): MovableKernel {
  return { slots: slotsOf({ imageEnd: IMAGE_END, limit, align }), limit, loadEnd: LOAD_END, pvh };
}

function chosen(pvh: PvhEntry | undefined, request: SlideRequest, seed = SEED): Choice {
  return choose(kernel(pvh), request, drawFrom(seed, new Uint8Array(0)));
}

function refused(pvh: PvhEntry | undefined, request: SlideRequest, message: RegExp): void {
  assert.throws(
    () => chosen(pvh, request),
    (error) => {
      assert.ok(error instanceof KernelImageError);
      assert.equal(error.code, 'would-not-boot');
      assert.match(error.message, message);
      return true;
    },
  );
}

const LARGEST = GIB - IMAGE_END;

test('given slides that work are taken', () => {
  for (const [pvh, request, expected] of [
    [NONE, { virt: LARGEST, phys: 2 * MIB }, { entry: 'linux64', virt: LARGEST, phys: 2 * MIB }],
    [PVH.linked, { virt: 4 * MIB }, { entry: 'both', virt: 4 * MIB, phys: 4 * MIB }],
    [PVH.linked, { virt: 4 * MIB, entry: 'linux64' }, { entry: 'linux64', virt: 4 * MIB, phys: 0 }],
    [PVH.free, { virt: LARGEST }, { entry: 'both', virt: LARGEST, phys: 0 }],
    [PVH.free, { virt: 2 * MIB, phys: 8 * MIB, entry: 'pvh' }, { entry: 'pvh', virt: 2 * MIB, phys: 8 * MIB }],
    [PVH.note, { virt: 0, phys: 8 * MIB }, { entry: 'both', virt: 0, phys: 8 * MIB }],
    [PVH.note, { virt: 8 * MIB, phys: 8 * MIB }, { entry: 'both', virt: 8 * MIB, phys: 8 * MIB }],
    [NONE, { virt: 0, phys: 2 * GIB, identityMap: 4 * GIB }, { entry: 'linux64', virt: 0, phys: 2 * GIB }],
  ] as const)
    assert.deepEqual(chosen(pvh, request), { ...expected, ways: { virt: 1, phys: 1 } });
});

test('each rule in its words, with the nearest that works', () => {
  refused(
    NONE,
    { virt: LARGEST + 2 * MIB },
    /^would not boot: virtual slide is 0x3c000000, expected at most 0x3be00000: the image must end at 0xffffffffc0000000 or below, where modules begin; the nearest that works: 0x3be00000$/,
  );
  refused(
    NONE,
    { virt: MIB },
    /^would not boot: virtual slide is 0x100000, expected a multiple of 0x200000, the pages that map a kernel; the nearest that works: 0x200000$/,
  );
  refused(NONE, { virt: -2 * MIB }, /virtual slide is -0x200000, expected a multiple .*; the nearest that works: 0x0$/);
  refused(NONE, { virt: Number.NaN }, /virtual slide is NaN, expected a multiple .*; the nearest that works: 0x0$/);
  refused(NONE, { virt: 0, phys: 0.5 }, /physical slide is 0.5, expected a multiple/);
  refused(
    NONE,
    { virt: 0, entry: 'pvh' },
    /^would not boot: entry is pvh, expected linux64: this kernel has no PVH entry \(CONFIG_PVH\)$/,
  );
  refused(
    PVH.linked,
    { virt: 4 * MIB, phys: 0 },
    /^would not boot: physical slide is 0x0, expected the same as the virtual slide: this kernel's PVH entry runs where it is linked \(it has no XEN_ELFNOTE_PHYS32_RELOC\); the nearest that works: physical slide 0x400000, virtual slide 0x0, or entry linux64$/,
  );
  refused(PVH.linked, { virt: 0, phys: 4 * MIB }, /physical slide is 0x400000, expected the same as/);
  refused(
    PVH.note,
    { virt: 4 * MIB, phys: 8 * MIB },
    /physical slide is 0x800000, expected the same as the virtual slide, unless the virtual slide is 0, for the PVH entry of this kernel; the nearest/,
  );
  refused(
    NONE,
    { virt: 0, phys: 128 * MIB, memory: 128 * MIB },
    /^would not boot: physical slide is 0x8000000, expected what is loaded to end at 0x7000000 or below, not at 0xc402000: guest memory is 128 MiB; the nearest that works: 0x2a00000$/,
  );
  refused(
    NONE,
    { virt: 0, memory: 64 * MIB },
    /physical slide is 0x0, expected .*: guest memory is 64 MiB; the nearest that works: memory of 69 MiB or more$/,
  );
  refused(
    NONE,
    { virt: 0, phys: 0x3a0_0000, memory: 128 * MIB, initrdSize: 20 * MIB },
    /an initrd of 20 MiB lies at the top of low memory; the nearest that works: 0x1600000$/,
  );
  refused(
    NONE,
    { virt: 0, phys: GIB },
    /: the loader maps memory one to one up to 1024 MiB; the nearest that works: 0x3ba00000$/,
  );
  refused(
    PVH.free,
    { virt: 0, phys: GIB, entry: 'pvh' },
    /: the PVH entry's page tables map 1 GiB; the nearest that works: 0x3ba00000$/,
  );
  refused(
    NONE,
    { virt: 0, phys: 2 * GIB, memory: 8 * GIB, identityMap: 4 * GIB },
    /: devices may use the addresses from 2048 MiB to 4 GiB; the nearest/,
  );
  refused(
    NONE,
    { virt: 0, phys: 4 * GIB, identityMap: 8 * GIB },
    /: no loader enters a kernel above 4 GiB; the nearest that works: 0xfba00000$/,
  );
});

test('random where nothing is random is refused', () => {
  refused(
    PVH.linked,
    { virt: 'random', phys: 0 },
    /^would not boot: virtual slide is random, but the other slide is not, expected the physical one to be the same as the virtual slide: .*; the nearest that works: a physical slide that may follow the virtual one, or entry linux64$/,
  );
  refused(
    PVH.linked,
    { virt: 0, phys: 'random' },
    /physical slide is random, but the other slide is not, .*; the nearest that works: a virtual slide that is random, or entry linux64$/,
  );
  refused(
    NONE,
    { virt: 0, phys: 'random', memory: 70 * MIB },
    /^would not boot: physical slide is random, expected at least two to choose from: guest memory is 70 MiB; the nearest that works: memory of 87 MiB or more$/,
  );
  refused(
    PVH.linked,
    { virt: 'random', memory: 69 * MIB },
    /virtual slide is random, expected at least two to choose from: guest memory is 69 MiB, and the physical slide must be the same as .*; the nearest that works: memory of 87 MiB or more, or entry linux64$/,
  );
});

test('how many there are to draw from', () => {
  const ways = (pvh: PvhEntry | undefined, request: SlideRequest): Choice['ways'] => chosen(pvh, request).ways;
  assert.deepEqual(ways(NONE, { virt: 'random' }), { virt: 480, phys: 1 });
  assert.deepEqual(ways(NONE, { virt: 'random', phys: 'random' }), { virt: 480, phys: 22 });
  assert.deepEqual(ways(NONE, { virt: 'random', phys: 'random', memory: 512 * MIB }), { virt: 480, phys: 214 });
  assert.deepEqual(ways(PVH.linked, { virt: 'random' }), { virt: 22, phys: 1 });
  assert.deepEqual(ways(PVH.linked, { virt: 'random', phys: 'random', memory: 4 * GIB }), { virt: 478, phys: 1 });
  assert.deepEqual(ways(PVH.linked, { virt: 'random', entry: 'linux64' }), { virt: 480, phys: 1 });
  assert.deepEqual(ways(PVH.free, { virt: 'random' }), { virt: 480, phys: 1 });
  assert.deepEqual(ways(PVH.note, { virt: 'random' }), { virt: 22, phys: 1 });
  assert.deepEqual(ways(PVH.note, { virt: 0, phys: 'random' }), { virt: 1, phys: 22 });
  assert.deepEqual(choose(kernel(NONE, 16 * MIB), { virt: 'random' }, drawFrom(SEED, SEED)).ways.virt, 60);
});

const slide = fc.oneof(
  fc.constant('random' as const),
  fc.nat(600).map((slot) => slot * 2 * MIB),
  fc.nat(0x7fff_ffff),
);
const wishes: fc.Arbitrary<SlideRequest> = fc.record({
  entry: fc.constantFrom(undefined, 'linux64', 'pvh', 'both'),
  virt: slide,
  phys: fc.oneof(fc.constant(undefined), slide),
  memory: fc.oneof(
    fc.constant(undefined),
    fc.integer({ min: 16, max: 6000 }).map((size) => size * MIB),
  ),
  initrdSize: fc.oneof(fc.constant(undefined), fc.nat(300 * MIB)),
  identityMap: fc.constantFrom(undefined, GIB, 4 * GIB, 512 * GIB),
});

test('whatever is asked for, what is given keeps to the rules and to the request', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(NONE, ...Object.values(PVH)),
      wishes,
      fc.uint8Array({ minLength: 16, maxLength: 32 }),
      (pvh, request, seed) => {
        let choice: Choice;
        try {
          choice = chosen(pvh, request, seed);
        } catch (error) {
          assert.ok(error instanceof KernelImageError && error.code === 'would-not-boot', String(error));
          return;
        }
        const { entry, virt, phys } = choice;
        assert.equal((virt % (2 * MIB)) + (phys % (2 * MIB)), 0);
        assert.ok(virt >= 0 && IMAGE_END + virt <= GIB);
        if (request.virt !== 'random') assert.equal(virt, request.virt);
        if (typeof request.phys === 'number') assert.equal(phys, request.phys);
        const end = LOAD_END + phys;
        assert.ok(phys >= 0 && end <= 4 * GIB);
        if (request.memory !== undefined)
          assert.ok(end + (request.initrdSize ?? 0) <= Math.min(request.memory, 2 * GIB));
        if (entry !== 'pvh') assert.ok(end <= (request.identityMap ?? GIB));
        if (entry === 'linux64') return;
        assert.ok(end <= GIB);
        if (pvh === PVH.linked) assert.equal(virt, phys);
        if (pvh === PVH.note) assert.ok(virt === phys || virt === 0);
        assert.notEqual(pvh, NONE);
      },
    ),
    { numRuns: 3_000 },
  );
});

test('draws are the same for the same seed, spread over all slots, and independent of each other', () => {
  const seeds = Array.from({ length: 4_800 }, (_, index) =>
    Uint8Array.from({ length: 16 }, (_byte, at) => (index >> (at * 8)) & 255),
  );
  const counts = new Map<number, number>();
  let same = 0;
  for (const seed of seeds) {
    const draw = drawFrom(seed, SEED);
    const [virt, phys] = [draw('virtual slide', 480), draw('physical slide', 480)];
    assert.equal(drawFrom(seed, SEED)('virtual slide', 480), virt);
    counts.set(virt, (counts.get(virt) ?? 0) + 1);
    if (virt === phys) same++;
  }
  // Chi-square of 480 cells: 479 ± 31. The seeds are fixed, so this is no matter of luck.
  const chi = [...counts.values()].reduce((sum, seen) => sum + (seen - 10) ** 2 / 10, (480 - counts.size) * 10);
  assert.ok(chi > 380 && chi < 580, String(chi));
  assert.ok(same < 30, String(same));
  for (const length of [15, 33]) assert.throws(() => drawFrom(new Uint8Array(length), SEED), RangeError);
});

test('sha256 is the one that OpenSSL has', () => {
  for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000]) {
    const message = Uint8Array.from({ length }, (_, index) => index * 31);
    assert.deepEqual(sha256(message), new Uint8Array(createHash('sha256').update(message).digest()));
  }
});

test('the hint names what limits: the identity map, the initrd, the PVH entry, or several at once', () => {
  const drawn = { virt: 0, phys: 'random', entry: 'linux64' } as const;
  const memory = 1024 * MIB;
  const least = (limit: string, nearest: string): RegExp =>
    new RegExp(
      `^would not boot: physical slide is random, expected at least two to choose from: ${limit}; the nearest that works: ${nearest}$`,
    );
  refused(
    NONE,
    { ...drawn, memory, identityMap: 69 * MIB },
    least('the loader maps memory one to one up to 69 MiB', 'an identity map of 71 MiB or more, if the loader has one'),
  );
  refused(
    NONE,
    { ...drawn, memory: 69 * MIB, identityMap: 69 * MIB },
    least(
      'the loader maps memory one to one up to 69 MiB',
      'an identity map of 71 MiB or more, if the loader has one, and memory of 87 MiB or more',
    ),
  );
  refused(
    NONE,
    { ...drawn, memory, initrdSize: 950 * MIB },
    least('an initrd of 950 MiB lies at the top of low memory', 'memory of 1037 MiB or more, or a smaller initrd'),
  );
  // More memory than 2 GiB would not be low memory.
  refused(
    NONE,
    { ...drawn, memory: 8192 * MIB, initrdSize: 1970 * MIB },
    least('an initrd of 1970 MiB lies at the top of low memory', 'a smaller initrd'),
  );
  // Not moved at all, what limits is the same.
  refused(
    NONE,
    { virt: 0, phys: 0, entry: 'linux64', identityMap: 64 * MIB },
    /physical slide is 0x0, expected .*: the loader maps memory one to one up to 64 MiB; the nearest that works: an identity map of 69 MiB or more, if the loader has one$/,
  );
  const note: PvhEntry = { ...PVH.free, range: { align: 2 * MIB, min: 0, max: 69 * MIB } };
  refused(
    note,
    { virt: 0, phys: 'random', entry: 'pvh', memory },
    least('the note XEN_ELFNOTE_PHYS32_RELOC says so', 'entry linux64'),
  );
});

test('a kernel that maps 512 MiB goes no further', () => {
  const half = kernel(NONE, 2 * MIB, 512 * MIB);
  const largest = half.slots.align * (half.slots.count - 1);
  assert.equal(choose(half, { virt: largest }, drawFrom(SEED, new Uint8Array(0))).virt, largest);
  assert.throws(
    () => choose(half, { virt: largest + 2 * MIB }, drawFrom(SEED, new Uint8Array(0))),
    /virtual slide is 0x1c000000, expected at most 0x1be00000: the image must end at 0xffffffffa0000000 or below, where modules begin; the nearest that works: 0x1be00000$/,
  );
});
