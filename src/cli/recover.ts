/** `--recover` and what belongs to it: the options of `convert` and `extract`, and how doubts are told. */
import type { Command } from 'commander';
import { virtToPhys } from '../base/addresses.ts';
import { short } from '../base/text.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { DoubtsError } from '../recover/choose.ts';
import type { RecoverChoice } from '../recover/choose.ts';
import { describeDoubt } from '../recover/describe.ts';
import { TrialError } from '../measure/trial/trial.ts';
import { UsageError } from './failure.ts';
import { printJson, remark } from './print.ts';

export interface RecoverArguments {
  readonly recover?: true;
  readonly acceptDoubts?: true;
  readonly site?: readonly string[];
  readonly notSite?: readonly string[];
}

export function addRecoverOptions(command: Command): Command {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];
  return command
    .option(
      '--recover',
      'for a vmlinux without relocations: recover them from its image; what is then written is not proved',
    )
    .option('--accept-doubts', 'with --recover: leave fields as they are that may or may not hold an address')
    .option('--site <ADDRESS>', 'with --recover: this doubt holds an address (may be repeated)', collect)
    .option('--not-site <ADDRESS>', 'with --recover: this doubt is a number (may be repeated)', collect);
}

export interface TryArguments {
  readonly try?: true;
}

export function addTryOption(command: Command): Command {
  return command.option(
    '--try',
    'with --recover: boot the kernel in QEMU at several slides first, and write nothing if it then behaves otherwise than unmoved; no proof',
  );
}

/** Whether to try the kernel. */
export function readTry(options: TryArguments & RecoverArguments): boolean {
  if (options.try === true && options.recover !== true) throw new UsageError('--try wants --recover');
  return options.try === true;
}

/** Undefined without `--recover`. */
export function readRecover(options: RecoverArguments, relocs: string | undefined): RecoverChoice | undefined {
  const { recover, acceptDoubts, site = [], notSite = [] } = options;
  if (recover !== true) {
    if (acceptDoubts === true || site.length > 0 || notSite.length > 0)
      throw new UsageError('--accept-doubts, --site and --not-site want --recover');
    return undefined;
  }
  if (relocs !== undefined) throw new UsageError('--relocs gives the relocations, so there is nothing to --recover');
  return {
    acceptDoubts,
    sites: site.map((value) => readPlace('--site', value)),
    numbers: notSite.map((value) => readPlace('--not-site', value)),
  };
}

function readPlace(option: string, value: string): PhysAddr {
  const place = /^0x[0-9a-f]{1,16}$/i.test(value) ? virtToPhys(BigInt(value)) : undefined;
  if (place === undefined)
    throw new UsageError(`${option} is ${JSON.stringify(value)}, expected a link address such as 0xffffffff81234567`);
  return place;
}

/** A kernel of which everything is in doubt has no more to say. */
const MOST_LINES = 200;

/** Runs `action`. If it ends in a trial that fails, tells how before the error goes on. */
export async function tellingTrials<T>(json: boolean, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof TrialError)) throw error;
    const { differences, console } = error;
    if (json) await printJson({ trial: { failed: error.message, differences, console } });
    else for (const line of console) await remark(`console: ${line}`);
    throw error;
  }
}

/** Runs `action`. If it ends in doubts, tells each of them before the error goes on. */
export async function tellingDoubts<T>(json: boolean, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof DoubtsError)) throw error;
    const doubts = error.doubts.map(describeDoubt);
    if (json) await printJson({ doubts });
    else
      for (const { address, bits, holds, why, symbol } of doubts.slice(0, MOST_LINES))
        await remark(
          `doubt: ${address} (${bits} bits${symbol === undefined ? '' : `, in ${short(symbol)}`}) holds ${holds}: ${why}`,
        );
    throw error;
  }
}
