/**
 * Completions for bash, zsh and fish, made of what the commands say about themselves. They are plain lists, so that no shell starts kslide (0.1 s) for
 * each Tab.
 *
 * After an option with choices come its choices; after one that names a file, and for arguments, files. After any other option with a value, nothing:
 * a file's name would be wrong.
 */
import type { CommandFacts, CommandLine, OptionFacts } from './commands.ts';

/** Values that are names of files or folders. */
const PATHS = new Set(['FILE', 'FILES...', 'OUT', 'VMLINUX', 'DIR']);

const namesOf = ({ short, long }: OptionFacts): string[] => [short, long].filter((name) => name !== undefined);
const takesPath = ({ value }: OptionFacts): boolean => value !== undefined && PATHS.has(value);

/** Every name with a bare word's characters only: none of them needs quoting in any shell. */
function bare(word: string): string {
  if (!/^[\w-]+$/.test(word)) throw new RangeError(`would need quoting: ${word}`);
  return word;
}

export function renderBash({ commands, options }: CommandLine): string {
  /** One pattern a name: alternatives in parentheses would need extglob. */
  const patterns = (name: string, own: readonly OptionFacts[]): string =>
    own
      .flatMap(namesOf)
      .map((option) => `'${name} ${bare(option)}'`)
      .join(' | ');
  const afterOption = ({ name, options: own }: CommandFacts): string[] => {
    const others = own.filter((option) => option.value !== undefined && !takesPath(option));
    const chosen = others.filter(({ choices }) => choices.length > 0);
    const silent = others.filter(({ choices }) => choices.length === 0);
    const paths = own.filter(takesPath);
    return [
      ...chosen.map((option) => `    ${patterns(name, [option])}) words='${option.choices.map(bare).join(' ')}' ;;`),
      ...(silent.length > 0 ? [`    ${patterns(name, silent)}) words='' ;;`] : []),
      ...(paths.length > 0 ? [`    ${patterns(name, paths)}) ;;`] : []),
    ];
  };
  return `# Completion of kslide for bash.
_kslide() {
  local command=\${COMP_WORDS[1]} current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} words word
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W '${[...commands.map(({ name }) => bare(name)), 'help', ...options.flatMap(namesOf)].join(' ')}' -- "$current")
    return
  fi
  # After -- comes another program's command line.
  for word in "\${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
    if [ "$word" = -- ]; then
      mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
      return
    fi
  done
  case "$command $previous" in
${commands.flatMap(afterOption).join('\n')}
    'help '*) words='${commands.map(({ name }) => name).join(' ')}' ;;
    *)
      if [[ $current == -* ]]; then
        case "$command" in
${commands.map(({ name, options: own }) => `          ${name}) words='${own.flatMap(namesOf).map(bare).join(' ')}' ;;`).join('\n')}
        esac
      fi
      ;;
  esac
  # \`words\` is unset where a file is expected.
  if [ -n "\${words+x}" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -F _kslide kslide
`;
}

export function renderZsh({ commands, options }: CommandLine): string {
  const described = (text: string): string => quoteZsh(text.replaceAll(/[[\]:\\]/g, String.raw`\$&`));
  const spec = (option: OptionFacts): string => {
    const names = namesOf(option).map(bare);
    const exclusive = names.length > 1 ? `'(${names.join(' ')})'{${names.join(',')}}` : `${names[0]}`;
    const action = takesPath(option)
      ? '_files'
      : option.choices.length > 0
        ? `(${option.choices.map(bare).join(' ')})`
        : ' ';
    const value = option.value === undefined ? '' : `:${described(option.value)}:${action}`;
    return `${exclusive}'[${described(option.description)}]${value}'`;
  };
  const branch = ({ name, args, options: own }: CommandFacts): string => {
    const specs = own.map(spec);
    const hasCommand = args.some(({ term }) => term === 'COMMAND');
    const files = hasCommand ? [`'1:IN:_files'`, `'*::COMMAND:_normal'`] : [`'*:file:_files'`];
    return `        ${name})\n          _arguments -s ${[...specs, ...files].join(' \\\n            ')} ;;`;
  };
  return `#compdef kslide
# Completion of kslide for zsh.
_kslide() {
  local context state state_descr line
  typeset -A opt_args
  local -a commands
  commands=(
${commands.map(({ name, description }) => `    '${bare(name)}:${described(description)}'`).join('\n')}
    'help:display help for command'
  )
  _arguments -C ${options.map(spec).join(' ')} '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
        help) _describe command commands ;;
${commands.map(branch).join('\n')}
      esac ;;
  esac
}
_kslide "$@"
`;
}

/** For the inside of single quotes. */
function quoteZsh(text: string): string {
  return text.replaceAll("'", String.raw`'\''`);
}

export function renderFish({ commands, options }: CommandLine): string {
  const quote = (text: string): string => `'${text.replaceAll(/[\\']/g, String.raw`\$&`)}'`;
  const flags = (option: OptionFacts): string => {
    const names = [
      option.short === undefined ? '' : `-s ${bare(option.short.slice(1))} `,
      `-l ${bare(option.long.slice(2))}`,
    ];
    const choices = option.choices.length > 0 ? ` -a ${quote(option.choices.join(' '))}` : '';
    const value = option.value === undefined ? '' : takesPath(option) ? ' -rF' : ` -x${choices}`;
    return `${names.join('')}${value} -d ${quote(option.description)}`;
  };
  return `# Completion of kslide for fish.
complete -c kslide -n __fish_use_subcommand -f
${options.map((option) => `complete -c kslide -n __fish_use_subcommand ${flags(option)}`).join('\n')}
${commands.map(({ name, description }) => `complete -c kslide -n __fish_use_subcommand -a ${bare(name)} -d ${quote(description)}`).join('\n')}
complete -c kslide -n __fish_use_subcommand -a help -d 'display help for command'
complete -c kslide -n '__fish_seen_subcommand_from help' -f -a ${quote(commands.map(({ name }) => name).join(' '))}
${commands.flatMap(({ name, options: own }) => own.map((option) => `complete -c kslide -n '__fish_seen_subcommand_from ${name}' ${flags(option)}`)).join('\n')}
`;
}
