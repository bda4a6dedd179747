#!/bin/sh
# npm run demo [-- KERNEL]: straight after `git clone`, on Debian or Ubuntu with Node 20.19. Installs npm's packages and QEMU where they are
# missing; scripts/demo.ts does the rest.
set -eu
INIT_CWD=${INIT_CWD:-$PWD}
export INIT_CWD
cd "$(dirname "$0")/.."
# As in package.json's engines.
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)'; then
  echo "kslide needs Node 20.19, 22.12 or newer" >&2
  exit 3
fi
. scripts/apt.sh
need qemu-system-x86_64 qemu-system-x86
install_missing
[ -e node_modules/tsx ] || npm ci --include=dev --no-audit --no-fund
exec node --import tsx scripts/demo.ts "$@"
