/** The figures in README and docs are those of docs/results and of the code. After a change of either: `npm run docs`, and read the diff. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { verdictOf } from '../../scripts/docs/claim.ts';
import { renderFigure } from '../../scripts/docs/figures.ts';
import { formatTable, renderPage, withoutGenerated } from '../../scripts/docs/markdown.ts';
import { MEASUREMENTS, NOT_KEPT, whyToMeasure } from '../../scripts/docs/measurements.ts';
import { renderPages } from '../../scripts/docs/pages.ts';
import { changedParts, EARLIER, hashOfPart, programNote, programOf, STUB } from '../../scripts/docs/program.ts';
import { formatResults, MAKERS, ResultsReader, resultsFiles, resultsText } from '../../scripts/docs/results.ts';
import type { Maker, Results } from '../../scripts/docs/results.ts';
import { renderTable } from '../../scripts/docs/tables.ts';

const ROOT = new URL('../../', import.meta.url);
const { pages, unused, used } = renderPages();
const read = (name: string): Results => JSON.parse(resultsText(name)) as Results;
/** Every part is another one than it was. */
const changed = (): string => '0'.repeat(12);

/** `convert.amd`: the results of `convert`, on one maker's processors. */
function nameAndMaker(file: string): readonly [name: string, maker: Maker | undefined] {
  const [name = '', maker] = file.split('.');
  return [name, maker as Maker | undefined];
}

