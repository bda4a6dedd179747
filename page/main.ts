/**
 * The page: takes a file, gives it to a worker, and shows what the worker says. Built into one HTML file by scripts/page.ts.
 *
 * Each order gets a worker of its own, which ends afterwards: that frees its memory, and is how work is cancelled.
 */
import { short } from '../src/base/text.ts';
import { size } from '../src/cli/text.ts';
import { drawImageMap } from './draw-map.ts';
import { byId, definitions, foldable, list, make, tableOf } from './elements.ts';
import { STEPS } from './messages.ts';
import type { Facts, Order, Report, Result, Step } from './messages.ts';

/** The worker's program: deflated, then base64. scripts/page.ts puts it here. */
declare const PACKED_WORKER: string;

const input = byId('file', HTMLInputElement);
const drop = byId('drop', HTMLElement);
const working = byId('working', HTMLElement);
const bar = byId('bar', HTMLProgressElement);
const percent = byId('percent', HTMLOutputElement);
const status = byId('status', HTMLElement);
const outcome = byId('outcome', HTMLElement);
const factsOf = byId('facts', HTMLElement);

/** How long each step takes, in parts of 100: as measured for a zstd kernel that has its relocations. Only the look of the bar depends on it. */
const SHARES: Readonly<Record<Step, number>> = {
  read: 4,
  decode: 26,
  look: 6,
  find: 0,
  convert: 10,
  reread: 26,
  prove: 28,
};

/** What is being worked on. */
let current: { readonly worker: Promise<Worker> } | undefined;
let step: Step | undefined;
let saved: string | undefined;
let redraw: ((width: number) => void) | undefined;

let program: Promise<string> | undefined;

