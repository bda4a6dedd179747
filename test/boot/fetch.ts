/**
 * Before the first file of the lane: fetches all kernels, so that two files do not fetch the same, and writes down for the folder in $KSLIDE_BOOT_LANE which
 * they are.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchDebugKernel } from '../debug-kernel.ts';
import { ANSWERS, askForAll } from './lane.ts';

writeFileSync(join(process.env['KSLIDE_BOOT_LANE']!, ANSWERS), JSON.stringify(await askForAll()));
// What goes wrong here, the tests of these will say.
for (const series of ['6.1', '6.12'] as const) await fetchDebugKernel(series).catch(() => {});
