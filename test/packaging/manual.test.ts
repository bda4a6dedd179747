/** The manual page and the completions: they name what the command line has, and the programs that read them read them so. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readCommandLine } from '../../packaging/manual/commands.ts';
import { renderBash, renderFish, renderZsh } from '../../packaging/manual/completions.ts';
import { exitCodes, renderManPage } from '../../packaging/manual/man-page.ts';
import { COMMANDS } from '../../src/cli/main.ts';

const folder = mkdtempSync(join(tmpdir(), 'kslide-manual-'));
after(() => rmSync(folder, { recursive: true }));

const line = await readCommandLine();
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const put = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test('every command is there, with its options, and none that --help hides', () => {
  assert.deepEqual(
    line.commands.map(({ name }) => name),
    Object.keys(COMMANDS),
  );
  const randomize = line.commands.find(({ name }) => name === 'randomize')!;
  assert.ok(randomize.options.some(({ long }) => long === '--no-flag'));
  assert.ok(!randomize.options.some(({ long }) => long === '--force'));
  assert.deepEqual(line.commands[0]!.options.find(({ long }) => long === '--table')?.choices, ['compact', 'kernel']);
});

test('the manual page: all commands and options, and no complaint of mandoc or groff', () => {
  const page = renderManPage(line, { readme, date: '2026-11-29', docs: '/usr/share/doc/kslide' });
  const file = put('kslide.1', page);
  for (const { name, options } of line.commands) {
    const section = page.split(`\n.SS "${name}`)[1]?.split('\n.S')[0];
    assert.ok(section !== undefined, name);
    for (const { long } of options)
      if (long !== '--help')
        assert.ok(section.includes(String.raw`\fB${long.replaceAll('-', String.raw`\-`)}\fR`), `${name} ${long}`);
  }
  const lint = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', file], { encoding: 'utf8' });
  assert.deepEqual([lint.error, lint.stdout, lint.status], [undefined, '', 0]);
  const text = execFileSync('mandoc', ['-T', 'ascii', '-O', 'width=80', file], { encoding: 'utf8' }).replaceAll(
    /.[\b]/g,
    '',
  );
  assert.match(text, /\n +-q, --quiet\n +print nothing: the exit code is the answer\n/);
  assert.match(text, /\nEXIT STATUS\n +0 +Done\.\n/);
  assert.deepEqual(
    exitCodes(readme).map(([code]) => Number(code)),
    [0, 1, 2, 3],
  );
});

test('bash completes commands, options, choices and files, and nothing where nothing fits', () => {
  put('aaa.file', '');
  const script = put('bash', renderBash(line));
  const complete = (...words: string[]): string => {
    const program = `source "$0"; cd "\${0%/*}"; COMP_WORDS=(kslide "$@"); COMP_CWORD=$#; _kslide; printf '%s ' "\${COMPREPLY[@]}"`;
    const ran = spawnSync('bash', ['-uc', program, script, ...words], { encoding: 'utf8' });
    assert.equal(ran.stderr, '');
    return ran.stdout.trim();
  };
  assert.equal(complete(''), [...Object.keys(COMMANDS), 'help', '-V', '--version', '-h', '--help'].join(' '));
  for (const [words, expected] of [
    ['conv', 'convert'],
    ['help o', 'offset'],
    ['verify --shu', '--shuffled'],
    ['verify aaa.file --deb', '--debug'],
    ['convert --table ', 'compact kernel'],
    ['convert --table k', 'kernel'],
    ['convert --site ', ''],
    ['convert --relocs aa', 'aaa.file'],
    ['convert -o aa', 'aaa.file'],
    ['convert aa', 'aaa.file'],
    ['other --x', ''],
    ['randomize in --exec -- aaa', 'aaa.file'],
  ] as const)
    assert.equal(complete(...words.split(' ')), expected, words);
});

test('fish completes the same', () => {
  const script = put('fish', renderFish(line));
  const complete = (words: string): string[] => {
    const ran = spawnSync(
      'fish',
      ['--no-config', '-c', `cd ${folder}; source ${script}; complete -C ${JSON.stringify(words)}`],
      {
        encoding: 'utf8',
        env: { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder },
      },
    );
    assert.equal(ran.error, undefined);
    assert.equal(ran.status, 0, ran.stderr);
    return ran.stdout
      .split('\n')
      .slice(0, -1)
      .map((row) => row.split('\t')[0]!);
  };
  assert.deepEqual(
    complete('kslide ')
      .filter((word) => !word.startsWith('-'))
      .toSorted(),
    [...Object.keys(COMMANDS), 'help'].toSorted(),
  );
  for (const [words, expected] of [
    ['kslide conv', 'convert'],
    ['kslide help o', 'offset'],
    ['kslide verify --shu', '--shuffled'],
    ['kslide convert --table ', 'compact kernel'],
    ['kslide convert --site ', ''],
    ['kslide convert --relocs aa', 'aaa.file'],
  ] as const)
    assert.equal(complete(words).join(' '), expected, words);
});

test('zsh reads its completion, and every line of it is whole', () => {
  const script = put('_kslide', renderZsh(line));
  assert.equal(spawnSync('zsh', ['-n', script], { encoding: 'utf8' }).stderr, '');
  // _arguments with a stand-in that prints what it is given: a quote too many would join options.
  const program = `compdef() { }; _arguments() { [[ $1 == -C ]] && { state=argument; words=($WORD); return }; print -rl -- "$@" }
    _describe() { }; for WORD in ${Object.keys(COMMANDS).join(' ')}; do print -- "# $WORD"; source ${script}; done`;
  const ran = spawnSync('zsh', ['-f', '-c', program], { encoding: 'utf8' });
  assert.equal(ran.stderr, '');
  for (const { name, options } of line.commands) {
    const given = ran.stdout.split(`# ${name}\n`)[1]!.split('# ')[0]!.split('\n');
    for (const { long, description } of options) {
      const found = given.filter((spec) => spec.replace(/^\([^)]*\)/, '').startsWith(`${long}[`));
      assert.equal(found.length, 1, `${name} ${long}`);
      assert.ok(found[0]!.replaceAll(/\\([[\]:\\])/g, '$1').includes(`[${description}]`), found[0]);
    }
  }
});
