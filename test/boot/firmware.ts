/** UEFI for `boot`: OVMF, of the package of that name. It takes the kernel from QEMU as a bzImage and starts its EFI stub, where there is one. */
import { existsSync } from 'node:fs';
import { missingProgram } from '../../src/node/errors.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';

const OVMF = ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE.fd'].find((path) => existsSync(path));
if (OVMF === undefined) throw missingProgram('ovmf');

export const UEFI: Pick<BootOptions, 'machine' | 'extra'> = {
  machine: 'q35',
  extra: ['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${OVMF}`],
};
