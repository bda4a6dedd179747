/**
 * Three second opinions on machine code: GNU objdump, GNU as and iced-x86. Each sees bytes or text and knows nothing of src/asm.
 *
 * objdump and as come from the package binutils (2.40 here; the exact text of operands is that version's), iced-x86 from npm.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decoder, DecoderOptions, Formatter, FormatterSyntax, MemorySizeOptions } from 'iced-x86';

export interface Disassembled {
  readonly offset: number;
  /** A view of the code. */
  readonly bytes: Uint8Array;
  readonly text: string;
}

function inScratch<T>(work: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'kslide-asm-'));
  try {
    return work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** `objdump -D -M intel`, without the comment (`# 0x…`) that it adds to RIP-relative operands and without trailing spaces. */
export function objdump(code: Uint8Array, bits: 32 | 64): Disassembled[] {
  const machine = bits === 64 ? 'i386:x86-64' : 'i386';
  const output = inScratch((directory) => {
    const file = join(directory, 'code.bin');
    writeFileSync(file, code);
    // -z: zeros are instructions too. --insn-width=16: one instruction is one line.
    const options = ['-D', '-z', '-b', 'binary', '-m', machine, '-M', 'intel', '--insn-width=16'];
    return execFileSync('objdump', [...options, file], { encoding: 'utf8', maxBuffer: 1 << 28 });
  });
  const lines: Disassembled[] = [];
  for (const line of output.split('\n')) {
    const match = /^ *([0-9a-f]+):\t([0-9a-f ]+?) *\t(.*)$/.exec(line);
    if (match === null) continue;
    const [, at = '', hex = '', text = ''] = match;
    const offset = Number.parseInt(at, 16);
    lines.push({
      offset,
      bytes: code.subarray(offset, offset + hex.split(' ').length),
      text: text.replace(/ *#.*$/, '').trimEnd(),
    });
  }
  return lines;
}

/** iced-x86 in Intel syntax, with the options that bring it nearest to objdump. An invalid instruction has the text `(bad)`. */
export function iced(code: Uint8Array, bits: 32 | 64): Disassembled[] {
  const decoder = new Decoder(bits, code, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Intel);
  formatter.hexPrefix = '0x';
  formatter.hexSuffix = '';
  formatter.uppercaseHex = false;
  formatter.smallHexNumbersInDecimal = false;
  formatter.branchLeadingZeros = false;
  formatter.displacementLeadingZeros = false;
  formatter.memorySizeOptions = MemorySizeOptions.Always;
  formatter.ripRelativeAddresses = true;
  formatter.showZeroDisplacements = false;
  formatter.alwaysShowScale = true;
  formatter.signedMemoryDisplacements = true;
  formatter.addLeadingZeroToHexNumbers = false;
  formatter.showBranchSize = false;
  const lines: Disassembled[] = [];
  try {
    while (decoder.canDecode) {
      const offset = decoder.position;
      const instruction = decoder.decode();
      lines.push({ offset, bytes: code.subarray(offset, decoder.position), text: formatter.format(instruction) });
      instruction.free();
    }
  } finally {
    formatter.free();
    decoder.free();
  }
  return lines;
}

/**
 * Assembles each line by itself with GNU as, Intel syntax as objdump prints it. `null` where as does not take the line.
 *
 * One process does them all: each line stands between labels of its own, and a branch target or RIP-relative operand is left to it as
 * text, so only lines that do not depend on their place make sense here.
 */
export function gnuAs(lines: readonly string[], bits: 32 | 64): Uint8Array[] {
  return inScratch((directory) => {
    const [source, object, binary] = ['code.s', 'code.o', 'code.bin'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    // 16 bytes hold any instruction, so the lines keep apart and their ends show as the length byte that follows.
    const each = lines.map((line, i) => `.balign 32\nS${i}: ${line}\nE${i}: .balign 16\n.byte E${i}-S${i}\n`);
    writeFileSync(source, `.intel_syntax noprefix\n.code${bits}\n${each.join('')}.balign 32\n`);
    execFileSync('as', [bits === 64 ? '--64' : '--32', '-o', object, source], { stdio: 'pipe' });
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary]);
    const code = readFileSync(binary);
    return lines.map((_, i) => code.subarray(32 * i, 32 * i + (code[32 * i + 16] ?? 0)));
  });
}
