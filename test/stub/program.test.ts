/**
 * Every instruction of the programs, as offset, bytes and assembly: written down in *.golden.txt, and read back from the bytes by GNU
 * objdump and iced-x86. After an intended change: KSLIDE_UPDATE_GOLDEN=1, and read the diff.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatListing } from '../../src/asm/assembler.ts';
import { assembleFlagStub, assembleStub } from '../../src/stub/program.ts';
import { iced, objdump } from '../asm/judges.ts';

const PROGRAMS = [
  { name: 'program', assemble: assembleStub },
  { name: 'flag-program', assemble: assembleFlagStub },
];

for (const { name, assemble } of PROGRAMS) {
  const stub = assemble();
  const golden = fileURLToPath(new URL(`${name}.golden.txt`, import.meta.url));

  describe(name, () => {
    test('the program is the one that was reviewed', () => {
      const listing = formatListing(stub.listing);
      if (process.env['KSLIDE_UPDATE_GOLDEN'] !== undefined) writeFileSync(golden, listing);
      assert.equal(listing, readFileSync(golden, 'utf8'));
    });

    test('it is the same every time, and all code', () => {
      assert.deepEqual(assemble().code, stub.code);
      assert.deepEqual(
        stub.listing.filter((line) => line.data),
        [],
      );
    });

    test('objdump reads every instruction as it is meant', () => {
      const judged = objdump(stub.code, 64).map(
        ({ offset, text }) => `${offset.toString(16)} ${text.replace(/ +/g, ' ')}`,
      );
      assert.deepEqual(
        judged,
        stub.listing.map(({ offset, text }) => `${offset.toString(16)} ${text.replace(/ +/g, ' ')}`),
      );
    });

    test('iced-x86 finds the same instructions at the same offsets', () => {
      const mnemonic = (text: string): string => text.split(/[ ,]/)[0]!;
      // objdump's name → iced's, where they differ.
      const ALIAS: Record<string, string> = { movabs: 'mov' };
      const judged = iced(stub.code, 64).map(({ offset, bytes, text }) => [offset, bytes.length, mnemonic(text)]);
      assert.deepEqual(
        judged,
        stub.listing.map(({ offset, bytes, text }) => [offset, bytes.length, ALIAS[mnemonic(text)] ?? mnemonic(text)]),
      );
    });

    test('no instruction names the stack: only traps use it', () => {
      for (const { text } of stub.listing) assert.doesNotMatch(text, /^(push|pop|call|ret)\b/);
    });
  });
}
