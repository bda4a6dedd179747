/**
 * Colours on a terminal, for words at which a reader looks first. Off where NO_COLOR is set (https://no-color.org) or TERM is dumb.
 *
 * Text was made safe before it comes here, so all escape sequences in it are ours. What is coloured is told by how a line begins: no report has to know of colours.
 */
import { isatty } from 'node:tty';

const RED = '31';
const GREEN = '32';
const YELLOW = '33';

const LINE_STARTS: readonly (readonly [RegExp, string])[] = [
  [/^(?:✓|ok\b|proved\b)/gm, GREEN],
  [/^(?:✗|missing\b|refused\b|refuted\b)/gm, RED],
  [/^(?:absent|unknown|consistent)\b/gm, YELLOW],
  [/^kslide: warning:/gm, YELLOW],
  [/^kslide:(?! warning:)/gm, RED],
];

export function paint(text: string, stream: 'output' | 'error'): string {
  return hasColours(stream === 'output' ? 1 : 2)
    ? LINE_STARTS.reduce((painted, [start, colour]) => wrap(painted, start, colour), text)
    : text;
}

function wrap(text: string, start: RegExp, colour: string): string {
  return text.replaceAll(start, (word) => `\x1b[${colour}m${word}\x1b[0m`);
}

function hasColours(fd: number): boolean {
  const { NO_COLOR, TERM } = process.env;
  return (NO_COLOR ?? '') === '' && TERM !== 'dumb' && isatty(fd);
}
