/** `kslide audit IMAGE --boots N`: boots a kernel many times and judges whether its slides are random. `--merge` judges results of earlier runs. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { count } from '../../base/text.ts';
import { runAudit } from '../../measure/audit/audit.ts';
import type { AuditGuest } from '../../measure/audit/audit.ts';
import { readAuditImage } from '../../measure/audit/image.ts';
import type { AuditImage } from '../../measure/audit/image.ts';
import { expectSameKernel, mergeAuditFiles, readAuditFile } from '../../measure/audit/record.ts';
import type { AuditRecord } from '../../measure/audit/record.ts';
import { summarizeAudit } from '../../measure/audit/summary.ts';
import { LineFile } from '../../measure/ndjson.ts';
import { EXIT, UsageError } from '../failure.ts';
import { interruptible } from '../../node/signals.ts';
import { integer, MOST_BOOTS, readAccel, readEntry, readTimeout, SHARED } from '../options.ts';
import { readKernel, refuseOverwriting, refuseSharedStdout, writeText } from '../paths.ts';
import { printResult } from '../print.ts';
import { duration, Progress } from '../progress.ts';
import { reportAudit } from '../reports/audit.ts';
import { reportAuditPage } from '../reports/audit-html.ts';

interface AuditArguments {
  readonly boots?: string;
  readonly entry: string;
  readonly jobs?: string;
  readonly out?: string;
  readonly resume?: true;
  readonly merge?: readonly string[];
  readonly html?: string;
  readonly memory: string;
  readonly cpu: string;
  readonly append: string;
  readonly accel: string;
  readonly timeout: string;
  readonly json?: true;
  readonly quiet?: true;
}

const MOST_JOBS = 10_000;
/** Results hold slides, and an image that `randomize` has moved takes the same at each boot. */
const SLIDES = { secret: true };

export default function addAudit(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('audit')
    .description(
      'boot a kernel many times and judge whether its slides are random; exit code 1 if they are not, or if there are too few boots to tell',
    )
    .argument('[IMAGE]', 'vmlinux, or with --entry pvh a bzImage; not needed with --merge')
    .option('--boots <N>', 'number of boots')
    .option(...SHARED.entry)
    .option('--jobs <J>', 'guests to run at a time (default: one per CPU)')
    .option('--out <FILE>', 'append each result to FILE when its boot ends, one line of JSON each')
    .option('--resume', 'keep the results that --out already has, and boot until there are --boots')
    .option('--merge <FILES...>', 'judge the results of earlier runs together; --out gets all of them')
    .option(...SHARED.html)
    .option(...SHARED.memory)
    .option('--cpu <MODEL>', "QEMU's -cpu", 'max')
    .option(...SHARED.append, '')
    .option(...SHARED.accel)
    .option('--timeout <SECONDS>', 'a boot that takes longer has failed', '120')
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(async (image: string | undefined, options: AuditArguments) => setExitCode(await run(image, options)));
}

async function run(path: string | undefined, options: AuditArguments): Promise<number> {
  const { out, html } = options;
  refuseSharedStdout({ '--html': html }, options);
  refuseOverwriting([path, ...(options.merge ?? [])], { '--out': out, '--html': html });
  const image = path === undefined ? undefined : readAuditImage(await readKernel(path, { quiet: options.quiet }));
  const asked = options.merge === undefined ? bootsAsked(options) : undefined;
  const records = asked === undefined ? await merge(image, options) : await bootAll(image, asked, options);
  if (records.length === 0) throw new UsageError('there is no result to judge');
  const summary = summarizeAudit(records, asked);
  if (html !== undefined) {
    const title = path ?? options.merge?.join(', ') ?? '';
    await writeText(html, reportAuditPage(summary, records, { title }), SLIDES);
  }
  await printResult(summary, () => reportAudit(summary), { ...options, output: html });
  return summary.verdict === 'nothing-found' ? EXIT.done : EXIT.finding;
}

function bootsAsked({ boots }: AuditArguments): number {
  if (boots === undefined)
    throw new UsageError('--boots (how many boots to do) or --merge (results to judge) is missing');
  return integer('--boots', boots, 1, MOST_BOOTS);
}

