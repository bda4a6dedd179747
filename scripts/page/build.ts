/**
 * The page for browsers as one HTML file, from the files in page/. Nothing is written to disk here.
 *
 * The content security policy names the hashes of the page's script and style: nothing else runs, and nothing is loaded. The worker's program is deflated inside
 * of the script, which halves the file; a blob: worker inherits the policy. `wasm-unsafe-eval` is for the decoders (WebAssembly).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';
import { build } from 'esbuild';
import type { BuildOptions } from 'esbuild';

const path = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));

export interface BuiltPage {
  readonly html: string;
  /** Paths of all files that are in it. */
  readonly sources: readonly string[];
}

interface Bundle {
  readonly text: string;
  readonly sources: readonly string[];
}

async function bundle(entry: string, options: BuildOptions = {}): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: path(''),
    preserveSymlinks: true, // also where node_modules is a link
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    platform: 'browser',
    format: 'iife',
    // The first versions with DecompressionStream('deflate-raw'), 'wasm-unsafe-eval' and everything that the core uses.
    target: ['chrome110', 'firefox115', 'safari16.4'],
    minify: true,
    charset: 'utf8',
    logLevel: 'warning',
    ...options,
  });
  const [output] = Object.values(metafile!.outputs);
  return { text: outputFiles![0]!.text, sources: Object.keys(output!.inputs) };
}

/** The source of a policy for the one element of this kind, as it stands in the page. */
function hashOf(element: 'script' | 'style', page: string): string {
  const content = new RegExp(`<${element}>([^]*)</${element}>`).exec(page)![1]!;
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}

/** Text for a script or style element: nothing in it may end the element. */
function inElement(text: string): string {
  if (/<\/(script|style)|<!--/i.test(text)) throw new RangeError('the text would end its element');
  return text;
}

export async function buildPage(): Promise<BuiltPage> {
  const worker = await bundle('page/worker.ts');
  const packed = deflateRawSync(worker.text, { level: 9 }).toString('base64');
  const main = await bundle('page/main.ts', { define: { PACKED_WORKER: JSON.stringify(packed) } });
  const style = await bundle('page/style.css');
  const { version } = JSON.parse(readFileSync(path('package.json'), 'utf8')) as { readonly version: string };
  const parts: Readonly<Record<string, string>> = {
    STYLE: inElement(style.text),
    SCRIPT: inElement(main.text),
    VERSION: version,
  };
  // By a function: a dollar sign in a script has no meaning then.
  const page = readFileSync(path('page/index.html'), 'utf8').replaceAll(
    /%(STYLE|SCRIPT|VERSION)%/g,
    (_, name: string) => parts[name]!,
  );
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf('script', page)} 'wasm-unsafe-eval'`,
    `style-src ${hashOf('style', page)}`,
    'worker-src blob:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const html = page.replace('%POLICY%', () => policy);
  return { html, sources: [...new Set([...worker.sources, ...main.sources, ...style.sources])] };
}
