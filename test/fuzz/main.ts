/**
 * Fuzzes the readers:
 *
 *     npm run fuzz                            every target, 10 s each
 *     npm run fuzz -- elf64 xz --seconds 60
 *     npm run fuzz -- --executions 100000 --seed 7
 *     npm run fuzz -- --record                also adds the counts to docs/results/fuzz.json
 *
 * Exits with 1 if anything was found. The input is then in test/fuzz/corpus/TARGET, where a test runs it from now on. test/fuzz/README.md says more.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { fuzz, saveInput } from './fuzz.ts';
import { takeRecordOption } from '../../scripts/docs/record.ts';
import { addCounts } from './record.ts';
import { TARGETS } from './targets.ts';

const { record, rest } = takeRecordOption();
const { values, positionals } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string', default: '1' },
    executions: { type: 'string' },
  },
});

const number = (name: string, text: string | undefined): number | undefined => {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  process.stderr.write(`fuzz: --${name} takes a whole number, not ${text}\n`);
  process.exit(2);
};

const unknown = positionals.find((name) => !TARGETS.includes(name));
if (unknown !== undefined) {
  process.stderr.write(`fuzz: there is no target ${unknown}; there are ${TARGETS.join(', ')}\n`);
  process.exit(2);
}
const executions = number('executions', values.executions) ?? Number.MAX_SAFE_INTEGER;
const seconds = number('seconds', values.seconds) ?? (values.executions === undefined ? 10 : 1e6);
const seed = number('seed', values.seed)!;

const row = (...cells: readonly (string | number)[]): void => {
  const [name, ...numbers] = cells;
  process.stdout.write(`${String(name).padEnd(14)}${numbers.map((cell) => String(cell).padStart(12)).join('')}\n`);
};

row('target', 'executions', 'a second', 'outcomes', 'finds');
let found = 0;
for (const name of positionals.length > 0 ? positionals : TARGETS) {
  const result = await fuzz(name, { seed: seedOf(name), executions, seconds });
  row(
    name,
    result.executions,
    Math.round((result.executions * 1000) / Math.max(1, result.ms)),
    result.outcomes.length,
    result.finds.length,
  );
  for (const { input, fault } of result.finds) process.stdout.write(`\n${saveInput(name, input)}\n${fault.text}\n\n`);
  found += result.finds.length;
  if (record !== undefined) addCounts(record, name, { ...result, seed });
}
process.exitCode = found > 0 ? 1 : 0;

/** Another one for each target, or targets that mutate alike would do the same. */
function seedOf(name: string): number {
  return createHash('sha256').update(`${seed} ${name}`).digest().readUInt32LE(0);
}
