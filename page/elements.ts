/** Makes elements. Text from files enters the page as text only. */
import type { Row, Table } from '../src/cli/reports/inspect.ts';

type Child = Node | string;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An element of index.html. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new TypeError(`the page has no ${type.name} with the id ${id}`);
  return element;
}

export function definitions(pairs: readonly Row[]): HTMLElement {
  return make(
    'dl',
    {},
    ...pairs.map(([label, value]) => make('div', {}, make('dt', {}, label), make('dd', {}, value))),
  );
}

/** Scrolls sideways where it is too wide. With `tabindex`, so that the keyboard can scroll it too. */
export function tableOf(label: string, [head = [], ...lines]: Table): HTMLElement {
  const table = make(
    'table',
    {},
    make('thead', {}, make('tr', {}, ...head.map((text) => make('th', { scope: 'col' }, text)))),
    make(
      'tbody',
      {},
      ...lines.map(([title = '', ...cells]) =>
        make('tr', {}, make('th', { scope: 'row' }, title), ...cells.map((text) => make('td', {}, text))),
      ),
    ),
  );
  return make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label }, table);
}

export function foldable(title: string, ...children: readonly Child[]): HTMLElement {
  return make('details', {}, make('summary', {}, title), ...children);
}

export function list(items: readonly string[]): HTMLElement {
  return make('ul', {}, ...items.map((text) => make('li', {}, text)));
}
