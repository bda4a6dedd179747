#!/bin/sh
# Runs one lane of the tests: `unit`, or `boot` (QEMU; a few minutes). Extra arguments go to Node's test runner.
set -eu
cd "$(dirname "$0")/.."
lane=${1:?usage: test.sh unit|boot}
shift
case "$lane" in
  unit) files=$(find test -name '*.test.ts' -not -path 'test/boot/*' | sort) ;;
  # Two guests at a time are started within a file; files run one after the other.
  boot) files=$(find test/boot -name '*.test.ts' | sort); set -- --test-concurrency=1 "$@" ;;
  *) echo "test.sh: no lane '$lane'" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086 # one word a file
exec node --import tsx --import ./test/property-seed.ts --test --test-reporter=spec "$@" $files
