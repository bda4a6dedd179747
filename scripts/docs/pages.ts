/** All pages of the documentation, with their figures written anew from docs/results and from the code. Nothing is written to disk here. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FIGURES, renderFigure } from './figures.ts';
import { renderPage } from './markdown.ts';
import { hashOfPart } from './program.ts';
import type { Rendered } from './results.ts';
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
  /** The results files that the pages have figures of. */
  readonly used: readonly string[];
}

/** `today`: the hash that a part of the program has. Throws where a page names what is not there. */
export function renderPages(today: (part: string) => string = hashOfPart): Rendering {
  const seen = new Set<string>();
  const used = new Set<string>();
  const render = (name: string, { text, files }: Rendered): string => {
    seen.add(name);
    for (const file of files) used.add(file);
    return text;
  };
  const generated = {
    table: (name: string): string => render(name, renderTable(name, today)),
    figure: (name: string): string => render(name, renderFigure(name, today)),
  };
  const pages = pageNames().map((name): Page => {
    const path = ROOT + name;
    const before = readFileSync(path, 'utf8');
    return { name, path, before, after: renderPage(before, generated) };
  });
  const unused = [...Object.keys(FIGURES), ...Object.keys(VIEWS)].filter((name) => !seen.has(name));
  return { pages, unused, used: [...used].toSorted() };
}

/** The page on the results themselves shows how a figure is written. */
function pageNames(): string[] {
  const docs = readdirSync(`${ROOT}docs`, { recursive: true, encoding: 'utf8' });
  const pages = docs.filter((file) => file.endsWith('.md') && file !== 'results/README.md');
  return ['README.md', ...pages.map((file) => `docs/${file}`).toSorted()];
}
