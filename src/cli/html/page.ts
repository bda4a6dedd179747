/**
 * The frame of all HTML reports: one file that needs no other file, no script and no network. It is readable in light and dark, on a phone and on paper.
 *
 * The content security policy forbids browsers to load anything, whatever text ends up in a report.
 */
import { short } from '../../base/text.ts';

export interface PageParts {
  readonly heading: string;
  /** What the report is about, as the user named it. */
  readonly subject: string;
  /** HTML. */
  readonly body: string;
  readonly footer: string;
  /** CSS that follows the frame's own. */
  readonly style?: string;
}

/** CSS pixels inside the page's margins, on a desktop and on a phone. Each figure is drawn for both, and the style sheet shows one of them. */
const WIDTHS = { wide: 720, narrow: 328 } as const;

export function page({ heading, subject, body, footer, style = '' }: PageParts): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(heading)}: ${escape(subject)}</title>
<style>${STYLE}${style}</style>
<main>
<header>
<h1>${escape(heading)}</h1>
<p class="image">${escape(subject)}</p>
</header>
${body}
<footer>
<p>${footer}</p>
</footer>
</main>
</html>
`;
}

/** `caption`, and `more`, which follows the figure, are HTML. `draw` gives an SVG of the width that it is passed. */
export function figure(title: string, caption: string, draw: (width: number) => string, more = ''): string {
  return `<section>
<h2>${title}</h2>
<figure>
<div class="wide">${draw(WIDTHS.wide)}</div>
<div class="narrow">${draw(WIDTHS.narrow)}</div>
<figcaption>${caption}</figcaption>
</figure>
${more}
</section>`;
}

/** Details that a click shows. On paper they are always shown. `content` is HTML. */
export function folded(title: string, content: string): string {
  return `<details>\n<summary>${escape(title)}</summary>\n${content}\n</details>`;
}

/** A list of labels and values, which are plain text. A value that is `untold` is greyed: it says nothing yet. */
export function definitions(
  pairs: readonly (readonly [label: string, value: string])[],
  untold: (label: string) => boolean = () => false,
): string {
  const rows = pairs.map(
    ([label, value]) =>
      `<div${untold(label) ? ' class="untold"' : ''}><dt>${escape(label)}</dt><dd>${escape(value)}</dd></div>`,
  );
  return `<dl>\n${rows.join('\n')}\n</dl>`;
}

/** The first cell of each line is its heading. Cells are plain text. */
export function htmlTable(caption: string, head: readonly string[], lines: readonly (readonly string[])[]): string {
  const titles = head.map((text) => (text === '' ? '<td></td>' : `<th scope="col">${escape(text)}</th>`));
  const body = lines.map(([title, ...cells]) => {
    const rest = cells.map((text) => `<td>${escape(text)}</td>`);
    return `<tr><th scope="row">${escape(title!)}</th>${rest.join('')}</tr>`;
  });
  return `<table>
<caption>${escape(caption)}.</caption>
<thead><tr>${titles.join('')}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text for an element or an attribute. Names from files are short already; what is left is cut at a length that no text of ours has. */
export function escape(text: string): string {
  return short(text, 2000).replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);
}

/** CSS custom properties for each colour scheme. Paper is always light. */
export function colours(light: string, dark: string): string {
  return `:root{${light}}\n@media screen and (prefers-color-scheme:dark){:root{${dark}}}\n`;
}

const LIGHT =
  '--page:#fff;--ink:#1b1f24;--soft:#59636e;--rule:#d5dae0;--bar:#2f6db5;--band:#e6ecf3;--line:#b3470b;--good:#e6f4ea;--bad:#fdeaea';
const DARK =
  '--page:#14181d;--ink:#e6e9ec;--soft:#9aa4af;--rule:#333b44;--bar:#6ba4e0;--band:#252f3a;--line:#f0a36b;--good:#16301f;--bad:#3d1d1e';

const STYLE = `
${colours(LIGHT, DARK)}*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:752px;margin:0 auto;padding:24px 16px}
h1{font-size:1.6rem;line-height:1.2;margin:0}
h2{font-size:1.1rem;margin:32px 0 8px}
.image{margin:4px 0 16px;color:var(--soft);overflow-wrap:anywhere}
figure{margin:0}
figcaption,footer{color:var(--soft);font-size:.875rem}
.narrow{display:none}
svg{display:block;width:100%;height:auto}
.narrow svg{max-width:440px}
svg text{fill:var(--soft);paint-order:stroke;stroke:var(--page);stroke-width:3px;font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.end{text-anchor:end}
.middle{text-anchor:middle}
.grid{stroke:var(--rule)}
dl{margin:0}
dl div{display:grid;grid-template-columns:7rem 1fr;gap:0 12px;padding:6px 0;border-top:1px solid var(--rule)}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
table{width:100%;border-collapse:collapse;margin-top:16px;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:start;color:var(--soft);padding-bottom:4px}
th,td{text-align:end;font-weight:400;padding:4px 0 4px 10px;border-top:1px solid var(--rule);vertical-align:top;white-space:nowrap}
thead th,thead td{color:var(--soft);border-top:0;white-space:normal}
th:first-child,td:first-child{text-align:start;padding-left:0;white-space:normal;overflow-wrap:anywhere}
tr,details,figure{break-inside:avoid}
details{margin-top:16px}
summary{color:var(--soft);font-size:.875rem;cursor:pointer}
summary:focus-visible{outline:2px solid var(--bar);outline-offset:2px}
.answer{font-size:1.25rem;line-height:1.35;margin:16px 0}
.untold{color:var(--soft);opacity:.7}
footer{margin-top:32px;border-top:1px solid var(--rule)}
@media screen and (max-width:751px){.wide{display:none}.narrow{display:block}dl div{grid-template-columns:1fr}table{font-size:.8125rem}}
@media print{details::details-content{content-visibility:visible;block-size:auto}summary{display:none}h2{break-after:avoid}body{font-size:10pt}main{padding:0}section{break-inside:avoid}rect{print-color-adjust:exact}}
`;
