/** The error for a relocation that cannot go into the table: which entry, its type and its symbol, and what would have been right. */
import { viewOf } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { short } from '../../base/text.ts';
import { REL, REL_SIZE } from '../../elf/fields.ts';
import type { RelocsImage } from './image.ts';
import { ACTION, KINDS, LAST_TYPE, SYMBOL_KIND } from './rules.ts';
import type { Rules, SymbolKind } from './rules.ts';
import { relocationTypeName } from './types.ts';
import { symbolOf, typeOf } from './relocation-entries.ts';
import type { RelocationSection } from './relocation-entries.ts';

/** What is expected instead, for kinds of symbols that no relocation of this type may name. */
const EXPECTED: Readonly<Partial<Record<SymbolKind, string>>> = {
  perCpu: 'a symbol outside .data..percpu',
  absolute: 'a symbol that moves with the kernel',
  linear: 'a 32-bit field for a linear address',
  segment: 'a 16-bit field for a segment',
};

export function relocationError(
  image: RelocsImage,
  { actions }: Rules,
  section: RelocationSection,
  entry: number,
  kind: number,
): KernelImageError {
  const { bits } = image.sections;
  const offset = section.offset + entry * REL_SIZE[bits];
  const view = viewOf(image.source.readAt(offset, REL_SIZE[bits]));
  const type = typeOf(view, 0, bits);
  const symbol = symbolOf(view, 0, bits);
  const [siteAt] = REL[bits].r_offset;
  const site = bits === 64 ? view.getBigUint64(siteAt, true) : view.getUint32(siteAt, true);

  const actionOn = (of: number): number => actions[Math.min(type, LAST_TYPE) * KINDS + of]!;
  const unknownType = Object.values(SYMBOL_KIND).every(
    (of) => of === SYMBOL_KIND.undefined || actionOn(of) === ACTION.refuse,
  );
  const kindName = (Object.keys(SYMBOL_KIND) as SymbolKind[]).find((name) => SYMBOL_KIND[name] === kind)!;
  const typeName = relocationTypeName(bits, type);
  const named = typeName === undefined ? `type ${type}` : `${typeName} (${type})`;
  return new KernelImageError({
    code: unknownType ? 'unsupported' : 'bad-value',
    what: `relocation ${entry} of section ${short(image.sectionTitle(section.index))}`,
    offset,
    found: `${named} at ${hex(site)} in ${short(image.sectionTitle(section.target))}, symbol ${short(section.symbols.name(symbol))}`,
    expected: unknownType
      ? undefined
      : actionOn(kind) === ACTION.refuse
        ? EXPECTED[kindName]
        : 'an offset that fits 32 bits when sign-extended',
  });
}
