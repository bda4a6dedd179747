/** What an audit needs to know about the image that it boots: its hash, and the slides that it may take. */
import { createHash } from 'node:crypto';
import { isBzImage } from '../../bzimage/header.ts';
import { isElf } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { PARAMS_MAGIC } from '../../segment/layout.ts';
import { findSegment, readSlots } from '../../segment/read.ts';
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
  return { bytes, hash, slots: isElf(bytes) ? readAddedSlots(readVmlinux(bytes)) : undefined };
}

/** From the segment that kslide added, if its layout is the one that this kslide writes. */
function readAddedSlots({ elf }: Vmlinux): Slots | undefined {
  const segment = findSegment(elf);
  const ours = segment && PARAMS_MAGIC.every((byte, at) => elf.bytes[segment.offset + at] === byte);
  return ours ? readSlots(elf, segment) : undefined;
}
