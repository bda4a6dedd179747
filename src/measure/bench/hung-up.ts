/** QEMU ended while we talked to it. Why it did is in what `boot` returns. */
export class HungUp extends Error {
  override readonly name = 'HungUp';

  constructor(command: string) {
    super(`QEMU hung up at ${command}`);
  }
}
