/** The pictures of the documentation, in docs/pictures. Nothing is written to disk here. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Page } from '../docs/pages.ts';
import { hashOfPart } from '../docs/program.ts';
import { ResultsReader } from '../docs/results.ts';
import { drawBootCost } from './boot-cost.ts';
import { drawFileAndBoot } from './file-and-boot.ts';

const FOLDER = fileURLToPath(new URL('../../docs/pictures/', import.meta.url));

/** `today`: the hash that a part of the program has. */
export function renderPictures(today: (part: string) => string = hashOfPart): Page[] {
  const results = new ResultsReader();
  const pictures = { 'file-and-boot': drawFileAndBoot(results, today), 'boot-cost': drawBootCost(results, today) };
  return Object.entries(pictures).map(([file, after]) => {
    const path = `${FOLDER}${file}.svg`;
    const before = existsSync(path) ? readFileSync(path, 'utf8') : '';
    return { name: `docs/pictures/${file}.svg`, path, before, after };
  });
}
