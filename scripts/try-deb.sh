#!/bin/sh
# Tries the Debian package for real, as root: `sh scripts/try-deb.sh [SUITE [NEWER-SUITE]]`, trixie and trixie-backports by default.
#
# In a fresh root of the suite, apt installs the package and what it depends on, and then packages of kernels. What the hooks made boots in QEMU, here.
# A conversion that fails must leave apt and the old kernel alone. In the end all is removed. It needs the network (600 MB the first time, 200 MB later)
# and takes ten minutes. The bare root is kept in ~/.cache/kslide, or in $KSLIDE_CACHE.
set -eu
cd "$(dirname "$0")/.."
suite=${1:-trixie}
newer=${2:-trixie-backports}
# The mounts below are in a namespace of their own, and go with it.
if [ -z "${KSLIDE_TRY_DEB:-}" ]; then
  [ "$(id -u)" -eq 0 ] || { echo "try-deb.sh needs root" >&2; exit 3; }
  KSLIDE_TRY_DEB=1 exec unshare --mount sh "scripts/try-deb.sh" "$suite" "$newer"
fi
. scripts/apt.sh
need debootstrap debootstrap
need qemu-system-x86_64 qemu-system-x86
install_missing

say() {
  echo "try-deb: $*"
}

fail() {
  echo "try-deb: FAILED: $*" >&2
  exit 1
}

cache=${KSLIDE_CACHE:-$HOME/.cache/kslide}/roots
base=$cache/$suite
# The mirror that this machine's own packages come from.
# shellcheck disable=SC2016 # apt's variables
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian \([^ ]*\)$/\1/p' | head -n 1)
[ -n "$mirror" ] || { echo "try-deb.sh: apt has no package lists of a Debian mirror" >&2; exit 3; }
if [ ! -d "$base" ]; then
  mkdir -p "$cache"
  rm -rf "$base.incoming"
  debootstrap --variant=minbase "$suite" "$base.incoming" "$mirror" >"$base.log"
  mv "$base.incoming" "$base"
fi

root=$(mktemp -d "${TMPDIR:-/tmp}/kslide-try-deb-XXXXXX")
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT TERM HUP
cp -a "$base/." "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
echo "deb $mirror $newer main" >"$root/etc/apt/sources.list.d/newer.list"
# This root is thrown away.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe"

inside() {
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root "$@"
}

# apt ARGUMENTS…: what it prints is in $root/apt.log.
apt() {
  inside apt-get -y -q --no-install-recommends "$@" >"$root/apt.log" 2>&1 || { tail -n 30 "$root/apt.log" >&2; fail "apt-get $*"; }
}

# made VERSION: the hook made it, as it should be.
made() {
  [ "$(stat -c '%F %a %U' "$root/var/lib/kslide/vmlinux-$1")" = 'regular file 644 root' ] || fail "vmlinux-$1: $(ls -l "$root/var/lib/kslide")"
  inside sh -c "cd /var/lib/kslide && sha256sum --quiet -c 'vmlinux-$1.sha256'" || fail "vmlinux-$1.sha256"
  image=/boot/vmlinuz-$1
  [ -e "$root$image" ] || image=/usr/lib/modules/$1/vmlinuz
  inside kslide verify -q "$image" "/var/lib/kslide/vmlinux-$1" || fail "vmlinux-$1 does not verify"
}

leads_to() {
  found=$(readlink "$root/var/lib/kslide/vmlinux" || true)
  [ "$found" = "$1" ] || fail "the link leads to '$found', expected '$1'"
}

# nothing_left: no file in the folder but the lock.
nothing_left() {
  found=$(find "$root/var/lib/kslide" -mindepth 1 -not -name .lock 2>/dev/null || true)
  [ -z "$found" ] || fail "left: $found"
}

# boots FILE: by both entries, each at a slide that is not 0.
boots() {
  for entry in pvh linux64; do
    slide=$(node bin/kslide.js boot "$root$1" --entry "$entry" --json | sed -n 's/^ *"slide": \([0-9]*\),*$/\1/p')
    [ "${slide:-0}" -gt 0 ] || fail "$1 by $entry: no slide"
    say "  boots by $entry: slide $(printf '0x%x' "$slide")"
  done
}

