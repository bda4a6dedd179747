/**
 * Finds the slide of a kernel that ran in text that it left, for tools that need the slide to find symbols.
 *
 *     Kernel Offset: 0x1c000000 from 0xffffffff81000000     a panic, on the console (node/qemu/kernel-offset.ts)
 *     ffffffff9d000000 T _text                              /proc/kallsyms: minus the address where _text is linked
 *     kslide-guest: text=ffffffff9d000000                   the same, from kslide's guest program
 *     ffffffff9d2a4c60 T printk_deferred                    the same with any global symbol, where the kernel's symbols are known
 *     KERNELOFFSET=1c000000                                 vmcoreinfo (Documentation/admin-guide/kdump/vmcoreinfo.rst)
 *     SYMBOL(_stext)=ffffffff9d000000                       vmcoreinfo, where the kernel's symbols are known
 *
 * A log may contain several boots, so all slides are found, in order; the last boot counts, also when it tells nothing. A boot begins with Linux's first
 * line, or after a panic's Kernel Offset, which is nearly its last. `disabled` gives no slide: the kernel's own KASLR was off, but the host may have moved it.
 */
import { isPossibleSlide, KERNEL_IMAGE_SIZE, START_KERNEL_MAP } from '../base/addresses.ts';
import type { Slide, VirtAddr } from '../base/addresses.ts';
import { KernelImageError } from '../base/errors.ts';
import { MARKER } from '../node/qemu/console.ts';
import { KERNEL_OFFSET, readKernelOffset, readSlide } from '../node/qemu/kernel-offset.ts';

/** Where _text is linked when CONFIG_PHYSICAL_START is 16 MiB, as in every kernel that distributions build. */
export const USUAL_TEXT: VirtAddr = START_KERNEL_MAP + 0x100_0000n;

export interface OffsetFound {
  readonly slide: Slide;
  readonly source: 'panic' | 'kallsyms' | 'vmcoreinfo' | 'symbols' | 'file';
}

export interface OffsetSearch {
  readonly found: readonly OffsetFound[];
  /** Addresses of _text that give no slide: zero, where the kernel hides addresses, or not a possible slide above the link address. */
  readonly useless: readonly VirtAddr[];
  /** The last boot says that its KASLR is disabled, and nothing else in it tells the slide. */
  readonly disabled: boolean;
  /** Slides were found, but all before the last boot, which tells nothing. */
  readonly silent: boolean;
}

/** What is known of the kernel that left the log. */
export interface OffsetKernel {
  /** Where _text is linked. Undefined: USUAL_TEXT. */
  readonly text?: VirtAddr | undefined;
  /** Where the image, slide included, must end. Undefined: 1 GiB. */
  readonly limit?: number | undefined;
  /** Link addresses of its symbols. */
  readonly addressOf?: ((name: string) => VirtAddr | undefined) | undefined;
  /** The slide with which it runs when its KASLR is off. */
  readonly whenDisabled?: Slide | undefined;
}

const TRACES = new RegExp(
  [
    // In a memory dump the words come after a NUL: they are the kernel's constant there, not a line that a console printed.
    String.raw`(?<boot>(?<!\0)Linux version \d)`,
    `(?<panic>${KERNEL_OFFSET.source})`,
    String.raw`(?:(?<![0-9a-f])(?<kallsyms>[0-9a-f]{16}) [Tt] _text\b|${MARKER}text=(?<guest>[0-9a-f]{16})(?![0-9a-f]))`,
    // Not the local symbols, whose names need not be unique, and not those of modules, whose lines go on with "\t[name]".
    String.raw`(?<![0-9a-f])(?<global>[0-9a-f]{16}) [TDRB] (?<name>[\w.$]{1,512})(?=[\r\n]|$)`,
    // A format string in a dump is no value.
    String.raw`\bKERNELOFFSET=(?<vmcoreinfo>[^\s%][^\s]*)`,
    String.raw`\bSYMBOL\((?<symbol>\w+)\)=(?<address>[0-9a-f]{16})(?![0-9a-f])`,
    String.raw`\bNUMBER\((?<foreign>kimage_voffset|va_kernel_pa_offset|satp)\)=`,
  ].join('|'),
  'g',
);

/** Numbers of vmcoreinfo that only one other architecture writes. */
const FOREIGN_NUMBERS: Readonly<Record<string, string>> = {
  kimage_voffset: 'arm64',
  va_kernel_pa_offset: 'riscv',
  satp: 'riscv',
};

/**
 * Throws KernelImageError for a number that no x86-64 kernel can have as its slide, for another architecture's, and for symbols that contradict each
 * other.
 */
