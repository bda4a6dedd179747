/** Why a field that looks like an address is a number: every such field that the table leaves out must have one of these reasons. */
export const REASONS = {
  'no-operand': 'bytes of code that are no operand field of an instruction',
  distance: 'operands that are distances: of branches, or from RIP',
  narrow: 'operands of operations of 32 bits or fewer, which cut an address off',
  mask: 'masks: operands of AND, OR, XOR and TEST, and what is compared after such a mask',
  'link-start': '__START_KERNEL, which is printed beside the kernel offset',
  physical: 'numbers in the range of physical addresses, to which phys_base is not added',
  zero: 'zeros that are neither printed as the kernel offset nor the seed of random slides',
  wide: 'numbers of 64 bits, of which a part looks like an address',
  format: 'words in sections whose format has no addresses',
  'four-bytes': 'fields of four bytes in data, where only words of eight hold addresses',
  'odd-word': 'words in odd places in data that neither code names nor a descriptor holds',
  ones: 'words in odd places in data, in a run of 0xff',
  'page-table': 'words like page-table entries that are in no page table',
  pvh: 'operands in the PVH entry that are distances from where it runs',
} as const satisfies Record<string, string>;

export type Reason = keyof typeof REASONS;

/** Fields for which both is possible: neither a site nor a number can be refuted there. */
export const OPEN = {
  undecodable: 'operands right after bytes of code that are no instruction',
  factor: 'factors of IMUL that are addresses of no text',
  'past-end': 'operands that lead past _end, by less than 2 MiB',
  zero: 'zeros that are neither printed as the kernel offset nor the seed of random slides, in a kernel without per-cpu data at 0',
  'ring-buffer': "zeros beside the persistent ring buffer's magic number",
  'code-in-data': 'operands of what looks like a MOV in data, where no code is known to be',
  'into-instruction': 'words of data that lead into the middle of an instruction',
  'lone-word': 'words of data, far from others, that lead to a place in the middle of data that nothing names',
  'odd-word': 'words in odd places in data that lead to something that is named',
  'packed-array': 'words in odd places in data, beside others of which none is a site',
  'zero-word': 'zeros at the start of a sorted table of code addresses',
} as const satisfies Record<string, string>;

export type OpenKind = keyof typeof OPEN;
