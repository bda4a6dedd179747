/** What `boot` says before there is a guest; guests are in test/boot. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelImageError } from '../../src/errors.ts';
import { buildElf, pvhNote } from '../../src/node/elf-image.ts';
import { boot } from '../../src/node/qemu.ts';

const segments = [{ address: 0x100_0000, bytes: new Uint8Array(16), memsz: 16 }];
const entry = 0x100_0000;

test('a kernel without a PVH entry is refused by that entry alone', async () => {
  await assert.rejects(boot({ image: buildElf({ entry, segments }) }), (error) => {
    assert.ok(error instanceof KernelImageError);
    assert.equal(error.code, 'would-not-boot');
    assert.match(error.message, /XEN_ELFNOTE_PHYS32_ENTRY.*boot it by linux64/);
    return true;
  });
});

test('linux64 wants an ELF file', async () => {
  await assert.rejects(boot({ image: new Uint8Array(4096), entry: 'linux64' }), KernelImageError);
});

test('no QEMU: the command that installs it', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  try {
    await assert.rejects(boot({ image: buildElf({ entry, segments, note: pvhNote(entry) }) }), {
      name: 'EnvironmentError',
      problem: 'missing-program',
      command: 'apt-get install qemu-system-x86',
    });
  } finally {
    process.env['PATH'] = path;
  }
});
