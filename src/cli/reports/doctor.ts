/** The result of `kslide doctor`, for people. */
import type { Diagnosis } from '../diagnose.ts';
import { rows } from '../text.ts';

export function reportDoctor({ version, findings }: Diagnosis): string {
  const width = Math.max(...findings.map(({ state }) => state.length));
  const lines = findings.flatMap(({ name, state, detail, command }): [string, string][] => {
    const line: [string, string] = [`${state.padEnd(width)}  ${name}`, detail];
    return command === undefined ? [line] : [line, ['', `run: ${command}`]];
  });
  return `kslide ${version}\n${rows(lines)}`;
}
