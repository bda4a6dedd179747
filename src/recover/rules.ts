/**
 * The rules by which relocations are recovered, one for each kind of field. `basis` is what a rule stands on: `structure`, where nothing but an address has such a form, or
 * `judgement`, where a number could have it and none that was measured does.
 */
export interface Rule {
  readonly basis: 'structure' | 'judgement';
  readonly text: string;
}

export const RULES = {
  operand: { basis: 'judgement', text: '32-bit operands of 64-bit operations that hold a link address' },
  factor: { basis: 'judgement', text: 'factors of IMUL that are the address of what other code names' },
  displacement: { basis: 'judgement', text: 'displacements that hold a link address' },
  'code-in-data': { basis: 'judgement', text: 'operands of code in data whose start is not known' },
  mask: { basis: 'judgement', text: 'operands of AND, OR, XOR and TEST, and what is compared after such a mask' },
  narrow: { basis: 'structure', text: 'operands of 32-bit operations, which cannot hold an address' },
  'link-start': { basis: 'structure', text: '__START_KERNEL, printed beside the kernel offset' },
  wide: { basis: 'structure', text: 'MOVABS of a link address' },
  'wide-physical': { basis: 'structure', text: 'MOVABS of a physical address that fewer bytes could hold' },
  physical: { basis: 'structure', text: 'physical addresses to which phys_base is added' },
  zero: {
    basis: 'structure',
    text: 'zeros that become the slide: KERNELOFFSET, Kernel Offset, the seed of the random slides',
  },
  'per-cpu-zero': { basis: 'judgement', text: 'zeros that are the first per-cpu symbol, or of hand-written code' },
  'ring-buffer': {
    basis: 'judgement',
    text: "zeros beside the persistent ring buffer's, which 6.14 sets to the slide",
  },
  'per-cpu': { basis: 'structure', text: 'RIP-relative operands that lead to per-cpu data at 0' },
  'per-cpu-template': { basis: 'structure', text: 'the template of the call thunk' },
  exported: { basis: 'structure', text: 'exported per-cpu symbols' },
  pvh: { basis: 'structure', text: 'physical link addresses in the PVH entry' },
  'pvh-gdt': { basis: 'structure', text: "the base of the PVH entry's GDT" },
  pointer: { basis: 'judgement', text: 'aligned words in data that hold a link address' },
  'call-site': { basis: 'judgement', text: "zeros at the start of ftrace's sorted table of call sites" },
  descriptor: { basis: 'structure', text: 'bases of descriptor tables' },
  'packed-pointer': { basis: 'structure', text: 'pointers at odd places that code loads, or of the TSS' },
  'packed-array': { basis: 'judgement', text: 'pointers in arrays of packed structures' },
  'odd-word': { basis: 'judgement', text: 'words at odd places in data that nothing loads' },
  'page-table': { basis: 'structure', text: 'entries of linked page tables' },
  stray: { basis: 'judgement', text: 'operands beside a symbol of code at which no instruction begins' },
  undecodable: { basis: 'judgement', text: 'operands right after bytes that are no instruction' },
  decided: { basis: 'judgement', text: 'doubts that the caller decided' },
} as const satisfies Record<string, Rule>;

export type RuleName = keyof typeof RULES;
