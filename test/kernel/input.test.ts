import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { ascii, Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import type { Codecs, Decoder } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readElf } from '../../src/elf/read.ts';
import { inspect } from '../../src/inspect.ts';
import { randomize } from '../../src/randomize.ts';
import { verify } from '../../src/verify/verify.ts';
import { makeVmlinux as fullVmlinux } from '../make-vmlinux.ts';
import { KernelImageError, type ErrorCode } from '../../src/base/errors.ts';
import { expectInput, readInput } from '../../src/kernel/input.ts';
import { KERNEL_VERSION, makeBzImage, makePe, makeVmlinux } from '../bzimage/make-image.ts';

const unused: Decoder = () => assert.fail('called');
/** gzip from Node, to need nothing of src/bzimage/codecs. */
const codecs: Codecs = {
  gzip: (data) => new Uint8Array(gunzipSync(data)),
  bzip2: unused,
  lzma: unused,
  xz: unused,
  lzo: unused,
  lz4: unused,
  zstd: unused,
};

const vmlinux = makeVmlinux();

test('a bzImage', async () => {
  const input = await readInput(makeBzImage(), { codecs });
  assert.equal(input.kind, 'bzimage');
  assert.deepEqual(input.vmlinux, vmlinux);
  assert.equal(input.header?.protocol, 0x020f);
  assert.equal(input.compression, 'gzip');
  assert.equal(input.kernelVersion, KERNEL_VERSION);
  assert.equal(input.relocs, undefined);
});

test('a bzImage with an EFI stub is PE as well, and stays a bzImage', async () => {
  const bytes = makeBzImage();
  bytes.set(ascii('MZ'));
  assert.equal((await readInput(bytes, { codecs })).kind, 'bzimage');
});

test('a UKI', async () => {
  const uki = makePe({ sections: { '.osrel': ascii('ID=x'), '.linux': makeBzImage(), '.initrd': ascii('070701') } });
  const input = await readInput(uki, { codecs });
  assert.equal(input.kind, 'uki');
  assert.deepEqual(input.vmlinux, vmlinux);
  assert.equal(input.header?.protocol, 0x020f);
  assert.equal(input.compression, 'gzip');
  assert.equal(input.kernelVersion, KERNEL_VERSION);
});

test('a vmlinux, with its table in a file of its own', async () => {
  const relocs = Uint8Array.from([1, 2, 3, 4]);
  const input = await readInput(vmlinux, { codecs, relocs });
  assert.deepEqual(input, {
    kind: 'vmlinux',
    vmlinux,
    bzImage: undefined,
    header: undefined,
    compression: undefined,
    payloadDiffers: undefined,
    kernelVersion: undefined,
    relocs,
  });
  assert.equal(input.vmlinux, vmlinux, 'not a copy');
});

test('a vmlinux says its version in its banner', async () => {
  const bytes = makeVmlinux();
  bytes.set(ascii('Linux version 6.1.0 (builder@host) (gcc) #1 SMP\n\0'), 0x80);
  assert.equal((await readInput(bytes, { codecs })).kernelVersion, '6.1.0 (builder@host)');
});

const READABLE = 'expected a bzImage, a UKI or an ELF vmlinux';

function elf(change: (elf: Writer) => void): Uint8Array {
  const bytes = makeVmlinux();
  change(new Writer(bytes));
  return bytes;
}

function magic(offset: number, text: string): Uint8Array {
  const bytes = new Uint8Array(0x400);
  bytes.set(ascii('MZ'));
  bytes.set(ascii(text), offset);
  return bytes;
}

const kernel32 = makeBzImage({ fields: { xloadflags: 0 } });

