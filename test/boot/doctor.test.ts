/** `kslide doctor` where QEMU, the compressors and a real kernel are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../../src/cli/diagnose.ts';
import { findKernels, oldestAndNewest } from './lane.ts';

const [kernel] = oldestAndNewest(await findKernels());

test('what is here is found, a real kernel converts, and KVM is tried by a guest', { timeout: 120_000 }, async () => {
  const { findings } = await diagnose({
    version: '0',
    kernels: [kernel!.image],
    onStep: () => {},
    signal: new AbortController().signal,
  });
  const states = Object.fromEntries(findings.map(({ name, state }) => [name, state]));
  const { kvm, ...others } = states;
  assert.deepEqual(others, { node: 'ok', qemu: 'ok', compressors: 'ok', kernel: 'ok' });
  // What this machine's KVM can do is no matter of chance, but not known here. A guest was tried, or the device is not there.
  assert.ok(kvm === 'ok' || kvm === 'absent', kvm);
  assert.match(findings.find(({ name }) => name === 'kernel')!.detail, /converts; slots \d+, every 2 MiB/);
});
