/**
 * The pages on VMMs that cannot be run here: their commands are shell, their files are what the text says, and Firecracker's lines, run with stand-ins for
 * Firecracker, the jailer and sudo, call these with files that are there. The lines of guest.md and qemu.md are run for real (test/boot/vmm-pages.test.ts).
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { KSLIDE } from '../cli/program.ts';
import { makeVmlinux } from '../make-vmlinux.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const PAGES = [
  ...readdirSync(join(ROOT, 'docs/vmm')).map((name) => `docs/vmm/${name}`),
  'docs/measured-launch.md',
  'docs/recipes.md',
];
const CONTAINER = 'packaging/container';

const fencesOf = (text: string, language: string): string[] =>
  Array.from(text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm')), ([, lines = '']) => lines);

/** Indented blocks. What a guest prints is indented as well: it begins with a bracket, or is the output of `kslide offset`. */
const commandsOf = (text: string): string[] =>
  Array.from(text.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/(?:^ {4}.*\n(?:\n(?= {4}))?)+/gm), ([block]) =>
    block.replaceAll(/^ {4}/gm, ''),
  ).filter((block) => !/^(?:\[|slide )/.test(block));

const folder = mkdtempSync(join(tmpdir(), 'kslide-vmm-docs-'));
after(() => rmSync(folder, { recursive: true }));
const programs = join(folder, 'programs');
mkdirSync(programs);

function program(name: string, lines: string): void {
  writeFileSync(join(programs, name), `#!/bin/bash\n${lines}\n`);
  chmodSync(join(programs, name), 0o755);
}
const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');
program('kslide', `exec ${quoted([process.execPath, ...KSLIDE])} "$@"`);
program('sudo', 'exec "$@"');
program('chown', '[ -e "$2" ]');
program('install', '[ "$1 $3 $5" = "-o -g -m" ] && shift 4 && exec /usr/bin/install "$@"');
// A guest that is where its kernel's name says: nothing is booted here.
program(
  'firecracker',
  `set -e
[ "$1 $2" = '--no-api --config-file' ] && config=$(cat "$3")
for field in kernel_image_path initrd_path; do
  file=$(sed -n "s|.*\\"$field\\": \\"\\([^\\"]*\\)\\".*|\\1|p" <<<"$config")
  # In the jail / is the jail's root, where this runs.
  [ -z "$JAILED" ] || file=.$(sed 's|^/*|/|' <<<"$file")
  [ -r "$file" ] || { echo "firecracker: no $field '$file'" >&2; exit 1; }
  cmp -s <(head -c 4 "$file") <(printf '\\177ELF') && echo 'ffffffff9d000000 T _text'
done; true`,
);
program(
  'jailer',
  `set -e
[ "$1 $3 $5 $7 $9" = '--id --exec-file --uid --gid --' ] && [ -x "$4" ]
cd "$JAILS/$(basename "$4")/$2/root" && shift 9 && JAILED=1 exec firecracker "$@"`,
);

function bash(script: string): { code: number | null; output: string } {
  const env = { ...process.env, PATH: `${programs}:${process.env['PATH']}`, JAILS: join(folder, 'jails'), JAILED: '' };
  const ran = spawnSync('bash', ['-c', `set -euo pipefail\n${script}`], { cwd: folder, env, encoding: 'utf8' });
  return { code: ran.status, output: ran.stdout + ran.stderr };
}
const firecracker = read('docs/vmm/firecracker.md');
const FOUND = /^slide {2}0x1c000000 .* from _text of \/proc\/kallsyms$/m;

test('what the pages tell to type is shell', () => {
  for (const page of PAGES) {
    const text = read(page);
    for (const block of [...commandsOf(text), ...fencesOf(text, 'sh'), ...fencesOf(text, 'bash')]) {
      const ran = spawnSync('bash', ['-n'], { input: block, encoding: 'utf8' });
      assert.equal(ran.stderr, '', `${page}:\n${block}`);
    }
  }
});

test('configurations are JSON', () => {
  for (const page of PAGES) for (const block of fencesOf(read(page), 'json')) JSON.parse(block);
});

test("kata.md shows the chart's values as the file has them, and the proof's pod has the class that they make", () => {
  const [shown] = fencesOf(read('docs/vmm/kata.md'), 'yaml');
  const file = read(`${CONTAINER}/kata-values.yaml`);
  assert.equal(file.replace(/^(#.*\n)+/, ''), shown);
  const [, name] = /^ {10}name: (\S+)$/m.exec(file)!;
  assert.match(read(`${CONTAINER}/proof-pod.yaml`), new RegExp(`^ {2}runtimeClassName: ${name}$`, 'm'));
  // What the manifest makes is what the class boots: the folder of the node that is mounted as /out.
  const daemonSet = read(`${CONTAINER}/daemonset.yaml`);
  const [, kernel = ''] = /^ {8}kernel = "(.*)"$/m.exec(file)!;
  assert.match(daemonSet, /command: \[keep-converted, \/kata\/vmlinuz\.container, \/out\/vmlinux\.container\]/);
  assert.match(daemonSet, /- name: out\n {10}hostPath:\n {12}path: \/var\/lib\/kslide\n/);
  assert.equal(kernel, '/var/lib/kslide/vmlinux.container');
});

test("firecracker.md's lines, with a stand-in for Firecracker and the jailer", () => {
  const blocks = commandsOf(firecracker);
  const find = (part: string): string => {
    const block = blocks.find((lines) => lines.includes(part));
    assert.ok(block, part);
    return block.replaceAll('/srv/jailer', join(folder, 'jails'));
  };
  const [config = ''] = fencesOf(firecracker, 'json');
  writeFileSync(join(folder, 'vm.json'), config);
  writeFileSync(join(folder, 'vmlinux'), makeVmlinux());
  writeFileSync(join(folder, 'guest.cpio.gz'), 'an initramfs');
  // `kslide extract` needs a real bzImage. The file is as it would be.
  writeFileSync(join(folder, 'vmlinux.table'), makeVmlinux());

  for (const script of [find('firecracker --no-api --config-file vm.json |'), find('sudo jailer --id')]) {
    const { code, output } = bash(script);
    assert.equal(code, 0, output);
    assert.match(output, FOUND);
  }
  assert.ok(!existsSync(join(folder, 'jails/firecracker/vm1')), 'the jail is removed');

  const [named = '', jailed = ''] = [find('vm.in.json)'), find('--exec-dir "$jail"')];
  const randomized = bash(named.replace(/^kslide extract .*\n/, ''));
  assert.equal(randomized.code, 0, randomized.output);
  assert.match(randomized.output, FOUND);
  const [names = ''] = find('sudo jailer --id').split('\n');
  const { code, output } = bash(`${names}\n${jailed}`);
  assert.equal(code, 0, output);
  assert.match(output, FOUND);
  const left = readdirSync(join(folder, 'jails/firecracker/vm1/root')).toSorted();
  assert.deepEqual(left, ['guest.cpio.gz', 'vm.json'], 'the image is gone');
});

test("kata.md's wrapper puts kslide before QEMU, and the image in place of the kernel", () => {
  const [wrapper = ''] = fencesOf(read('docs/vmm/kata.md'), 'bash');
  program(
    'qemu',
    'while [ $# -gt 0 ]; do [ "$1" != -kernel ] || head -c 4 "$2" | cmp - <(printf "\\177ELF"); echo "<$1>"; shift; done',
  );
  program('wrapper', wrapper.replaceAll('/opt/kata/bin/qemu-system-x86_64', join(programs, 'qemu')));
  const { code, output } = bash('wrapper -name "a b" -kernel vmlinux.table -append "c  d"');
  assert.equal(code, 0, output);
  assert.match(output, /^<-name>\n<a b>\n<-kernel>\n<\/proc\/self\/fd\/\d+>\n<-append>\n<c {2}d>\n$/);
  assert.equal(bash('wrapper --version').output, '<--version>\n');
});

test('keep-converted makes what is proved, once, and keeps it while IN is unusable', () => {
  const keep = join(ROOT, CONTAINER, 'keep-converted');
  const run = (input: string): { code: number | null; output: string } => bash(`'${keep}' ${input} kept`);
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('in'), makeVmlinux());
  assert.deepEqual(run('in'), { code: 0, output: 'keep-converted: made kept from in\n' });
  assert.equal(bash('kslide verify --quiet in kept').code, 0);
  assert.equal((JSON.parse(readFileSync(at('kept.json'), 'utf8')) as { verdict: string }).verdict, 'proved');
  assert.equal(bash('sha256sum in kept | cut -d " " -f 1').output, readFileSync(at('kept.sha256'), 'utf8'));
  const made = statSync(at('kept')).ino;
  assert.deepEqual(run('in'), { code: 0, output: '' });
  assert.equal(statSync(at('kept')).ino, made);

  writeFileSync(at('junk'), 'no kernel');
  const bad = run('junk');
  assert.equal(bad.code, 1);
  assert.match(
    bad.output,
    /^kslide: .*not a kernel image.*\nkeep-converted: made nothing of junk; kept is as it was\n$/,
  );
  assert.equal(run('nowhere').code, 1);
  assert.equal(statSync(at('kept')).ino, made);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith('.new')),
    [],
  );

  // Whoever has changed OUT, or lost a file beside it, gets it made again.
  writeFileSync(at('kept'), 'damaged');
  assert.equal(run('in').code, 0);
  assert.equal(bash('kslide verify --quiet in kept').code, 0);
  rmSync(at('kept'));
  assert.deepEqual(run('in'), { code: 0, output: 'keep-converted: made kept from in\n' });
  assert.equal(bash(`'${keep}' in`).code, 2);
});

test('keep-converted with SECONDS goes on after a failure, and ends at once on SIGTERM', () => {
  const keep = join(ROOT, CONTAINER, 'keep-converted');
  const { code, output } = bash(
    `rm -f kept2*; : >log; '${keep}' in2 kept2 0.2 >>log 2>&1 & pid=$!; for i in {1..300}; do grep -q nothing log && break; sleep 0.1; done; cp in in2; for i in {1..300}; do grep -q 'made kept2' log && break; sleep 0.1; done
     kill $pid; wait $pid; cat log`,
  );
  assert.equal(code, 0, output);
  assert.match(output, /made nothing of in2; kept2 is as it was\n[^]*keep-converted: made kept2 from in2\n$/);
});
