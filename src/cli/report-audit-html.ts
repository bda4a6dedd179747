/** The report of `kslide audit --html`: one file that needs no other, no script and no network; light and dark, phone and paper. */
import type { AuditRecord } from '../lab/audit-record.ts';
import { countSlots, slidesOf } from '../lab/audit-summary.ts';
import type { AuditSummary } from '../lab/audit-summary.ts';
import { auditRows } from './report-audit.ts';
import { drawHistogram, drawRepetitions } from './report-audit-figures.ts';
import { count } from './text.ts';
import { version } from './version.ts';

export interface PageOptions {
  /** What was audited, as the user named it. */
  readonly title: string;
}

/** CSS pixels inside the page's margins, on a desk and on a phone. Each figure is there twice, and the style sheet shows one. */
const WIDTHS = { wide: 720, narrow: 328 } as const;

/** `records` are those that `summary` was made of. The same records give the same page. */
export function reportAuditPage(
  summary: AuditSummary,
  records: readonly AuditRecord[],
  { title }: PageOptions,
): string {
  const slides = slidesOf(records);
  const slots = summary.slots ?? undefined;
  const counts = slots === undefined ? undefined : countSlots(slides, slots);
  const last =
    records
      .map(({ at }) => at)
      .toSorted()
      .at(-1) ?? '';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>KASLR audit: ${escape(title)}</title>
<style>${STYLE}</style>
<main>
<header>
<h1>KASLR audit</h1>
<p class="image">${escape(title)}</p>
</header>
${verdict(summary)}
${
  slides.length === 0
    ? ''
    : figure(
        'Where the kernel went',
        slots === undefined
          ? 'Each bar counts the boots whose slide is in its range. Which slides this kernel may take is not known, so nothing stands beside it to compare.'
          : 'Each bar counts the boots whose slide is in its range. The line is what chance would give, the band holds 95% of the bars if every slot is as likely as any other.',
        (width) => drawHistogram(slides, slots, width),
      )
}
${
  counts === undefined || slides.length === 0
    ? ''
    : figure(
        'How often slots repeat',
        'Each bar counts the slots that so many boots took; line and band as above.',
        (width) => drawRepetitions(counts, width),
      )
}
<section>
<h2>In figures</h2>
<dl>
${auditRows(summary)
  .map(([label, value]) => `<div><dt>${escape(label)}</dt><dd>${escape(value)}</dd></div>`)
  .join('\n')}
</dl>
</section>
<footer>
<p>A boot has failed when the kernel did not come to its panic or said no slide there. Chi-square and the collision test (exact, Knuth vol. 2, 3.3.2) accuse below
p = 10<sup>-6</sup>, on either side. Made by kslide ${version} of ${count(records.length)} results, the last from ${escape(last)}.</p>
</footer>
</main>
</html>
`;
}

function verdict({ findings, boots, slides, slots }: AuditSummary): string {
  const of = slots === null ? '' : ` of ${count(slots.count)}`;
  const seen = slides === null ? 'no slides' : `${count(slides.distinct)}${of} slides seen`;
  if (findings.length === 0)
    return `<section class="verdict good"><strong>Nothing found</strong> in ${count(boots.done)} boots: none failed, ${seen}.</section>`;
  const items = findings.map(({ text }) => `<li>${escape(text)}</li>`).join('');
  return `<section class="verdict bad"><strong>${count(findings.length)} found</strong> in ${count(boots.done)} boots, ${seen}:<ul>${items}</ul></section>`;
}

function figure(title: string, caption: string, draw: (width: number) => string): string {
  return `<section>
<h2>${title}</h2>
<figure>
<div class="wide">${draw(WIDTHS.wide)}</div>
<div class="narrow">${draw(WIDTHS.narrow)}</div>
<figcaption>${caption}</figcaption>
</figure>
</section>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);
}

const LIGHT =
  '--page:#fff;--ink:#1b1f24;--soft:#59636e;--rule:#d5dae0;--bar:#2f6db5;--band:#e6ecf3;--line:#b3470b;--good:#e6f4ea;--bad:#fdeaea';
const DARK =
  '--page:#14181d;--ink:#e6e9ec;--soft:#9aa4af;--rule:#333b44;--bar:#6ba4e0;--band:#252f3a;--line:#f0a36b;--good:#16301f;--bad:#3d1d1e';

const STYLE = `
:root{${LIGHT}}
@media screen and (prefers-color-scheme:dark){:root{${DARK}}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:752px;margin:0 auto;padding:24px 16px}
h1{font-size:1.6rem;line-height:1.2;margin:0}
h2{font-size:1.1rem;margin:32px 0 8px}
.image{margin:4px 0 16px;color:var(--soft);overflow-wrap:anywhere}
.verdict{padding:12px 16px;border-radius:6px}
.verdict ul{margin:8px 0 0;padding-left:20px}
.good{background:var(--good)}
.bad{background:var(--bad)}
figure{margin:0}
figcaption,footer{color:var(--soft);font-size:.875rem}
.narrow{display:none}
svg{display:block;width:100%;height:auto}
.narrow svg{max-width:440px}
svg text{fill:var(--soft);font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.end{text-anchor:end}
.middle{text-anchor:middle}
.grid{stroke:var(--rule)}
.bar{fill:var(--bar)}
.band{fill:var(--band)}
.expected{stroke:var(--line);stroke-width:1.5}
dl{margin:0}
dl div{display:grid;grid-template-columns:7rem 1fr;gap:0 12px;padding:6px 0;border-top:1px solid var(--rule)}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
footer{margin-top:32px;border-top:1px solid var(--rule)}
@media screen and (max-width:751px){.wide{display:none}.narrow{display:block}dl div{grid-template-columns:1fr}}
@media print{body{font-size:11pt}main{padding:0}section{break-inside:avoid}.verdict{border:1px solid var(--rule)}.bar,.band,.verdict{print-color-adjust:exact}}
`;
