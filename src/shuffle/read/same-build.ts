/** Whether a debug vmlinux is of the very build that is shuffled: the same GNU build-id, and the same bytes wherever both have some. */
import { hex, KernelImageError } from '../../base/errors.ts';
import { SHF_ALLOC, SHT_NOBITS } from '../../elf/constants.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';
import type { DebugKernel } from './debug-kernel.ts';
import { buildIdOf } from './identity.ts';
import type { ImageBytes } from './kernel-image.ts';

/** Throws KernelImageError when the two build-ids differ; returns the one that they share. */
export function expectSameBuildId({ elf }: Vmlinux, debug: DebugKernel): string {
  const id = buildIdOf({ elf });
  if (id === debug.buildId) return id;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'build-id of the debug vmlinux',
    found: debug.buildId,
    expected: `${id ?? 'none'}, that of the kernel`,
    hint: 'take the debug package of this very build',
  });
}

const CHUNK = 1 << 20;

/** Compares every byte that the debug vmlinux has and the kernel loads: a build-id is only a name. Throws KernelImageError at the first difference. */
export function expectSameContents(image: ImageBytes, debug: DebugKernel): void {
  const { sections, source } = debug.image;
  const scratch = new Uint8Array(CHUNK);
  for (let index = 0; index < sections.count; index++) {
    if ((sections.word(index, 'sh_flags') & Number(SHF_ALLOC)) === 0) continue;
    const place = debug.placeOfSection(index);
    const size = sections.address(index, 'sh_size');
    if (sections.word(index, 'sh_type') === SHT_NOBITS || size === 0) continue;
    const title = debug.image.sectionTitle(index);
    const offset = sections.address(index, 'sh_offset');
    const mine = image.range(place, place + size, `section ${title} of the debug vmlinux`);
    if (offset + size > source.size)
      throw new KernelImageError({ code: 'truncated', what: `section ${title} of the debug vmlinux`, offset });
    for (let at = 0; at < size; at += CHUNK) {
      const length = Math.min(CHUNK, size - at);
      const theirs = source.readAt(offset + at, length, scratch);
      for (let byte = 0; byte < length; byte++) {
        if (mine[at + byte] === theirs[byte]) continue;
        throw new KernelImageError({
          code: 'bad-value',
          what: `section ${title} of the debug vmlinux`,
          offset: offset + at + byte,
          found: theirs[byte],
          expected: `${hex(mine[at + byte]!)}, as in the kernel`,
        });
      }
    }
  }
}
