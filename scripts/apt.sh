# To be sourced, on Debian and Ubuntu. Installs what a script needs: `need PROGRAM PACKAGE` for each program, then `install_missing`. Fetches packages
# without installing them: `fetch_package`.
#
# apt's package lists are empty or old on a fresh machine, but updating them each time would be a waste. So `with_new_lists` runs a command, and only
# if that fails updates the lists and runs it once more.

missing=''

need() {
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

# as_root [NAME=VALUE …] COMMAND…: as root, or through a sudo that asks nothing. Fails where neither is possible.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then env "$@"; else sudo -n env "$@"; fi
}

# with_new_lists COMMAND…
with_new_lists() {
  if "$@"; then return; fi
  echo "updating apt's package lists" >&2
  # Whether that helped shows in the second try.
  as_root apt-get update -qq >/dev/null || true
  "$@"
}

# Installs what `need` found missing. Where that is not possible, prints the command to run and exits with 3, as kslide does when the machine lacks
# something.
install_missing() {
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and there is no apt-get to install it:$missing" >&2
    exit 3
  elif ! as_root true 2>/dev/null; then
    echo "missing; run: sudo apt-get update && sudo apt-get install$missing" >&2
    exit 3
  fi
  echo "installing:$missing" >&2
  with_new_lists install_packages
}

install_packages() {
  # shellcheck disable=SC2086 # one word a package
  as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}

# fetch_package PACKAGE FOLDER: downloads the package into the folder, unless some version of it is there, and sets `deb` to its path.
fetch_package() {
  mkdir -p "$2"
  find_package "$@" || { with_new_lists download_package "$@" && find_package "$@"; }
}

find_package() {
  deb=$(find "$2" -name "$1_*.deb" | sort | tail -n 1)
  [ -n "$deb" ]
}

download_package() {
  (cd "$2" && apt-get download -qq "$1" >&2)
}
