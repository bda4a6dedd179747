/**
 * A headless Chromium, led through its pipe (Chrome DevTools Protocol; --remote-debugging-pipe: JSON messages that end in a zero byte, to the
 * browser on descriptor 3, from it on 4). No package does it for us: some ten methods are all that the tests need.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Readable, Writable } from 'node:stream';

const PROGRAM = 'chromium';
/** A busy machine takes its time. */
const ANSWER_MS = 120_000;
/** After this long the browser is ended by a signal. */
const CLOSE_MS = 30_000;
/** Attempts to remove the profile, 0.1 s apart. */
const REMOVALS = 100;

/** For `waitUntil`: what takes longer on a busy machine than this does not happen any more. */
const WAIT_MS = 180_000;
const POLL_MS = 50;

/** Keys by their name; `text` is what they type. */
const KEYS = {
  Tab: { windowsVirtualKeyCode: 9 },
  Enter: { windowsVirtualKeyCode: 13, text: '\r' },
  Space: { windowsVirtualKeyCode: 32, text: ' ', key: ' ' },
} as const;

export interface View {
  readonly width: number;
  readonly scheme?: 'light' | 'dark';
  readonly media?: 'screen' | 'print';
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly message: string };
}

/** Removes a folder into which a process that is ending may still write. */
async function removeFolder(path: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      rmSync(path, { recursive: true, force: true });
      return;
    } catch (error) {
      if (tries === REMOVALS) throw error;
      await sleep(100);
    }
  }
}

