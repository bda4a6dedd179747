/**
 * Moves off the image's own page tables.
 *
 * The PVH entry runs on page tables inside the image whose entries are relocation sites, so relocating would change the mapping that the
 * program runs on. So if CR3 points into the image, an identity map of the first 4 GiB is built in the scratch memory and loaded. If it
 * points elsewhere, the loader made the tables. They are left alone, because they may carry an encryption bit that we do not know.
 */
import type { Assembler } from '../asm/assembler.ts';
import { CR4_LA57, PAGE_2M, PAGE_ENTRY, TABLE_ENTRY } from '../asm/machine-state.ts';
import { mem, qword } from '../asm/operands.ts';
import { cr3, cr4, eax, ecx, r13, r15, rax, rbp, rcx, rdi, rdx } from '../asm/registers.ts';
import { PARAMS, SCRATCH } from '../segment/layout.ts';

/** CR3 without flags, PCID or encryption bits above 51. */
const CR3_ADDRESS = 0x000f_ffff_ffff_f000n;
const PAGES = 2048;

export function emitPaging(a: Assembler): void {
  const done = a.label('paging_done');
  const page = a.label('identity_page');
  const fourLevels = a.label('four_levels');

  a.note('is CR3 inside the image?');
  a.mov(rax, cr3);
  a.mov(rcx, CR3_ADDRESS);
  a.and(rax, rcx);
  a.mov(rdx, qword(r15, PARAMS.image_start));
  a.add(rdx, r13);
  a.cmp(rax, rdx);
  a.jb(done);
  a.mov(rdx, r15);
  a.add(rdx, qword(r15, PARAMS.segment_size));
  a.cmp(rax, rdx);
  a.jae(done);

  a.note('identity map');
  a.lea(rdi, mem(rbp, SCRATCH.pml5));
  a.mov(ecx, (SCRATCH.pd - SCRATCH.pml5) / 8);
  a.xor(eax, eax);
  a.rep.stosq();
  // RDI has reached the page directories.
  a.mov(eax, PAGE_ENTRY);
  a.mov(ecx, PAGES);
  a.bind(page);
  a.mov(qword(rdi), rax);
  a.add(rdi, 8);
  a.add(rax, PAGE_2M);
  a.dec(ecx);
  a.jnz(page);
  a.lea(rax, mem(rbp, SCRATCH.pd + TABLE_ENTRY));
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    a.mov(qword(rbp, SCRATCH.pdpt + gigabyte * 8), rax);
    if (gigabyte < 3) a.add(rax, 0x1000);
  }
  a.lea(rax, mem(rbp, SCRATCH.pdpt + TABLE_ENTRY));
  a.mov(qword(rbp, SCRATCH.pml4), rax);
  a.lea(rax, mem(rbp, SCRATCH.pml4 + TABLE_ENTRY));
  a.mov(qword(rbp, SCRATCH.pml5), rax);

  a.lea(rax, mem(rbp, SCRATCH.pml4));
  a.mov(rcx, cr4);
  a.bt(ecx, CR4_LA57);
  a.jnc(fourLevels);
  a.lea(rax, mem(rbp, SCRATCH.pml5));
  a.bind(fourLevels);
  a.mov(cr3, rax);
  a.bind(done);
}
