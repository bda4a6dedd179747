/**
 * Crash dumps (Documentation/admin-guide/kdump): a converted kernel loads a crash kernel as its original does, dies, and the crash kernel finds the
 * notes that it left, with its slide in them. That is what makedumpfile, crash and gdb start from.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { findOffsets } from '../../src/measure/offset.ts';
import type { KernelPackage } from '../../scripts/kernels/debian.ts';
import { packCrashGuest } from '../guest/crash.ts';
import { bootInTurn, checkSlide, ENTRIES, findKernels, oldestAndNewest, PARALLEL, prepare } from './lane.ts';
import type { Kernel } from './lane.ts';

/** The reserved memory holds the crash kernel with all that it unpacks. */
const MACHINE = { memoryMib: 640, append: 'crashkernel=224M' } as const;
const CRASH_COMMAND_LINE = 'console=ttyS0 panic=-1 no_timer_check nr_cpus=1 reset_devices';

interface Crash {
  readonly moved: number;
  /** What the running kernel's vmcoreinfo says, and what the crash kernel found. */
  readonly alive: string;
  readonly dead: string;
}

async function crash(kernel: Kernel, initrd: Uint8Array, entry: (typeof ENTRIES)[number]): Promise<Crash> {
  const { console, report, end } = await bootInTurn(kernel, { entry, initrd, timeoutMs: 300_000, ...MACHINE });
  const told = (what: string): string => `${kernel.name}: ${what}\n${console.slice(-1500)}`;
  assert.match(console, /kslide-guest: kexec=0{16}\b/, told('no crash kernel was loaded'));
  assert.match(console, /Kernel panic - not syncing: Attempted to kill init/, told('it did not crash'));
  assert.ok(report.guest.done, told(`no crash kernel came up: ${end}`));
  const [before = '', dead = ''] = console.split('kslide-guest: notes of /proc/vmcore');
  const [, alive = ''] = before.split('kslide-guest: notes of /proc/kcore');
  return { moved: Number(report.guest.text! - kernel.text), alive, dead };
}

/** Documentation/admin-guide/kdump/vmcoreinfo.rst: a line of `name=value` each, in a note of that name; other notes are binary. */
function readVmcoreinfo(text: string): Map<string, string> {
  const lines = text.slice(text.indexOf('VMCOREINFO\0')).matchAll(/([\w().]+)=([^\r\n]*)/g);
  return new Map([...lines].map(([, name = '', value = '']) => [name, value]));
}

function checkNotes(kernel: Kernel, { moved, alive, dead }: Crash): void {
  for (const text of [alive, dead]) {
    const notes = readVmcoreinfo(text);
    assert.equal(notes.get('OSRELEASE'), kernel.summary.kernelVersion?.split(' ')[0]);
    assert.equal(notes.get('KERNELOFFSET'), moved.toString(16));
    assert.equal(notes.get('SYMBOL(_stext)'), (kernel.text + BigInt(moved)).toString(16));
    // What `kslide offset` makes of it.
    assert.deepEqual(findOffsets(text).found, [{ slide: moved, source: 'vmcoreinfo' }]);
  }
}

const kernels: readonly KernelPackage[] = oldestAndNewest(await findKernels());

for (const [index, item] of kernels.entries()) {
  const kernel = await prepare(item);
  const initrd = packCrashGuest({ image: await readFile(item.image), commandLine: CRASH_COMMAND_LINE });
  const entry = ENTRIES[index % ENTRIES.length]!;

  describe(`${kernel.name}, ${entry}`, { concurrency: PARALLEL }, () => {
    test('loads a crash kernel, and leaves it notes with its slide', async () => {
      const crashed = await crash(kernel, initrd, entry);
      checkSlide(kernel, crashed.moved);
      checkNotes(kernel, crashed);
    });

    test('as the original does, but for the slide', async () => {
      const crashed = await crash({ ...kernel, converted: kernel.original }, initrd, entry);
      assert.equal(crashed.moved, 0);
      checkNotes(kernel, crashed);
    });
  });
}
