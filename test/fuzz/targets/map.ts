/** The linker's map, as `shuffle --map` reads it. */
import { ascii } from '../../../src/base/bytes.ts';
import { readLinkMap, sizeByMap } from '../../../src/shuffle/read/link-map.ts';
import type { Target } from '../target.ts';

const START = 0x100_0000;
const TEXT = { start: START, end: START + 0x1_0000 };
const address = (place: number): string => (0xffff_ffff_8000_0000n + BigInt(place)).toString(16);

function makeMap(long: boolean): string {
  const rows = Array.from({ length: 20 }, (_, index) => {
    const name = ` .text.${long ? 'a_function_with_a_long_name_' : 'f'}${index}`;
    const rest = `0x${address(START + index * 0x40)} 0x3a kernel/a${index}.o\n`;
    return long ? `${name}\n${' '.repeat(16)}${rest}` : `${name.padEnd(16)}${rest}`;
  });
  return `Archive member included\n\nLinker script and memory map\n\n.text           0x${address(START)} 0x10000\n${rows.join('')} *fill*         0x${address(START + 0x600)} 0x10\n`;
}

const FUNCTIONS = Array.from({ length: 12 }, (_, index) => ({
  place: START + index * 0x40,
  size: index % 3 === 0 ? 0 : 0x20,
}));

const target: Target = {
  seeds: () => [makeMap(false), makeMap(true)].map(ascii),
  run(input) {
    const sections = readLinkMap(input, TEXT);
    const sized = sizeByMap(FUNCTIONS, sections);
    return `${Math.min(sections.starts.length, 24)} sections, ${sized.filter(({ size }) => size > 0).length} sizes`;
  },
  words: [
    ' .text.f1',
    ' .text',
    '\n',
    ` 0x${address(START)}`,
    ` 0x${address(START + 0x40)}`,
    ' 0x40',
    ' 0xffffffff',
    ' '.repeat(5000),
    'f'.repeat(5000),
    ' *fill*',
  ],
  executions: 3000,
};
export default target;
