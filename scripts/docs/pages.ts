/** All pages of the documentation, with their figures written anew from docs/results and from the code. Nothing is written to disk here. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FIGURES } from './figures.ts';
import { renderPage } from './markdown.ts';
import { EARLIER, stubHash, ResultsReader } from './results.ts';
import { renderTable, VIEWS } from './tables.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface Page {
  /** Path in the repository. */
  readonly name: string;
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

export interface Rendering {
  readonly pages: readonly Page[];
  /** Names that no page has. */
  readonly unused: readonly string[];
  readonly results: ResultsReader;
}

/** `today`: the hash of the stub that figures are compared with. Throws where a page names what is not there. */
export function renderPages(today: string = stubHash()): Rendering {
  const results = new ResultsReader();
  const seen = new Set<string>();
  const generated = {
    table(name: string): string {
      seen.add(name);
      return renderTable(name, results, today);
    },
    figure(name: string): string {
      seen.add(name);
      const figure = FIGURES[name];
      if (figure === undefined) throw new RangeError(`there is no figure ${name}`);
      const sources = new ResultsReader();
      const text = figure(sources);
      const earlier = sources.used.map((file) => results.file(file).stub).some((stub) => isOutdated(stub, today));
      return earlier ? `${text} (measured with an earlier stub)` : text;
    },
  };
  const pages = pageNames().map((name): Page => {
    const path = ROOT + name;
    const before = readFileSync(path, 'utf8');
    return { name, path, before, after: renderPage(before, generated) };
  });
  const unused = [...Object.keys(FIGURES), ...Object.keys(VIEWS)].filter((name) => !seen.has(name));
  return { pages, unused, results };
}

/** EARLIER is not: tables say it of all their figures, and so need not each sentence. */
function isOutdated(stub: string | null, today: string): boolean {
  return stub !== null && stub !== EARLIER && stub !== today;
}

/** The page on the results themselves shows how a figure is written. */
function pageNames(): string[] {
  const docs = readdirSync(`${ROOT}docs`, { recursive: true, encoding: 'utf8' });
  const pages = docs.filter((file) => file.endsWith('.md') && file !== 'results/README.md');
  return ['README.md', ...pages.map((file) => `docs/${file}`).toSorted()];
}