/** The address of the worker's program. */
async function unpackProgram(): Promise<string> {
  const packed = Uint8Array.from(atob(PACKED_WORKER), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return URL.createObjectURL(new Blob([await new Response(stream).arrayBuffer()], { type: 'text/javascript' }));
}

function start(file: File, recover?: 'find' | 'accept'): void {
  end();
  step = undefined;
  if (saved !== undefined) URL.revokeObjectURL(saved);
  saved = undefined;
  redraw = undefined;
  drawn = undefined;
  outcome.hidden = true;
  factsOf.hidden = true;
  factsOf.replaceChildren();
  byId('name', HTMLElement).textContent = `${file.name}, ${size(file.size)}`;
  showProgress('read', 0);
  give({ kind: 'convert', file, recover });
}

/** Gives an order to a new worker. One that works on another is ended. */
function give(order: Order): void {
  end();
  const mine = { worker: open() };
  current = mine;
  working.hidden = false;
  const ifMine = (action: () => void): void => {
    if (current === mine) action();
  };
  mine.worker.catch((error: unknown) => ifMine(() => fail(`this browser cannot run the page: ${String(error)}`)));

  async function open(): Promise<Worker> {
    const worker = new Worker(await (program ??= unpackProgram()));
    worker.addEventListener('message', ({ data }: MessageEvent<Report>) => ifMine(() => receive(data, order.file)));
    worker.addEventListener('error', ({ message }) =>
      ifMine(() => fail(`internal error, please report it: ${message}`)),
    );
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker has none
    worker.postMessage(order);
    return worker;
  }
}

/** Ends what is being worked on. */
function end(): void {
  const ended = current;
  current = undefined;
  working.hidden = true;
  void ended?.worker.then((worker) => worker.terminate()).catch(() => {});
}

function receive(message: Report, file: File): void {
  if (message.kind === 'progress') showProgress(message.step, message.done);
  else if (message.kind === 'facts') showFacts(message.facts);
  else if (message.kind === 'made') give({ kind: 'prove', file, made: message.made });
  else if (message.kind === 'result') showResult(message.result, file);
  else if (message.kind === 'doubts') showDoubts(message, file);
  else fail(message.message, message.recoverable ? file : undefined);
}

function showProgress(now: Step, done: number | undefined): void {
  if (now !== step) {
    step = now;
    byId('step', HTMLElement).textContent = STEPS[now];
    // Only each step is spoken, not each percent.
    status.textContent = STEPS[now];
  }
  let before = 0;
  for (const [name, share] of Object.entries(SHARES)) {
    if (name === now) break;
    before += share;
  }
  // A step that tells nothing stands at its start.
  bar.value = before + SHARES[now] * Math.min(1, done ?? 0);
  percent.textContent = `${Math.floor(bar.value)}%`;
}

/** Shows how it ended, and puts the focus there: what had it before may be gone. */
function conclude(title: string, ...children: readonly (Node | string)[]): void {
  end();
  outcome.replaceChildren(make('h2', { id: 'title' }, title), ...children);
  outcome.hidden = false;
  status.textContent = title;
  outcome.focus();
}

function fail(message: string, recoverable?: File): void {
  const words = make('p', { class: 'bad', id: 'message' }, message);
  if (recoverable === undefined) return conclude('Not converted', words);
  const find = make('button', { type: 'button', id: 'recover' }, 'Find the relocations in the image');
  find.addEventListener('click', () => start(recoverable, 'find'));
  conclude(
    'Not converted',
    words,
    make(
      'p',
      {},
      'If another file of the same build has the relocations, use that one: its bzImage, or its vmlinux.unstripped. Otherwise kslide can look for them in the image. That takes some seconds. The result is not proved: the kernel may crash if a relocation was missed.',
    ),
    find,
  );
}

function showDoubts({ message, doubts }: Extract<Report, { kind: 'doubts' }>, file: File): void {
  const accept = make('button', { type: 'button', id: 'accept' }, 'Convert it, and leave these as they are');
  accept.addEventListener('click', () => start(file, 'accept'));
  conclude(
    'Not converted: there are doubts',
    make('p', { class: 'bad', id: 'message' }, message),
    list(
      doubts.map(({ address, bits, holds, why, symbol }) => {
        const place = `${address} (${bits} bits${symbol === undefined ? '' : `, in ${short(symbol)}`})`;
        return `${place} holds ${holds}: ${why}`;
      }),
    ),
    make(
      'p',
      {},
      'On the command line each can be decided, with --site or --not-site. If one of them holds an address and is left as it is, the kernel may crash.',
    ),
    accept,
  );
}

function showResult(result: Result, file: File): void {
  const { rows, warnings, verdict, randomness } = result;
  saved = URL.createObjectURL(result.file);
  const save = make(
    'a',
    { class: 'button', id: 'save', href: saved, download: result.name },
    `Save ${result.name} (${size(result.file.size)})`,
  );
  conclude(
    `${result.input}: converted`,
    make('p', {}, save),
    ...warnings.map((text) => make('p', { class: 'warn' }, `Warning: ${text}`)),
    make('p', { class: verdict.whole ? 'good' : 'warn', id: 'verdict' }, verdict.text),
    make('h3', {}, 'Randomness'),
    ...randomness.map((text) => make('p', {}, text)),
  );
  const sizes = document.getElementById('sizes') ?? outcome.appendChild(make('div', { id: 'sizes' }));
  sizes.replaceChildren(
    make('h3', {}, 'Sizes and places'),
    definitions([...rows, ...(result.sha256 === undefined ? [] : [['sha256', result.sha256] as const])]),
    foldable(
      'The proof',
      list(verdict.checks.map(({ name, detail }) => `${name}: ${detail}`)),
      make('p', {}, 'It takes as given:'),
      list(verdict.premises),
    ),
  );
  if (drawn === undefined) return;
  const { start: from, end: to, text } = result.added;
  showMap({ ...drawn, added: { start: from, end: to } }, `${file.name}, converted`, `${text} added`);
}

/** The map of the file that is shown. */
let drawn: Facts['map'] | undefined;

function showFacts(facts: Facts): void {
  const { kernel, segments, relocations, map } = facts;
  const figure = make('figure', { id: 'map' });
  factsOf.replaceChildren(
    make('h3', {}, 'The kernel in memory'),
    figure,
    make('div', { id: 'sizes' }),
    make('h3', {}, 'What is in the file'),
    definitions(kernel),
    foldable('Segments', tableOf('Segments', segments)),
    ...(relocations === undefined
      ? []
      : [
          foldable('Relocations by section', tableOf('Relocations by section', relocations.sections)),
          foldable('How far apart relocations are', definitions(relocations.sites)),
          foldable('Size of the table in each form', tableOf('Size of the table in each form', relocations.forms)),
        ]),
  );
  factsOf.hidden = false;
  drawn = map;
  showMap(map, 'as it is in the file');
}

function showMap(map: Facts['map'], what: string, added?: string): void {
  const figure = byId('map', HTMLElement);
  const picture = make('div');
  figure.replaceChildren(picture, make('figcaption', {}, `The image at its link address, ${what}.`));
  redraw = (width) => {
    picture.innerHTML = drawImageMap(map, added, width);
  };
  redraw(figure.clientWidth);
}

new ResizeObserver(([entry]) => {
  if (entry !== undefined && entry.contentRect.width > 0) redraw?.(Math.floor(entry.contentRect.width));
}).observe(factsOf);

// So that the same file can be chosen again.
input.addEventListener('click', () => {
  input.value = '';
});
input.addEventListener('change', () => {
  const [file] = input.files ?? [];
  if (file !== undefined) start(file);
});
byId('cancel', HTMLButtonElement).addEventListener('click', () => {
  end();
  status.textContent = 'Cancelled';
  input.focus();
});

// On the whole page: a file that is dropped beside the field must not replace the page.
addEventListener('dragover', (event) => {
  event.preventDefault();
  drop.classList.add('over');
});
addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) drop.classList.remove('over');
});
addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  const { files } = event.dataTransfer ?? input;
  const [file] = files ?? [];
  if (file === undefined) return;
  // The field shows its name.
  input.files = files;
  start(file);
});
