import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConsole } from '../../src/node/qemu/console.ts';

const LINKED = 0xffff_ffff_8100_0000n;

const panicAt = (offset: string): string =>
  `[    1.36] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.37] Kernel Offset: ${offset}\r\n`;

test('the slide of a panic, with and without KASLR', () => {
  const range = '(relocation range: 0xffffffff80000000-0xffffffffbfffffff)';
  const { slide, kaslr } = parseConsole(panicAt(`0x1c000000 from 0xffffffff81000000 ${range}`));
  assert.deepEqual({ slide, kaslr }, { slide: 0x1c00_0000, kaslr: 'on' });
  // KASLR may choose not to move the kernel at all.
  assert.equal(parseConsole(panicAt(`0x0 from 0xffffffff81000000 ${range}`)).kaslr, 'on');
  const { guest: _, release: __, ...off } = parseConsole(panicAt('disabled'));
  assert.deepEqual(off, { slide: undefined, kaslr: 'off', end: 'panic', panic: 'VFS: Unable to mount root fs' });
});

test('an offset that was cut off is no slide', () => {
  assert.equal(parseConsole('Kernel Offset: 0x1c00[    1.4] usb 1-1: new device').slide, undefined);
  assert.equal(parseConsole('Kernel Offset: 0x1c000000 from 0xffffffff81').slide, undefined);
  assert.equal(parseConsole('').slide, undefined);
});

test("the guest's report, with other speakers in between", () => {
  const report = parseConsole(
    [
      '[    0.000000] Linux version 6.12.117+deb12-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 …',
      'SeaBIOS\x1b[2J kslide-guest: text=ffffffff9d200000\r',
      'kslide-guest: kcore ffff8b69c0001000 000000000009e000',
      '[    1.2] random: crng init donekslide-guest: kcore ffffcd4a00000000 00001fffffffffff',
      'kslide-guest: cpus=0000000000000003',
      'kslide-guest: module=0000000000000000',
      'kslide-guest: module=fffffffffffffff8',
      'crc_itu_t 12288 0 - Live 0xffffffffc02f4000',
      'loop 40960 1 crc_itu_t, Live 0xffffffffc02e7000 (E)',
      '  1d200000-1e001ef1 : Kernel code',
      'kslide-guest: done',
    ].join('\n'),
    LINKED,
  );
  assert.equal(report.slide, 0x1c20_0000);
  assert.equal(report.release, '6.12.117+deb12-cloud-amd64');
  assert.equal(report.end, 'poweroff');
  assert.deepEqual(report.guest, {
    text: 0xffff_ffff_9d20_0000n,
    kcore: [
      { start: 0xffff_8b69_c000_1000n, size: 0x9_e000n },
      { start: 0xffff_cd4a_0000_0000n, size: 0x1fff_ffff_ffffn },
    ],
    cpus: 2,
    modules: [0, -8],
    moduleAddresses: new Map([
      ['crc_itu_t', 0xffff_ffff_c02f_4000n],
      ['loop', 0xffff_ffff_c02e_7000n],
    ]),
    physicalText: 0x1d20_0000,
    done: true,
  });
});

test('a line torn by another is not found, rather than read wrong', () => {
  const { guest, slide } = parseConsole(
    'kslide-guest: text=ffffffff9d2[    1.2] clocksource: tsc\n00000\nkslide-guest: cpus=00000000000000031\nkslide-guest: kcore ffff8b69c0001000 00\n',
    LINKED,
  );
  assert.equal(guest.text, undefined);
  assert.equal(slide, undefined);
  assert.equal(guest.cpus, undefined);
  assert.deepEqual(guest.kcore, []);
  assert.equal(guest.done, false);
});

test('without a panic and without a guest program, nothing is known', () => {
  const { slide, end, guest } = parseConsole(
    '[    0.0] Linux version 6.1.0\n[    0.1] Command line: console=ttyS0',
    LINKED,
  );
  assert.equal(slide, undefined);
  assert.equal(end, undefined);
  assert.equal(guest.text, undefined);
});
