/**
 * Loaded before every test file: properties try the same values in each run, so that a change is judged by what it changes.
 * KSLIDE_SEED=random explores; a failure prints its seed, and a number repeats it. KSLIDE_FUZZ_RUNS says how far some tests go.
 */
import fc from 'fast-check';

const wanted = process.env['KSLIDE_SEED'] ?? '1';
if (wanted !== 'random') fc.configureGlobal({ seed: Number(wanted) });
