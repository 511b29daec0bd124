#!/usr/bin/env bash
# Makes the root folder of the testbed's hosts: a small Debian with systemd, sshd and Podman.
#
#   image.sh ROOT
#
# Packages come from where this machine's own apt gets them, with its settings and its keys: nothing
# here names a server. ROOT must not exist. Whoever calls this renames it when everything has worked.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

readonly BASE=systemd,systemd-sysv,dbus,iproute2,procps,openssh-server,ca-certificates
readonly PACKAGES=(podman crun netavark iptables curl iputils-ping jq busybox-static)
readonly APPLETS=(sh sleep echo cat true false ls kill httpd nc dd yes)

main() {
  ROOT=$1
  DISTRIBUTION=$(os NAME) CODENAME=$(os VERSION_CODENAME)
  # shellcheck disable=SC2016 # these are apt's own placeholders
  MIRROR=$(sources '$(CODENAME) $(REPO_URI)' |
    awk -v name="$CODENAME" '$1 == name && !found { print $2; found = 1 }')
  if [[ -z $MIRROR ]]; then
    echo "apt has no package list of $CODENAME; run apt-get update first" >&2
    exit 1
  fi
  # debootstrap does not read apt's settings.
  http_proxy=$(setting Acquire::http::Proxy) https_proxy=$(setting Acquire::https::Proxy)
  export http_proxy https_proxy
  debootstrap --variant=minbase --include="$BASE" "$CODENAME" "$ROOT" "$MIRROR"
  apt_as_here
  printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"
  chmod 0755 "$ROOT/usr/sbin/policy-rc.d"
  chroot "$ROOT" apt-get update --quiet
  chroot "$ROOT" apt-get install --quiet --yes --no-install-recommends "${PACKAGES[@]}"
  units
  container_image
  without_identity
}

# The first word of a setting of /etc/os-release.
os() {
  sed --quiet "s/^$1=\"\?\([^\" ]*\).*/\1/p" /etc/os-release
}

# What the machine's apt knows of its own distribution, one line for each list.
sources() {
  apt-get indextargets --format "$1" 'Created-By: Packages' "Origin: $DISTRIBUTION" | sort --unique
}

setting() {
  apt-config dump --format '%v%n' "$1" | grep --invert-match '^DIRECT$' || true
}

apt_as_here() {
  # shellcheck disable=SC2016 # these are apt's own placeholders
  sources 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' >"$ROOT/etc/apt/sources.list"
  apt-config dump | grep '^Acquire::' | grep --invert-match --extended-regexp \
    '^Acquire::(IndexTargets|Changelogs|Languages)' >"$ROOT/etc/apt/apt.conf.d/00machine"
  local part
  for part in auth.conf auth.conf.d trusted.gpg.d; do
    if [[ -e /etc/apt/$part ]]; then
      cp --archive --no-target-directory "/etc/apt/$part" "$ROOT/etc/apt/$part"
    fi
  done
  cp /etc/hosts "$ROOT/etc/hosts"
  if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
    cp --dereference /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/"
  fi
}

# On: what a board has. Off: what only costs time here.
units() {
  install -D --mode 0755 /dev/stdin "$ROOT/usr/local/sbin/testbed-init" <<<"$INIT"
  cat >"$ROOT/etc/systemd/system/testbed-image.service" <<'END'
[Unit]
Description=A container image, without a registry
ConditionPathExists=!/var/lib/containers/testbed-image

[Service]
Type=oneshot
ExecStart=podman import /usr/share/testbed-image.tar localhost/busybox:1
ExecStart=touch /var/lib/containers/testbed-image

[Install]
WantedBy=multi-user.target
END
  chroot "$ROOT" systemctl enable testbed-image.service podman.socket podman-restart.service \
    ssh.service
  chroot "$ROOT" systemctl disable podman.service podman-auto-update.service \
    podman-auto-update.timer
  chroot "$ROOT" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer console-getty.service
  # The processors and the disk are the machine's, and busy or full for reasons of its own. Not in /etc, where
  # the installer would take it away.
  local limits="$ROOT/usr/local/lib/systemd/system/piccolo-nodeagent.service.d"
  mkdir -p "$limits"
  printf '[Service]\n%s\n%s\n' 'Environment=PICCOLO_AGENT_THRESHOLDS_CPU_RAISE_PERCENT=none' \
    'Environment=PICCOLO_AGENT_THRESHOLDS_DISK_RAISE_PERCENT=none' >"$limits/shared-machine.conf"
  mkdir -p "$ROOT/etc/containers"
  printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\n%s\n' \
    'graphroot = "/var/lib/containers/storage"' >"$ROOT/etc/containers/storage.conf"
}

# localhost/busybox:1, which every host imports at its first boot.
container_image() {
  local files applet
  files=$(mktemp --directory)
  mkdir "$files/bin" "$files/tmp"
  cp "$ROOT/bin/busybox" "$files/bin/"
  for applet in "${APPLETS[@]}"; do ln -s busybox "$files/bin/$applet"; done
  tar --directory "$files" --create --file "$ROOT/usr/share/testbed-image.tar" .
  rm -r "$files"
}

# Each host gets its own at its first boot, or from the testbed.
without_identity() {
  rm -rf "$ROOT"/usr/sbin/policy-rc.d "$ROOT"/etc/ssh/ssh_host_* "$ROOT"/etc/hostname \
    "$ROOT"/var/lib/dbus/machine-id "$ROOT"/var/lib/apt/lists/* "$ROOT"/var/cache/apt/*.bin \
    "$ROOT"/usr/share/doc/* "$ROOT"/usr/share/man/* "$ROOT"/etc/resolv.conf
  truncate --size 0 "$ROOT/etc/machine-id"
}

INIT=$(<"$(dirname "${BASH_SOURCE[0]}")/init.sh")
main "$@"
