/** The public names of `kslide/node`: Node's own decoders, files that appear whole or not at all, and guests in QEMU. */
export { nodeCodecs } from './codecs.ts';
export { systemEncoders } from './processes/compressors.ts';
export { parseConsole } from './qemu/console.ts';
export type { ConsoleReport, GuestReport } from './qemu/console.ts';
export { EnvironmentError } from './errors.ts';
export { DiskError, InputFileError, OutputFileError } from './errors.ts';
export { readInputFile, refuseSameFile } from './files/input-file.ts';
export { launch } from './processes/launch.ts';
export type { LaunchEnd, LaunchOptions } from './processes/launch.ts';
export { buildLinux64Loader } from './qemu/linux64-loader.ts';
export type { Linux64Options } from './qemu/linux64-loader.ts';
export { OutputFile, writeFileAtomic } from './files/output-file.ts';
export type { WriteOptions } from './files/output-file.ts';
export { boot } from './qemu/qemu.ts';
export type { BootEnd, BootOptions, BootResult } from './qemu/qemu.ts';