async function merge(image: AuditImage | undefined, options: AuditArguments): Promise<readonly AuditRecord[]> {
  if (options.boots !== undefined || options.resume)
    throw new UsageError('--merge boots nothing: no --boots, no --resume');
  const files = options.merge ?? [];
  const records = await mergeAuditFiles(files);
  // The merged ones are all of the same kernel, so the first stands for all.
  refuseOtherImage(files[0] ?? '', records.slice(0, 1), image);
  if (options.out !== undefined) {
    await writeText(options.out, records.map((record) => `${JSON.stringify(record)}\n`).join(''), SLIDES);
  }
  return records;
}

async function bootAll(
  image: AuditImage | undefined,
  asked: number,
  options: AuditArguments,
): Promise<readonly AuditRecord[]> {
  if (image === undefined) throw new UsageError('--boots needs an IMAGE');
  const entry = readEntry(options.entry);
  const guest: AuditGuest = {
    memoryMib: integer('--memory', options.memory, 16),
    cpu: options.cpu,
    append: options.append,
    accel: readAccel(options.accel),
    timeoutMs: readTimeout(options.timeout),
  };
  const jobs = options.jobs === undefined ? availableParallelism() : integer('--jobs', options.jobs, 1, MOST_JOBS);
  const { records, file } = await openResults(image, options);
  const boots = missing(records, asked);
  const progress = new Estimate(records, asked, options.quiet === true);
  const onRecord = (record: AuditRecord): void => {
    file?.append(record);
    records.push(record);
    progress.show();
  };
  progress.show();
  await interruptible((signal) =>
    runAudit({ image, entry, guest, boots, jobs, signal, onRecord }).finally(() => {
      progress.clear();
      file?.close();
    }),
  );
  return records;
}

/** The results of earlier runs, and the file to append to. */
async function openResults(
  image: AuditImage,
  { out, resume }: AuditArguments,
): Promise<{ readonly records: AuditRecord[]; readonly file: LineFile | undefined }> {
  if (out === undefined) {
    if (resume) throw new UsageError('--resume needs --out, the file to continue');
    return { records: [], file: undefined };
  }
  if (out === '-') throw new UsageError('--out is a file; standard output is for the summary');
  if (!existsSync(out)) return { records: [], file: new LineFile(out) };
  if (!resume) throw new UsageError(`${out} exists; continue it with --resume, or name another file`);
  const { values, length } = await readAuditFile(out);
  refuseOtherImage(out, values, image);
  return { records: await mergeAuditFiles([out]), file: new LineFile(out, length) };
}

function refuseOtherImage(path: string, records: readonly AuditRecord[], image: AuditImage | undefined): void {
  if (image !== undefined) expectSameKernel(path, records, { image: image.hash, slots: image.slots ?? null });
}

/** Numbers, from 1, of the boots still to do: those that no record has, until there would be as many records as asked for. */
function missing(records: readonly AuditRecord[], asked: number): number[] {
  const taken = new Set(records.map(({ boot }) => boot));
  const numbers: number[] = [];
  for (let number = 1; records.length + numbers.length < asked; number++) if (!taken.has(number)) numbers.push(number);
  return numbers;
}

/** "412 of 1,000 boots, 0 failed, about 13 min left". The time left comes from the pace of this run; results of earlier runs do not count. */
class Estimate {
  readonly #progress: Progress;
  readonly #records: readonly AuditRecord[];
  readonly #before: number;
  readonly #asked: number;
  readonly #started = performance.now();

  constructor(records: readonly AuditRecord[], asked: number, quiet: boolean) {
    this.#progress = new Progress(quiet);
    this.#records = records;
    this.#before = records.length;
    this.#asked = asked;
  }

  show(): void {
    const done = this.#records.length;
    const failed = this.#records.filter(({ slide }) => slide === null).length;
    const each = (performance.now() - this.#started) / (done - this.#before);
    const left = Number.isFinite(each) ? `, about ${duration((this.#asked - done) * each)} left` : '';
    this.#progress.show(`${count(done)} of ${count(this.#asked)} boots, ${count(failed)} failed${left}`);
  }

  clear(): void {
    this.#progress.clear();
  }
}
