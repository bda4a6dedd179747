/** One execution, judged: what it gave, or what is wrong with it. */
import { MemoryLimitError, startMeter, stopMeter } from './meter.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { UsageError } from '../../src/cli/failure.ts';
import { InputFileError } from '../../src/node/errors.ts';
import { memoryLimit } from './target.ts';
import type { Target } from './target.ts';

/** How the program says that an input is bad. Everything else that is thrown is a fault of the program. */
export function isRefusal(error: unknown): error is Error {
  return error instanceof KernelImageError || error instanceof UsageError || error instanceof InputFileError;
}

export interface Fault {
  /** The same for two inputs that fail in the same way. */
  readonly key: string;
  readonly text: string;
}

export interface Executed {
  /** A word for what came out: that of the target, or the error's code and what it is about. */
  readonly outcome: string;
  /** The input was refused, as bad input is. */
  readonly refused: boolean;
  readonly fault: Fault | undefined;
}

/** Never rejects. Takes no time limit: whoever calls it watches. */
export async function execute(target: Target, input: Uint8Array): Promise<Executed> {
  startMeter(memoryLimit(target, input.length));
  let outcome: string;
  try {
    const given = target.run(input);
    outcome = typeof given === 'string' ? given : await given;
    stopMeter();
    return { outcome, refused: false, fault: undefined };
  } catch (error) {
    return judge(error);
  }
}

function judge(error: unknown): Executed {
  let found: unknown = error;
  try {
    stopMeter();
  } catch (exceeded) {
    // A reader may have caught it and thrown an error of its own.
    found = error instanceof MemoryLimitError ? error : exceeded;
  }
  if (!(found instanceof MemoryLimitError) && isRefusal(found))
    return { outcome: describeRefusal(found), refused: true, fault: undefined };
  const { name, message, stack = '' } = found instanceof Error ? found : new Error(String(found));
  const frame = /\(?(?:file:\/\/)?[^\s(]*\/((?:src|test\/fuzz\/targets)\/[^\s:)]+:\d+)/.exec(stack)?.[1] ?? 'nowhere';
  const [line = ''] = message.split('\n');
  return {
    outcome: `fault ${name}`,
    refused: false,
    fault: { key: `${name} at ${frame}`, text: `${name}: ${line.slice(0, 300)}\n${stack}` },
  };
}

/** Numbers and quoted text are left out, or each input would be an outcome of its own. */
function describeRefusal(error: Error): string {
  if (!(error instanceof KernelImageError)) return error.name;
  const { code, what, found } = error.data;
  const words = typeof found === 'string' ? ` is ${found}` : '';
  return `${code}: ${what}${words}`.replaceAll(/0x[0-9a-f]+|(?:\b[0-9a-f]{2} ?)+|\d+|"[^"]*"/g, '#').slice(0, 120);
}
