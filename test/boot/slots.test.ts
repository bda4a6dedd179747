/**
 * The step of the slides is 2 MiB, whatever CONFIG_PHYSICAL_ALIGN is; and the one slot that must not be, in which _end is exactly at 1 GiB.
 *
 * Debian builds all its kernels with 2 MiB. Here they get what a build with 16 MiB has differently: a setup header, and since 6.12 a note, that say so.
 * docs/results/slots.json has kernels that were built with 16 MiB.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { physToVirt, tableEntryToPhys } from '../../src/base/addresses.ts';
import { ascii, copyOf, Reader, Writer } from '../../src/base/bytes.ts';
import { SETUP } from '../../src/bzimage/header.ts';
import { convert } from '../../src/convert.ts';
import { XEN_ELFNOTE_PHYS32_RELOC } from '../../src/elf/constants.ts';
import { readElf, readNotes, sectionName } from '../../src/elf/read.ts';
import { extract } from '../../src/extract.ts';
import { endForSlots } from '../../src/kernel/image-limit.ts';
import { readPvh } from '../../src/kernel/pvh.ts';
import { fileOffsetOf, readVmlinux } from '../../src/kernel/vmlinux.ts';
import { nodeCodecs as codecs } from '../../src/node/codecs.ts';
import { systemEncoders } from '../../src/node/processes/compressors.ts';
import { randomize } from '../../src/randomize.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import { readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { verify } from '../../src/verify/verify.ts';
import { bootInTurn, checkSlide, findKernels, oldestAndNewest, PARALLEL, PMD, prepare, run } from './lane.ts';

const COARSE = 0x100_0000;
/** A kernel that resets the machine does so at once; one that hangs has this long. */
const HANGS_MS = 10_000;
const found = await findKernels();

/** A copy whose note XEN_ELFNOTE_PHYS32_RELOC says 16 MiB. Undefined for a kernel without the note. */
function withCoarseNote(vmlinux: Uint8Array): Uint8Array | undefined {
  const note = readNotes(readElf(vmlinux)).find(
    ({ owner, type }) => owner === 'Xen' && type === XEN_ELFNOTE_PHYS32_RELOC,
  );
  if (note === undefined) return undefined;
  const changed = new Writer(copyOf(vmlinux));
  changed.u32(note.descOffset, COARSE);
  return changed.bytes;
}

for (const item of oldestAndNewest(found)) {
  const kernel = await prepare(item);
  const original = await readFile(item.image);
  const coarse = new Writer(copyOf(original));
  coarse.u32(SETUP.kernel_alignment.offset, COARSE);
  const { vmlinux, relocs } = await extract(original, { codecs });
  const noted = withCoarseNote(vmlinux);

  describe(`${kernel.name}, as if it were built with PHYSICAL_ALIGN 16 MiB`, { concurrency: PARALLEL }, () => {
    test('convert: the same file from every form, and each form proves it', async () => {
      for (const [image, table, source] of [
        [coarse.bytes, undefined, 'setup-header'],
        [noted ?? vmlinux, relocs(), noted && 'note'],
      ] as const) {
        const { summary, bytes } = await convert(image, { codecs, relocs: table });
        const { physicalAlign, ...slots } = summary.slots;
        const { physicalAlign: _, ...expected } = kernel.summary.slots;
        assert.deepEqual(slots, expected);
        assert.deepEqual(physicalAlign, source ? { bytes: COARSE, source } : null);
        if (image === noted) continue;
        assert.deepEqual(bytes(), kernel.converted);
        for (const [from, given] of [
          [original, undefined],
          [coarse.bytes, undefined],
          [vmlinux, relocs()],
        ] as const)
          assert.equal((await verify(from, kernel.converted, { codecs, relocs: given })).verdict, 'proved');
      }
    });

    test('randomize: slides that are multiples of 2 MiB alone, by both entries', async () => {
      const image = noted ?? vmlinux;
      const table = relocs();
      const { free, range } = pvhOf(image, readRelocationTable(table));
      assert.equal(range?.align, noted && COARSE);
      const slides = [
        { entry: 'linux64', virt: 7 * PMD, phys: 3 * PMD },
        { entry: 'pvh', virt: 9 * PMD, phys: 9 * PMD },
        ...(range === undefined ? [] : [{ entry: 'pvh', virt: free ? PMD : 0, phys: 3 * PMD } as const]),
      ] as const;
      const { imageStart } = readVmlinux(image);
      await Promise.all(
        slides.map(async ({ entry, virt, phys }) => {
          const moved = await randomize(image, { codecs, relocs: table, entry, virt, phys });
          const { moved: slide, guest } = await run(kernel, { image: moved.bytes(), entry, memoryMib: 512 });
          assert.deepEqual([slide, guest.physicalText], [virt, imageStart + phys]);
        }),
      );
    });

    test('a bzImage without a decompressor', async () => {
      const { bytes } = await rebuildBzImage(coarse.bytes, { codecs, encoders: systemEncoders, uncompressed: true });
      assert.equal((await verify(coarse.bytes, bytes, { codecs })).verdict, 'proved');
      checkSlide(kernel, (await run(kernel, { image: bytes })).moved);
    });
  });
}

