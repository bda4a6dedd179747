/** What `kslide doctor` looks at: what on this machine kslide can use, and how to get what is missing. */
import { open, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, KernelImageError } from '../base/errors.ts';
import { convert } from '../convert.ts';
import { expectInput } from '../kernel/input.ts';
import { qemuVersion } from '../measure/many-boots.ts';
import { COMPRESSORS, nodeCodecs } from '../node/codecs.ts';
import { DiskError, EnvironmentError, InputFileError, isSystemError, packageOf, reasonOf } from '../node/errors.ts';
import { readInputFile } from '../node/files/input-file.ts';
import { runProgram } from '../node/processes/run-program.ts';
import { boot } from '../node/qemu/qemu.ts';
import { slotsAndEntropy } from './reports/facts.ts';

/** `missing`: some commands need it. `absent`: all commands do without. `refused`: a kernel that `convert` does not take. `unknown`: it could not be tried. */
export type State = 'ok' | 'missing' | 'absent' | 'refused' | 'unknown';

export interface Finding {
  readonly name: string;
  readonly state: State;
  readonly detail: string;
  /** The command that would mend it. */
  readonly command?: string | undefined;
}

export interface Diagnosis {
  readonly version: string;
  readonly findings: readonly Finding[];
}

/** The oldest Node that the command line was written for. `engines` in package.json wants a newer 20, for require() of the library. */
const OLDEST_NODE = 20;
/** Kernels are named as by Debian and Ubuntu, Fedora, and Arch. */
const BOOT = '/boot';
const BOOT_NAME = /^vmlinu[xz]/;
const MODULES = '/usr/lib/modules';
/** A machine that never removes old kernels has dozens, and each takes half a second. */
const MOST_KERNELS = 8;
/** A guest that really runs takes a second, perhaps five where KVM is nested. */
const KVM_MS = 20_000;
const PROGRAM_MS = 10_000;

/** A converted kernel, to try KVM with. */
interface Tried {
  readonly finding: Finding;
  readonly image?: Uint8Array;
}

export interface DoctorOptions {
  readonly version: string;
  /** Paths of kernels to try; none: those in /boot and /usr/lib/modules. */
  readonly kernels: readonly string[];
  readonly onStep: (what: string) => void;
  readonly signal: AbortSignal;
}

export async function diagnose({ version, kernels, onStep, signal }: DoctorOptions): Promise<Diagnosis> {
  const findings: Finding[] = [checkNode()];
  onStep('QEMU');
  const qemu = await checkQemu();
  findings.push(qemu);
  onStep('compressors');
  findings.push(await checkCompressors());
  const paths = kernels.length > 0 ? kernels : await findKernels();
  let image: Uint8Array | undefined;
  for (const path of paths.slice(0, MOST_KERNELS)) {
    onStep(path);
    const tried = await tryKernel(path, kernels.length > 0);
    findings.push(tried.finding);
    image ??= tried.image;
  }
  if (paths.length === 0)
    findings.push({
      name: 'kernel',
      state: 'unknown',
      detail: `none in ${BOOT} or ${MODULES}; kslide doctor VMLINUZ tries another`,
    });
  if (paths.length > MOST_KERNELS)
    findings.push({ name: 'kernels', state: 'unknown', detail: `${paths.length - MOST_KERNELS} more were not tried` });
  onStep('KVM');
  findings.push(await checkKvm(qemu, image, signal));
  return { version, findings };
}

function checkNode(): Finding {
  const { node } = process.versions;
  const isNew = Number.parseInt(node, 10) >= OLDEST_NODE;
  return {
    name: 'node',
    state: isNew ? 'ok' : 'missing',
    detail: isNew ? node : `${node}; kslide needs ${OLDEST_NODE} or newer`,
  };
}

async function checkQemu(): Promise<Finding> {
  try {
    return { name: 'qemu', state: 'ok', detail: `${await qemuVersion()}, for boot, audit, bench and convert --try` };
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    const detail = `${error.what}; boot, audit, bench and convert --try need it`;
    return { name: 'qemu', state: 'missing', detail, command: error.command };
  }
}

