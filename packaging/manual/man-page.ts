/** kslide(1): one page with all commands, in the man macros, made of what the commands say about themselves and of the README's table of exit codes. */
import type { CommandFacts, CommandLine, OptionFacts } from './commands.ts';

export interface ManPageOptions {
  /** The README's text. */
  readonly readme: string;
  /** `2026-11-29`. */
  readonly date: string;
  /** Folder of the pages that SEE ALSO names. */
  readonly docs: string;
}

export function renderManPage(line: CommandLine, { readme, date, docs }: ManPageOptions): string {
  const lines = [
    `.TH KSLIDE 1 ${date} "kslide ${line.version}" "User Commands"`,
    '.SH NAME',
    String.raw`kslide \- KASLR for kernels that boot without a decompressor`,
    '.SH SYNOPSIS',
    ...line.commands.flatMap(({ usage }) => [...usageLines(usage), '.br']).slice(0, -1),
    '.SH DESCRIPTION',
    words(line.description),
    '.PP',
    words(
      'The usual way: `kslide convert vmlinuz -o vmlinux` reads a compressed kernel and writes a vmlinux that moves itself by a new random offset each time it boots. `kslide verify vmlinuz vmlinux` proves that it does nothing else.',
    ),
    '.SH COMMANDS',
    ...line.commands.flatMap(commandLines),
    '.SH "EXIT STATUS"',
    ...exitCodes(readme).flatMap(([code, meaning]) => ['.TP', `.B ${code}`, words(meaning)]),
    '.SH FILES',
    ...FILES.flatMap(([path, meaning]) => ['.TP', `.I ${escape(path)}`, words(meaning)]),
    '.SH "SEE ALSO"',
    words(`The pages in ${docs}, README.md first.`),
  ];
  return `${lines.join('\n')}\n`;
}

/** Of the Debian package; docs/install.md says what they do. */
const FILES = [
  [
    '/etc/default/kslide',
    'Says whether each kernel that is installed is converted. It is not, until this file says so.',
  ],
  ['/var/lib/kslide/vmlinux-VERSION', 'The converted kernel of that version.'],
  ['/var/lib/kslide/vmlinux', 'A link to the newest of them.'],
  [
    '/usr/lib/kslide/kernel-hook',
    'What the hooks for kernels run. `kernel-hook installed` converts the kernels that are installed already.',
  ],
] as const;

function usageLines(usage: string): string[] {
  const [, command = '', rest = ''] = /^(\S+ \S+) ?(.*)$/.exec(usage) ?? [];
  return [`.B ${escape(command)}`, escape(rest)].filter((text) => text !== '');
}

function commandLines({ usage, description, args, options, examples }: CommandFacts): string[] {
  const items = [
    ...args.map((argument) => ({
      term: String.raw`\fI${escape(argument.term)}\fR`,
      description: argument.description,
    })),
    ...options
      .filter(({ long }) => long !== '--help')
      .map((option) => ({ term: optionTerm(option), description: option.description })),
  ];
  return [
    `.SS "${escape(usage.replace('kslide ', '').replace(' [options]', ''))}"`,
    words(sentence(description)),
    ...items.flatMap((item) => ['.TP', item.term, words(item.description)]),
    ...(examples.length > 0 ? ['.PP', 'Examples:', '.PP', '.nf', '.RS', ...examples.map(escape), '.RE', '.fi'] : []),
  ];
}

function optionTerm({ short, long, value }: OptionFacts): string {
  const names = [short, long].filter((name) => name !== undefined).map((name) => String.raw`\fB${escape(name)}\fR`);
  return names.join(', ') + (value === undefined ? '' : String.raw` \fI${escape(value)}\fR`);
}

/** Rows of the table of exit codes. */
export function exitCodes(readme: string): [string, string][] {
  const table = /^\| exit code \| meaning +\|\n\|[- |]+\|\n((?:\|.*\n)+)/m.exec(readme)?.[1];
  if (table === undefined) throw new RangeError('README.md has no table of exit codes');
  return Array.from(table.matchAll(/^\| (\d+) +\| (.*?) *\|$/gm), ([, code = '', meaning = '']) => [
    code,
    sentence(meaning),
  ]);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** A paragraph: `code` is bold. */
function words(text: string): string {
  const parts = text.split('`').map((part, i) => (i % 2 === 0 ? escape(part) : String.raw`\fB${escape(part)}\fR`));
  // A line that begins with a dot or an apostrophe would be a request.
  return parts.join('').replace(/^[.']/, String.raw`\&$&`);
}

/** Characters that groff would change stay as typed. */
const SPECIAL: Readonly<Record<string, string>> = {
  '\\': String.raw`\(rs`,
  '-': String.raw`\-`,
  "'": String.raw`\(aq`,
  '"': String.raw`\(dq`,
  '`': String.raw`\(ga`,
  '^': String.raw`\(ha`,
  '~': String.raw`\(ti`,
};

function escape(text: string): string {
  if (/[^\x20-\x7e]/.test(text)) throw new RangeError(`not ASCII: ${text}`);
  return text.replaceAll(/[\\\-'"`^~]/g, (character) => SPECIAL[character]!);
}
