/** The report of `kslide audit --html`. */
import { count } from '../../base/text.ts';
import type { AuditRecord } from '../../measure/audit/record.ts';
import { countBySlot, slidesOf } from '../../measure/audit/summary.ts';
import type { AuditSummary } from '../../measure/audit/summary.ts';
import { definitions, escape, figure, page } from '../html/page.ts';
import { auditRows, untold } from './audit.ts';
import { drawHistogram, drawRepetitions } from './audit-figures.ts';
import { version } from '../version.ts';

export interface PageOptions {
  /** What was audited, as the user named it. */
  readonly title: string;
}

/** `records`: those that `summary` was made from. The same records give the same page. */
export function reportAuditPage(
  summary: AuditSummary,
  records: readonly AuditRecord[],
  { title }: PageOptions,
): string {
  const slides = slidesOf(records);
  const slots = summary.slots ?? undefined;
  const counts = slots === undefined ? undefined : countBySlot(slides, slots);
  const last =
    records
      .map(({ at }) => at)
      .toSorted()
      .at(-1) ?? '';
  const tells = summary.verdict !== 'not-enough-boots' && summary.verdict !== 'undecided';
  const body = `${verdict(summary)}
<div${tells ? '' : ' class="untold"'}>
${
  slides.length === 0
    ? ''
    : figure(
        'Where the kernel went',
        slots === undefined
          ? 'Each bar counts the boots whose slide is in its range. Which slides this kernel may take is not known, so there is no expectation to compare with.'
          : 'Each bar counts the boots whose slide is in its range. The line is the expected count, and the band holds 95% of the bars, if all slots are equally likely.',
        (width) => drawHistogram(slides, slots, width),
      )
}
${
  counts === undefined || slides.length === 0
    ? ''
    : figure(
        'How often slots repeat',
        'Each bar counts the slots that were taken by that number of boots. Line and band are as above.',
        (width) => drawRepetitions(counts, width),
      )
}
</div>
<section>
<h2>In figures</h2>
${definitions(auditRows(summary), (label) => !tells && JUDGED.has(label))}
</section>`;
  const footer = `A boot has failed if the kernel did not reach its panic, or printed no slide there. Chi-square and the collision test (exact, Knuth vol. 2, 3.3.2) report a finding below
p = 10<sup>-6</sup>, at either end. Made by kslide ${version} of ${count(records.length)} results, the last from ${escape(last)}.`;
  return page({ heading: 'KASLR audit', subject: title, body, footer, style: STYLE });
}

/** What too few boots cannot say. */
const JUDGED: ReadonlySet<string> = new Set(['uniform?', 'collisions', 'entropy']);

function verdict(summary: AuditSummary): string {
  const { findings, boots, slides, slots, needed, verdict: word } = summary;
  const of = slots === null ? '' : ` of ${count(slots.count)}`;
  const seen = slides === null ? 'no slides' : `${count(slides.distinct)}${of} slides seen`;
  if (word === 'undecided')
    return `<section class="verdict open"><strong>Cannot be judged</strong>: ${escape(untold(summary))}; ${seen}.</section>`;
  if (word === 'not-enough-boots')
    return `<section class="verdict open"><strong>Not enough boots to tell</strong> (${count(needed)} needed): ${count(boots.done)} done, none failed, ${seen}.</section>`;
  if (word === 'nothing-found')
    return `<section class="verdict good"><strong>Nothing found</strong> in ${count(boots.done)} boots: none failed, ${seen}.</section>`;
  const items = findings.map(({ text }) => `<li>${escape(text)}</li>`).join('');
  return `<section class="verdict bad"><strong>${count(findings.length)} found</strong> in ${count(boots.done)} boots, ${seen}:<ul>${items}</ul></section>`;
}

const STYLE = `.verdict{padding:12px 16px;border-radius:6px}
.verdict ul{margin:8px 0 0;padding-left:20px}
.good{background:var(--good)}
.bad{background:var(--bad)}
.open{background:var(--rule)}
.bar{fill:var(--bar)}
.band{fill:var(--band)}
.expected{stroke:var(--line);stroke-width:1.5}
@media print{.verdict{border:1px solid var(--rule);print-color-adjust:exact}}
`;