/** Each format once by its program, which must be there: `bzimage` packs a kernel as it was. Reading needs none of them. */
async function checkCompressors(): Promise<Finding> {
  const found: string[] = [];
  const missing: string[] = [];
  for (const program of COMPRESSORS) {
    if (await runs(program)) found.push(program);
    else missing.push(program);
  }
  if (missing.length === 0) return { name: 'compressors', state: 'ok', detail: `${found.join(', ')}, for bzimage` };
  return {
    name: 'compressors',
    state: 'missing',
    detail: `${missing.join(', ')}; bzimage needs the one that the kernel was packed with`,
    command: `apt-get install ${[...new Set(missing.map(packageOf))].join(' ')}`,
  };
}

async function runs(program: string): Promise<boolean> {
  try {
    await runProgram(program, ['--version'], { timeoutMs: PROGRAM_MS });
    return true;
  } catch (error) {
    if (error instanceof EnvironmentError && error.problem === 'missing-program') return false;
    throw error;
  }
}

/** Newest name first; a link and what it leads to count once. */
async function findKernels(): Promise<string[]> {
  const paths = (await namesIn(BOOT)).filter((name) => BOOT_NAME.test(name)).map((name) => join(BOOT, name));
  for (const release of await namesIn(MODULES)) paths.push(join(MODULES, release, 'vmlinuz'));
  const real = new Set<string>();
  for (const path of paths) {
    try {
      real.add(await realpath(path));
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }
  const byRelease = new Intl.Collator('en', { numeric: true });
  return [...real].toSorted((a, b) => byRelease.compare(b, a));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isSystemError(error)) return [];
    throw error;
  }
}

async function tryKernel(path: string, isGiven: boolean): Promise<Tried> {
  const finding = (state: State, detail: string): Finding => ({ name: 'kernel', state, detail });
  try {
    const bytes = await readInputFile(path, { onHead: expectInput });
    const converted = await convert(bytes, { codecs: nodeCodecs });
    const { kernelVersion, slots } = converted.summary;
    const detail = `${path}: ${kernelVersion?.split(' ')[0] ?? 'of an unknown release'} converts; slots ${slotsAndEntropy(slots)}`;
    return { finding: finding('ok', detail), image: converted.bytes() };
  } catch (error) {
    if (error instanceof KernelImageError && error.code === 'already-converted')
      return { finding: finding('ok', `${path}: converted already; kslide boot starts it`) };
    if (error instanceof KernelImageError) return { finding: finding('refused', `${path}: ${error.message}`) };
    // Kernels in /boot may be root's alone.
    if (error instanceof InputFileError || error instanceof DiskError)
      return { finding: finding(isGiven ? 'refused' : 'unknown', error.message) };
    throw error;
  }
}

/** That /dev/kvm opens proves nothing, so a guest is run. */
async function checkKvm(qemu: Finding, image: Uint8Array | undefined, signal: AbortSignal): Promise<Finding> {
  const emulated = 'guests are emulated (TCG), which needs no KVM and is slower';
  const finding = (state: State, detail: string, command?: string): Finding => ({
    name: 'kvm',
    state,
    detail,
    command,
  });
  try {
    await (await open('/dev/kvm', 'r+')).close();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const detail = `/dev/kvm: ${reasonOf(error)}; ${emulated}`;
    return finding('absent', detail, error.code === 'EACCES' ? 'usermod -aG kvm USER, and log in again' : undefined);
  }
  if (qemu.state !== 'ok')
    return finding('unknown', '/dev/kvm opens; whether a guest runs was not tried, without QEMU');
  if (image === undefined)
    return finding('unknown', '/dev/kvm opens; whether a guest runs was not tried, without a kernel');
  const { end, slide, errors } = await boot({ image, accel: 'kvm', cpu: 'host', timeoutMs: KVM_MS, signal });
  if (end === 'panic' && slide !== undefined) return finding('ok', `runs a guest; it moved itself by ${hex(slide)}`);
  const reason = end === 'qemu-error' ? errors.trim().split('\n')[0]! : `${end} after at most ${KVM_MS / 1000} s`;
  return finding('absent', `/dev/kvm opens, but no guest runs (${reason}); ${emulated}`);
}
