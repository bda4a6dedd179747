/** What kslide adds on Node: decoders of node:zlib, files that appear whole or not at all, and guests in QEMU. */
export { nodeCodecs } from './codecs.ts';
export { systemEncoders } from './compressors.ts';
export { parseConsole } from './console.ts';
export type { ConsoleReport, GuestReport } from './console.ts';
export { EnvironmentError } from './environment.ts';
export { DiskError, InputFileError, OutputFileError, readInputFile, refuseSameFile } from './files.ts';
export { launch } from './launch.ts';
export type { LaunchEnd, LaunchOptions } from './launch.ts';
export { buildLinux64Loader } from './linux64-loader.ts';
export type { Linux64Options } from './linux64-loader.ts';
export { OutputFile, writeFileAtomic } from './output-file.ts';
export type { WriteOptions } from './output-file.ts';
export { boot } from './qemu.ts';
export type { BootEnd, BootOptions, BootResult } from './qemu.ts';
