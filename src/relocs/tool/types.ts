/**
 * Relocation types, with their names in the x86-64 and i386 psABI supplements: those that the kernel's tool has a name for. It has had one for the last of
 * them since 6.15.
 */
export const RELOCATION_TYPES = {
  32: {
    R_386_NONE: 0,
    R_386_32: 1,
    R_386_PC32: 2,
    R_386_GOT32: 3,
    R_386_PLT32: 4,
    R_386_COPY: 5,
    R_386_GLOB_DAT: 6,
    R_386_JMP_SLOT: 7,
    R_386_RELATIVE: 8,
    R_386_GOTOFF: 9,
    R_386_GOTPC: 10,
    R_386_16: 20,
    R_386_PC16: 21,
    R_386_8: 22,
    R_386_PC8: 23,
  },
  64: {
    R_X86_64_NONE: 0,
    R_X86_64_64: 1,
    R_X86_64_PC32: 2,
    R_X86_64_GOT32: 3,
    R_X86_64_PLT32: 4,
    R_X86_64_COPY: 5,
    R_X86_64_GLOB_DAT: 6,
    R_X86_64_JUMP_SLOT: 7,
    R_X86_64_RELATIVE: 8,
    R_X86_64_GOTPCREL: 9,
    R_X86_64_32: 10,
    R_X86_64_32S: 11,
    R_X86_64_16: 12,
    R_X86_64_PC16: 13,
    R_X86_64_8: 14,
    R_X86_64_PC8: 15,
    R_X86_64_PC64: 24,
    R_X86_64_REX_GOTPCRELX: 42,
  },
} as const;

export type TypeName32 = keyof (typeof RELOCATION_TYPES)[32];
export type TypeName64 = keyof (typeof RELOCATION_TYPES)[64];

const names = (types: Readonly<Record<string, number>>): ReadonlyMap<number, string> =>
  new Map(Object.entries(types).map(([name, type]) => [type, name]));
const NAMES = { 32: names(RELOCATION_TYPES[32]), 64: names(RELOCATION_TYPES[64]) };

/** The name of a type; undefined for a type that is not listed above. */
export function relocationTypeName(bits: 32 | 64, type: number): string | undefined {
  return NAMES[bits].get(type);
}

const PC_RELATIVE: ReadonlySet<number> = new Set(
  (
    [
      'R_X86_64_PC32',
      'R_X86_64_PLT32',
      'R_X86_64_GOTPCREL',
      'R_X86_64_PC16',
      'R_X86_64_PC8',
      'R_X86_64_PC64',
      'R_X86_64_REX_GOTPCRELX',
    ] satisfies TypeName64[]
  ).map((name) => RELOCATION_TYPES[64][name]),
);

/** Whether an x86-64 field of this type holds a distance from its own address. It stays right when the kernel moves, unless its target does not move along. */
export function isPcRelative(type: number): boolean {
  return PC_RELATIVE.has(type);
}
