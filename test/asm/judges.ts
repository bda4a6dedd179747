/**
 * Second opinions on machine code: GNU objdump, iced-x86 and GNU as. Each sees bytes or text and knows nothing of src/asm.
 *
 * objdump and as come from the package binutils (2.40 here; the exact text of operands is that version's), iced-x86 from npm. A missing
 * binutils makes the tests fail, not skip: without a judge they would prove nothing.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decoder, DecoderOptions, Formatter, FormatterSyntax, MemorySizeOptions } from 'iced-x86';
import type { ListingLine } from '../../src/asm/assembler.ts';

export interface Disassembled {
  readonly offset: number;
  /** A view of the code. */
  readonly bytes: Uint8Array;
  readonly text: string;
}

type Bits = 32 | 64;

function inScratch<T>(work: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'kslide-asm-'));
  try {
    return work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** `objdump -D -M intel`, less the comment (`# 0x…`) that it adds to RIP-relative operands. */
export function objdump(code: Uint8Array, bits: Bits): Disassembled[] {
  const machine = bits === 64 ? 'i386:x86-64' : 'i386';
  const output = inScratch((directory) => {
    const file = join(directory, 'code.bin');
    writeFileSync(file, code);
    // -z: zeros are instructions too. --insn-width=16: one instruction, one line.
    const options = ['-D', '-z', '-b', 'binary', '-m', machine, '-M', 'intel', '--insn-width=16'];
    return execFileSync('objdump', [...options, file], { encoding: 'utf8', maxBuffer: 1 << 28 });
  });
  const lines: Disassembled[] = [];
  for (const line of output.split('\n')) {
    const match = /^ *([0-9a-f]+):\t([0-9a-f ]+?) *\t(.*)$/.exec(line);
    if (match === null) continue;
    const [, at = '', hex = '', text = ''] = match;
    const offset = Number.parseInt(at, 16);
    const bytes = code.subarray(offset, offset + hex.split(' ').length);
    lines.push({ offset, bytes, text: text.replace(/ *#.*$/, '').trimEnd() });
  }
  return lines;
}

/** iced-x86 in Intel syntax, with the options that bring it nearest to objdump; `asIced` does the rest. Bad bytes are `(bad)`. */
export function iced(code: Uint8Array, bits: Bits): Disassembled[] {
  const decoder = new Decoder(bits, code, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Intel);
  formatter.hexPrefix = '0x';
  formatter.hexSuffix = '';
  formatter.uppercaseHex = false;
  formatter.smallHexNumbersInDecimal = false;
  formatter.addLeadingZeroToHexNumbers = false;
  formatter.branchLeadingZeros = false;
  formatter.displacementLeadingZeros = false;
  formatter.memorySizeOptions = MemorySizeOptions.Always;
  formatter.ripRelativeAddresses = true;
  formatter.alwaysShowScale = true;
  formatter.showBranchSize = false;
  const lines: Disassembled[] = [];
  while (decoder.canDecode) {
    const offset = decoder.position;
    const instruction = decoder.decode();
    lines.push({ offset, bytes: code.subarray(offset, decoder.position), text: formatter.format(instruction) });
    instruction.free();
  }
  formatter.free();
  decoder.free();
  return lines;
}

/** The same instruction in iced's Intel syntax; the differences are spelling, never meaning. */
export function asIced(text: string): string {
  const [, mnemonic = '', operands = ''] = /^((?:rep )?\w+) *(.*)$/.exec(text) ?? [];
  const string = /^(rep )?(movs|stos|lods)$/.exec(mnemonic);
  if (string !== null) {
    const [, repeat = '', name = ''] = string;
    const size = /BYTE|DWORD|QWORD/.exec(operands)?.[0] ?? '';
    const memory = operands.split(',').filter((operand) => operand.includes('PTR'));
    const short = { BYTE: 'b', DWORD: 'd', QWORD: 'q' }[size] ?? '?';
    return `${repeat}${name}${short} ${memory
      .join(',')
      .replaceAll(/[de]s:/g, '')
      .toLowerCase()}`;
  }
  if (mnemonic === 'retf') return 'ret far';
  if (mnemonic === 'pushf') return 'pushfq';
  if (mnemonic === 'popf') return 'popfq';
  const far = /^(0x[0-9a-f]+):(0x[0-9a-f]+)$/.exec(operands);
  if (far !== null) return `jmp far ${far[2]},${far[1]}`;

  let same = operands
    .replaceAll(/ds:(0x[0-9a-f]+)/g, '[$1]')
    .replace(
      /rip\+0x(f{8}[0-9a-f]{8})\]/,
      (_, hex: string) => `rip-0x${(0x1_0000_0000_0000_0000n - BigInt(`0x${hex}`)).toString(16)}]`,
    )
    .replace(/[+-]0x0\]/, ']')
    .replaceAll('PTR', 'ptr')
    .replaceAll(/BYTE|[DQ]?WORD/g, (size) => size.toLowerCase());
  if (/^[sl][gi]dtd?$/.test(mnemonic)) return `${mnemonic.slice(0, 4)} fword ptr ${same}`;
  if (/^(shl|shr|rol|ror)$/.test(mnemonic)) same = same.replace(/,1$/, ',0x1');
  if (mnemonic === 'mov') same = same.replace(/^([c-gs]s),e(\w\w)$/, '$1,$2').replace(/^([c-gs]s),(r\d+)d$/, '$1,$2w');
  if (mnemonic === 'imul') same = same.replace(/^(\w+),\1,/, '$1,');
  return `${mnemonic === 'movabs' ? 'mov' : mnemonic} ${same}`.trimEnd();
}

/** What GNU as makes of Intel syntax: the bytes of `.text`. */
export function gnuAsProgram(source: readonly string[], bits: Bits): Uint8Array {
  return inScratch((directory) => {
    const file = (name: string): string => join(directory, name);
    writeFileSync(file('code.s'), `.intel_syntax noprefix\n.code${bits}\n${source.join('\n')}\n`);
    execFileSync('as', [`--${bits}`, '-W', '-o', file('code.o'), file('code.s')]);
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', file('code.o'), file('code.bin')]);
    return new Uint8Array(readFileSync(file('code.bin')));
  });
}

/**
 * Each instruction by itself, all in one process. A branch to an address (`jmp 0x185`) is assembled as if it lay at `offset`, in the length
 * that as chooses.
 */
export function gnuAs(lines: readonly Pick<Disassembled, 'offset' | 'text'>[], bits: Bits): Uint8Array[] {
  // 16 bytes hold any instruction; its length is in the byte after them.
  const source = lines.map(({ offset, text }, i) => {
    const statement = text.replace(/^(j\w+|call) +0x([0-9a-f]+)$/, (_, mnemonic: string, hex: string) => {
      const distance = BigInt.asIntN(bits, BigInt(`0x${hex}`)) - BigInt(offset);
      return `${mnemonic} S${i}${distance < 0n ? '-' : '+'}${distance < 0n ? -distance : distance}`;
    });
    return `.balign 32\nS${i}: ${statement}\nE${i}: .balign 16\n.byte E${i}-S${i}`;
  });
  const code = gnuAsProgram(source, bits);
  return lines.map((_, i) => code.subarray(32 * i, 32 * i + (code[32 * i + 16] ?? 0)));
}

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const row = (line: Pick<Disassembled, 'offset' | 'bytes' | 'text'>): string =>
  `${line.offset.toString(16)}: ${hexOf(line.bytes)} ${line.text}`;

/**
 * The listing must be what objdump and iced read from the same bytes: every offset, length and operand. Lines of data are left out, and each
 * run of code between them is judged by itself. Where `bits` changes, data must lie in between.
 */
export function assertDisassembles(listing: readonly ListingLine[]): void {
  for (const bits of [32, 64] as const) {
    const lines = listing.filter((line) => line.bits === bits && !line.data);
    const ours = lines.map(row);
    const first = listing[0];
    if (first === undefined || lines.length === 0) continue;
    // Data and code of the other mode become nops: everything keeps its offset, branches their targets, and one process judges all.
    const last = listing.at(-1) ?? first;
    const code = new Uint8Array(last.offset + last.bytes.length).fill(0x90);
    for (const line of lines) code.set(line.bytes, line.offset);
    const starts = new Set(lines.map((line) => line.offset));
    assert.deepEqual(
      objdump(code, bits)
        .filter((line) => starts.has(line.offset))
        .map(row),
      ours,
    );
    const spelled = lines.map((line) => row({ ...line, text: asIced(line.text) }));
    assert.deepEqual(
      iced(code, bits)
        .filter((line) => starts.has(line.offset))
        .map(row),
      spelled,
    );
  }
}
