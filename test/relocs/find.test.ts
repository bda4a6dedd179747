/** A vmlinux from a build tree: taken with its `.rela` sections, and told where its relocations are when it was stripped of them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { coreCodecs } from '../../src/bzimage/codecs/index.ts';
import { convert } from '../../src/convert.ts';
import { KernelImageError } from '../../src/errors.ts';
import { extract } from '../../src/extract.ts';
import { collectRelocations, encodeRelocationTable } from '../../src/relocs/index.ts';
import { makeKernel64, scratchFile } from './fixtures.ts';

const codecs = coreCodecs;
const LAYOUTS = ['zero', 'single', 'placed', 'empty'] as const;

function objcopy(kernel: Uint8Array, ...options: readonly string[]): Uint8Array {
  const [input, output] = [scratchFile('whole.elf'), scratchFile('stripped.elf')];
  writeFileSync(input, kernel);
  execFileSync('objcopy', [...options, input, output]);
  return new Uint8Array(readFileSync(output));
}

test('extract takes the table from .rela sections, convert from there or from a file, and makes the same segment', async () => {
  for (const perCpu of LAYOUTS) {
    const kernel = makeKernel64({ perCpu });
    const table = encodeRelocationTable(collectRelocations(kernel));
    const extracted = await extract(kernel, { codecs });
    assert.deepEqual(extracted.relocs(), table, perCpu);
    assert.deepEqual(extracted.vmlinux, kernel, perCpu);
    const own = await convert(kernel, { codecs });
    const given = await convert(kernel, { codecs, relocs: table });
    assert.deepEqual(own.bytes(), given.bytes(), perCpu);
  }
});

test('a stripped vmlinux is told where its relocations are, per-cpu data at 0 or not', async () => {
  for (const perCpu of LAYOUTS) {
    const kernel = makeKernel64({ perCpu });
    for (const options of [['--strip-all'], ['--remove-section=.rela*'], ['--strip-all', '--remove-section=.rela*']]) {
      const stripped = objcopy(kernel, ...options);
      for (const ask of [
        () => convert(stripped, { codecs }),
        async () => (await extract(stripped, { codecs })).relocs(),
      ]) {
        await assert.rejects(ask, (error) => {
          assert.ok(error instanceof KernelImageError, String(error));
          assert.equal(error.code, 'no-relocations', `${perCpu}, ${options.join(' ')}: ${error.message}`);
          assert.match(
            error.message,
            /in the bzImage of the same build, in its vmlinux\.unstripped, or in its vmlinux\.relocs \(--relocs\)$/,
          );
          return true;
        });
      }
    }
  }
});
