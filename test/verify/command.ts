/** `kslide verify` alone, with everything that it prints and throws as it is. */
import { Command } from 'commander';
import { describeFailure } from '../../src/cli/failure.ts';
import addVerify from '../../src/cli/commands/verify.ts';

const program = new Command('kslide').exitOverride();
addVerify(program, (code) => {
  process.exitCode = code;
});
try {
  await program.parseAsync(process.argv.slice(2), { from: 'user' });
} catch (error) {
  const failure = describeFailure(error);
  process.stderr.write(`kslide: ${failure.text}\n`);
  process.exitCode = failure.exitCode;
}