export function findOffsets(log: string, kernel: OffsetKernel = {}): OffsetSearch {
  const { text = USUAL_TEXT, limit = KERNEL_IMAGE_SIZE } = kernel;
  const found: OffsetFound[] = [];
  const useless: VirtAddr[] = [];
  const symbols = new SymbolSlides(kernel);
  /** Of the boot that is read: whether it says "disabled", and how many slides were found before it. */
  let disabled = false;
  let before = 0;
  /** Something in this boot should have told the slide, or its first line is there. */
  let seenBoot = false;
  const begin = (): void => {
    disabled = false;
    seenBoot = false;
    before = found.length;
    symbols.forget();
  };
  const add = (one: OffsetFound, at: number): void => {
    // The same source again is another boot, whose first line is not in the log.
    const sources = found.slice(before);
    if (sources.some(({ source }) => source === one.source) && one.source !== 'symbols') begin();
    const other = found.slice(before).find(({ slide }) => slide !== one.slide);
    if (other !== undefined) throw contradiction(other, one, at);
    // Of many symbols one is enough, and none where another source says the same.
    if (one.source !== 'symbols' || found.length === before) found.push(one);
  };
  /** Set when the boot's panic was read: whatever comes next is of another boot. */
  let ended = false;
  for (const { groups = {}, index: at, ...match } of log.matchAll(TRACES)) {
    const { boot, panic, vmcoreinfo, foreign } = groups;
    const { symbol = groups['name'], address = groups['global'] ?? '' } = groups;
    if (ended || boot !== undefined) begin();
    ended = false;
    seenBoot ||= boot !== undefined;
    if (panic !== undefined) {
      ended = true;
      const [, disabledWord, value = '', base = ''] = KERNEL_OFFSET.exec(panic)!;
      if (disabledWord === undefined) add({ source: 'panic', slide: readKernelOffset(value, base, at) }, at);
      else if (found.length === before) disabled = true;
    }
    if (vmcoreinfo !== undefined)
      add(
        { source: 'vmcoreinfo', slide: readSlide(vmcoreinfo, { what: 'KERNELOFFSET in the log', at, text, limit }) },
        at,
      );
    if (foreign !== undefined) throw foreignLog(match[0], FOREIGN_NUMBERS[foreign]!, at);
    if (symbol !== undefined) {
      const seen = BigInt(`0x${address}`);
      // The same symbol elsewhere is of another boot, whose first line is not in the log.
      if (symbols.hasMoved(symbol, seen)) begin();
      const slide = symbols.slideOf(symbol, seen, {
        at,
        what: groups['name'] === undefined ? `SYMBOL(${symbol.slice(0, 64)})` : symbol.slice(0, 64),
      });
      if (slide !== undefined) add({ source: 'symbols', slide }, at);
    }
    const seen = groups['kallsyms'] ?? groups['guest'];
    if (seen === undefined) continue;
    const slide = Number(BigInt(`0x${seen}`) - text);
    if (isPossibleSlide(slide) && slide < limit - Number(text - START_KERNEL_MAP))
      add({ source: 'kallsyms', slide }, at);
    else {
      useless.push(BigInt(`0x${seen}`));
      seenBoot = true;
    }
  }
  // Something that tells the slide may come after the panic, without a line that begins a boot: only what was said last counts.
  if (disabled && found.length === before && kernel.whenDisabled !== undefined)
    return {
      found: [...found, { source: 'file', slide: kernel.whenDisabled }],
      useless,
      disabled: false,
      silent: false,
    };
  const told = found.length > before;
  return { found, useless, disabled: disabled && !told, silent: seenBoot && !told && found.length > 0 };
}

function contradiction(one: OffsetFound, other: OffsetFound, at: number): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `slide by ${other.source} in the log`,
    offset: at,
    found: other.slide,
    expected: `0x${one.slide.toString(16)}, the same boot's by ${one.source}`,
  });
}

function foreignLog(found: string, architecture: string, at: number): KernelImageError {
  return new KernelImageError({
    code: 'wrong-architecture',
    what: 'vmcoreinfo in the log',
    offset: at,
    found: `${architecture}'s: it has ${found.replace(/=$/, '')}`,
    expected: "x86-64's",
  });
}

/** Slides from the addresses of symbols. All that are known must have moved by the same. */
class SymbolSlides {
  readonly #kernel: OffsetKernel;
  #first: { readonly name: string; readonly address: VirtAddr; readonly slide: Slide } | undefined;

  constructor(kernel: OffsetKernel) {
    this.#kernel = kernel;
  }

  /** At the beginning of another boot. */
  forget(): void {
    this.#first = undefined;
  }

  /** Whether this boot's first symbol is at another address now. */
  hasMoved(name: string, address: VirtAddr): boolean {
    return name === this.#first?.name && address !== 0n && address !== this.#first.address;
  }

  /** Undefined for a symbol that the kernel's file does not have. */
  slideOf(
    name: string,
    address: VirtAddr,
    { at, what }: { readonly at: number; readonly what: string },
  ): Slide | undefined {
    const { addressOf, limit = KERNEL_IMAGE_SIZE } = this.#kernel;
    const linked = addressOf?.(name);
    if (linked === undefined || address === 0n) return undefined;
    const slide = Number(address - linked);
    const expected = this.#first?.slide;
    const fits = isPossibleSlide(slide) && Number(address - START_KERNEL_MAP) < limit;
    if (fits && (expected === undefined || slide === expected)) {
      this.#first ??= { name, address, slide };
      return slide;
    }
    throw new KernelImageError({
      code: 'bad-value',
      what: `${what} in the log`,
      offset: at,
      found: address,
      expected:
        this.#first === undefined
          ? `a possible slide above 0x${linked.toString(16)}: is this the kernel of the log?`
          : `0x${(linked + BigInt(this.#first.slide)).toString(16)}, as ${this.#first.name.slice(0, 64)} has moved: is this the kernel of the log?`,
    });
  }
}
