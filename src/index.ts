/** The public names of the core. It runs in a browser as well as in Node; `kslide/node` adds files, QEMU and Node's own decoders. */
export { coreCodecs, detectCompression } from './bzimage/codecs/index.ts';
export type { Codecs, Compression, Decoder } from './bzimage/codecs/index.ts';
export { isBzImage, readSetupHeader } from './bzimage/header.ts';
export type { SetupHeader } from './bzimage/header.ts';
export { convert } from './convert.ts';
export type { Converted, ConvertOptions, ConvertPass, ConvertSummary } from './convert.ts';
export { KernelImageError } from './errors.ts';
export type { ErrorCode, ErrorData } from './errors.ts';
export { extract } from './extract.ts';
export type { Extracted } from './extract.ts';
export { readInput } from './input.ts';
export type { InputOptions, KernelInput } from './input.ts';
export { entropyBits, largestSlide, slotsOf } from './kaslr/slots.ts';
export type { Slots } from './kaslr/slots.ts';
export { countRelocations, encodeRelocationTable, readRelocationTable } from './relocs/table.ts';
export type { RelocationTable } from './relocs/table.ts';
export { readVmlinux } from './vmlinux.ts';
export type { Vmlinux } from './vmlinux.ts';
