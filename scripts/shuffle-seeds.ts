/**
 * Boots a kernel shuffled by many seeds, by both entries, with all checks of test/boot/shuffle.test.ts, and proves each by `verify --shuffled`:
 *
 *     node --import tsx scripts/shuffle-seeds.ts [SEEDS] [FIRST] [boot] [--plain]
 *         [--kernel IMAGE --module KO [--debug VMLINUX] [--map FILE] [--recover]] [--cpu MODEL] [--append WORDS] [--expect TEXT]
 *
 * Debian's 6.1 cloud kernel with its debug package, or a kernel of yours: IMAGE is what boots, VMLINUX the unstripped vmlinux of the same build (IMAGE, if
 * that is one), KO a module that needs no other. With `boot` there is no proof and no guest program, and KO is not needed: the kernel boots up to where it
 * misses an init, and its panic must have the unshuffled kernel's backtrace. `--plain`: without the program that relocates.
 * `--recover`: its references are found without relocations, and what is made of it is proved as far as it can be without.
 * TEXT has to be on every console. One line a boot. Exit 1 when anything failed.
 */
import { parseArgs } from 'node:util';
import { nodeCodecs } from '../src/node/codecs.ts';
import { hex } from '../src/base/errors.ts';
import { boot } from '../src/node/qemu/qemu.ts';
import { convert } from '../src/convert.ts';
import { shuffle, verifyShuffled } from '../src/shuffle/index.ts';
import { checkShuffledGuest, GUEST, openShuffle, prepareShuffle } from '../test/boot/shuffle-lane.ts';
import { readBacktrace } from '../test/guest/shuffle.ts';

const TIMEOUT_MS = 400_000;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string' },
    debug: { type: 'string' },
    map: { type: 'string' },
    module: { type: 'string' },
    recover: { type: 'boolean', default: false },
    plain: { type: 'boolean', default: false },
    cpu: { type: 'string', default: GUEST.cpu },
    append: { type: 'string', default: '' },
    expect: { type: 'string', default: '' },
  },
});
const [seeds = 20, first = 1] = positionals.slice(0, 2).map(Number);
const bootOnly = positionals[2] === 'boot';
const { kernel: ownKernel, debug: ownDebug = ownKernel, map, module, recover, plain } = values;
if (ownKernel !== undefined && module === undefined && !bootOnly) {
  console.error('--kernel wants --module, or boot alone');
  process.exit(2);
}
const lane =
  ownKernel === undefined
    ? await prepareShuffle()
    : await openShuffle({ image: ownKernel, debug: ownDebug!, map, module, recover });
if (typeof lane === 'string') {
  console.error(lane);
  process.exit(3);
}
const { image, debug, plan } = lane;
const initrd = bootOnly ? undefined : lane.initrd;
const original = (await convert(image, { codecs: nodeCodecs })).bytes();
const append = `${GUEST.append} ${values.append}`.trimEnd();
const options = { initrd, ...GUEST, cpu: values.cpu, append, timeoutMs: TIMEOUT_MS };
const unshuffled = await boot({ image: original, ...options });
const reference = readBacktrace(unshuffled.console);
console.log(`backtrace: ${reference.join(' ')}`);

let failures = 0;
for (let seed = first; seed < first + seeds; seed++) {
  const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed: Uint8Array.of(seed, 0x5a), plain });
  const kernel = shuffled.bytes();
  const verdict = bootOnly
    ? 'not examined'
    : (await verifyShuffled(image, kernel, { codecs: nodeCodecs, debug, recover })).verdict;
  if (verdict === 'refuted') failures++;
  const cpus = bootOnly ? 1 : 1 + (seed % 2);
  // Both at once: a guest with one CPU leaves the other to its neighbour.
  const bootBy = async (entry: 'pvh' | 'linux64'): Promise<void> => {
    const result = await boot({ ...options, image: kernel, entry, cpus });
    let outcome = 'ok';
    try {
      if (!bootOnly) checkShuffledGuest(result, shuffled, cpus);
      if (!result.console.includes(values.expect)) throw new Error(`no ${values.expect}`);
      const backtrace = readBacktrace(result.console).join(' ');
      if (backtrace !== reference.join(' ')) throw new Error(`another backtrace: ${result.console.slice(-3000)}`);
    } catch (error) {
      failures++;
      outcome = `FAILED ${String(error).slice(0, 3000)}`;
    }
    const slide = result.slide === undefined ? 'unknown' : hex(result.slide);
    console.log(`seed ${seed} ${entry} cpus ${cpus} slide ${slide} ${verdict} ${outcome}`);
  };
  await Promise.all([bootBy('pvh'), bootBy('linux64')]);
}
console.log(failures === 0 ? 'all passed' : `${failures} failures`);
debug.close();
process.exitCode = failures === 0 ? 0 : 1;
