/**
 * The boxes of docs/vmm/guest.md and docs/vmm/qemu.md, run as they are printed, in one folder, with a kernel of this machine's release. What stands outside
 * the boxes needs the network, root or KVM.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { findKernel, inTurn, PMD } from './lane.ts';

const docs = fileURLToPath(new URL('../../docs/vmm/', import.meta.url));
const boxesOf = (page: string): string[] =>
  Array.from(readFileSync(join(docs, page), 'utf8').matchAll(/^```sh\n([^]*?)^```$/gm), ([, lines = '']) => lines);

const [accel = ''] = /^ {4}accel='-accel tcg .*$/m.exec(readFileSync(join(docs, 'qemu.md'), 'utf8')) ?? [];

const folder = mkdtempSync(join(tmpdir(), 'kslide-vmm-pages-'));
after(() => rmSync(folder, { recursive: true }));

/** kslide from the sources, as if installed. */
const path = join(folder, 'path');
mkdirSync(path);
const source = fileURLToPath(new URL('../cli/kslide.ts', import.meta.url));
writeFileSync(
  join(path, 'kslide'),
  `#!/bin/sh\nexec '${process.execPath}' --import '${import.meta.resolve('tsx')}' '${source}' "$@"\n`,
);
chmodSync(join(path, 'kslide'), 0o755);

function runBox(lines: string): Promise<string> {
  const env = { ...process.env, PATH: `${path}:${process.env['PATH']}` };
  const script = `set -euo pipefail\n${accel}\n${lines}`;
  return new Promise((resolve, reject) => {
    execFile('bash', ['-c', script], { cwd: folder, env, timeout: 300_000 }, (error, output, errors) => {
      if (error === null) resolve(output);
      else reject(new Error(`${lines}\n${output}\n${errors}`, { cause: error }));
    });
  });
}

/** As dpkg-deb leaves a package since Debian 13: modules in /usr/lib, and no /lib. */
async function unpackKernel(): Promise<void> {
  const kernel = await findKernel({ flavour: 'cloud' });
  assert.ok(kernel.modules, `${kernel.name} has no modules`);
  const boot = join(folder, 'k/boot');
  const modules = join(folder, 'k/usr/lib/modules', kernel.release);
  mkdirSync(boot, { recursive: true });
  mkdirSync(modules, { recursive: true });
  symlinkSync(kernel.image, join(boot, `vmlinuz-${kernel.release}`));
  for (const name of ['modules.builtin', 'modules.order'])
    copyFileSync(join(kernel.modules, name), join(modules, name));
  symlinkSync(join(kernel.modules, 'kernel'), join(modules, 'kernel'));
}

/** A root file system whose /sbin/init says so and ends the guest. */
const ROOT = `PATH=$PATH:/usr/sbin:/sbin
mkdir -p root/bin root/sbin && cp /bin/busybox root/bin/
printf '%s\\n' '#!/bin/busybox sh' '/bin/busybox echo this is the disk' '/bin/busybox reboot -f' >root/sbin/init
chmod +x root/sbin/init && truncate -s 16M root.ext4 && mke2fs -q -t ext4 -d root root.ext4`;

/** Where the guest says that its kernel is. */
function textOf(console: string): number {
  const [, address] = /([0-9a-f]{16}) T _text/.exec(console) ?? [];
  assert.ok(address, console);
  const slide = Number(BigInt(`0x${address}`) - 0xffff_ffff_8100_0000n);
  assert.equal(slide % PMD, 0, address);
  return slide;
}

test('a machine without KVM is told how to boot', () => {
  assert.match(accel, /^ {4}accel='-accel tcg -cpu max' tune='tsc_early_khz=1000000'$/);
});

test("guest.md's boxes make the guest, qemu.md's boot it, and it has moved", async () => {
  await unpackKernel();
  const [convert, pack, disk, ...others] = boxesOf('guest.md');
  assert.deepEqual(others, []);
  assert.match(await runBox(convert!), /^proved/m);
  await runBox(pack!);
  await runBox(disk!);
  assert.match(readFileSync(join(folder, 'guest/modules/order'), 'utf8'), /^virtio_blk\.ko$/m);
  await runBox(ROOT);

  const [microvm, q35, withDisk, randomize, ...rest] = boxesOf('qemu.md');
  assert.deepEqual(rest, []);
  const slides: number[] = [];
  for (const box of [microvm!, q35!, withDisk!, randomize!]) {
    const output = await inTurn(() => runBox(box));
    assert.match(output, /Linux version \d/);
    const slide = textOf(output);
    slides.push(slide);
    // kslide offset, where the box ends with it.
    if (box.includes('kslide offset'))
      assert.match(output, new RegExp(`^slide {2}0x${slide.toString(16)} .*from _text of /proc/kallsyms$`, 'm'));
    if (box === withDisk) assert.match(output, /this is the disk/);
  }
  // With 480 slots, three of four are alike once in 57,000 times.
  assert.ok(
    new Set(slides).size > 1 && new Set(slides).size >= slides.length - 1,
    `${basename(folder)}: ${slides.join(' ')}`,
  );
});
