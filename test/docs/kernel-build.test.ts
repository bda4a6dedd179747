/**
 * The commands and patches of docs/kernel-build.md. They are run as printed, by make in a directory for object files, on a tree with no more than what kbuild does there. Real kernels:
 * scripts/try-kernel-build.sh.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
const page = readFileSync(join(docs, 'kernel-build.md'), 'utf8');
const directory = mkdtempSync(join(tmpdir(), 'kslide-kernel-build-'));
after(() => rmSync(directory, { recursive: true }));

/** A program in kslide's place, that says how it was called. */
const installed = join(directory, 'kslide');
mkdirSync(join(installed, 'bin'), { recursive: true });
writeFileSync(join(installed, 'bin/kslide.js'), '#!/bin/sh\necho "ran $*"\n');
chmodSync(join(installed, 'bin/kslide.js'), 0o755);

const commands = Array.from(page.matchAll(/^make .*$/gm), ([line]) => line.replaceAll('/path/to/kslide', installed));

/** The file that a patch adds. */
function addedBy(patch: string): string {
  const text = readFileSync(join(docs, 'kernel-build', patch), 'utf8');
  const [, hunk = ''] = /^--- \/dev\/null\n\+\+\+ .*\n@@ .*\n((?:\+.*\n)+)/m.exec(text) ?? [];
  return hunk.replaceAll(/^\+/gm, '');
}

const tree = join(directory, 'linux');
const objects = join(directory, 'objects');
mkdirSync(join(tree, 'arch/x86'), { recursive: true });
mkdirSync(join(objects, 'include/config'), { recursive: true });
writeFileSync(join(tree, 'arch/x86/Makefile.postlink'), addedBy('linux-6.15.patch'));

/** As kbuild: the top makefile goes to the directory for object files, and calls the makefiles there. */
function makeTree(goal: string, need: string, command = commands[1]!): readonly [number | null, string] {
  writeFileSync(join(objects, 'include/config/auto.conf'), need);
  writeFileSync(
    join(tree, 'Makefile'),
    `CMD_RELOCS = false\nall:\n\t@$(MAKE) -s -C ${objects} -f ${tree}/inner\n\t@cd ${objects} && $(CMD_RELOCS) vmlinux\n`,
  );
  writeFileSync(join(tree, 'inner'), `Q=@\nexport Q\nall:\n\t@$(MAKE) -f ${tree}/arch/x86/Makefile.postlink ${goal}\n`);
  const ran = spawnSync('sh', ['-c', command], { cwd: tree, encoding: 'utf8' });
  return [ran.status, ran.stdout + ran.stderr];
}

test('every command of the page names kslide by an absolute path, and none uses npx', () => {
  assert.deepEqual(commands, [
    `make CMD_RELOCS='${installed}/bin/kslide.js relocs'`,
    `make KSLIDE=${installed}/bin/kslide.js`,
  ]);
  assert.doesNotMatch(page.replaceAll(/^```sh\n[^]*?^```$/gm, ''), /make KSLIDE="npx/);
});

test('the printed command fills the section, whichever goal kbuild uses', () => {
  for (const goal of ['vmlinux', 'vmlinux.unstripped'])
    assert.match(makeTree(goal, 'CONFIG_X86_NEED_RELOCS=y\n')[1], new RegExp(`^ran relocs --keep ${goal}$`, 'm'));
  // The drop-in is for a tree without the patch, where nothing runs after the link.
  assert.match(makeTree('clean', '', commands[0])[1], /^ran relocs vmlinux$/m);
});

test('other goals of kbuild, and kernels that need no table, are left alone', () => {
  for (const [goal, need] of [
    ['vmlinux.unstripped', ''],
    ['drivers/a.ko', 'CONFIG_X86_NEED_RELOCS=y\n'],
    ['clean', 'CONFIG_X86_NEED_RELOCS=y\n'],
  ] as const)
    assert.doesNotMatch(makeTree(goal, need)[1], /ran|Error 2.*inner|not know/);
});

test('a goal that the makefile does not know, and a kslide that is not there, fail loudly', () => {
  const [status, said] = makeTree('vmlinux.linked', 'CONFIG_X86_NEED_RELOCS=y\n');
  assert.equal(status, 2);
  assert.match(said, /does not know vmlinux\.linked: the relocation table would stay empty/);
  const [missing, why] = makeTree('vmlinux', 'CONFIG_X86_NEED_RELOCS=y\n', 'make KSLIDE=/nowhere/kslide');
  assert.equal(missing, 2);
  assert.match(why, /\/nowhere\/kslide/);
});
