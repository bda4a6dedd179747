/** What a link address in a field leads to: the evidence that the field is one. */
import type { PhysAddr } from '../base/addresses.ts';
import { partAt } from './image.ts';
import type { RecoverImage } from './image.ts';

/** Whether code names that place, an instruction begins there, or a string does. */
export function isNamed(image: RecoverImage, target: PhysAddr): boolean {
  return image.named.has(target) || image.instructions.has(target) || isString(image, target);
}

/** Kernels have longer ones, help texts, but those have a name. */
const LONGEST_TEXT = 1024;

/** Whether a string, or the tail of one that the linker merged with a longer one, is there: printable, ended by a zero. */
export function isText(image: RecoverImage, target: PhysAddr): boolean {
  const part = partAt(image, target, 2);
  if (part === undefined) return false;
  const { bytes, start } = part;
  const at = target - start;
  let end = at;
  const limit = Math.min(bytes.length, at + LONGEST_TEXT);
  while (end < limit && isPrintable(bytes[end]!)) end++;
  return end > at && bytes[end] === 0;
}

function isString(image: RecoverImage, target: PhysAddr): boolean {
  const part = partAt(image, target - 1, 2);
  return part !== undefined && part.bytes[target - 1 - part.start] === 0 && isText(image, target);
}

/** Tab, newline and escape too, what begins a level of printk, and letters beyond ASCII. */
function isPrintable(byte: number): boolean {
  return (byte >= 0x20 && byte !== 0x7f) || byte === 9 || byte === 10 || byte === 1 || byte === 0x1b;
}
