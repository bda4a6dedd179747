/**
 * Pairwise testing: a small set of allowed cells in which every two levels of different factors occur together.
 *
 * Faults that need three things at once are rare (Kuhn, Wallace and Gallo, 2004: one or two factors trigger nine faults in ten), and the whole product is a
 * hundred times larger. The choice is greedy (AETG by Cohen and others, without its random numbers), so the same factors always give the same cells.
 */

/** The levels of each factor; the first level is the plain one. */
export type Factors = Readonly<Record<string, readonly string[]>>;
export type Cell<F extends Factors = Factors> = { readonly [Name in keyof F]: F[Name][number] };

/** Judges a cell in which some factors may still be open. It must not refuse a cell that can still become allowed, or allow one that cannot be completed. */
export type Rule = (cell: Readonly<Record<string, string | undefined>>) => boolean;

/** The plain cell, then as few others as the greedy choice needs. */
export function pairwise<F extends Factors>(factors: F, allowed: Rule): Cell<F>[] {
  const names = Object.keys(factors);
  const plain = Object.fromEntries(names.map((name) => [name, factors[name]![0]!]));
  const cells: Readonly<Record<string, string>>[] = [plain];
  const open = openPairs(factors, allowed);
  cover(open, plain);
  for (let pair = first(open); pair !== undefined; pair = first(open)) {
    const cell: Record<string, string> = { ...pair };
    for (const name of names) {
      if (cell[name] !== undefined) continue;
      const levels = factors[name]!.filter((level) => allowed({ ...cell, [name]: level }));
      const covered = (level: string): number => pairsWith(cell, name, level).filter((key) => open.has(key)).length;
      // Between two levels that cover equally many pairs, take the one that fewer cells have: then more combinations of three occur too.
      const uses = (level: string): number => cells.filter((other) => other[name] === level).length;
      cell[name] = best(levels, (level) => [covered(level), -uses(level)]);
    }
    cells.push(cell);
    cover(open, cell);
  }
  return cells.map((cell) => inOrder(names, cell)) as Cell<F>[];
}

/** All allowed cells. */
export function product<F extends Factors>(factors: F, allowed: Rule): Cell<F>[] {
  let cells: Record<string, string>[] = [{}];
  for (const [name, levels] of Object.entries(factors))
    cells = cells.flatMap((cell) => levels.map((level) => Object.assign({}, cell, { [name]: level }))).filter(allowed);
  return cells as Cell<F>[];
}

/** Puts the factors into the order in which they were given. */
function inOrder(names: readonly string[], cell: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, cell[name]!]));
}

type Pair = Readonly<Record<string, string>>;

const keyOf = (pair: Pair): string => JSON.stringify(Object.entries(pair).toSorted());

function openPairs(factors: Factors, allowed: Rule): Map<string, Pair> {
  const names = Object.keys(factors);
  const open = new Map<string, Pair>();
  names.forEach((one, i) => {
    for (const other of names.slice(i + 1)) {
      for (const a of factors[one]!) {
        for (const b of factors[other]!) {
          const pair = { [one]: a, [other]: b };
          if (allowed(pair)) open.set(keyOf(pair), pair);
        }
      }
    }
  });
  return open;
}

function pairsWith(cell: Pair, name: string, level: string): string[] {
  return Object.entries(cell).map(([other, at]) => keyOf({ [other]: at, [name]: level }));
}

function cover(open: Map<string, Pair>, cell: Pair): void {
  for (const [name, level] of Object.entries(cell)) for (const key of pairsWith(cell, name, level)) open.delete(key);
}

function first(open: ReadonlyMap<string, Pair>): Pair | undefined {
  for (const pair of open.values()) return pair;
  return undefined;
}

/** The first item with the highest score; a second score breaks ties. */
function best(levels: readonly string[], score: (level: string) => readonly [number, number]): string {
  const scored = levels.map((level) => ({ level, score: score(level) }));
  const winner = scored.toSorted((a, b) => b.score[0] - a.score[0] || b.score[1] - a.score[1])[0];
  if (winner === undefined) throw new RangeError('the rule allows a pair that it does not let complete');
  return winner.level;
}
