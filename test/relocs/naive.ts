/**
 * The kernel's relocation table applied the plain way, as a second opinion: words read from the table's bytes backwards, a BigInt a site.
 * Written after Documentation and handle_relocations(), with nothing of src/relocs in it.
 */
export function applyNaively(memory: Uint8Array, base: number, table: Uint8Array, slide: number): void {
  const words = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  const zeros = Array.from({ length: table.length / 4 }, (_, index) => words.getUint32(index * 4, true)).filter(
    (word) => word === 0,
  ).length;
  let at = table.length - 4;
  const list = (apply: (offset: number) => void): void => {
    for (; words.getInt32(at, true) !== 0; at -= 4) {
      const address = BigInt.asUintN(64, BigInt(words.getInt32(at, true)));
      apply(Number(address - 0xffff_ffff_8000_0000n) - base);
    }
    at -= 4;
  };
  const add32 = (by: bigint) => (offset: number) =>
    view.setUint32(offset, Number(BigInt.asUintN(32, BigInt(view.getUint32(offset, true)) + by)), true);
  list(add32(BigInt(slide)));
  if (zeros === 3) list(add32(-BigInt(slide)));
  list((offset) => view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(slide), true));
}
