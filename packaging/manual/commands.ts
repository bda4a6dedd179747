/** What the command line says about itself, as data: the manual page and the completions are made of it, so that they name what there is. */
import type { Command, Help, Option } from 'commander';
import { EXAMPLES } from '../../src/cli/help.ts';
import { COMMANDS } from '../../src/cli/main.ts';
import { newProgram } from '../../src/cli/run.ts';

export interface CommandLine {
  readonly description: string;
  readonly version: string;
  /** In the order of `--help`. */
  readonly commands: readonly CommandFacts[];
  readonly options: readonly OptionFacts[];
}

export interface CommandFacts {
  readonly name: string;
  /** `kslide convert [options] <IN>`. */
  readonly usage: string;
  readonly description: string;
  readonly args: readonly { readonly term: string; readonly description: string }[];
  readonly options: readonly OptionFacts[];
  /** Command lines, the most common first. */
  readonly examples: readonly string[];
}

export interface OptionFacts {
  /** `-o, --output <OUT>`. */
  readonly term: string;
  readonly short: string | undefined;
  readonly long: string;
  /** As `--help` has it, with its choices and its default. */
  readonly description: string;
  /** `FILE` of `--relocs <FILE>`; undefined for an option without a value. */
  readonly value: string | undefined;
  readonly choices: readonly string[];
}

/** All commands. None of them runs. */
export async function readCommandLine(): Promise<CommandLine> {
  const program = newProgram();
  for (const load of Object.values(COMMANDS)) (await load()).default(program, () => {});
  const help = program.createHelp();
  return {
    description: program.description(),
    version: program.version()!,
    commands: program.commands.map((command) => readCommand(command, help)),
    options: help.visibleOptions(program).map((option) => readOption(option, help)),
  };
}

function readCommand(command: Command, help: Help): CommandFacts {
  return {
    name: command.name(),
    usage: help.commandUsage(command),
    description: help.commandDescription(command),
    args: help
      .visibleArguments(command)
      .map((argument) => ({ term: help.argumentTerm(argument), description: help.argumentDescription(argument) })),
    options: help.visibleOptions(command).map((option) => readOption(option, help)),
    examples: EXAMPLES[command.name()] ?? [],
  };
}

function readOption(option: Option, help: Help): OptionFacts {
  if (option.long === undefined || option.long === null) throw new RangeError(`${option.flags} has no long form`);
  return {
    term: help.optionTerm(option),
    short: option.short ?? undefined,
    long: option.long,
    description: help.optionDescription(option),
    value: /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1],
    choices: option.argChoices ?? [],
  };
}
