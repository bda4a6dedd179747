/** The figures in README and docs are those of docs/results and of the code. After a change of either: `npm run docs`, and read the diff. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatTable, renderPage, withoutGenerated } from '../../scripts/docs/markdown.ts';
import { renderPages } from '../../scripts/docs/pages.ts';
import {
  EARLIER,
  formatResults,
  stubHash,
  ResultsReader,
  resultsFiles,
  resultsText,
} from '../../scripts/docs/results.ts';
import type { Results } from '../../scripts/docs/results.ts';
import { renderTable } from '../../scripts/docs/tables.ts';

const { pages, unused, results } = renderPages();

describe('pages', () => {
  for (const { name, before, after } of pages)
    test(`${name} is as \`npm run docs\` writes it`, () => assert.equal(before, after));

  test('every figure, table and results file is on a page', () => {
    assert.deepEqual(unused, []);
    assert.deepEqual(results.used, resultsFiles());
  });

  test('no page repeats by hand a figure that another page has', () => {
    // Facts of formats, and of machines that were booted: powers of two, and lengths.
    const facts = new Set(['1,024', '2,048', '4,096', '65,536', '2,000']);
    const seen = new Map<string, string[]>();
    for (const { name, after } of pages) {
      const figures = withoutGenerated(after).match(/(?<![\d,.])\d{1,3}(,\d{3})+(\.\d+)?(?![\d,])/g) ?? [];
      for (const figure of new Set(figures)) seen.set(figure, [...(seen.get(figure) ?? []), name]);
    }
    const repeated = [...seen].filter(([figure, names]) => names.length > 1 && !facts.has(figure));
    assert.deepEqual(repeated, []);
  });

  test('figures that were measured with another stub say so', () => {
    const later = renderPages('0'.repeat(12)).pages;
    const page = later.find(({ name }) => name === 'docs/performance.md')!;
    const readme = later.find(({ name }) => name === 'README.md')!;
    assert.match(readme.after, /-->0\.\d\d \(measured with an earlier stub\)<!-- end --> of the time of/);
    const note = `Measured with an earlier stub (${stubHash()}).`;
    const ofToday = ['stub', 'apply-table', 'apply-table.amd'].filter((name) => results.file(name).stub === stubHash());
    assert.ok(ofToday.length > 0);
    assert.equal(page.after.split(note).length - 1, ofToday.length, 'the tables of steps and of the apply step');
    assert.ok(!page.before.includes(note));
    assert.match(
      renderTable('boot/6.12', new ResultsReader(), stubHash()),
      /\nMeasured with an earlier stub \(its hash was not recorded\)\.$/,
    );
    assert.doesNotMatch(renderTable('page-sharing/pages', new ResultsReader(), '0'.repeat(12)), /earlier stub/);
  });
});

describe('results', () => {
  for (const name of resultsFiles())
    test(`${name}.json has the format of docs/results/README.md`, () => {
      const file = JSON.parse(resultsText(name)) as Results;
      assert.equal(resultsText(name), formatResults(file));
      assert.match(file.date, /^\d{4}-\d\d(-\d\d)?$/);
      if (file.stub !== null && file.stub !== EARLIER) assert.match(file.stub, /^[0-9a-f]{12}$/);
      for (const { columns, rows } of Object.values(file.tables ?? {}))
        for (const row of rows) assert.equal(row.length, columns.length, JSON.stringify(row));
    });

  test('what two files say of one kernel is the same', () => {
    const bytes = (kernel: string, form: string): string =>
      `${results.number('table-sizes', 'sizes', form, kernel).toLocaleString('en-US')} bytes`;
    for (const kernel of ['6.12', '6.1']) {
      assert.equal(
        results.cell('stub', 'steps', 'size of the table', `${kernel}, compact`),
        bytes(kernel, 'the compact table'),
      );
      assert.equal(
        results.cell('stub', 'steps', 'size of the table', `${kernel}, kernel's format`),
        bytes(kernel, "the kernel's table"),
      );
    }
  });
});

describe('marks in a page', () => {
  const generated = {
    table: (name: string): string => `| ${name} |`,
    figure: (name: string): string => `figure ${name}`,
  };
  const render = (page: string): string => renderPage(page, generated);

  test('what is between them is written anew', () => {
    const page =
      '# x\n\n<!-- table: a/b -->\n\n| old |\n\n<!-- end -->\n\nit is <!-- = c -->1<!-- end -->, or <!-- = d --><!-- end -->.\n';
    const after =
      '# x\n\n<!-- table: a/b -->\n\n| a/b |\n\n<!-- end -->\n\nit is <!-- = c -->figure c<!-- end -->, or <!-- = d -->figure d<!-- end -->.\n';
    assert.equal(render(page), after);
    assert.equal(withoutGenerated(page), '# x\n\n\n\nit is , or .\n');
  });

  test('without a partner, or where Markdown would take the line for HTML, they are refused', () => {
    assert.throws(() => render('x <!-- = a -->1\n'), /1 marks, of which 0 are whole/);
    assert.throws(() => render('x 1<!-- end -->\n'), /0 marks, of which 0 are whole/);
    assert.throws(() => render('<!-- table: a -->\n\n| a |\n'), /1 marks, of which 0 are whole/);
    for (const start of ['', '- ', '   1. '])
      assert.throws(() => render(`${start}<!-- = a -->1<!-- end --> x\n`), /a line begins with a figure's comment/);
  });

  test('names that are not there are refused', () => {
    const reader = new ResultsReader();
    assert.throws(() => reader.file('nothing'), /there is no docs\/results\/nothing\.json/);
    assert.throws(() => renderTable('nothing', reader, ''), /there is no table nothing/);
    assert.throws(() => renderTable('boot/9.9', reader, ''), /docs\/results\/boot\.json has no table "9\.9"/);
    assert.throws(() => reader.value('boot', 'nothing'), /docs\/results\/boot\.json has no value "nothing"/);
    assert.throws(() => reader.number('boot', '6.12', 'bzImage', 'kslide'), /6\.12, bzImage, kslide is no number/);
  });

  test('a table is as oxfmt formats it', () => {
    const columns = [{ name: 'a' }, { name: 'x', align: 'right', digits: 1, suffix: '%' }, { name: 'n' }] as const;
    const rows = [
      ['≥ 1', 1593.75, 1234567],
      [null, 2, '4.90'],
    ];
    assert.equal(
      formatTable({ columns, rows }),
      [
        '| a   |        x | n         |',
        '| --- | -------: | --------- |',
        '| ≥ 1 | 1,593.8% | 1,234,567 |',
        '|     |     2.0% | 4.90      |',
      ].join('\n'),
    );
  });
});