const refused: readonly [string, Uint8Array, ErrorCode, string][] = [
  ['an empty file', new Uint8Array(), 'not-a-kernel', `not a kernel image: file is empty, ${READABLE}`],
  [
    'garbage',
    new Uint8Array(4096).fill(0xa5),
    'not-a-kernel',
    `not a kernel image: file is of an unknown kind, ${READABLE}`,
  ],
  [
    'an ELF file cut in its header',
    vmlinux.subarray(0, 17),
    'truncated',
    'file is truncated: e_machine at offset 0x12: expected 0x2 bytes before the end at 0x11',
  ],
  [
    'a 32-bit ELF file',
    elf((file) => file.u8(4, 1)),
    'wrong-architecture',
    'not an x86-64 kernel: EI_CLASS at offset 0x4 is 0x1 (ELFCLASS32), expected 0x2 (ELFCLASS64)',
  ],
  [
    'a big-endian ELF file',
    elf((file) => file.u8(5, 2)),
    'wrong-architecture',
    'not an x86-64 kernel: EI_DATA at offset 0x5 is 0x2 (big-endian), expected 0x1 (little-endian)',
  ],
  [
    'an ELF file for aarch64',
    elf((file) => file.u16(18, 183)),
    'wrong-architecture',
    'not an x86-64 kernel: e_machine at offset 0x12 is 0xb7 (aarch64), expected 0x3e (x86-64)',
  ],
  [
    'an ELF file for a machine without a name here',
    elf((file) => file.u16(18, 0x1234)),
    'wrong-architecture',
    'not an x86-64 kernel: e_machine at offset 0x12 is 0x1234, expected 0x3e (x86-64)',
  ],
  [
    'a kernel module',
    elf((file) => file.u16(16, 1)),
    'not-a-kernel',
    'not a kernel image: e_type at offset 0x10 is 0x1 (ET_REL, an object file or kernel module), expected 0x2 (ET_EXEC) or 0x3 (ET_DYN); give the kernel that it belongs to: vmlinuz in /boot, or vmlinux of the build',
  ],
  [
    'an arm64 Image',
    magic(0x38, 'ARM\x64'),
    'wrong-architecture',
    `not an x86-64 kernel: file is an arm64 Image, ${READABLE}; kslide reads kernels for x86-64 only`,
  ],
  [
    'an arm64 Image.gz',
    new Uint8Array(gzipSync(magic(0x38, 'ARM\x64'))),
    'not-a-kernel',
    `not a kernel image: file is gzip data, ${READABLE}; decompress it and try what is inside`,
  ],
  [
    'an EFI zboot image',
    magic(4, 'zimg'),
    'wrong-architecture',
    `not an x86-64 kernel: file is an EFI zboot image (arm64, RISC-V or LoongArch), ${READABLE}; the kernel is in it, compressed; kslide reads kernels for x86-64 only`,
  ],
  [
    'a RISC-V Image',
    magic(0x38, 'RSC\x05'),
    'wrong-architecture',
    `not an x86-64 kernel: file is a RISC-V Image, ${READABLE}; kslide reads kernels for x86-64 only`,
  ],
  [
    'an ARM zImage',
    magic(0x24, '\x18\x28\x6f\x01'),
    'wrong-architecture',
    `not an x86-64 kernel: file is a 32-bit ARM zImage, ${READABLE}; kslide reads kernels for x86-64 only`,
  ],
  [
    'a 32-bit bzImage',
    kernel32,
    'wrong-architecture',
    'not an x86-64 kernel: xloadflags at offset 0x236 is 0x0, expected XLF_KERNEL_64 (bit 0): this is a 32-bit x86 kernel',
  ],
  [
    'a 32-bit bzImage in a UKI',
    makePe({ sections: { '.linux': kernel32 } }),
    'wrong-architecture',
    'not an x86-64 kernel: xloadflags of the .linux section at offset 0x236 is 0x0, expected XLF_KERNEL_64 (bit 0): this is a 32-bit x86 kernel',
  ],
  [
    'a UKI whose .linux is no bzImage',
    makePe({ sections: { '.linux': vmlinux } }),
    'not-a-kernel',
    'not a kernel image: setup header of the .linux section at offset 0x202: expected "HdrS"',
  ],
  [
    'a UKI for aarch64',
    makePe({ machine: 0xaa64, sections: { '.linux': makeBzImage() } }),
    'wrong-architecture',
    'not an x86-64 kernel: PE Machine is 0xaa64 (aarch64), expected 0x8664 (x86-64)',
  ],
  [
    'a PE program that is no UKI',
    makePe({ sections: { '.text': ascii('code') } }),
    'not-a-kernel',
    `not a kernel image: file is a PE program without a .linux section, ${READABLE}`,
  ],
  [
    'a bzImage cut within its boot sector',
    magic(0, 'MZ').subarray(0, 0x3e),
    'truncated',
    'file is truncated: e_lfanew at offset 0x3c: expected 0x4 bytes before the end at 0x3e',
  ],
  [
    'an initramfs',
    ascii('0707010000000000'),
    'not-a-kernel',
    `not a kernel image: file is a cpio archive (an initramfs?), ${READABLE}; the kernel is the file beside it, vmlinuz in /boot`,
  ],
  [
    'a zstd stream',
    ascii('\x28\xb5\x2f\xfd....'),
    'not-a-kernel',
    `not a kernel image: file is zstd data, ${READABLE}; decompress it and try what is inside`,
  ],
  [
    'a bzImage whose payload is no ELF file',
    makeBzImage({ payload: gzipSync('no ELF file') }),
    'not-a-kernel',
    'not a kernel image: e_ident of the payload at offset 0x0: expected "\\x7fELF"',
  ],
  [
    'a bzImage of before 2.12 whose payload is a 32-bit kernel',
    makeBzImage({ payload: gzipSync(elf((file) => file.u8(4, 1))), fields: { version: 0x0208 } }),
    'wrong-architecture',
    'not an x86-64 kernel: EI_CLASS of the payload at offset 0x4 is 0x1 (ELFCLASS32), expected 0x2 (ELFCLASS64)',
  ],
];

