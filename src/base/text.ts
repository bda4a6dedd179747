/**
 * Makes text that comes out of a file, or from the user, safe to show: names of symbols and sections, versions, build IDs, console output, file names. A
 * terminal obeys what is in it: escape sequences move the cursor and change the title, a newline forges a line, bidi marks reorder one.
 *
 * Everything that kslide prints passes through here, at the places where text is put together: errors.ts, cli/text.ts (rows and tables), cli/print.ts
 * (both streams, JSON as well), cli/html/page.ts. test/cli/hostile-text.test.ts holds every command to that.
 */

/**
 * Controls (C0, DEL, C1), format characters (bidi marks, zero-width characters, the byte order mark, soft hyphens, tags), lone surrogates, line and
 * paragraph separators.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const UNSAFE_IN_LINES = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** `\x1b`, `\u202e`, `\u{e0041}`. */
function escaped(character: string): string {
  const code = character.codePointAt(0)!;
  if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
}

/** One line: every unsafe character is an escape, newlines as well. */
export function oneLine(text: string): string {
  return text.replaceAll(UNSAFE, escaped);
}

/** The same for text of several lines, which may have tabs. A carriage return before a newline goes: serial consoles end their lines so. */
export function lines(text: string): string {
  return text.replaceAll(/\r+\n/g, '\n').replaceAll(UNSAFE_IN_LINES, escaped);
}

/** 237137 → "237,137". */
export function count(value: number): string {
  return value.toString().replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

/** The longest name that is shown whole. Longer ones are not read, and would hide the rest of the line. */
const LONGEST = 120;

/** One line of at most `most` characters, and the count of all if there are more: `aaa... (10,000 characters)`. */
export function short(text: string, most = LONGEST): string {
  if (text.length <= most) return oneLine(text);
  // Half a surrogate pair is no character.
  const end = /[\ud800-\udbff]/.test(text[most - 1]!) ? most - 1 : most;
  return `${oneLine(text.slice(0, end))}... (${count(text.length)} characters)`;
}

/** JSON of any value, indented by `indent`, with every unsafe character in a string as an escape of JSON. */
export function jsonText(value: unknown, indent?: number): string {
  // JSON.stringify escapes C0. Outside of strings there is none of the others.
  return JSON.stringify(value, null, indent).replaceAll(UNSAFE_IN_LINES, (character) =>
    Array.from({ length: character.length }, (_, index) => {
      return `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`;
    }).join(''),
  );
}
