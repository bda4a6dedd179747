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
  // Of `verify --shuffled` only.
  | 'debug-file'
  | 'symbol-targets'
  | 'inner-targets';

/** Those of `verify`. `ownTable`: the table was given beside the original. */
export function premisesOf(ownTable: boolean, bzImage: boolean): Premise[] {
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
  if (ownTable)
    premises.splice(1, 0, {
      name: 'given-table',
      statement: 'the relocation table that was given is of the same build',
    });
  if (bzImage)
    premises.push({
      name: 'decompressor',
      statement: "the original's setup code and decompressor do what those of the kernel's source do",
    });
  return premises;
}
