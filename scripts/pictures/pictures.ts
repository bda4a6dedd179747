import type { Page } from '../docs/pages.ts';
export function renderPictures(): Page[] {
  return [];
}
