/**
 * Every byte that is not the original's has one right value, in each form of a converted file: each is changed, to several values, and refuted. In a bzImage
 * this holds of all bytes outside the compressed ones, and of these the verdict says where they are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Writer } from '../../src/base/bytes.ts';
import { hex, KernelImageError } from '../../src/base/errors.ts';
import type { Compression } from '../../src/codecs/formats.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { extract } from '../../src/extract.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { systemEncoders } from '../../src/node/processes/compressors.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import { FORMS, readOriginal } from '../../src/verify/original.ts';
import type { FormName, Original } from '../../src/verify/original.ts';
import { verify } from '../../src/verify/verify.ts';
import type { ProvedForm } from '../../src/verify/verify.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import type { VmlinuxOptions } from '../make-vmlinux.ts';
import { examined, forge } from './forge.ts';
import { makeRoomyImage, makeRoomyVmlinux } from './roomy.ts';

const codecs = coreCodecs;

/** A byte's other values: low bit, high bit, all bits, and zero. */
function othersOf(byte: number): number[] {
  return [...new Set([byte ^ 1, byte ^ 0x80, byte ^ 0xff, 0])].filter((value) => value !== byte);
}

function everyByteRefuted(kernel: Original, file: Uint8Array, form: ProvedForm): void {
  const right = examined(kernel, file);
  assert.deepEqual(right.form, form, JSON.stringify(right.offence));
  const { entryOffset, elf } = kernel.kernel;
  const { length } = elf.bytes;
  const headers = 0x200;
  for (let at = 0; at < file.length; at++) {
    // The original's own bytes are compared as one block: a sample of them.
    const own = at >= headers && at < length && (at < entryOffset - 8 || at >= entryOffset + 16);
    if (own && at % 499 !== 0) continue;
    const byte = file[at]!;
    for (const value of othersOf(byte)) {
      file[at] = value;
      assert.equal(examined(kernel, file).verdict, 'refuted', `${form.name}: byte ${hex(at)} changed to ${hex(value)}`);
    }
    file[at] = byte;
  }
}

const SHAPES: Readonly<Record<string, VmlinuxOptions>> = {
  'with sections': {},
  'without sections': { sections: false },
  'whose program headers have to move': { crowded: true },
};

for (const [shape, options] of Object.entries(SHAPES)) {
  for (const table of options.crowded === undefined ? (['compact', 'kernel'] as const) : (['compact'] as const)) {
    test(`a vmlinux ${shape}, table ${table}: every byte, as direct and as extracted`, async () => {
      const kernel = await readOriginal(makeVmlinux(options), { codecs });
      everyByteRefuted(kernel, forge(kernel, { format: table }), { name: 'direct', table });
      const flag = (params: Writer): void => params.u32(0x5c, 1);
      const extracted = { ...kernel, form: FORMS.extracted };
      everyByteRefuted(extracted, forge(kernel, { format: table, params: flag }), { name: 'extracted', table });
    });
  }
}

interface Rebuilt {
  readonly image: Uint8Array;
  readonly bytes: Uint8Array;
}

async function rebuilt(compression: Compression, how: object, lists: 2 | 3 = 3): Promise<Rebuilt> {
  const image = makeRoomyImage(compression, lists);
  const { bytes } = await rebuildBzImage(image, { codecs: nodeCodecs, encoders: systemEncoders, ...how });
  return { image, bytes };
}

/** What `verify` says of `file`: its form, or undefined for refuted and for unusable. Anything else is thrown. */
async function formOf(image: Uint8Array, file: Uint8Array, extracted = false): Promise<ProvedForm | undefined> {
  try {
    return (await verify(image, file, { codecs: nodeCodecs, extracted })).form;
  } catch (error) {
    if (error instanceof KernelImageError) return undefined;
    throw error;
  }
}

test('a vmlinux out of a bzImage is proved in its own form, and in no other', async () => {
  const { image, bytes } = await rebuilt('gzip', {});
  const { vmlinux } = await extract(bytes, { codecs: nodeCodecs });
  assert.equal(await formOf(image, vmlinux), undefined);
  assert.deepEqual(await formOf(image, vmlinux, true), { name: 'extracted', table: 'compact' });
  const converted = (await convert(image, { codecs: nodeCodecs })).bytes();
  assert.deepEqual(await formOf(image, converted), { name: 'direct', table: 'compact' });
  assert.equal(await formOf(image, converted, true), undefined);
  const direct = await rebuilt('gzip', { uncompressed: true });
  assert.deepEqual(await formOf(direct.image, direct.bytes), { name: 'uncompressed', table: 'compact' });
});

/** Everything but the compressed bytes' middle and the decompressor's zeros: setup header, lengths, edges, checksum, and a sample of the rest. */
function placesOf(
  bytes: Uint8Array,
  { offset, length }: { readonly offset: number; readonly length: number },
): number[] {
  const end = offset + length;
  const places: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const inside = at >= offset && at < end;
    const edge = at - offset < 24 || end - at < 12;
    const header = (at >= 0x1f1 && at < 0x270) || (at >= end - 8 && at < end + 24) || bytes.length - at <= 8;
    if (header || (inside && edge) || at % 997 === 0) places.push(at);
  }
  return places;
}

for (const compression of ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'lz4', 'zstd'] as const) {
  test(`a bzImage, ${compression}: every byte outside the compressed ones`, async () => {
    const { image, bytes } = await rebuilt(compression, {});
    const right = await formOf(image, bytes);
    const { compressed } = right!;
    assert.deepEqual(right, { name: 'compressed' satisfies FormName, table: 'compact', compressed });
    assert.equal(compressed!.offset, 0x440);
    let other = 0;
    for (const at of placesOf(bytes, compressed!)) {
      const byte = bytes[at]!;
      for (const value of [byte ^ 1, byte ^ 0xff]) {
        bytes[at] = value;
        const form = await formOf(image, bytes);
        const inside = at >= compressed!.offset && at < compressed!.offset + compressed!.length;
        // Other bytes that decode to the same kernel are the same kernel to the decompressor; the verdict says which bytes these are.
        if (form !== undefined && inside) other++;
        else assert.equal(form, undefined, `byte ${hex(at)} changed to ${hex(value)}`);
      }
      bytes[at] = byte;
    }
    assert.ok(other < 20, `${other} changes of compressed bytes decode to the same`);
  });
}

test('the roomy kernel is one', async () => {
  assert.equal((await convert(makeRoomyVmlinux(), { codecs })).summary.relocations.abs32, 12_000);
});
