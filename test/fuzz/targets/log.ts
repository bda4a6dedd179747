/** Console logs, /proc/kallsyms and vmcoreinfo, as `offset` and `boot` read them. */
import { ascii } from '../../../src/base/bytes.ts';
import { reportOffset } from '../../../src/cli/commands/offset.ts';
import { KernelImageError } from '../../../src/base/errors.ts';
import { findOffsets, USUAL_TEXT } from '../../../src/measure/offset.ts';
import type { OffsetKernel } from '../../../src/measure/offset.ts';
import { parseConsole } from '../../../src/node/qemu/console.ts';
import type { Target } from '../target.ts';

const LOGS = [
  '[    0.000000] Linux version 6.12.0 (b@h)\nKernel panic - not syncing: VFS\nKernel Offset: 0x1c000000 from 0xffffffff81000000 (relocation range)\n',
  'ffffffff9d000000 T _text\nffffffff9d000000 T startup_64\n0000000000000000 A fixed_percpu_data\n',
  'OSRELEASE=6.12.0\nKERNELOFFSET=1c000000\nSYMBOL(_stext)=ffffffff9d000000\nKernel Offset: disabled\n',
  'kslide-guest: text=ffffffff9d000000\nkslide-guest: kcore=ffffffff80000000+0000000040000000\nkslide-guest: cpus=0000000000000003\nkslide-guest: done\nreboot: Power down\n',
];

/** A kernel whose symbols are known, with half the range. */
const KERNEL: OffsetKernel = {
  limit: 0x2000_0000,
  addressOf: (name) => (name === 'startup_64' || name === '_stext' ? USUAL_TEXT : undefined),
};

const target: Target = {
  seeds: () => LOGS.map(ascii),
  run(input) {
    const log = Buffer.from(input.buffer, input.byteOffset, input.length).toString('latin1');
    const search = findOffsets(log);
    try {
      findOffsets(log, KERNEL);
    } catch (error) {
      if (!(error instanceof KernelImageError)) throw error;
    }
    reportOffset(search, { json: false });
    reportOffset(search, { json: true });
    const { slide, kaslr, end } = parseConsole(log);
    return `${search.found.map(({ source }) => source).slice(0, 3)} ${slide !== undefined} ${kaslr} ${end}`;
  },
  words: [
    ...LOGS.flatMap((log) => log.split(/(?<=[ \n])/)),
    'fffffffffffffffff',
    '0x',
    '0xg',
    '/proc/modules',
    'Kernel Offset: ',
    ' from ',
    '\n',
    '\r',
    '\x1b[31m',
    '0'.repeat(300),
  ],
  executions: 8000,
};
export default target;
