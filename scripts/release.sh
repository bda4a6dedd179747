#!/bin/sh
# Makes what a release consists of, in release/: `npm run release`. The npm package, the Debian package, their bill of materials and the hashes of all.
#
# The same commit, Node, npm and dpkg give the same bytes: what `npm sbom` draws anew each time (a serial number, the time) is taken out of it or set.
set -eu
cd "$(dirname "$0")/.."
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(node -p 'require("./package.json").version')
rm -rf release
mkdir release
npm run --silent deb -- release >/dev/null
npm pack --silent --ignore-scripts --pack-destination release >/dev/null
# From the lock file: node_modules may hold more.
npm sbom --package-lock-only --omit=dev --sbom-format=cyclonedx | node -e '
  const bom = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  delete bom.serialNumber;
  bom.metadata.timestamp = new Date(process.env.SOURCE_DATE_EPOCH * 1000).toISOString();
  bom.metadata.component.name = "kslide"; // npm takes the name of the folder
  process.stdout.write(JSON.stringify(bom, null, 2) + "\n");
' >"release/kslide-$version.cdx.json"
cd release
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
