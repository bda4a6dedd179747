/** `--help`: it fits a terminal of 80 columns, and each command has examples that its parser takes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { Command } from 'commander';
import { COMMANDS } from '../../src/cli/main.ts';
import { EXAMPLES } from '../../src/cli/help.ts';
import { KSLIDE } from './program.ts';

const COLUMNS = 80;

function help(args: readonly string[]): string {
  const ran = spawnSync(process.execPath, [...KSLIDE, ...args, '--help'], { encoding: 'utf8', timeout: 60_000 });
  assert.equal(ran.status, 0, ran.stderr);
  assert.equal(ran.stderr, '');
  for (const line of ran.stdout.split('\n')) assert.ok(line.length <= COLUMNS, line);
  return ran.stdout;
}

test('kslide --help lists every command', () => {
  const text = help([]);
  for (const name of Object.keys(COMMANDS)) assert.match(text, new RegExp(`^  ${name} `, 'm'));
});

for (const [name, load] of Object.entries(COMMANDS))
  test(`kslide ${name} --help ends with its examples, which it takes`, async () => {
    const examples = EXAMPLES[name]!;
    assert.ok(
      help([name]).endsWith(`\nExamples:\n${examples.map((example) => `  ${example}\n`).join('')}`),
      help([name]),
    );
    for (const example of examples) {
      const program = new Command('kslide').exitOverride().configureOutput({ writeErr: () => {} });
      (await load()).default(program, () => {});
      const [command] = program.commands;
      let taken = false;
      command!.exitOverride().action(() => void (taken = true));
      const line = example.replace(/^.*\| /, '').replace(/ > .*$/, '');
      assert.match(line, new RegExp(`^kslide ${name}( |$)`));
      await program.parseAsync(line.split(' ').slice(1), { from: 'user' });
      assert.ok(taken, example);
    }
  });