const MOUNT = 'the kernel is a file in it: mount it, and take vmlinuz from its /boot';
/** Bytes at an offset, what the file is, and what to do. */
const foreign: readonly [number, string, string, string][] = [
  [
    0,
    '\x27\x05\x19\x56',
    'a U-Boot uImage',
    'its data begins at offset 0x40: dumpimage -T kernel -p 0 -o OUT FILE takes it out',
  ],
  [0, 'ANDROID!', 'an Android boot image', 'unpack_bootimg --boot_img FILE takes the kernel out'],
  [0, 'QFI\xfb', 'a qcow2 disk image', MOUNT],
  [0, 'hsqs', 'a squashfs file system', MOUNT],
  [0x438, '\x53\xef', 'an ext2, ext3 or ext4 file system', MOUNT],
  [0x8001, 'CD001', 'an ISO 9660 image (a CD)', MOUNT],
  [0x200, 'EFI PART', 'a disk image with a GPT', MOUNT],
  [510, '\x55\xaa', 'a disk image with partitions, or a boot sector', MOUNT],
  [0, '!<arch>\ndebian-binary   ', 'a Debian package', 'dpkg-deb -x FILE DIRECTORY unpacks it'],
  [
    0x5000,
    'Linux version 6.1.0 (builder@host)',
    'the memory image of a kernel, without headers (vmlinux.bin, by objcopy -O binary?)',
    'give the vmlinux that it was made from, or the bzImage of the same build',
  ],
];

for (const [offset, text, what, hint] of foreign) {
  test(`${what} is named, with what to do`, async () => {
    const bytes = new Uint8Array(0x1_0000);
    bytes.set(ascii(text), offset);
    await assert.rejects(readInput(bytes, { codecs }), {
      code: 'not-a-kernel',
      message: `not a kernel image: file is ${what}, ${READABLE}; ${hint}`,
    });
  });
}

