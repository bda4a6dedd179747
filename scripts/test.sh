#!/bin/sh
# Runs one lane of the tests: `unit`, or `boot` (QEMU; some minutes). Extra arguments go to Node's test runner.
set -eu
cd "$(dirname "$0")/.."
lane=${1:?usage: test.sh unit|boot}
shift
set -- node --import tsx --import ./test/property-seed.ts --test --test-reporter=spec "$@"
# By itself Node leaves a processor idle: on a machine of two it would run one file at a time.
processors=$(getconf _NPROCESSORS_ONLN)
case "$lane" in
  unit)
    # shellcheck disable=SC2046 # one word a file
    exec "$@" --test-concurrency="$processors" $(find test -name '*.test.ts' -not -path 'test/boot/*' | sort)
    ;;
  # Two files at a time, which share the places for guests (test/boot/lane.ts).
  boot)
    KSLIDE_BOOT_LANE=$(mktemp -d)
    export KSLIDE_BOOT_LANE
    trap 'rm -rf "$KSLIDE_BOOT_LANE"' EXIT
    trap 'exit 130' INT TERM HUP
    node --import tsx test/boot/fetch.ts
    # shellcheck disable=SC2046
    "$@" --test-concurrency=2 $(find test/boot -name '*.test.ts' | sort)
    ;;
  *) echo "test.sh: no lane '$lane'" >&2; exit 2 ;;
esac
