#!/bin/sh
# Of a package for Debian or RPM: its files are about to go, or to be replaced, which is no reason to stop.
set -e
unit=@UNIT@.service
case "$1" in
  remove | 0) ;;
  *) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
  systemctl stop "$unit"
fi
systemctl --no-reload disable "$unit" >/dev/null 2>&1 || true
