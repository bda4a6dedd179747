#!/bin/sh
# Tries the npm package as its users have it: `sh scripts/check-package.sh`. Needs the network (70 MB the first time) and takes some minutes.
#
# publint and "are the types wrong" judge the tarball. They are run by `npm exec`, and are no devDependencies: they bring 90 packages and another
# TypeScript for something that is run before a release. The tarball is then installed, globally and into a project, whose code is compiled by TypeScript 5.9
# and 7 without skipLibCheck, and run; and the command is run by npx from this git repository.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
folder=$(mktemp -d "${TMPDIR:-/tmp}/kslide-check-package-XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP

say() {
  echo "check-package: $*"
}

quiet() {
  "$@" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
}

say "packing"
quiet npm pack --pack-destination "$folder"
tarball=$(find "$folder" -name 'kslide-*.tgz')

say "publint"
quiet npm exec -y --package=publint@0.3.25 -- publint --strict "$tarball"

say "are the types wrong"
# node10 knows no "exports", and no TypeScript that is supported resolves so any more. require() of ES modules works in every Node of "engines"; the
# rule is older than that.
quiet npm exec -y --package=@arethetypeswrong/cli@0.18.5 -- attw "$tarball" --profile node16 --ignore-rules cjs-resolves-to-esm

say "npm install -g"
quiet npm install -g --prefix "$folder/global" --no-audit --no-fund "$tarball"
version=$(node -p 'require("./package.json").version')
[ "$("$folder/global/bin/kslide" --version)" = "$version" ]

say "a program that uses it"
mkdir "$folder/program" "$folder/no-types"
cd "$folder/program"
echo '{ "name": "program", "private": true, "type": "module" }' >package.json
quiet npm install --no-audit --no-fund "$tarball" ts59@npm:typescript@5.9.3 ts7@npm:typescript@7.0.2 @types/node@20
cat >browser.ts <<'END'
import { convert, coreCodecs, extract, insertRelocations, randomize, rebuildBzImage, verify } from 'kslide';
import type { Encoders } from 'kslide';

export async function blobs(image: Uint8Array, encoders: Encoders): Promise<Blob[]> {
  const converted = await convert(image, { codecs: coreCodecs });
  const moved = await randomize(image, { codecs: coreCodecs, virt: 0x20_0000 });
  const { vmlinux, relocs } = await extract(image, { codecs: coreCodecs });
  const rebuilt = await rebuildBzImage(image, { codecs: coreCodecs, encoders });
  const { verdict } = await verify(image, converted.bytes(), { codecs: coreCodecs });
  return [
    new Blob([...converted.parts, converted.bytes(), converted.relocs()]),
    new Blob([...moved.parts, moved.bytes()]),
    new Blob([vmlinux, relocs(), rebuilt.bytes, verdict]),
    new Blob(insertRelocations(image)),
  ];
}
END
cat >node.ts <<'END'
import { convert } from 'kslide';
import { nodeCodecs, readInputFile, writeFileAtomic } from 'kslide/node';
import { shuffle } from 'kslide/shuffle';

const { parts } = await convert(await readInputFile('vmlinuz'), { codecs: nodeCodecs });
await writeFileAtomic('vmlinux', parts);
console.log(typeof shuffle);
END
cat >common.cts <<'END'
import kslide = require('kslide');
import node = require('kslide/node');
import shuffle = require('kslide/shuffle');
console.log(typeof kslide.convert, typeof node.boot, typeof shuffle.shuffle);
END
for compiler in ts59 ts7; do
  tsc() {
    node "node_modules/$compiler/bin/tsc" --strict --skipLibCheck false --target es2022 --outDir out "$@"
  }
  say "  TypeScript $(node "node_modules/$compiler/bin/tsc" --version), without Node's types, then with them"
  # A program that has no Node types: an empty folder of types.
  tsc --noEmit --lib es2023,dom --module esnext --moduleResolution bundler --typeRoots "$folder/no-types" browser.ts
  tsc --noEmit --lib es2023,dom --module nodenext --typeRoots "$folder/no-types" browser.ts
  tsc --lib es2023 --module nodenext --types node node.ts common.cts
done
[ "$(node out/common.cjs 2>"$folder/log")" = 'function function function' ]
grep -v ExperimentalWarning "$folder/log" || true

say "npx from a git repository"
cd "$folder"
[ "$(npx -y --package="git+file://$repository" kslide --version 2>"$folder/log")" = "$version" ] || { cat "$folder/log" >&2; exit 1; }
say "done"
