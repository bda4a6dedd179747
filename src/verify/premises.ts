/** What a verdict takes as given. Both kinds of verification list it in this shape. */
export interface Premise {
  /** Names are stable: programs may switch on them. */
  readonly name: PremiseName;
  /** A sentence that the verdict presupposes. */
  readonly statement: string;
  /** Only where a premise is about single fields: how many are believed on it, and the link addresses of the first 64. */
  readonly believed?: { readonly count: number; readonly fields: readonly string[] };
}

export type PremiseName =
  | 'original'
  | 'given-table'
  | 'program-model'
  | 'decompressor'
  // Of a table that was recovered from the image.
  | 'recovered-table'
  | 'kernel-facts'
  // Of `verify --shuffled` only.
  | 'debug-file'
  | 'symbol-targets'
  | 'inner-targets';

/** Where the relocation table comes from: with the original, given beside it, or recovered from its image. */
export type TableOrigin = 'original' | 'given' | 'recovered';

/** Those of `verify`. */
export function premisesOf(origin: TableOrigin, bzImage: boolean): Premise[] {
  const premises: Premise[] = [
    {
      name: 'original',
      statement:
        'the original is the kernel that is meant: the converted file is compared with it, and its code is not judged',
    },
    {
      name: 'program-model',
      statement:
        "the program's machine code does what the model of it does: its tests and real boots show that, not this proof",
    },
  ];
  if (origin === 'given')
    premises.splice(1, 0, {
      name: 'given-table',
      statement: 'the relocation table that was given is of the same build',
    });
  if (origin === 'recovered')
    premises.splice(
      1,
      0,
      {
        name: 'recovered-table',
        statement:
          'the relocations were recovered from the image, not proved: a second reading contradicts none of them and misses none, but a number that is in every way like an address, or an address that is in every way like a number, cannot be told',
      },
      {
        name: 'kernel-facts',
        statement:
          'fields have the meaning that they have in the kernels that were measured: masks are numbers, four bytes of data are no address, and only what the kernel prints or seeds with is the slide itself',
      },
    );
  if (bzImage)
    premises.push({
      name: 'decompressor',
      statement: "the original's setup code and decompressor do what those of the kernel's source do",
    });
  return premises;
}
