/** The `.rela` sections of an x86-64 vmlinux: the table that is collected from them, their statistics, the listings of `relocs`. */
import assert from 'node:assert/strict';
import { relaStatistics } from '../../../src/inspect/rela-statistics.ts';
import { collectRelocations, hasRelocations } from '../../../src/relocs/tool/collect.ts';
import { makeKernel64 } from '../../relocs/fixtures.ts';
import { elfFields } from '../fields.ts';
import { runTool } from '../make/relocs.ts';
import type { Target } from '../target.ts';

const target: Target = {
  seeds: () => (['zero', 'placed', 'none'] as const).map((perCpu) => makeKernel64({ perCpu })),
  run(input) {
    hasRelocations(input);
    const statistics = relaStatistics(input);
    const outcome = runTool(input, [false]);
    const { abs64, inverse32, abs32, lists } = collectRelocations(input);
    assert.ok(abs64.length + inverse32.length + abs32.length <= statistics.entries, 'more sites than entries');
    return `${lists} lists, ${outcome}`;
  },
  fields: elfFields,
  executions: 300,
};
export default target;
