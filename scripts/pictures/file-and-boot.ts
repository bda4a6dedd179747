/**
 * The converted file, the memory that it is loaded to, and what happens in a boot, side by side. Offsets and sizes come from the segment's layout and
 * from the stub itself; how many instructions each step takes, from docs/results/stub.json.
 */
import { alignUp } from '../../src/base/bytes.ts';
import { STUB_STEPS, stubSteps } from '../../src/stub/program.ts';
import type { StubStep } from '../../src/stub/program.ts';
import { STUB_PROGRAM } from '../../src/stub/assembled.ts';
import { ENTRY_BYTES, PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { formatNumber } from '../docs/markdown.ts';
import { programNote } from '../docs/program.ts';
import type { ResultsReader } from '../docs/results.ts';
import { box, drawPicture, path, text } from './drawing.ts';
import type { Box } from './drawing.ts';

const FILE = { x: 20, width: 196 };
const MEMORY = { x: 264, width: 196 };
const BOOT = { x: 520, width: 320 };
const TOP = 48;
/** From a step's name to its offset. */
const OFFSET = 84;
const STEP = { top: 172, height: 40, gap: 5 };

/** What each step of the stub does, under the names that `kslide bench` counts by. */
const STEPS: Readonly<Record<StubStep, readonly (readonly [name: string, what: string])[]>> = {
  'set-up': [
    ['enter', 'a stack of its own; the physical slide'],
    ['traps', `an IDT of its own; ${ENTRY_BYTES} bytes back at e_entry`],
    ['obey', 'leave on nokaslr, or if KASLR_FLAG is set'],
  ],
  entropy: [
    ['entropy', 'boot_params, seed, RDSEED, RDRAND, TSC'],
    ['slot', 'slide = slot × alignment'],
  ],
  paging: [['paging', 'an identity map, if CR3 is in the image']],
  relocate: [
    ['relocate', 'the slide applied at each site of the table'],
    ['flag', 'KASLR_FLAG set'],
  ],
  leave: [['leave', 'stack, state and registers cleared']],
};

export function drawFileAndBoot(from: ResultsReader, today: (part: string) => string): string {
  const stub = STUB_PROGRAM.length;
  const table = alignUp(PARAMS.size + stub, 16);
  const height = 614;
  return drawPicture({
    title: 'A converted kernel: the file, the memory, and the boot',
    description:
      'Left, the ELF file: headers, the text with the hook at e_entry, data, and the added segment of parameters, stub and relocation table. ' +
      'Middle, physical memory: the image from _text to _end, a gap, the segment, and scratch memory. ' +
      `Right, the boot: the VMM loads the file and jumps to e_entry, where the hook leads into the stub; its steps are ${STUB_STEPS.flatMap((step) => STEPS[step].map(([name]) => name)).join(', ')}; then startup_64 runs.`,
    height,
    style: STYLE,
    parts: [
      text('heading', FILE.x, 30, 'The file'),
      text('heading', MEMORY.x, 30, 'In memory'),
      text('heading', BOOT.x, 30, 'The boot'),
      ...drawFileAndMemory(stub, table),
      ...drawBoot(from, today),
    ],
  });
}

/** The same parts in both columns, a band from each to where the loader puts it. */
function drawFileAndMemory(stub: number, table: number): string[] {
  const inFile = stack(
    { ...FILE, y: TOP },
    { headers: 40, text: 96, data: 66, old: 40, params: 40, stub: 48, table: 78, names: 40 },
  );
  const inMemory = stack(
    { ...MEMORY, y: TOP + 24 },
    { text: 96, data: 66, gap: 40, params: 40, stub: 48, table: 78, scratch: 96 },
  );
  const hookIn = ({ x, y, width }: Box): Box => ({ x, y: y + 44, width, height: 6 });
  const [hookInFile, hook] = [hookIn(inFile.text), hookIn(inMemory.text)];
  const added = (at: number, size: string): string => `+${hex(at)}${size === '' ? '' : ` · ${size}`}`;
  return [
    band(inFile.text, inMemory.text, 'kernel-band'),
    band(inFile.data, inMemory.data, 'kernel-band'),
    ...(['params', 'stub', 'table'] as const).map((part) => band(inFile[part], inMemory[part], 'added-band')),
    labelled('kernel', inFile.headers, 'ELF header', 'program headers, one added'),
    labelled('kernel', inFile.text, 'text'),
    labelled('kernel', inFile.data, 'data, per-cpu data, init'),
    labelled('kernel', inFile.old, 'old section names', 'and section headers'),
    labelled('added', inFile.params, 'parameters', `${PARAMS.size} bytes`),
    labelled('added', inFile.stub, 'stub', `${formatNumber(stub)} bytes`),
    labelled('added', inFile.table, 'relocation table'),
    labelled('kernel', inFile.names, 'new section names', 'and section headers'),
    box('hook', hookInFile),
    text('hook-text', FILE.x + 10, hookInFile.y + 22, 'hook: a jump at e_entry'),
    text('soft', MEMORY.x, inMemory.text.y - 8, '_text, by default at 0x1000000'),
    labelled('kernel', inMemory.text, 'text'),
    labelled('kernel', inMemory.data, 'data, per-cpu data, init, bss'),
    box('hook', hook),
    labelled('gap', inMemory.gap, '_end, and a gap', 'below 2 MiB, free memory'),
    labelled('added', inMemory.params, 'parameters', added(0, `${PARAMS.size} bytes`)),
    labelled('added', inMemory.stub, 'stub', added(PARAMS.size, `${formatNumber(stub)} bytes`)),
    labelled('added', inMemory.table, 'relocation table', added(table, '')),
    labelled('gap added-gap', inMemory.scratch, `scratch, ${kib(SCRATCH.size)}, not in the file`),
    ...[
      `state and stack, ${kib(SCRATCH.wiped)}, wiped`,
      `page tables, ${kib(SCRATCH.log - SCRATCH.wiped)}`,
      `log of sites, ${kib(SCRATCH.size - SCRATCH.log)}`,
    ].map((words, i) => text('soft', MEMORY.x + 10, inMemory.scratch.y + 42 + 18 * i, words)),
    arrow(MEMORY.x + MEMORY.width, hook.y + 3, BOOT.x - 12),
    arrow(MEMORY.x + MEMORY.width, inMemory.stub.y + 24, BOOT.x - 12),
  ];
}

function drawBoot(from: ResultsReader, today: (part: string) => string): string[] {
  const offsets = new Map(stubSteps().map(({ step, offset }) => [step, offset]));
  const count = (row: string): string => formatNumber(Number(from.cell('stub', 'steps', row, '6.12, compact')));
  const right = BOOT.x + BOOT.width;
  const parts = [
    ...node(
      TOP + 6,
      'VMM',
      'loads the segments; enters at e_entry or by PVH,',
      'whose code ends with a jump to e_entry',
    ),
    downArrow(TOP + 46),
    ...node(TOP + 82, 'e_entry', 'the hook jumps to the stub'),
    text('soft', BOOT.x + OFFSET, STEP.top - 6, 'in the segment'),
    text('soft end', right - 8, STEP.top - 6, 'instructions'),
  ];
  const earlier = programNote(from.file('stub').program, today) === '' ? '' : ', an earlier stub';
  let y = STEP.top;
  for (const step of STUB_STEPS) {
    const steps = STEPS[step];
    parts.push(
      box('step', { x: BOOT.x - 12, y, width: BOOT.width + 12, height: steps.length * STEP.height - STEP.gap }),
      text('soft end', right - 8, y + 15, `${count(step)}`),
    );
    steps.forEach(([name, what], i) => {
      const top = y + i * STEP.height;
      parts.push(
        text('bold', BOOT.x, top + 15, name),
        text('soft', BOOT.x, top + 31, what),
        ...(i === 0 ? [text('soft', BOOT.x + OFFSET, top + 15, `+${hex(PARAMS.size + offsets.get(step)!)}`)] : []),
      );
    });
    y += steps.length * STEP.height;
  }
  parts.push(
    text('soft end', right - 8, y + 12, `${count('in all')} in all, Debian 6.12 cloud${earlier}`),
    downArrow(y + 8),
    ...node(y + 44, 'startup_64', 'the kernel runs where the slide has put it'),
  );
  return parts;
}

function node(y: number, name: string, ...lines: readonly string[]): string[] {
  return [text('bold', BOOT.x, y, name), ...lines.map((line, i) => text('soft', BOOT.x, y + 16 * (i + 1), line))];
}

/** One below the other, without space between. */
function stack<Name extends string>(
  { x, y, width }: Omit<Box, 'height'>,
  heights: Readonly<Record<Name, number>>,
): Record<Name, Box> {
  let top = y;
  const boxes = Object.entries<number>(heights).map(([name, height]) => {
    const placed = { x, y: top, width, height };
    top += height;
    return [name, placed] as const;
  });
  return Object.fromEntries(boxes) as Record<Name, Box>;
}

function labelled(kind: string, at: Box, words: string, more?: string): string {
  const lines = [text('', at.x + 10, at.y + 18, words)];
  if (more !== undefined) lines.push(text('soft', at.x + 10, at.y + 34, more));
  return [box(kind, at), ...lines].join('\n');
}

function band(left: Box, right: Box, kind: string): string {
  const [x, end] = [left.x + left.width, right.x];
  return path(kind, `M${x} ${left.y}L${end} ${right.y}V${right.y + right.height}L${x} ${left.y + left.height}Z`);
}

function arrow(x: number, y: number, end: number): string {
  return path('arrow', `M${x} ${y}H${end - 2}m-6 -4l6 4l-6 4`);
}

/** Between the stations of the boot. */
function downArrow(y: number): string {
  return path('arrow', `M${BOOT.x + 6} ${y}v16m-4 -5l4 5l4 -5`);
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function kib(bytes: number): string {
  return `${bytes / 1024} KiB`;
}

const STYLE = `.kernel{fill:var(--kernel);stroke:var(--kernel-edge)}
.added{fill:var(--added);stroke:var(--added-edge)}
.kernel-band{fill:var(--kernel);opacity:.6}
.added-band{fill:var(--added);opacity:.6}
.gap{fill:none;stroke:var(--kernel-edge);stroke-dasharray:4 3}
.added-gap{stroke:var(--added-edge)}
.step{fill:none;stroke:var(--added-edge)}
.hook{fill:var(--hook)}
.hook-text{fill:var(--hook)}
.arrow{fill:none;stroke:var(--hook);stroke-width:1.5}
`;