# kernel_of META: the package that it depends on.
kernel_of() {
  inside apt-cache depends ${2:+-t "$2"} "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

say "building the package"
package=$(npm run --silent deb -- "$root/tmp" | tail -n 1)
apt update
say "installing it in $suite"
apt install "${package#"$root"}"
# shellcheck disable=SC2016 # dpkg's variable
say "  kslide $(inside kslide --version) on Node $(inside node --version), package nodejs $(inside dpkg-query -W -f '${Version}' nodejs)"
nothing_left

kernel=$(kernel_of linux-image-cloud-amd64)
version=${kernel#linux-image-}
say "installing $kernel, with the hook off"
apt install "$kernel"
nothing_left

say "turning the hook on, and converting what is installed"
sed -i 's/^KSLIDE_MAKE=.*/KSLIDE_MAKE=vmlinux/' "$root/etc/default/kslide"
inside /usr/lib/kslide/kernel-hook installed 2>&1
made "$version"
leads_to "vmlinux-$version"

say "the disassembler: a table recovered from the image, and the judge of it"
inside sh -ec "
  kslide extract -q /boot/vmlinuz-$version -o /tmp/plain
  kslide convert -q --recover --accept-doubts /tmp/plain -o /tmp/recovered
  kslide verify /tmp/plain /tmp/recovered" >"$root/judge.log" 2>&1 || { cat "$root/judge.log"; fail "recovered tables"; }
grep '^consistent' "$root/judge.log" || fail "the judge says: $(cat "$root/judge.log")"

say "removing $kernel"
apt purge "$kernel"
nothing_left

say "installing $kernel, with the hook on"
apt install "$kernel"
grep '^kslide: ' "$root/apt.log"
made "$version"
leads_to "vmlinux-$version"
boots "/var/lib/kslide/vmlinux"

say "kernel-install removes it and adds it again"
apt install systemd-boot-tools
inside kernel-install remove "$version" 2>&1 | grep '^kslide: '
nothing_left
inside kernel-install add "$version" "/boot/vmlinuz-$version" 2>&1 | grep '^kslide: '
made "$version"
leads_to "vmlinux-$version"

say "installing a newer kernel while kslide fails"
newkernel=$(kernel_of linux-image-cloud-amd64 "$newer")
newversion=${newkernel#linux-image-}
mv "$root/usr/lib/kslide/dist/cli/verify.cjs" "$root/verify.cjs"
echo 'exports.command = require("/verify.cjs").command; exports.main = async () => { console.error("kslide: refuted, says a stand-in"); return 1; };' >"$root/usr/lib/kslide/dist/cli/verify.cjs"
apt install -t "$newer" "$newkernel"
grep '^kslide: ' "$root/apt.log"
grep -q '^kslide: NO CONVERTED KERNEL.*did not pass kslide verify' "$root/apt.log" || fail "no message of the failure"
mv "$root/verify.cjs" "$root/usr/lib/kslide/dist/cli/verify.cjs"
made "$version"
leads_to "vmlinux-$version"
[ ! -e "$root/var/lib/kslide/vmlinux-$newversion" ] || fail "a kernel that was not verified has its name"

say "installing it again, with kslide as it is"
apt install -t "$newer" --reinstall "$newkernel"
grep '^kslide: ' "$root/apt.log"
made "$newversion"
leads_to "vmlinux-$newversion"
boots "/var/lib/kslide/vmlinux"

say "removing it"
apt purge "$newkernel"
grep '^kslide: ' "$root/apt.log"
leads_to "vmlinux-$version"

say "removing kslide, then $kernel, whose hooks find no kslide"
apt remove kslide
apt purge "$kernel"
[ -e "$root/etc/kernel/postrm.d/zz-kslide" ] || fail "a conffile went without purge"
[ -e "$root/var/lib/kslide/vmlinux-$version" ] || fail "a converted kernel went without purge"
say "purging kslide"
apt purge kslide
# The kernel's files of this run are in its log and in dpkg's lists.
left=$(inside find / -xdev -name '*kslide*' -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*')
[ -z "$left" ] || fail "left: $left"
say "done"
