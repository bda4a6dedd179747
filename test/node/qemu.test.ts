/** What `boot` says before there is a guest; guests are in test/boot. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelImageError } from '../../src/base/errors.ts';
import { buildElf, pvhNote } from '../../src/node/qemu/elf-executable.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import { makeBzImage } from '../bzimage/make-image.ts';

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

const garbage = new Uint8Array(4096);
const bzImage = makeBzImage();
const kernel = buildElf({ entry, segments, note: pvhNote(entry) });

const refused: readonly [string, Parameters<typeof boot>[0], RegExp][] = [
  ['garbage', { image: garbage }, /^not a kernel image: file is of an unknown kind, expected a vmlinux or a bzImage$/],
  ['an empty file', { image: new Uint8Array() }, /^not a kernel image: file is empty,/],
  ['garbage by linux64', { image: garbage, entry: 'linux64' }, /is of an unknown kind, expected a vmlinux, which is/],
  [
    'a bzImage by linux64',
    { image: bzImage, entry: 'linux64' },
    /^not a kernel image: file is a bzImage, expected a vml/,
  ],
  ['a bzImage cut short', { image: bzImage.subarray(0, -100) }, /^file is truncated: protected-mode code \(syssize\)/],
  [
    'a kernel that does not fit',
    { image: kernel, memoryMib: 16 },
    /^would not boot: end of the kernel's segments in memory is 0x1000010, expected 0x1000000; give the guest 17 MiB/,
  ],
  [
    'a physical slide that does not fit',
    { image: kernel, entry: 'linux64', memoryMib: 64, linux64: { physicalSlide: 0x340_0000 } },
    /segments in memory is 0x4400010, expected 0x4000000; give the guest 69 MiB or more$/,
  ],
];

for (const [name, options, message] of refused) {
  test(`${name} is refused`, () => assert.rejects(boot(options), { name: 'KernelImageError', message }));
}

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
