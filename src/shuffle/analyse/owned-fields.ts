/**
 * Fields as plans hold them: file offsets instead of places, and owners (units.ts) instead of pieces. Fields that no layout changes are left out: a PC-relative
 * field changes when its site and its target have different owners, an absolute one when its target is movable.
 */
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { FieldColumns, Plan } from '../plan/plan.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import type { FieldList } from './fields.ts';
import { FIXED } from './fields.ts';
import { STAY } from './pieces.ts';
import type { OwnerOf, Units } from './units.ts';

export function ownedRelative(
  lists: readonly FieldList[],
  units: Units,
  image: ImageBytes,
  width: number,
): FieldColumns {
  return ownedFields(lists, units, image, width, (site, target) => site !== target);
}

export function ownedAbsolute(list: FieldList, units: Units, image: ImageBytes, width: number): FieldColumns {
  return ownedFields([list], units, image, width, (_, target) => target !== 0);
}

function ownedFields(
  lists: readonly FieldList[],
  { ofPiece, stay }: Units,
  image: ImageBytes,
  width: number,
  changes: (site: number, target: number) => boolean,
): FieldColumns {
  const ownerOfPiece = (piece: number): number => {
    if (piece === FIXED) return 0;
    const unit = ofPiece[piece]!;
    return stay[unit] === STAY.none ? unit + 1 : 0;
  };
  const offsets: number[] = [];
  const sites: number[] = [];
  const targets: number[] = [];
  for (const list of lists) {
    for (let field = 0; field < list.places.length; field++) {
      const site = ownerOfPiece(list.sites[field]!);
      const target = ownerOfPiece(list.targets[field]!);
      if (!changes(site, target)) continue;
      offsets.push(image.at(list.places[field]!, width, 'field'));
      sites.push(site);
      targets.push(target);
    }
  }
  return { offsets: new Uint32Array(offsets), sites: new Uint32Array(sites), targets: new Uint32Array(targets) };
}

export function ownersOfSites(table: RelocationTable, ownerOf: OwnerOf): Plan['tableOwners'] {
  const owners = (sites: Uint32Array): Uint32Array => sites.map((site) => ownerOf(placeOfLow(site)));
  return { abs64: owners(table.abs64), inverse32: owners(table.inverse32), abs32: owners(table.abs32) };
}