/** Linked and changed by binutils, and what each command of the core says of the file. */
test('other ELF files by GNU ld and objcopy are named: a shared object, debug information alone, a memory image', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-input-'));
  const path = (name: string): string => join(folder, name);
  const read = (name: string): Uint8Array => new Uint8Array(readFileSync(path(name)));
  const tool = (program: string, ...args: readonly string[]): unknown => execFileSync(program, args, { cwd: folder });
  try {
    writeFileSync(
      path('k.s'),
      '.section .text,"ax"\n.globl f\nf: nop\n.data\n.quad f\n.asciz "Linux version 6.1.0 (b@h)"\n',
    );
    writeFileSync(
      path('k.lds'),
      'SECTIONS { . = 0xffffffff81000000; .text : AT(0x1000000) { *(.text) } .data : AT(0x1000000 + SIZEOF(.text)) { *(.data) } }',
    );
    tool('as', 'k.s', '-o', 'k.o');
    tool('ld', '-shared', 'k.o', '-o', 'k.so');
    tool('ld', '-T', 'k.lds', '--emit-relocs', 'k.o', '-o', 'k');
    tool('objcopy', '--only-keep-debug', 'k', 'k.debug');
    tool('objcopy', '-O', 'binary', 'k', 'k.bin');
    for (const [name, message] of [
      [
        'k.so',
        /^not a kernel image: program headers is those of a shared object or another program, expected a PT_LOAD at 0xffffffff80000000 /,
      ],
      [
        'k.debug',
        /^not a kernel image: vmlinux is debug information only: section 1 \(\.text\) holds no bytes \(SHT_NOBITS\); give the vmlinux that it was split from, or the bzImage of the same build$/,
      ],
      ['k.bin', /^not a kernel image: file is the memory image of a kernel, without headers/],
      ['k.o', /^not a kernel image: e_type at offset 0x10 is 0x1 \(ET_REL, .*; give the kernel that it belongs to/],
    ] as const) {
      const refusal = { code: 'not-a-kernel', message };
      await assert.rejects(convert(read(name), { codecs: coreCodecs }), refusal, name);
      await assert.rejects(inspect(read(name), { codecs: coreCodecs }), refusal, name);
      await assert.rejects(verify(read(name), vmlinux, { codecs: coreCodecs }), { code: 'not-a-kernel' }, name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a PT_LOAD without file bytes may have any p_offset: it is converted, proved and moved', async () => {
  // The per-cpu segment; its bytes are not in the file.
  const image = fullVmlinux({
    edit: (writer) => {
      writer.u64(64 + 56 + 8, 2 ** 40);
      writer.u64(64 + 56 + 32, 0);
    },
  });
  const { bytes } = await convert(image, { codecs: coreCodecs });
  assert.equal((await verify(image, bytes(), { codecs: coreCodecs })).verdict, 'proved');
  await inspect(bytes(), { codecs: coreCodecs });
  const moved = await randomize(image, { codecs: coreCodecs, virt: 0x40_0000, entry: 'linux64' });
  assert.equal(readElf(moved.bytes()).segments[1]!.offset, 2 ** 40);
});

for (const [name, bytes, code, message] of refused) {
  test(`${name} is refused`, async () => {
    await assert.rejects(readInput(bytes, { codecs }), { name: 'KernelImageError', code, message });
  });
}

test('every truncation of a UKI is told as one', async () => {
  const uki = makePe({ sections: { '.linux': makeBzImage() } });
  const end = 0x200 + makeBzImage().length;
  for (let length = 2; length < end; length++) {
    await assert.rejects(readInput(uki.subarray(0, length), { codecs }), { code: 'truncated' }, `${length} bytes`);
  }
});

test('only KernelImageError comes out of any one changed byte before the payload', async () => {
  const good = makeBzImage();
  for (let at = 0; at < 0x440; at++) {
    for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
      const bytes = good.slice();
      bytes[at] = value;
      await readInput(bytes, { codecs: { ...codecs, gzip: () => makeVmlinux() } }).catch((error: unknown) => {
        assert.ok(error instanceof KernelImageError, `byte 0x${at.toString(16)}: ${String(error)}`);
      });
    }
  }
});

test('who has the first bytes only is refused nothing', () => {
  const image = makeBzImage({ payload: gzipSync(vmlinux) });
  for (const bytes of [image, makePe({ sections: {} }), vmlinux, new Uint8Array(0)])
    for (let length = 0; length <= Math.min(bytes.length, 0x400); length++) expectInput(bytes.subarray(0, length));
  for (let at = 0x1f0; at < 0x280; at++) {
    for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
      const head = image.slice();
      head[at] = value;
      expectInput(head);
    }
  }
});

test('a kernel is seen once it is read, whatever it came in', async () => {
  for (const image of [vmlinux, makeBzImage({ payload: gzipSync(vmlinux) })]) {
    const seen: [Uint8Array, number][] = [];
    const input = await readInput(image, { codecs, watch: (bytes, end) => seen.push([bytes, end]) });
    assert.equal(seen.length, 1);
    assert.equal(seen[0]![0], input.vmlinux);
    assert.equal(seen[0]![1], input.vmlinux.length);
  }
});
