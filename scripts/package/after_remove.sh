#!/bin/sh
# Of a package for Debian or RPM: its files are gone. What the service knew stays, unless Debian is told to purge it.
set -e
state=@STATE@
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ] && [ -n "$state" ]; then
  rm -rf "/var/lib/piccolo/$state" "/var/lib/private/piccolo/$state"
  rmdir --ignore-fail-on-non-empty /var/lib/piccolo /var/lib/private/piccolo /etc/piccolo 2>/dev/null || true
fi
