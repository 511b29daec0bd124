#!/usr/bin/env bash
# Becomes a host: enters its control groups, lays its disk over the image, and runs its PID 1.
#
#   boot.sh IMAGE FOLDER NAME MACHINE [CONTROL-GROUP]...
#
# Runs in a mount namespace of its own, so that nothing of this is seen outside or left behind.
# FOLDER/disk is what the host has written; it survives a power loss, as a board's disk does.
set -euo pipefail

image=$1 folder=$2 name=$3 machine=$4
shift 4
for group; do
  echo $$ >"$group/cgroup.procs"
done
mount -t overlay overlay "$folder/root" \
  -o "lowerdir=$image,upperdir=$folder/disk,workdir=$folder/work"
# Where v1 is in use, Podman's runtime refuses a v2 tree beside it.
if mountpoint --quiet /sys/fs/cgroup/unified; then
  umount /sys/fs/cgroup/unified
fi
# nspawn's own notes, which the machine and other testbeds need not see.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
# Not on an overlay: Podman's storage is one itself.
exec systemd-nspawn --quiet --directory="$folder/root" --machine="$machine" --hostname="$name" \
  --network-namespace-path="/run/netns/$machine" --register=no --keep-unit --capability=all \
  --system-call-filter="add_key keyctl bpf" --bind="$folder/containers:/var/lib/containers" \
  --link-journal=no --resolv-conf=off --timezone=off /usr/local/sbin/testbed-init
