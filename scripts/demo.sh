#!/bin/sh
# npm run demo [-- KERNEL]: straight after `git clone`, on Debian or Ubuntu with Node 20. Installs npm's packages and QEMU where they are
# missing; scripts/demo.ts does the rest.
set -eu
INIT_CWD=${INIT_CWD:-$PWD}
export INIT_CWD
cd "$(dirname "$0")/.."
if ! node -e 'process.exit(Number.parseInt(process.versions.node) >= 20 ? 0 : 1)'; then
  echo "kslide needs Node 20 or newer" >&2
  exit 3
fi
. scripts/apt.sh
need qemu-system-x86_64 qemu-system-x86
install_missing
[ -e node_modules/tsx ] || npm ci --include=dev --no-audit --no-fund
exec node --import tsx scripts/demo.ts "$@"
