import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBzImage, readSetupHeader, SETUP } from '../../src/bzimage/header.ts';
import { KernelImageError, type ErrorCode } from '../../src/base/errors.ts';
import { KERNEL_VERSION, makeBzImage, type BzImageParts, type SetupFieldName } from './make-image.ts';

/** Copied from the table in Documentation/arch/x86/boot.rst: offset/size, protocol, name. */
const BOOT_RST = `
01F1/1 ALL    setup_sects
01F4/4 2.04+  syssize
01FE/2 ALL    boot_flag
0202/4 2.00+  header
0206/2 2.00+  version
020E/2 2.00+  kernel_version
0211/1 2.00+  loadflags
0214/4 2.00+  code32_start
0230/4 2.05+  kernel_alignment
0234/1 2.05+  relocatable_kernel
0235/1 2.10+  min_alignment
0236/2 2.12+  xloadflags
0238/4 2.06+  cmdline_size
0248/4 2.08+  payload_offset
024C/4 2.08+  payload_length
0258/8 2.10+  pref_address
0260/4 2.10+  init_size
0264/4 2.11+  handover_offset
0268/4 2.15+  kernel_info_offset`;

test('field places are those of boot.rst', () => {
  const documented = BOOT_RST.trim()
    .split('\n')
    .map((line) => {
      const [place = '', protocol = '', name = ''] = line.split(/ +/);
      const [offset = '', width = ''] = place.split('/');
      const minor = Number(/2\.(\d+)/.exec(protocol)?.[1] ?? 0);
      return { name, offset: Number.parseInt(offset, 16), width: Number(width), since: 0x0200 + minor };
    });
  assert.deepEqual(Object.values(SETUP), documented);
});

test('reads every field', () => {
  assert.deepEqual(readSetupHeader(makeBzImage({ payload: new Uint8Array(0x30) })), {
    protocol: 0x020f,
    kernelVersion: KERNEL_VERSION,
    protectedModeStart: 0x400,
    protectedModeLength: 0x90,
    loadflags: 1,
    xloadflags: 0x7f,
    code32Start: 0x10_0000,
    kernelAlignment: 0x20_0000,
    relocatable: true,
    minAlignment: 21,
    cmdlineSize: 2047,
    payloadOffset: 0x40,
    payloadLength: 0x30,
    prefAddress: 0x100_0000,
    initSize: 0x10_0000,
    handoverOffset: 0x190,
    kernelInfoOffset: 0x20,
  });
});

test('fields that the protocol does not have yet are undefined, whatever stands there', () => {
  const header = readSetupHeader(makeBzImage({ fields: { version: 0x0208 } }));
  const { minAlignment, xloadflags, prefAddress, initSize, handoverOffset, kernelInfoOffset } = header;
  assert.deepEqual(
    [minAlignment, xloadflags, prefAddress, initSize, handoverOffset, kernelInfoOffset],
    [undefined, undefined, undefined, undefined, undefined, undefined],
  );
  // XLF_KERNEL_64 came with 2.12: a 64-bit kernel of before does not have it.
  assert.doesNotThrow(() => readSetupHeader(makeBzImage({ fields: { version: 0x020b, xloadflags: 0 } })));
});

test('setup_sects 0 means 4', () => {
  const bytes = new Uint8Array(0x2000);
  bytes.set(makeBzImage({ fields: { setup_sects: 0, syssize: 0 } }));
  assert.equal(readSetupHeader(bytes).protectedModeStart, 5 * 512);
});

test('syssize counts paragraphs: the last one may be cut by up to 15 bytes', () => {
  const bytes = makeBzImage();
  assert.doesNotThrow(() => readSetupHeader(bytes.subarray(0, -15)));
  assert.throws(() => readSetupHeader(bytes.subarray(0, -16)), { code: 'truncated' });
});

const versionOf = (parts: BzImageParts): string | undefined => readSetupHeader(makeBzImage(parts)).kernelVersion;

test('the version string is taken only where it is one', () => {
  assert.equal(versionOf({ kernelVersion: '6.1 (a@b) #1' }), '6.1 (a@b) #1');
  assert.equal(versionOf({ fields: { kernel_version: 0 } }), undefined);
  assert.equal(versionOf({ fields: { kernel_version: 0xffff } }), undefined);
  assert.equal(versionOf({ kernelVersion: '' }), undefined);
  assert.equal(versionOf({ kernelVersion: '6.1\x1b[2J' }), undefined);
});

const refused: readonly [SetupFieldName, number, ErrorCode, string][] = [
  ['header', 0x53726449, 'not-a-kernel', 'not a kernel image: setup header at offset 0x202: expected "HdrS"'],
  ['boot_flag', 0x55aa, 'bad-value', 'invalid value: boot_flag at offset 0x1fe is 0x55aa, expected 0xaa55'],
  [
    'version',
    0x0207,
    'unsupported',
    'not supported: boot protocol version at offset 0x206 is 0x207, expected at least 0x208 (Linux 2.6.26): older headers do not say where the payload is',
  ],
  [
    'loadflags',
    0x80,
    'unsupported',
    'not supported: loadflags at offset 0x211 is 0x80, expected LOADED_HIGH (bit 0): this is a zImage, not a bzImage',
  ],
  [
    'xloadflags',
    0x7e,
    'wrong-architecture',
    'not an x86-64 kernel: xloadflags at offset 0x236 is 0x7e, expected XLF_KERNEL_64 (bit 0): this is a 32-bit x86 kernel',
  ],
  [
    'setup_sects',
    0xff,
    'truncated',
    'file is truncated: setup code (setup_sects) at offset 0x0: expected 0x20000 bytes before the end at 0x490',
  ],
  [
    'syssize',
    0x0a,
    'truncated',
    'file is truncated: protected-mode code (syssize) at offset 0x400: expected 0x91 bytes before the end at 0x490',
  ],
  [
    'kernel_alignment',
    0x30_0000,
    'bad-value',
    'invalid value: kernel_alignment at offset 0x230 is 0x300000, expected a power of two from 0x200000 on',
  ],
  [
    'kernel_alignment',
    0x10_0000,
    'bad-value',
    'invalid value: kernel_alignment at offset 0x230 is 0x100000, expected a power of two from 0x200000 on',
  ],
];

for (const [name, value, code, message] of refused) {
  test(`${name} 0x${value.toString(16)} is refused`, () => {
    const bytes = makeBzImage({ payload: new Uint8Array(0x30), fields: { [name]: value } });
    assert.throws(() => readSetupHeader(bytes), { name: 'KernelImageError', code, message });
  });
}

test('a file of any length is not a bzImage, truncated, or whole', () => {
  const bytes = makeBzImage();
  for (let length = 0; length < bytes.length - 15; length++) {
    const cut = bytes.subarray(0, length);
    assert.equal(isBzImage(cut), length >= 0x206);
    assert.throws(() => readSetupHeader(cut), { code: length >= 0x206 ? 'truncated' : 'not-a-kernel' });
  }
});

test('only KernelImageError comes out of a header of random bytes', () => {
  const good = makeBzImage();
  fc.assert(
    fc.property(fc.integer({ min: 0x1f0, max: 0x26c }), fc.uint8Array({ maxLength: 12 }), (at, noise) => {
      const bytes = good.slice();
      bytes.set(noise, at);
      try {
        readSetupHeader(bytes);
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});
