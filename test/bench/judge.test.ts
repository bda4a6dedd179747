/** When a measurement beside other work decides something, and when it does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '../../bench/judge.ts';
import type { Round } from '../../bench/judge.ts';

const rounds = (loops: readonly number[], stub = 80, isDisturbed = false): Round[] =>
  loops.map((loop) => ({ stub, loop, isDisturbed }));

test('a steady loop: the ratios of medians and of least times, and how far the runs differ', () => {
  const { unknown, medians, least, leastRun, greatestRun, ...rest } = judge([
    rounds([98, 100, 104], 80),
    rounds([99, 100, 200], 90),
  ]);
  assert.equal(unknown, undefined);
  assert.deepEqual(rest, {
    stub: { median: 90, least: 80 },
    loop: { median: 100, least: 98 },
    disturbed: 0,
    rounds: 6,
  });
  assert.deepEqual([medians, least, leastRun, greatestRun], [0.9, 80 / 98, 0.8, 0.9]);
});

test('rounds that were disturbed are left out', () => {
  const { medians, disturbed, unknown } = judge([[...rounds([100, 100, 100]), ...rounds([500, 500], 400, true)]]);
  assert.deepEqual([medians, disturbed, unknown], [0.8, 2, undefined]);
});

test('more than half of the rounds disturbed: unknown', () => {
  const { unknown } = judge([[...rounds([100]), ...rounds([100, 100], 80, true)]]);
  assert.equal(unknown, '2 of 3 rounds were disturbed');
  assert.equal(judge([rounds([100, 100], 80, true)]).unknown, '2 of 2 rounds were disturbed');
});

test('a loop that varies from round to round, or from run to run: unknown', () => {
  assert.equal(judge([rounds([100, 89, 111, 90, 110])]).unknown, undefined);
  assert.equal(
    judge([rounds([100, 88, 112, 85, 115])]).unknown,
    'the loop itself varies too much: half of its rounds are 12% or more from its median',
  );
  assert.equal(judge([rounds([100, 100, 100]), rounds([110, 110])]).unknown, undefined);
  assert.equal(
    judge([rounds([100, 100, 100]), rounds([112, 112])]).unknown,
    'the loop itself varies too much: from run to run by 12%',
  );
});
