/**
 * Per-cpu data of kernels up to 6.14 is linked at 0 and does not move, so the slide is taken off every distance to it. In code those are RIP-relative operands, which the sweep takes. Two are in data:
 * exported symbols, and the template of the thunk that counts calls (CONFIG_MITIGATION_CALL_DEPTH_TRACKING).
 */
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';

/** struct kernel_symbol with relative references: value, name and, since 5.4, namespace. */
const KSYMTAB_ENTRIES = [12, 8] as const;
/** `sarq $5, %gs:x(%rip)`, up to the distance. */
const TEMPLATE = [0x65, 0x48, 0xc1, 0x3d] as const;

export function judgeExported({ formatted, perCpu }: RecoverImage, ledger: Ledger): void {
  const strings = formatted.get('__ksymtab_strings');
  if (perCpu === 0 || strings === undefined) return;
  for (const name of ['__ksymtab', '__ksymtab_gpl']) {
    const part = formatted.get(name);
    if (part === undefined) continue;
    const entry = KSYMTAB_ENTRIES.find((size) => namesLeadTo(part, size, strings));
    if (entry === undefined) continue;
    for (let at = 0; at + entry <= part.bytes.length; at += entry) {
      const target = (part.view.getInt32(at, true) + part.start + at + 0x8000_0000) | 0;
      if (target >= 0 && target < perCpu) ledger.site('exported', 'inverse32', part.start + at);
    }
  }
}

function namesLeadTo({ bytes, view, start }: Part, entry: number, strings: Part): boolean {
  for (let at = 0; at + entry <= bytes.length; at += entry) {
    const name = start + at + 4 + view.getInt32(at + 4, true);
    if (name < strings.start || name >= strings.end) return false;
  }
  return bytes.length % entry === 0;
}

export function judgeTemplates(image: RecoverImage, ledger: Ledger): void {
  const { data, perCpu } = image;
  if (perCpu === 0) return;
  for (const { name, bytes, view, start } of data) {
    if (name !== '.rodata') continue;
    for (
      let at = bytes.indexOf(TEMPLATE[0]);
      at >= 0 && at + 9 <= bytes.length;
      at = bytes.indexOf(TEMPLATE[0], at + 1)
    ) {
      if (TEMPLATE.some((byte, index) => bytes[at + index] !== byte)) continue;
      const target = (view.getInt32(at + 4, true) + start + at + 9 + 0x8000_0000) | 0;
      if (target >= 0 && target < perCpu) ledger.site('per-cpu-template', 'inverse32', start + at + 4);
    }
  }
}
