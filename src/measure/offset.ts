/**
 * The slide of a kernel that ran, out of what it left behind in text, for tools that need it to find symbols.
 *
 *     Kernel Offset: 0x1c000000 from 0xffffffff81000000     a panic, on the console (arch/x86/kernel/setup.c, dump_kernel_offset)
 *     ffffffff9d000000 T _text                              /proc/kallsyms: less where _text is linked
 *     KERNELOFFSET=1c000000                                 vmcoreinfo (Documentation/admin-guide/kdump/vmcoreinfo.rst)
 *
 * A log may hold several boots, so all are found, in order.
 */
import { KERNEL_IMAGE_SIZE, START_KERNEL_MAP, PMD_SIZE } from '../base/addresses.ts';
import type { Slide, VirtAddr } from '../base/addresses.ts';

/** CONFIG_PHYSICAL_START is 16 MiB in every kernel that distributions build. */
export const USUAL_TEXT: VirtAddr = START_KERNEL_MAP + 0x100_0000n;

export interface OffsetFound {
  readonly slide: Slide;
  readonly source: 'panic' | 'kallsyms' | 'vmcoreinfo';
}

export interface OffsetSearch {
  readonly found: readonly OffsetFound[];
  /** Addresses of _text that say nothing: zero, where the kernel hides them, or no slide away from where it is linked. */
  readonly useless: readonly VirtAddr[];
}

const TRACES = new RegExp(
  [
    String.raw`Kernel Offset: (?<panic>disabled|0x[0-9a-f]+ from 0x[0-9a-f]{16})`,
    String.raw`(?<![0-9a-f])(?<kallsyms>[0-9a-f]{16}) [Tt] _text\b`,
    String.raw`\bKERNELOFFSET=(?<vmcoreinfo>[0-9a-f]+)(?![0-9a-f])`,
  ].join('|'),
  'g',
);

/** `text`: where the kernel's _text is linked. */
export function findOffsets(log: string, text: VirtAddr = USUAL_TEXT): OffsetSearch {
  const found: OffsetFound[] = [];
  const useless: VirtAddr[] = [];
  for (const { groups = {} } of log.matchAll(TRACES)) {
    const { panic, kallsyms, vmcoreinfo } = groups;
    if (panic !== undefined)
      found.push({ source: 'panic', slide: panic === 'disabled' ? 0 : Number.parseInt(panic, 16) });
    if (vmcoreinfo !== undefined) found.push({ source: 'vmcoreinfo', slide: Number.parseInt(vmcoreinfo, 16) });
    if (kallsyms === undefined) continue;
    const slide = Number(BigInt(`0x${kallsyms}`) - text);
    if (slide >= 0 && slide < KERNEL_IMAGE_SIZE && slide % PMD_SIZE === 0) found.push({ source: 'kallsyms', slide });
    else useless.push(BigInt(`0x${kallsyms}`));
  }
  return { found, useless };
}
