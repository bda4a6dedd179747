/** A mistake in our own assembly code: never thrown because of what a kernel image contains. The message says what to write instead. */
export class AssemblyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AssemblyError';
  }
}
