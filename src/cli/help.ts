/** What `--help` shows besides the options: examples, and lines that fit a terminal of 80 columns. */
import type { Command, HelpConfiguration } from 'commander';

/** Command lines for each command, the most common first. Each fits 78 columns. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  convert: [
    'kslide convert /boot/vmlinuz -o vmlinux',
    'kslide convert vmlinux --relocs vmlinux.relocs -o vmlinux.kaslr',
    'kslide convert vmlinux --recover -o vmlinux.kaslr',
  ],
  bzimage: ['kslide bzimage /boot/vmlinuz -o bzImage'],
  extract: ['kslide extract /boot/vmlinuz -o vmlinux --relocs-out vmlinux.relocs'],
  inspect: ['kslide inspect /boot/vmlinuz', 'kslide inspect --json vmlinux'],
  shuffle: ['kslide shuffle /boot/vmlinuz --debug vmlinux.debug -o vmlinux.shuffled'],
  randomize: [
    'kslide randomize /boot/vmlinuz -o vmlinux.moved',
    'kslide randomize vmlinux --entry pvh --exec -- cloud-hypervisor --kernel {}',
  ],
  relocs: ['kslide relocs vmlinux > vmlinux.relocs', 'kslide relocs --keep vmlinux'],
  verify: ['kslide verify /boot/vmlinuz vmlinux', 'kslide verify --json /boot/vmlinuz vmlinux'],
  boot: ['kslide boot vmlinux', 'kslide boot vmlinux --entry linux64 --initrd initrd.img'],
  audit: ['kslide audit vmlinux --boots 1000 --out boots.jsonl --html audit.html'],
  bench: ['kslide bench /boot/vmlinuz --accel tcg --html bench.html'],
  offset: ['kslide offset console.log', 'dmesg | kslide offset'],
  doctor: ['kslide doctor', 'kslide doctor ./vmlinuz'],
};

/** In the list of commands their arguments would leave no room for what they do. */
export const HELP: HelpConfiguration = { subcommandTerm: (command) => command.name(), minWidthToWrap: 30 };

/** Adds its examples to a command's help. */
export function addExamples(command: Command): void {
  const examples = EXAMPLES[command.name()];
  if (examples === undefined) throw new Error(`${command.name()}: no example`);
  command.addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}\n`).join('')}`.trimEnd());
}
