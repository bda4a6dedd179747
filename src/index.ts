/** The public names of the core. It runs in a browser as well as in Node; `kslide/node` adds files, QEMU and Node's own decoders. */
export { coreCodecs, detectCompression } from './codecs/formats.ts';
export type { Codecs, Compression, Decoder, Encoder, Encoders } from './codecs/formats.ts';
export { isBzImage, readSetupHeader } from './bzimage/header.ts';
export type { SetupHeader } from './bzimage/header.ts';
export { convert } from './convert.ts';
export type { Converted, ConvertOptions, ConvertPass, ConvertSummary } from './convert.ts';
export { KernelImageError } from './base/errors.ts';
export type { ErrorCode, ErrorData } from './base/errors.ts';
export { extract } from './extract.ts';
export type { Extracted } from './extract.ts';
export { insertRelocations } from './insert.ts';
export { readInput } from './kernel/input.ts';
export type { InputOptions, KernelInput } from './kernel/input.ts';
export { inspect } from './inspect.ts';
export type { Inspection, InspectOptions } from './inspect.ts';
export type { Choice, Entry, SlideRequest } from './randomize/choose.ts';
export { entropyBits, largestSlide, slotsOf } from './kaslr/slots.ts';
export type { Slots } from './kaslr/slots.ts';
export { openRandomizer, randomize } from './randomize.ts';
export type { Randomized, Randomizer, RandomizeOptions, RandomizerOptions, RandomizeSummary } from './randomize.ts';
export { applySlide, changeSlide, prepareTable } from './relocs/tables/apply.ts';
export type { PreparedTable, Sites } from './relocs/tables/apply.ts';
export { memorySource } from './relocs/tool/byte-source.ts';
export type { ByteSource } from './relocs/tool/byte-source.ts';
export { collectRelocations, hasRelocations } from './relocs/tool/collect.ts';
export type { CollectOptions } from './relocs/tool/collect.ts';
export { encodeCompactTable, readCompactTable } from './relocs/tables/compact.ts';
export { rebuildBzImage } from './rebuild.ts';
export type { Rebuilt, RebuildOptions, RebuildPass, RebuildSummary } from './rebuild.ts';
export { countRelocations, encodeRelocationTable, readRelocationTable } from './relocs/tables/kernel-table.ts';
export type { RelocationTable } from './relocs/tables/kernel-table.ts';
export type { StubTableName } from './segment/table.ts';
export { verify } from './verify/verify.ts';
export type { Verification, VerifyOptions } from './verify/verify.ts';
export { verifyShuffled } from './shuffle/verify/verify.ts';
export type { ShuffleVerification, VerifyShuffledOptions } from './shuffle/verify/verify.ts';
export { readVmlinux } from './kernel/vmlinux.ts';
export type { Vmlinux } from './kernel/vmlinux.ts';
export { decodePlan, encodePlan, openShuffler, planShuffle, shuffle } from './shuffle/shuffle.ts';
export type {
  Plan,
  PlanOptions,
  Shuffled,
  ShuffleOptions,
  ShufflePass,
  Shuffler,
  ShuffleSummary,
} from './shuffle/shuffle.ts';