describe('pages', () => {
  for (const { name, before, after } of pages)
    test(`${name} is as \`npm run docs\` writes it`, () => assert.equal(before, after));

  test('every figure, table and results file is on a page', () => {
    assert.deepEqual(unused, []);
    assert.deepEqual(used, resultsFiles());
  });

  test('no table that is written by hand holds a measured time', () => {
    const byHand = pages.flatMap(({ name, after }) =>
      (withoutGenerated(after).match(/^\|.*\d (ms|ns|s)\b.*$/gm) ?? []).map((row) => `${name}: ${row}`),
    );
    assert.deepEqual(byHand, []);
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

  test('figures that were measured with another program say so', () => {
    const later = renderPages(changed).pages;
    const page = later.find(({ name }) => name === 'docs/performance.md')!.after;
    const readme = later.find(({ name }) => name === 'README.md')!.after;
    assert.match(readme, /-->0\.\d\d \((AMD|Intel), earlier stub\)( and .*)?<!-- end --> of the time of/);
    // Exact figures, which a run of today's program gave, become unknown with another program.
    const today = pages.find(({ name }) => name === 'docs/performance.md')!.after;
    const claim = /^\| the relocation table's size .*$/m;
    assert.match(claim.exec(today)![0], /\| at most 0\.16 +\| 0\.158 +\| met +\|/);
    assert.match(claim.exec(page)![0], /\| at most 0\.16 +\| 0\.158, by an earlier program +\| unknown +\|/);
    // What is the kernel's own is as it was.
    assert.deepEqual(
      renderFigure('boot.zstd.decompressor', changed),
      renderFigure('boot.zstd.decompressor', hashOfPart),
    );
    assert.doesNotMatch(renderTable('page-sharing/pages', changed).text, /earlier/);
    const { text } = renderTable('table-encodings/encodings', changed);
    assert.match(text, /\n\nMeasured with an earlier program: `src\/relocs\/tables` changed afterwards\.$/);
  });
});

describe('the program that figures are of', () => {
  test('a part that is as it was is no change', () => {
    const program = programOf([STUB, 'src/relocs/tables', 'src/convert.ts']);
    assert.deepEqual(Object.keys(program), [STUB, 'src/relocs/tables', 'src/convert.ts']);
    for (const hash of Object.values(program)) assert.match(hash, /^[0-9a-f]{12}$/);
    assert.deepEqual(changedParts(program), []);
    assert.equal(programNote(program), '');
    assert.equal(programNote({}), '');
  });

  test('another hash, and one that was not recorded, is a change', () => {
    const convert = hashOfPart('src/convert.ts');
    assert.deepEqual(changedParts({ stub: EARLIER, 'src/convert.ts': convert }), [STUB]);
    assert.equal(programNote({ stub: EARLIER }), 'Measured with an earlier stub (its hash was not recorded).');
    assert.equal(programNote({ stub: '0123456789ab' }), 'Measured with an earlier stub (0123456789ab).');
    assert.equal(
      programNote({ 'src/convert.ts': EARLIER }),
      'Measured with an earlier program (its hashes were not recorded).',
    );
    assert.equal(
      programNote({ 'src/convert.ts': '0123456789ab', 'src/codecs': hashOfPart('src/codecs') }),
      'Measured with an earlier program: `src/convert.ts` changed afterwards.',
    );
    assert.throws(() => hashOfPart('src/nothing'), /ENOENT/);
  });
});

describe('claims', () => {
  test('are met, missed or unknown', () => {
    const what = 'x';
    assert.equal(verdictOf({ what, measured: 0.8, atMost: 0.8 }), 'met');
    assert.equal(verdictOf({ what, measured: 0.81, atMost: 0.8 }), 'missed');
    assert.equal(verdictOf({ what, measured: 29, atLeast: 30 }), 'missed');
    assert.equal(verdictOf({ what, measured: 30, atLeast: 30 }), 'met');
    assert.equal(verdictOf({ what, measured: 0.9, atMost: 0.8, unknown: 'the loop varies by 40%' }), 'unknown');
    assert.equal(verdictOf({ what, measured: NaN, atMost: 0.8 }), 'unknown');
  });

  test('scripts that report some are known as such', () => {
    for (const { name, script, claims } of MEASUREMENTS) {
      const text = readFileSync(new URL(script, ROOT), 'utf8');
      if (claims) assert.match(text, /\breport(Time)?\(/, name);
      const reports = /import \{[^}]*\breport(Time)?\b[^}]*\} from '\.\/claims\.ts'/.test(text);
      const known = MEASUREMENTS.some((each) => each.script === script && each.claims);
      assert.equal(known, reports, script);
    }
  });
});

describe('results', () => {
  for (const file of resultsFiles())
    test(`${file}.json has the format of docs/results/README.md`, () => {
      const results = read(file);
      assert.equal(resultsText(file), formatResults(results));
      assert.match(results.date, /^\d{4}-\d\d(-\d\d)?$/);
      assert.match(results.version, /^\d+\.\d+\.\d+$/);
      assert.notEqual(results.machine, '');
      for (const [part, hash] of Object.entries(results.program)) {
        assert.match(hash, /^(earlier|[0-9a-f]{12})$/);
        assert.match(hashOfPart(part), /^[0-9a-f]{12}$/, 'a part that is there');
      }
      for (const { columns, rows } of Object.values(results.tables ?? {}))
        for (const row of rows) assert.equal(row.length, columns.length, JSON.stringify(row));
    });

  test('each has its script in the list of measurements, and the script records it', () => {
    for (const file of resultsFiles()) {
      const [name, maker] = nameAndMaker(file);
      const { script } = read(file);
      if (NOT_KEPT.includes(name)) {
        assert.equal(script, null, file);
        continue;
      }
      const measurement = MEASUREMENTS.find((each) => each.name === name);
      assert.ok(measurement !== undefined, `${file}: not in scripts/docs/measurements.ts`);
      assert.equal(maker !== undefined, measurement.byMaker === true, file);
      if (maker !== undefined) assert.ok(maker in MAKERS, file);
      assert.ok(
        script !== null && script.includes(`node --import tsx ${measurement.script} --record`),
        `${file}: ${script}`,
      );
      assert.equal(script.startsWith('npm run build && '), measurement.build === true, file);
    }
  });

  test('each measurement has a script with the option --record that writes its file', () => {
    const names = MEASUREMENTS.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const { name, script } of MEASUREMENTS) {
      assert.ok(existsSync(new URL(script, ROOT)), script);
      // test/fuzz/main.ts leaves the writing to record.ts beside it.
      const sources = [script, script.replace(/main\.ts$/, 'record.ts')].map((path) =>
        readFileSync(new URL(path, ROOT), 'utf8'),
      );
      const text = sources.join('\n');
      assert.match(text, /\btakeRecordOption\(/, script);
      assert.match(text, new RegExp(`\\brecord(\\?\\.|!)?\\('${name}',`), `${script} records ${name}`);
    }
  });

  test('what has to be measured again is what is missing on a maker, or of an earlier program', () => {
    const [encodings, apply] = ['table-encodings', 'apply-table'].map((name) =>
      MEASUREMENTS.find((each) => each.name === name)!,
    );
    assert.equal(whyToMeasure(encodings!, 'amd'), undefined);
    assert.equal(whyToMeasure(encodings!, 'amd', changed), 'of an earlier src/relocs/tables');
    assert.equal(whyToMeasure(apply!, 'intel', changed), 'of an earlier stub');
    assert.equal(whyToMeasure({ ...apply!, name: 'nothing' }, 'amd'), 'never measured on AMD');
    assert.equal(whyToMeasure({ ...encodings!, name: 'nothing' }, 'amd'), 'never measured');
  });

  test('what two files say of one kernel is the same', () => {
    const results = new ResultsReader();
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
    assert.throws(() => renderTable('nothing', changed), /there is no table nothing/);
    assert.throws(() => renderFigure('nothing', changed), /there is no figure nothing/);
    assert.throws(() => reader.file('apply-table'), /docs\/results has apply-table of other processors only/);
    assert.throws(() => renderTable('boot/9.9', changed), /docs\/results\/boot\.json has no table "9\.9"/);
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
