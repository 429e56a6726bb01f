#!/usr/bin/env bash
# Homespun in a clean Debian: installed as docs/how-to/install.md says, then the first five minutes of
# all three kinds of people there (scripts/newcomer.sh).
#
#   sudo scripts/debian_install.sh [SUITE] [HERE:THERE ...]
#
# SUITE is bookworm unless given. Each HERE of this machine is seen as THERE by that one, read-only: for
# a pip.conf, the certificate or the folder of a mirror. Needs debootstrap, iproute2, and 12 GB in TMPDIR.
set -euo pipefail

SOURCE=$(cd "$(dirname "$0")/.." && pwd)

# Mounts and processes end with namespaces of their own, so that what is left can be removed.
if [ -z "${ROOT:-}" ]; then
  ROOT=$(mktemp -d "${TMPDIR:-/var/tmp}/homespun-debian.XXXXXX")
  trap 'rm -rf --one-file-system "$ROOT"' EXIT
  ROOT=$ROOT unshare --mount --pid --fork --kill-child "$0" "$@"
  exit
fi

SUITE=${1:-bookworm}
[ "$#" -eq 0 ] || shift

# inside ACCOUNT SCRIPT: run it in the new system, in the checkout.
inside() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    chroot "$ROOT" su "$1" -c "set -eux; cd /usr/src/homespun; $2"
}

# block PAGE HEADING: the first code block below a heading.
block() {
  awk -v heading="## $2" '$0 == heading { here = 1 } /^```/ && here { if (inside) exit; inside = 1; next }
    inside' "$SOURCE/docs/$1"
}

debootstrap --variant=minbase --include=ca-certificates,sudo "$SUITE" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t sysfs -o ro sysfs "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
chmod 755 "$ROOT"  # else nobody but root may go through /
cp --dereference /etc/resolv.conf "$ROOT/etc/resolv.conf"
echo "127.0.0.1 localhost $(uname -n)" > "$ROOT/etc/hosts"
echo 'APT::Get::Assume-Yes "true";' > "$ROOT/etc/apt/apt.conf.d/90yes"
git clone --quiet "$SOURCE" "$ROOT/usr/src/homespun"
for pair in "$@"; do
  here=${pair%%:*} there=$ROOT${pair#*:}
  mkdir -p "$(dirname "$there")"
  if [ -d "$here" ]; then mkdir -p "$there"; else touch "$there"; fi
  mount --bind -o ro "$here" "$there"
done

inside root "$(block how-to/install.md "Debian and Ubuntu")"
inside root "useradd --create-home --shell /bin/bash newcomer"
# No network beyond loopback from here on, and nobody else's ports.
export -f inside
export ROOT
unshare --net bash -euc "ip link set lo up
  inside newcomer 'INSTALLED=/opt/homespun bash scripts/newcomer.sh'"
