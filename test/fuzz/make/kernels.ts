/** Small kernels that targets begin with, and what makes bzImages of them without another program. */
import { gzipSync } from 'node:zlib';
import { Writer } from '../../../src/base/bytes.ts';
import type { Encoders } from '../../../src/codecs/formats.ts';
import { convert } from '../../../src/convert.ts';
import { nodeCodecs } from '../../../src/node/codecs.ts';
import { makeBzImage } from '../../bzimage/make-image.ts';
import { makeVmlinux } from '../../make-vmlinux.ts';
import type { VmlinuxOptions } from '../../make-vmlinux.ts';

export const codecs = nodeCodecs;

/** Only gzip, in the fastest way. */
export const encoders = {
  gzip: async (data: Uint8Array) => new Uint8Array(gzipSync(data, { level: 1 })),
} as unknown as Encoders;

export const KERNELS: readonly VmlinuxOptions[] = [{}, { sections: false }, { crowded: true }];

export const vmlinuxes = (): Uint8Array[] => KERNELS.map((options) => makeVmlinux(options));

/** A bzImage whose decompressor has input_len and output_len after the payload, as kernels since 5.10 have. */
export function bzImageOf(vmlinux: Uint8Array): Uint8Array {
  const payload = new Uint8Array(gzipSync(vmlinux, { level: 0 }));
  const image = makeBzImage({ payload, fields: { init_size: 0x40_0000, kernel_info_offset: 0 } });
  const pair = 0x400 + 0x40 + payload.length + 4;
  const writer = new Writer(image);
  writer.u32(pair, payload.length);
  writer.u32(pair + 4, vmlinux.length);
  return image;
}

/** What `convert` makes of a kernel. */
export async function converted(kernel: Uint8Array, table: 'compact' | 'kernel' = 'compact'): Promise<Uint8Array> {
  return (await convert(kernel, { codecs, table })).bytes();
}