/** A number in a file of a process; undefined if the process has ended. */
function readProc(path: string, pattern: RegExp): number | undefined {
  try {
    const found = pattern.exec(readFileSync(path, 'utf8'));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}

export class Browser {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #session: string | undefined;
  #sent = 0;
  /** Addresses of everything that the page asked for. */
  readonly requests: string[] = [];
  /** What went wrong in the page: exceptions that nothing caught, and what the browser itself complains of, as of a broken content security policy. */
  readonly complaints: string[] = [];
  /** The next message of each of these methods. */
  readonly #events = new Map<string, (params: Readonly<Record<string, unknown>>) => void>();

  private constructor(child: ChildProcess, profile: string) {
    this.#child = child;
    this.#profile = profile;
    let text = '';
    (child.stdio[4] as Readable).setEncoding('utf8').on('data', (more: string) => {
      text += more;
      for (let end = text.indexOf('\0'); end >= 0; end = text.indexOf('\0')) {
        this.#receive(JSON.parse(text.slice(0, end)) as Message);
        text = text.slice(end + 1);
      }
    });
  }

  /** scripts/test-setup.sh installs it where the distribution has it. */
  static isInstalled(): boolean {
    return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, PROGRAM)));
  }

  static async start(): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'kslide-browser-'));
    const args = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
    // A name that does not resolve: the browser's own errands have no network either. But for what a test itself serves.
    args.push(
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      '--remote-debugging-pipe',
      `--user-data-dir=${profile}`,
    );
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    await once(child, 'spawn');
    const browser = new Browser(child, profile);
    const { targetId } = await browser.#ask('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await browser.#ask('Target.attachToTarget', { targetId, flatten: true });
    browser.#session = String(sessionId);
    for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await browser.#ask(`${domain}.enable`);
    return browser;
  }

  async open(address: string): Promise<void> {
    this.requests.length = 0;
    this.complaints.length = 0;
    await this.#ask('Page.navigate', { url: address });
    await this.evaluate(
      `new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))`,
    );
  }

  async show({ width, scheme = 'light', media = 'screen' }: View): Promise<void> {
    await this.#ask('Emulation.setDeviceMetricsOverride', {
      width,
      height: 844,
      deviceScaleFactor: 1,
      mobile: width < 500,
    });
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.#ask('Emulation.setEmulatedMedia', { media, features });
  }

  /** What an expression comes to, once its promise is kept. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = (await this.#ask('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    })) as { readonly result: { readonly value?: unknown }; readonly exceptionDetails?: unknown };
    assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** PNG of the whole page. */
  async screenshot(): Promise<Uint8Array> {
    const { data } = await this.#ask('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(String(data), 'base64');
  }

  /** WebP of the page's first `height` CSS pixels: a third of the PNG's size. */
  async picture(height: number): Promise<Uint8Array> {
    const width = await this.evaluate('innerWidth');
    const clip = { x: 0, y: 0, width, height, scale: 1 };
    const options = { captureBeyondViewport: true, clip, format: 'webp', quality: 85 };
    const { data } = await this.#ask('Page.captureScreenshot', options);
    return Buffer.from(String(data), 'base64');
  }

  /** Returns what the expression comes to, once it is something. `meanwhile` is called before each look. */
  async waitUntil(expression: string, what: string = expression, meanwhile?: () => void): Promise<unknown> {
    for (const end = performance.now() + WAIT_MS; ; await sleep(POLL_MS)) {
      meanwhile?.();
      const value = await this.evaluate(expression);
      if (value) return value;
      assert.ok(performance.now() < end, `${what}: not in ${WAIT_MS} ms`);
    }
  }

  /** Gives a file to an input element, as a user who chooses it. */
  async choose(selector: string, file: string): Promise<void> {
    const { root } = (await this.#ask('DOM.getDocument')) as { readonly root: { readonly nodeId: number } };
    const { nodeId } = await this.#ask('DOM.querySelector', { nodeId: root.nodeId, selector });
    await this.#ask('DOM.setFileInputFiles', { nodeId, files: [file] });
  }

  /** Does `open`, which makes the browser ask for a file, and gives it one. */
  async chooseWhenAsked(file: string, open: () => Promise<void>): Promise<void> {
    await this.#ask('Page.setInterceptFileChooserDialog', { enabled: true });
    const asked = this.#next('Page.fileChooserOpened');
    await open();
    const { backendNodeId } = await asked;
    await this.#ask('DOM.setFileInputFiles', { backendNodeId, files: [file] });
    await this.#ask('Page.setInterceptFileChooserDialog', { enabled: false });
  }

  /** Drags a file to a place of the page and drops it there. */
  async dropFile(file: string, x: number, y: number): Promise<void> {
    const data = { items: [], files: [file], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop'])
      await this.#ask('Input.dispatchDragEvent', { type, x, y, data });
  }

  async press(name: keyof typeof KEYS): Promise<void> {
    const key = { key: name, code: name, ...KEYS[name] };
    await this.#ask('Input.dispatchKeyEvent', { type: 'keyDown', ...key });
    await this.#ask('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
  }

  /** Downloads go to this folder, without asking. */
  async saveTo(folder: string): Promise<void> {
    await this.#ask('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder });
  }

  /** Bytes of real memory of all processes of the browser. Memory that they share counts for the first of them only (Pss of smaps_rollup). */
  memory(): number {
    const parents = new Map<number, number>();
    for (const name of readdirSync('/proc')) {
      const parent = /^\d+$/.test(name) ? readProc(`/proc/${name}/stat`, /\) \S (\d+)/) : undefined;
      if (parent !== undefined) parents.set(Number(name), parent);
    }
    const isOurs = (pid: number | undefined): boolean =>
      pid !== undefined && pid > 1 && (pid === this.#child.pid || isOurs(parents.get(pid)));
    return [...parents.keys()]
      .filter(isOurs)
      .reduce((sum, pid) => sum + 1024 * (readProc(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+)/m) ?? 0), 0);
  }

  /**
   * Asks the browser to end, so that its child processes end before it does: one that outlives it still writes into the profile, and rmSync then fails
   * with ENOTEMPTY, however often it retries (it lists the folder only once).
   */
  async close(): Promise<void> {
    const closed = once(this.#child, 'close');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_MS);
    this.#session = undefined; // the request is to the browser, not to the page
    await this.#ask('Browser.close').catch(() => this.#child.kill('SIGKILL'));
    await closed;
    clearTimeout(timer);
    await removeFolder(this.#profile);
  }

  async #ask(
    method: string,
    params: Readonly<Record<string, unknown>> = {},
  ): Promise<Readonly<Record<string, unknown>>> {
    const id = ++this.#sent;
    const answer = await new Promise<Message>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Chromium did not answer to ${method}`)), ANSWER_MS);
      this.#waiting.set(id, (message) => {
        clearTimeout(timer);
        resolve(message);
      });
      const message = { id, method, params, ...(this.#session === undefined ? {} : { sessionId: this.#session }) };
      (this.#child.stdio[3] as Writable).write(`${JSON.stringify(message)}\0`);
    });
    assert.equal(answer.error, undefined, `${method}: ${answer.error?.message}`);
    return answer.result ?? {};
  }

  /** The parameters of the next message of this method. */
  #next(method: string): Promise<Readonly<Record<string, unknown>>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Chromium did not say ${method}`)), ANSWER_MS);
      this.#events.set(method, (params) => {
        clearTimeout(timer);
        this.#events.delete(method);
        resolve(params);
      });
    });
  }

  #receive(message: Message): void {
    if (message.method === 'Runtime.exceptionThrown' || message.method === 'Log.entryAdded')
      this.complaints.push(JSON.stringify(message.params));
    if (message.method !== undefined) this.#events.get(message.method)?.(message.params ?? {});
    if (message.method === 'Network.requestWillBeSent') {
      const { request } = message.params as { readonly request: { readonly url: string } };
      this.requests.push(request.url);
    }
    if (message.id !== undefined) this.#waiting.get(message.id)?.(message);
  }
}