function pvhOf(image: Uint8Array, table: RelocationTable): { free: boolean; range: { align: number } | undefined } {
  const { relocatesItself, range } = readPvh(readVmlinux(image), table)!;
  return { free: relocatesItself, range };
}

/**
 * A kernel that ends with _end, at a multiple of 2 MiB: every site that holds _end's address holds that of .init.scratch's end instead, and that section
 * has another name. Undefined for a kernel without that section, or without such sites: since 6.2 __startup_64() finds _end by RIP.
 */
function endingWithItsEnd(vmlinux: Uint8Array, table: RelocationTable): Uint8Array | undefined {
  const kernel = readVmlinux(vmlinux);
  const { elf, loads, imageEnd } = kernel;
  const named = (name: string) => elf.sections.find((section) => sectionName(elf, section) === name);
  const [brk, scratch] = [named('.brk'), named('.init.scratch')];
  if (brk === undefined || scratch === undefined) return undefined;
  const end = Number(BigInt.asUintN(32, brk.addr + BigInt(brk.size)));
  const changed = new Writer(copyOf(vmlinux));
  const reader = new Reader(vmlinux);
  for (const site of table.abs32) {
    const offset = fileOffsetOf(loads, tableEntryToPhys(site) ?? 0)!;
    if (reader.u32(offset, 'site') === end) changed.u32(offset, Number(BigInt.asUintN(32, physToVirt(imageEnd))));
  }
  const names = elf.sections[elf.header.shstrndx]!;
  changed.copy(names.offset + scratch.nameOffset, ascii('.brk.end'.padEnd('.init.scratch'.length, '_')));
  return changed.bytes;
}

for (const item of found.packages.filter(({ name }) => /^linux-image-(5|6\.1)\./.test(name)).slice(0, 2)) {
  const kernel = await prepare(item);

  test(`${kernel.name}, with _end at a multiple of 2 MiB: not the slot where that is 1 GiB, which does not boot`, async () => {
    const { vmlinux, relocs } = await extract(await readFile(item.image), { codecs });
    const table = relocs();
    const image = endingWithItsEnd(vmlinux, readRelocationTable(table))!;
    const options = { codecs, relocs: table, entry: 'linux64' } as const;
    const { slots } = (await convert(image, options)).summary;
    const { imageEnd } = readVmlinux(image);
    assert.equal(imageEnd % PMD, 0);
    assert.equal(endForSlots(readVmlinux(image), slots.limit), imageEnd + 1);
    assert.equal(slots.count, kernel.summary.slots.count - 1);

    const last = await randomize(image, { ...options, virt: slots.largest });
    assert.equal((await run(kernel, { image: last.bytes(), entry: 'linux64' })).moved, slots.largest);
    const virt = slots.largest + PMD;
    await assert.rejects(randomize(image, { ...options, virt }), { code: 'would-not-boot' });
    const beyond = await randomize(image, { ...options, virt, phys: 0, force: true });
    const { end, report } = await bootInTurn(kernel, {
      image: beyond.bytes(),
      entry: 'linux64',
      initrd: kernel.initrd,
      timeoutMs: HANGS_MS,
    });
    assert.equal(report.guest.done, false, `it booted: ${end}`);
    // What the build really ends with may end there.
    const stock = await randomize(vmlinux, { ...options, virt });
    assert.equal((await run(kernel, { image: stock.bytes(), entry: 'linux64' })).moved, virt);
  });
}
