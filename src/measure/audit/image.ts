/** What an audit needs to know about the image that it boots: its hash, and the slides that it may take. */
import { createHash } from 'node:crypto';
import { isBzImage } from '../../bzimage/header.ts';
import { Reader } from '../../base/bytes.ts';
import { isElf } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { KERNEL_IMAGE_SIZE } from '../../base/addresses.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { PMD_SIZE } from '../../kaslr/slots.ts';
import { PARAMS, PARAMS_MAGIC } from '../../segment/layout.ts';
import { readVmlinux } from '../../kernel/vmlinux.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

export interface AuditImage {
  readonly bytes: Uint8Array;
  /** SHA-256 in hex. */
  readonly hash: string;
  /** Undefined unless `convert` wrote the kernel: nothing in other kernels says which slides they may take. */
  readonly slots: Slots | undefined;
}

/** Throws KernelImageError for a file that is neither an ELF kernel nor a bzImage. */
export function readAuditImage(bytes: Uint8Array): AuditImage {
  if (!isElf(bytes) && !isBzImage(bytes)) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'file',
      offset: 0,
      expected: 'an ELF vmlinux or a bzImage',
    });
  }
  const hash = createHash('sha256').update(bytes).digest('hex');
  return { bytes, hash, slots: isElf(bytes) ? readSlots(readVmlinux(bytes)) : undefined };
}

/** From the parameters of the added segment (segment/layout.ts). They are checked, because the audit's verdict depends on them. */
function readSlots(kernel: Vmlinux): Slots | undefined {
  const reader = new Reader(kernel.elf.bytes);
  const segment = kernel.loads.find(
    ({ offset, filesz }) =>
      filesz >= PARAMS.size && PARAMS_MAGIC.every((byte, i) => reader.u8(offset + i, 'parameters') === byte),
  );
  if (segment === undefined) return undefined;
  const count = reader.u64AsNumber(segment.offset + PARAMS.slot_count, 'slot_count');
  const align = reader.u64AsNumber(segment.offset + PARAMS.slot_align, 'slot_align');
  if (align < PMD_SIZE || align > KERNEL_IMAGE_SIZE) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'slot_align',
      offset: segment.offset + PARAMS.slot_align,
      found: align,
      expected: '2 MiB to 1 GiB',
    });
  }
  if (count < 1 || count > KERNEL_IMAGE_SIZE / align) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'slot_count',
      offset: segment.offset + PARAMS.slot_count,
      found: count,
      expected: `1 to ${KERNEL_IMAGE_SIZE / align}`,
    });
  }
  return { align, count };
}
