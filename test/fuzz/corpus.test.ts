/**
 * What fuzzing has found stays mended, and a minute of fuzzing finds nothing new. Seeds and numbers of executions are fixed, so that each run does the same;
 * `npm run fuzz` explores.
 */
import './meter.ts';
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { execute } from './execute.ts';
import type { Executed } from './execute.ts';
import { CORPUS, fuzz, readCorpus } from './fuzz.ts';
import { loadTarget, TARGETS } from './targets.ts';

for (const name of TARGETS) {
  describe(name, () => {
    it('what was found once', async () => {
      const target = await loadTarget(name);
      for (const { name: file, input } of readCorpus(name)) {
        const { fault } = await execute(target, input);
        assert.equal(fault?.text, undefined, `corpus/${name}/${file}`);
      }
    });

    it('its seeds are valid, or mutations of them would be refused for what is wrong with the seed', async () => {
      const target = await loadTarget(name);
      const results: Executed[] = [];
      for (const seed of await target.seeds()) results.push(await execute(target, seed));
      const accepted = results.filter(({ refused, fault }) => !refused && fault === undefined);
      assert.ok(accepted.length >= results.length / 2, results.map(({ outcome }) => outcome).join('\n'));
    });

    it('a few executions', async () => {
      const { executions: wanted } = await loadTarget(name);
      const { executions, outcomes, finds } = await fuzz(name, { seed: 1, executions: wanted, seconds: 600 });
      assert.deepEqual(
        finds.map(({ input, fault }) => `${fault.text}\n${Buffer.from(input).toString('base64').slice(0, 2000)}`),
        [],
      );
      assert.equal(executions, wanted);
      assert.ok(outcomes.length > 1, 'all that was mutated gave the same outcome');
    });
  });
}

it('every folder of the corpus belongs to a target', () => {
  assert.deepEqual(
    readdirSync(CORPUS).filter((name) => !TARGETS.includes(name) && name !== 'README.md'),
    [],
  );
});
