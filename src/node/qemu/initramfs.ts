/**
 * Packs an initramfs: a cpio archive in "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed.
 *
 * It holds what a guest with one program needs: directories, files and device nodes, all owned by root. The kernel's unpacker makes no parent directories,
 * so they are added here.
 */
import { alignUp, ascii } from '../../base/bytes.ts';

export type InitramfsEntry =
  | { readonly type: 'directory'; readonly path: string }
  | { readonly type: 'file'; readonly path: string; readonly data: Uint8Array; readonly mode?: number }
  | { readonly type: 'character-device'; readonly path: string; readonly major: number; readonly minor: number };

/** st_mode of each kind, permissions included. */
const MODE = { directory: 0o040755, file: 0o100644, 'character-device': 0o020600 } as const;
/** The name of the record that ends an archive. */
const TRAILER = 'TRAILER!!!';

function record({
  path,
  mode = 0,
  data = new Uint8Array(),
  device = [0, 0],
  inode = 0,
}: {
  path: string;
  mode?: number;
  data?: Uint8Array;
  device?: [major: number, minor: number];
  inode?: number;
}): Uint8Array {
  const name = ascii(`${path}\0`);
  const [major, minor] = device;
  // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, c_maj, c_min, c_rmaj, c_rmin, c_namesize, c_chksum
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = ascii(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  const dataAt = alignUp(header.length + name.length, 4);
  const bytes = new Uint8Array(alignUp(dataAt + data.length, 4));
  bytes.set(header);
  bytes.set(name, header.length);
  bytes.set(data, dataAt);
  return bytes;
}

/** `usr/lib/x` needs `usr` and `usr/lib`. */
function parentsOf(path: string): string[] {
  const names = path.split('/').slice(0, -1);
  return names.map((_, i) => names.slice(0, i + 1).join('/'));
}

/** Paths are relative to the root, without a leading slash. Entries keep their order; the same entries give the same bytes. */
export function packInitramfs(entries: readonly InitramfsEntry[]): Uint8Array {
  const byPath = new Map<string, InitramfsEntry>();
  for (const entry of entries) {
    for (const parent of parentsOf(entry.path)) {
      if (!byPath.has(parent)) byPath.set(parent, { type: 'directory', path: parent });
    }
    byPath.set(entry.path, entry);
  }

  const records = [...byPath.values()].map((entry, i) => {
    const common = { path: entry.path, mode: MODE[entry.type], inode: i + 1 };
    if (entry.type === 'directory') return record(common);
    if (entry.type === 'character-device') return record({ ...common, device: [entry.major, entry.minor] });
    return record({ ...common, data: entry.data, mode: 0o100000 | (entry.mode ?? 0o644) });
  });
  records.push(record({ path: TRAILER }));

  const archive = new Uint8Array(records.reduce((total, { length }) => total + length, 0));
  let at = 0;
  for (const bytes of records) {
    archive.set(bytes, at);
    at += bytes.length;
  }
  return archive;
}
