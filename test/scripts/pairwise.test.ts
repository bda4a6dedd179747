import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MATRIX, matrixCells } from '../../scripts/matrix/cells.ts';
import { pairwise, product } from '../../scripts/matrix/pairwise.ts';
import type { Cell, Factors } from '../../scripts/matrix/pairwise.ts';

const always = (): boolean => true;

/** All pairs of levels of different factors that some cell of `cells` has. */
function pairsOf(cells: readonly Cell[]): Set<string> {
  const pairs = new Set<string>();
  for (const cell of cells) {
    const entries = Object.entries(cell);
    for (const [i, one] of entries.entries())
      for (const other of entries.slice(i + 1)) pairs.add(`${one.join('=')} ${other.join('=')}`);
  }
  return pairs;
}

test('every two levels meet, in far fewer cells than all', () => {
  const levels = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 4 });
  const factors = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), levels, { minKeys: 1 });
  fc.assert(
    fc.property(factors, (given) => {
      assert.deepEqual(pairsOf(pairwise(given, always)), pairsOf(product(given, always)));
    }),
  );
  const tenBinary: Factors = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`f${i}`, ['off', 'on']]));
  assert.ok(pairwise(tenBinary, always).length <= 16);
  assert.equal(product(tenBinary, always).length, 1024);
});

test('the plain cell comes first; the same factors give the same cells, their factors in order', () => {
  const cells = matrixCells(false);
  assert.deepEqual(
    Object.values(cells[0]!),
    Object.values(MATRIX).map((levels) => levels[0]),
  );
  assert.deepEqual(matrixCells(false), cells);
  for (const cell of cells) assert.deepEqual(Object.keys(cell), Object.keys(MATRIX));
});

test('the matrix: all pairs that its rules allow, and no cell that they do not', () => {
  const all = matrixCells(true);
  assert.equal(all.length, 11_880);
  assert.deepEqual(pairsOf(matrixCells(false)), pairsOf(all));
  assert.equal(matrixCells(false).length, 104);
  assert.equal(all.filter(({ entry, words }) => entry === 'pvh' && words === 'missing').length, 0);
  assert.ok(
    all
      .filter(({ entry }) => entry.includes('5 levels'))
      .every(({ cpu }) => cpu.startsWith('max') && cpu !== 'max,-la57'),
  );
});
