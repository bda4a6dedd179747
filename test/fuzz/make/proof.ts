/** What `verify` says, as yes or no. */
import { verify } from '../../../src/verify/verify.ts';
import { isRefusal } from '../execute.ts';
import { codecs } from './kernels.ts';

/** False for a file that is refuted, and for one that `verify` refuses to look at. */
export async function isProved(original: Uint8Array, file: Uint8Array): Promise<boolean> {
  return (await verdictOf(original, file)) === 'proved';
}

/** `proved`, or what is wrong with the file. */
export async function verdictOf(original: Uint8Array, file: Uint8Array): Promise<string> {
  try {
    const { verdict, offence } = await verify(original, file, { codecs });
    return offence === undefined ? verdict : `${offence.check}: ${offence.what.replaceAll(/0x[0-9a-f]+|\d+/g, '#')}`;
  } catch (error) {
    if (isRefusal(error)) return 'refused';
    throw error;
  }
}
