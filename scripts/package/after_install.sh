#!/bin/sh
# Of a package for Debian or RPM: its files are there. Debian says `configure` and the version before, RPM how many
# versions there are now. An upgrade takes over at once; containers are not the agent's children and run on.
set -e
unit=@UNIT@.service
case "$1-$2" in
  configure-?* | [2-9]-*) upgrade=yes ;;
  configure- | 1-*) upgrade=no ;;
  *) exit 0 ;;
esac
# a root file system that is being made has no systemd that runs; the preset decides at its first boot
if [ "$upgrade" = no ]; then
  systemctl --no-reload enable "$unit" >/dev/null 2>&1 || true
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ "$upgrade" = yes ]; then
  systemctl try-restart "$unit"
elif [ "$unit" = piccolo-master.service ]; then
  systemctl start "$unit"
  echo "the master runs; next: piccolo status, and piccolo token create --role sub for each board"
else
  echo "next: name the master in /etc/piccolo/nodeagent.yaml, then with a token of \`piccolo token create\`:"
  echo "  systemctl start piccolo-nodeagent && piccolo-nodeagent join --token-file FILE"
fi
