# shellcheck shell=bash
# Run on a host by `piccolo node deploy --take-over`, as root, one action at a time:
#   keep   the agent's identity and configuration, in the folder that goes with the connection; then the
#          new masters into the configuration
#   leave  the agent's cluster, whether a master hears of it or not, and the agent too
#   back   puts back what was kept
# Containers are nobody's business here.
set -euo pipefail
umask 077

# What was begun goes on when the connection breaks: one after the other.
exec 9<"$2"
flock -w 60 9
action=$1 folder=$2 prefix=$3
shift 3
agent=$prefix/current/bin/piccolo-nodeagent unit=piccolo-nodeagent.service
state=/var/lib/piccolo/nodeagent config=/etc/piccolo/nodeagent.yaml
settings=$prefix/settings template=$prefix/templates/nodeagent.yaml
kept=("$state/identity.pem" "$state/node-id" "$config" "$settings" "$template")

keep() {
  local index
  for index in "${!kept[@]}"; do
    [[ ! -e ${kept[index]} ]] || cp -p "${kept[index]}" "$folder/kept.$index"
  done
  [[ ! -e $config ]] || name_masters "$@"
}

# As install.sh writes them, which looks for just that. A list of another shape stays, and install.sh
# says what to do.
name_masters() {
  local line inside=no text='' new='masters:'
  local head='^masters:[[:space:]]*(\[[^]]*\])?[[:space:]]*(#.*)?$' item='^[[:space:]]*-[[:space:]]'
  for line in "$@"; do new+=$'\n'"  - \"$line\""; done
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ $head ]]; then
      inside=yes line=$new
    elif [[ $inside == yes && $line =~ $item ]]; then
      continue
    else
      inside=no
    fi
    text+=$line$'\n'
  done <"$config"
  put "$config" < <(printf '%s' "$text")
}

# What is there is the old or the new one, with the old one's owner and mode.
put() {
  cp -p "$1" "$1.piccolo-new"
  cat >"$1.piccolo-new"
  mv -f "$1.piccolo-new" "$1"
}

# An agent that does not answer is ended; then its identity is removed without it.
leave() {
  "$agent" status 2>/dev/null | grep '^phase' || true
  "$agent" leave && return
  systemctl stop "$unit"
  "$agent" leave
}

# An agent that has not left goes on as it is: it reads its configuration when it starts.
back() {
  local index file has_left=yes
  [[ -e $folder/kept.0 ]] || return 0
  # An installer that goes on, likewise.
  flock -w 120 / true
  ! cmp -s "$folder/kept.0" "${kept[0]}" || has_left=no
  if [[ $has_left == yes ]]; then
    systemctl stop "$unit"
    rm -f "$state/token" "$state/join-key.pem"
  fi
  for index in "${!kept[@]}"; do
    file=${kept[index]}
    [[ -e $folder/kept.$index && $file != "$settings" ]] || continue
    cp -p "$folder/kept.$index" "$file.piccolo-new"
    mv -f "$file.piccolo-new" "$file"
  done
  # The release may be another one by now; the masters are those of before.
  put "$settings" < <(sed '/^master=/d' "$settings" && sed -n '/^master=/p' "$folder/kept.3")
  [[ $has_left == no ]] || systemctl start "$unit"
}

"$action" "$@"
