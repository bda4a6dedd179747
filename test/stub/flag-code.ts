/** The text of src/stub/flag-code.ts, which is written by a test. */
export function flagCodeFile(code: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < code.length; at += 16) {
    const bytes = Array.from(code.subarray(at, at + 16), (byte) => `0x${byte.toString(16).padStart(2, '0')}`);
    lines.push(`  ${bytes.join(', ')},\n`);
  }
  return `/**
 * What assembleFlagStub() in program.ts makes, assembled beforehand, because that takes longer than to move a kernel. Written by
 * test/stub/program.test.ts under KSLIDE_UPDATE_GOLDEN=1, which holds it to the assembly otherwise.
 */
// prettier-ignore
export const FLAG_PROGRAM = Uint8Array.of(
${lines.join('')});
`;
}
