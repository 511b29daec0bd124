#!/bin/sh
# Of a package for Debian or RPM: before its files are there. What install.sh has put in place would hide them.
set -e
for prefix in /opt/piccolo /var/lib/piccolo; do
  if [ -e "$prefix/manifest" ]; then
    echo "error: PICCOLO was installed here by install.sh, in $prefix" >&2
    echo "help: $prefix/current/install.sh --uninstall removes it; configuration, identity and containers stay" >&2
    exit 1
  fi
done
