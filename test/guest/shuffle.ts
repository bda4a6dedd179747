/** The guest of shuffled kernels: test/guest/shuffle-init.c, compiled; what it says, read; and what it has to say of a System.map. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packInitramfs } from '../../src/node/qemu/initramfs.ts';

const SOURCE = fileURLToPath(new URL('shuffle-init.c', import.meta.url));
const FLAGS = [
  '-O2',
  '-static',
  '-nostdlib',
  '-ffreestanding',
  '-fno-stack-protector',
  '-fno-pic',
  '-no-pie',
  '-mno-sse',
];

/** The initramfs; `module` is a kernel module that needs no other. */
export function packShuffleGuest(module: Uint8Array): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-guest-'));
  try {
    const init = join(folder, 'init');
    execFileSync('gcc', [...FLAGS, '-o', init, SOURCE], { stdio: 'inherit' });
    return packInitramfs([
      { type: 'file', path: 'init', data: new Uint8Array(readFileSync(init)), mode: 0o755 },
      { type: 'file', path: 'module.ko', data: module },
      { type: 'character-device', path: 'dev/console', major: 5, minor: 1 },
      { type: 'character-device', path: 'dev/ttyS0', major: 4, minor: 64 },
      { type: 'directory', path: 'proc' },
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The numbers behind each name that the guest printed. */
export function readShuffleGuest(console: string): ReadonlyMap<string, readonly bigint[]> {
  const lines = [...console.matchAll(/kslide-shuffle: (\w+)((?: [0-9a-f]+)*)\r?\n/g)];
  return new Map(
    lines.map(([, name = '', numbers = '']) => [
      name,
      numbers
        .split(' ')
        .slice(1)
        .map((number) => BigInt(`0x${number}`)),
    ]),
  );
}

/**
 * The functions of the last call trace, those of which the unwinder is sure, and how far into them: `vfs_write+0xc7`. What the kernel says of their
 * sizes it reckons from the next symbol, padding included.
 */
export function readBacktrace(console: string): string[] {
  const trace = console.slice(console.lastIndexOf('Call Trace:'));
  const end = trace.indexOf('</TASK>');
  assert.ok(end > 0, 'no call trace');
  // With the time in front or without (CONFIG_PRINTK_TIME).
  const lines = trace.slice(0, end).matchAll(/^(?:\[ *[\d.]+\])? +([\w.]+\+0x[0-9a-f]+)\/0x[0-9a-f]+/gm);
  const functions = [...lines].map(([, name]) => name!);
  assert.notEqual(functions.length, 0, `nothing in the call trace: ${trace.slice(0, end)}`);
  return functions;
}

const FNV_BASIS = 0xcbf2_9ce4_8422_2325n;
const FNV_PRIME = 0x100_0000_01b3n;
const KERNEL = 1n << 63n;

/** What the guest says of kallsyms when it is this System.map: lines, sum of name hashes, sum of hashes of names with addresses, relative to the lowest. */
export function hashSystemMap(map: string): { lines: bigint; names: bigint; pairs: bigint } {
  let [lines, names, pairs] = [0n, 0n, 0n];
  let text: bigint | undefined;
  for (const line of map.trimEnd().split('\n')) {
    const address = BigInt(`0x${line.slice(0, 16)}`);
    if (address >= KERNEL) text ??= address;
    let hash = FNV_BASIS;
    for (let at = 16; at < line.length; at++)
      hash = BigInt.asUintN(64, (hash ^ BigInt(line.charCodeAt(at))) * FNV_PRIME);
    lines++;
    names += hash;
    pairs += hash * (2n * (address < KERNEL ? address : address - text!) + 1n);
  }
  return { lines, names: BigInt.asUintN(64, names), pairs: BigInt.asUintN(64, pairs) };
}
