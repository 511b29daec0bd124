#!/bin/sh
# PID 1 of a host of the testbed, for a moment: allows what a container may not do, and a board may.
set -eu
# Control groups, v1: systemd and Podman use those that can be written from the first moment on.
for tree in cpu cpuacct cpuset memory devices freezer blkio pids; do
    if [ -d "/sys/fs/cgroup/$tree" ]; then
        mount -o remount,bind,rw "/sys/fs/cgroup/$tree"
    fi
done
# The network's settings are those of the host's own network namespace.
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
# The machine's file systems are not the host's: what another test breaks there is none of its business.
if [ -d /sys/fs/ext4 ]; then
    mount -t tmpfs -o size=4k tmpfs /sys/fs/ext4
fi
exec /lib/systemd/systemd
