# To be sourced: `need PROGRAM PACKAGE` for each program that a script uses, then `install_missing`. Debian and Ubuntu.

missing=''

need() {
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

# Installs them as root or through a sudo that asks nothing; otherwise says the command and exits with 3, as kslide does when
# the machine lacks something.
install_missing() {
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and there is no apt-get to install it:$missing" >&2
    exit 3
  elif [ "$(id -u)" -eq 0 ]; then
    root='env'
  elif sudo -n true 2>/dev/null; then
    root='sudo -n env'
  else
    echo "missing; run: sudo apt-get update && sudo apt-get install$missing" >&2
    exit 3
  fi
  echo "installing:$missing" >&2
  # The lists of a fresh machine are empty or old; elsewhere an update is time for nothing.
  # shellcheck disable=SC2086 # one word a package
  set -- DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
  if ! $root "$@" >/dev/null 2>&1; then
    $root apt-get update -qq >/dev/null
    $root "$@" >/dev/null
  fi
}
