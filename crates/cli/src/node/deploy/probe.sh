# shellcheck shell=sh
# Run on a host by `piccolo node deploy`, for as long as its connection lasts: says what the host is, as
# KEY=VALUE lines, and keeps a folder for what is copied, which goes when the connection ends, however it ends.
umask 077
folder=$(mktemp -d "${TMPDIR:-/tmp}/piccolo-deploy.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 0' HUP INT TERM

say() { printf '%s=%s\n' "$1" "$2"; }

root=no
if [ "$(id -u)" = 0 ]; then root=yes; elif sudo -n true 2>/dev/null; then root=sudo; fi
as_root() { if [ $root = sudo ]; then sudo -n "$@"; else "$@"; fi; }

say folder "$folder"
say root $root
say arch "$(uname -m)"
say host "$(uname -n)"
# Images are copied with their machine-id, and containers share a boot: together they tell machines apart.
if read -r boot </proc/sys/kernel/random/boot_id; then
  say machine "$boot $(cat /etc/machine-id 2>/dev/null) $(uname -n)"
fi
prefix=/opt/piccolo
[ -e $prefix/manifest ] || [ -e $prefix/transaction ] || [ ! -e /var/lib/piccolo/manifest ] ||
  prefix=/var/lib/piccolo
say prefix $prefix
[ ! -e $prefix/transaction ] || say interrupted yes
[ ! -e $prefix/manifest ] || say installed yes
[ -z "$(ls -A /usr/lib/piccolo/bin 2>/dev/null)" ] || say packages yes
if [ -e $prefix/manifest ] && [ -e $prefix/current/SHA256SUMS ]; then
  say release "$(sha256sum <$prefix/current/SHA256SUMS | cut -c 1-64)"
  say version "$(sed -n 's/^version=//p' $prefix/current/RELEASE)"
  sed -n '/^role=/p' $prefix/settings
fi
[ ! -e /etc/piccolo ] || say configured yes
config=/etc/piccolo/nodeagent.yaml
if as_root test -e $config; then
  say agent_configured yes
  say name "$(as_root sed -n 's/^name: *//p' $config | tr -d "\"'" | head -n 1)"
fi
if [ -e /var/lib/piccolo ] || as_root test -e /var/lib/private/piccolo; then say state yes; fi
if as_root test -e /var/lib/piccolo/master || as_root test -e /var/lib/private/piccolo/master; then
  say master_state yes
fi
if as_root test -e /var/lib/piccolo/nodeagent/identity.pem; then
  say joined yes
  as_root $prefix/current/bin/piccolo-nodeagent --system-check none check 2>/dev/null |
    sed -n 's/^ok  *identity  *\([^ ]*\) of cluster \([^ ]*\)$/node=\1\ncluster=\2/p'
fi
say facts end
# Until the other side closes, is killed, or is out of reach.
cat >/dev/null
