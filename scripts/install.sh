#!/usr/bin/env bash
# Installs PICCOLO on a master or a board, from a release folder or tarball, without internet
# (HLD 3.2, 12.1). Also upgrades, repairs and removes it.
#
# A plan is made first: the list of what differs from what shall be. `--dry-run` shows it. Then
# everything that it would replace is saved, with the plan, in a folder; renaming that to `transaction`
# begins the work, and renaming it again ends it. Whoever is stopped in between (an error, a signal,
# kill -9, a power cut) has left that folder, and the next run rolls back with it first of all.
#
#   PREFIX/releases/VERSION/   one folder for each release, never changed afterwards
#   PREFIX/current             link to the one in use, swapped by a rename
#   PREFIX/manifest            what was put elsewhere: links, units, configuration
#   PREFIX/settings            roles, masters, and which release was in use before
#   PREFIX/first               the mark of the run that installed it, until another run changes it
#   PREFIX/templates/          the configuration as written last: a file that differs was edited
#
# PREFIX is /opt/piccolo, or /var/lib/piccolo where /opt cannot be written.
# Top-down: arguments, the release, the plan, the transaction, services, the token, removal.
set -euo pipefail
export LC_ALL=C
umask 022

readonly EXIT_NOT_READY=2 EXIT_NO_TOKEN=3 EXIT_USAGE=64
readonly EXECUTABLES=(piccolo-master piccolo-nodeagent piccolo)
readonly UNITS=/etc/systemd/system
readonly MASTER_PORT=47098
readonly MASTERS_MAX=16

usage() {
  cat <<'END'
install.sh: installs, upgrades, repairs and removes PICCOLO

Usage: install.sh --role master|sub [OPTION]...
       install.sh --uninstall [--purge]

  --role master|sub      what this machine shall be; repeat it for both. Once installed, it is known
  --from FOLDER|TARBALL  the release [the folder of this script]
  --master HOST[:PORT]   a master of the cluster, for the agent's configuration; may be repeated
  --name NAME            the node's name in the cluster, in place of the host's own
  --token-file FILE|-    a file with the join token, or standard input. Never the token itself
  --no-start             start nothing, but do so at the next boot
  --force                go on although the system check found errors, and replace files in the way
  --dry-run              show what would be done, and do nothing
  --root DIR             into an image or another root folder; starts nothing, checks nothing
  --arch ARCHITECTURE    of that image [that of this machine]
  --check                run the system check in spite of --root
  --uninstall            remove everything but configuration and state; containers go on
  --purge                remove these too: the node's identity, or the cluster's authority and store
  --first MARK           only where nothing is installed; with --uninstall: only what that has installed

Exit code: 0 done, 1 failed and rolled back, 2 the system check found errors, 3 installed, but the
agent did not take the token, 64 wrong usage.

Examples:
  ./install.sh --role master
  piccolo token create --role sub --node board-9 | ssh board-9 /tmp/piccolo/install.sh --role sub \
      --master 192.0.2.10 --token-file -
  ./install.sh --from piccolo-0.2.0-aarch64.tar.gz       # an upgrade: role and masters are known
  ./install.sh --role sub --root /mnt/image --arch armv7
  /opt/piccolo/current/install.sh --uninstall
END
}

main() {
  ROLES=() MASTERS=() FROM='' NAME='' TOKEN_FILE='' MARK='' ROOT='' ARCH='' ACTION=install
  START=yes FORCE=no DRY_RUN=no CHECK=auto PURGE=no SERVICES_AS_BEFORE=no
  OLD_ROLES=() OLD_MASTERS=() OLD_NAME='' PREVIOUS='' LIVE=no SCRATCH='' IN_TRANSACTION=no
  read_arguments "$@"
  choose_places
  trap on_exit EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  lock
  if [[ $DRY_RUN == no ]]; then
    repair
  elif [[ -e $R$PREFIX/transaction ]]; then
    fail "an installation was interrupted here" "run the same without --dry-run: it rolls back first"
  fi
  read_settings
  if [[ $ACTION == uninstall ]]; then uninstall; else install_release; fi
}

# Asked with the lock held: who was told of a bare machine and comes second leaves alone what is there.
is_of_this_mark() {
  [[ -z $MARK || ! -e $R$PREFIX/manifest ]] || [[ $(cat "$R$PREFIX/first" 2>/dev/null) == "$MARK" ]]
}

install_release() {
  is_of_this_mark || fail "PICCOLO was installed here meanwhile, by somebody else" \
    "nothing was changed; run the same again: it goes on from what is there now"
  ((${#ROLES[@]} + ${#OLD_ROLES[@]} > 0)) || wrong "--role is missing: master or sub"
  [[ -z $(ls -A "$R/usr/lib/piccolo/bin" 2>/dev/null) ]] || fail "packages of PICCOLO are installed here" \
    "upgrade those, or remove them first: apt remove 'piccolo*', dnf remove 'piccolo*'; state stays"
  open_release
  verify_release
  verify_architecture
  settle_settings
  system_check
  make_plan
  try_configuration "$RELEASE/bin"
  [[ $DRY_RUN == no ]] || { show_plan && return; }
  if ((${#OPS[@]} > 0)); then
    begin
    apply
    try_executables
    start_services
    commit
  else
    say "everything is in place already: release $ID"
    start_services
  fi
  prune
  hand_over_token
  farewell
}

# --- Arguments and places ---

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --role | --from | --master | --name | --token-file | --first | --root | --arch)
        (($# > 1)) || wrong "$1 wants a value"
        take_option "$1" "$2"
        shift 2
        ;;
      --no-start) START=no && shift ;;
      --force) FORCE=yes && shift ;;
      --dry-run) DRY_RUN=yes && shift ;;
      --check) CHECK=yes && shift ;;
      --uninstall) ACTION=uninstall && shift ;;
      --purge) PURGE=yes && shift ;;
      -h | --help) usage && exit 0 ;;
      *) wrong "\`$1\` is no option" ;;
    esac
  done
  [[ $PURGE == no || $ACTION == uninstall ]] || wrong "--purge goes with --uninstall"
}

take_option() {
  case $1 in
    --role)
      [[ $2 == master || $2 == sub ]] || wrong "\`$2\` is no role: master or sub"
      ROLES+=("$2")
      ;;
    --from) FROM=$2 ;;
    --master) add_master "$2" ;;
    --name)
      [[ $2 =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || wrong "\`$2\` is no name: letters, digits, . -"
      NAME=$2
      ;;
    --token-file)
      [[ $2 != PICCOLO1-* ]] || wrong "--token-file wants a file or -; everybody on this machine
could read that token on the command line: revoke it"
      TOKEN_FILE=$2
      ;;
    --first)
      [[ $2 =~ ^[A-Za-z0-9._-]{1,64}$ ]] || wrong "\`$2\` is no mark: letters, digits, . _ -"
      MARK=$2
      ;;
    --root)
      [[ -d $2 ]] || wrong "--root $2: no such folder"
      ROOT=$(cd "$2" && pwd -P)
      ;;
    --arch) ARCH=$2 ;;
  esac
}

# What goes into YAML is letters, digits and little else.
add_master() {
  local master=$1
  [[ $master == \[*\]:* || $master == [!\[]*:* ]] || master+=:$MASTER_PORT
  if [[ ! $master =~ ^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})$ ]] ||
    ((10#${BASH_REMATCH[3]} < 1 || 10#${BASH_REMATCH[3]} > 65535)); then
    wrong "\`$1\` is no master: HOST or HOST:PORT, an IPv6 address in brackets"
  fi
  ((${#MASTERS[@]} < MASTERS_MAX)) || wrong "more than $MASTERS_MAX masters"
  MASTERS+=("$master")
}

# R is put before every path that is looked at or written; what is written into files has none.
choose_places() {
  R=${ROOT%/}
  [[ $R != *[$'\t\n']* ]] || wrong "--root must not contain tabs or line ends"
  [[ -n $R || $EUID -eq 0 ]] || fail "only root can install" "sudo, or --root DIR to try it elsewhere"
  if [[ -e $R/opt/piccolo/manifest || -e $R/opt/piccolo/transaction ]]; then
    PREFIX=/opt/piccolo
  elif [[ -e $R/var/lib/piccolo/manifest || -e $R/var/lib/piccolo/transaction ]]; then
    PREFIX=/var/lib/piccolo
  elif can_write /opt/piccolo; then
    PREFIX=/opt/piccolo
  else
    PREFIX=/var/lib/piccolo
    can_write $PREFIX || fail "neither /opt nor /var/lib can be written" "mount one of them writable"
  fi
  [[ -n $R || ! -d /run/systemd/system ]] || LIVE=yes
}

# Whether something can be made there: asked of the nearest folder that exists.
can_write() {
  local path=$R$1
  while [[ -n $path && ! -e $path ]]; do path=${path%/*}; done
  [[ -w ${path:-/} && (! -d $path || -x $path) ]]
}

# Two at once would undo each other. The kernel gives the lock back, whatever becomes of us.
lock() {
  command -v flock >/dev/null || return 0
  exec {LOCK_FD}<"$R/"
  flock -n "$LOCK_FD" || fail "another install.sh is at work here" "wait until it is done"
}

read_settings() {
  [[ -r $R$PREFIX/settings ]] || { read_kept && return; }
  mapfile -t OLD_ROLES < <(setting role "$R$PREFIX/settings")
  mapfile -t OLD_MASTERS < <(setting master "$R$PREFIX/settings")
  OLD_NAME=$(setting name "$R$PREFIX/settings")
  PREVIOUS=$(setting previous "$R$PREFIX/settings")
}

# What an uninstallation has left and nobody has edited says what its settings said.
read_kept() {
  local kept=$R/etc/piccolo/nodeagent.yaml
  is_unedited nodeagent.yaml || return 0
  mapfile -t OLD_MASTERS < <(sed -n '/^masters:$/,/^[^ ]/s/^  - "\(.*\)"$/\1/p' "$kept")
  OLD_NAME=$(sed -n 's/^name: //p' "$kept")
}

# Roles add up; masters are those that were named last.
settle_settings() {
  local role all=" ${OLD_ROLES[*]} ${ROLES[*]} "
  ROLES=()
  for role in master sub; do
    [[ $all != *" $role "* ]] || ROLES+=("$role")
  done
  MASTERS_NAMED=${#MASTERS[@]}
  ((${#MASTERS[@]} > 0)) || MASTERS=(${OLD_MASTERS[@]+"${OLD_MASTERS[@]}"})
  [[ -n $TOKEN_FILE ]] || return 0
  has_role sub || wrong "a token is for an agent: --role sub"
  [[ $TOKEN_FILE == - || -r $TOKEN_FILE ]] || wrong "$TOKEN_FILE cannot be read"
  [[ $ARCH == "$HOST_ARCH" ]] || wrong "the agent does not run here, so it cannot take the token"
}

has_role() { [[ " ${ROLES[*]} " == *" $1 "* ]]; }

# --- The release ---

open_release() {
  local folders
  [[ -n $FROM ]] || FROM=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
  if [[ -d $FROM ]]; then
    RELEASE=$(cd "$FROM" && pwd -P)
  elif [[ -f $FROM ]]; then
    verify_tarball
    make_scratch
    tar -xzf "$FROM" -C "$SCRATCH" --no-same-owner ||
      fail "$FROM cannot be unpacked" "copy it anew; is there space in ${TMPDIR:-/tmp}?"
    folders=("$SCRATCH"/*/)
    RELEASE=${folders[0]%/}
  else
    fail "$FROM is not there" "name a release folder or tarball with --from"
  fi
  [[ -f $RELEASE/SHA256SUMS && -f $RELEASE/RELEASE ]] ||
    fail "$FROM is no release of PICCOLO: it has no SHA256SUMS" "name one with --from"
}

# Whoever has unpacked holds a lock on the folder, so that what a killed one has left can be told from it.
make_scratch() {
  local _attempt
  for _attempt in 1 2 3; do
    SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/piccolo-install.XXXXXX")
    command -v flock >/dev/null || return 0
    # Somebody who tidies may have been quicker, and then it is gone.
    if exec {SCRATCH_FD}<"$SCRATCH" && flock -n "$SCRATCH_FD" && [[ -d $SCRATCH ]]; then return; fi
  done
  fail "no folder for the release can be made in ${TMPDIR:-/tmp}" "run install.sh again"
}

# Removes what killed runs have unpacked: folders of exactly such a name, our own, that nobody holds.
remove_scratches() {
  local folder fd
  command -v flock >/dev/null || return 0
  for folder in "${TMPDIR:-/tmp}"/piccolo-install.??????; do
    [[ ${folder##*.} =~ ^[A-Za-z0-9]{6}$ && ! -L $folder && -d $folder && -O $folder ]] || continue
    exec {fd}<"$folder" || continue
    ! flock -n "$fd" || rm -rf --one-file-system "$folder"
    exec {fd}<&-
  done
}

# Where its digest came along, it is looked at before anything is unpacked.
verify_tarball() {
  local folder name=${FROM##*/}
  folder=$(cd "$(dirname "$FROM")" && pwd -P)
  [[ -f $folder/SHA256SUMS ]] && grep -qF -- "  $name" "$folder/SHA256SUMS" || return 0
  matches_sums "$folder" < <(grep -F -- "  $name" "$folder/SHA256SUMS") ||
    damaged "the checksum of $name is wrong"
}

# Only what SHA256SUMS names is installed, and nothing that it names may differ.
verify_release() {
  local line path bad
  FILES=()
  while IFS= read -r line; do
    path=${line#*  }
    [[ $line =~ ^[0-9a-f]{64}\ \ [A-Za-z0-9] && /$path/ != */../* && $path != *[!A-Za-z0-9._/-]* ]] ||
      damaged "SHA256SUMS has a line that makes no sense: $line"
    [[ -f $RELEASE/$path && ! -L $RELEASE/$path ]] || damaged "$path is missing in the release"
    FILES+=("$path")
  done <"$RELEASE/SHA256SUMS"
  bad=$(cd "$RELEASE" && sha256sum --check --strict --quiet SHA256SUMS 2>/dev/null) ||
    damaged "the checksum of ${bad%%:*} is wrong"
  for path in RELEASE {install,system_check,findings}.sh "${EXECUTABLES[@]/#/bin/}"; do
    [[ " ${FILES[*]} " == *" $path "* ]] || damaged "SHA256SUMS does not name $path"
  done
  VERSION=$(setting version "$RELEASE/RELEASE") RELEASE_ARCH=$(setting arch "$RELEASE/RELEASE")
  [[ $VERSION =~ ^[0-9A-Za-z][0-9A-Za-z.+~-]{0,63}$ ]] || damaged "the release has no version"
  DIGEST=$(sha256sum <"$RELEASE/SHA256SUMS") DIGEST=${DIGEST:0:8}
  say "release $VERSION for $RELEASE_ARCH: ${#FILES[@]} files, checksums are right"
}

damaged() { fail "$1" "copy the release anew: it was damaged or changed on its way"; }

# FOLDER: whether its files have the checksums on standard input.
matches_sums() { (cd "$1" && sha256sum --check --strict --quiet >/dev/null 2>&1); }

# The values of a KEY in a file of KEY=VALUE, one a line.
setting() { sed -n "s/^$1=//p" "$2"; }

verify_architecture() {
  local name machine wanted
  HOST_ARCH=$(uname -m)
  [[ $HOST_ARCH != armv[78]l ]] || HOST_ARCH=armv7
  ARCH=${ARCH:-$HOST_ARCH}
  [[ $RELEASE_ARCH == "$ARCH" ]] ||
    fail "the release is for $RELEASE_ARCH, and this is $ARCH" "take piccolo-$VERSION-$ARCH.tar.gz"
  case $ARCH in
    x86_64) wanted=003e ;;
    aarch64) wanted=00b7 ;;
    armv7) wanted=0028 ;;
    *) fail "$ARCH is no architecture that PICCOLO is built for" "x86_64, aarch64 or armv7" ;;
  esac
  for name in "${EXECUTABLES[@]}"; do
    # Bytes 18 and 19 of an ELF file, the lower one first.
    machine=$(od -An -tx1 -j18 -N2 "$RELEASE/bin/$name" 2>/dev/null) machine=${machine// /}
    [[ ${machine:2:2}${machine:0:2} == "$wanted" ]] ||
      damaged "$name is not an executable for $ARCH"
  done
}

system_check() {
  local role master code arguments=()
  [[ $CHECK == yes || -z $R ]] || { say "no system check: $R is not this machine" && return; }
  for master in ${MASTERS[@]+"${MASTERS[@]}"}; do arguments+=(--master "$master"); done
  for role in "${ROLES[@]}"; do
    code=0
    bash "$RELEASE/system_check.sh" --role "$role" --root "$R/" \
      ${arguments[@]+"${arguments[@]}"} </dev/null || code=$?
    ((code >= EXIT_NOT_READY)) || continue
    [[ $FORCE == no ]] || { say "going on in spite of the errors above (--force)" && continue; }
    complain "this machine is not ready for role $role; nothing was changed" \
      "mend what is said above, or go on in spite of it with --force"
    exit "$EXIT_NOT_READY"
  done
}

# --- The plan: OPS, DESTS, ARGS side by side; only what differs from what is there ---

make_plan() {
  OPS=() DESTS=() ARGS=() MANIFEST=() CHANGED=' '
  choose_id
  [[ -d $R$PREFIX/releases/$ID ]] || plan tree "$PREFIX/releases/$ID" ""
  plan_link "$PREFIX/current" "releases/$ID" && CHANGED+='release '
  plan_programs
  plan_pages
  plan_units
  plan_config
  plan_obsolete
  plan_mark
  plan_settings
}

# The version, unless another build of it, or a damaged copy, has that name.
choose_id() {
  for ID in "$VERSION" "$VERSION-$DIGEST" "$VERSION-$DIGEST-"{1..9}; do
    [[ -d $R$PREFIX/releases/$ID ]] || return 0
    ! matches_sums "$R$PREFIX/releases/$ID" <"$RELEASE/SHA256SUMS" || return 0
  done
  fail "too many damaged copies of release $VERSION" "remove $PREFIX/releases/$VERSION-*"
}

plan() { OPS+=("$1") DESTS+=("$2") ARGS+=("$3"); }

# DEST TARGET; succeeds where something is to be done.
plan_link() {
  MANIFEST+=("$1")
  if [[ -L $R$1 ]]; then
    [[ $(readlink "$R$1") != "$2" ]] || return 1
  else
    refuse_foreign "$1"
  fi
  plan link "$1" "$2"
}

# DEST CONTENT (without its last line end); succeeds where something is to be done.
plan_file() {
  MANIFEST+=("$1")
  if [[ -f $R$1 && ! -L $R$1 && $(<"$R$1") == "$2" ]]; then return 1; fi
  [[ $1 == "$PREFIX"/* || $1 == /etc/piccolo/* ]] || is_ours "$1" || refuse_foreign "$1"
  plan file "$1" "$2"
}

# What somebody else has put there is replaced only by force, and a folder never.
refuse_foreign() {
  [[ -d $R$1 || (-e $R$1 && $FORCE == no) ]] || return 0
  fail "$1 is in the way: it was not put there by install.sh" "remove it, or replace a file with --force"
}

is_ours() { old_manifest | grep -qxF -- $'file\t'"$1"; }

plan_programs() {
  local name
  if can_write /usr/local/bin; then
    for name in "${EXECUTABLES[@]}"; do
      plan_link "/usr/local/bin/$name" "$PREFIX/current/bin/$name" || true
    done
    plan_link /usr/local/bin/piccolo-system-check "$PREFIX/current/system_check.sh" || true
  else
    say "/usr/local/bin cannot be written: $PREFIX/current/bin goes into PATH by /etc/profile.d"
    plan_file /etc/profile.d/piccolo.sh "# PICCOLO's executables, by install.sh
PATH=\$PATH:$PREFIX/current/bin" || true
  fi
}

# Manual pages and completions are links into the release.
plan_pages() {
  local path dest share=/usr/local/share
  can_write $share ||
    { say "$share cannot be written: manual pages are in $PREFIX/current/man" && return; }
  for path in "${FILES[@]}"; do
    case $path in
      man/man1/*) dest=$share/$path ;;
      completions/piccolo.bash) dest=$share/bash-completion/completions/piccolo ;;
      completions/_piccolo) dest=$share/zsh/site-functions/_piccolo ;;
      completions/piccolo.fish) dest=$share/fish/vendor_completions.d/piccolo.fish ;;
      *) continue ;;
    esac
    plan_link "$dest" "$PREFIX/current/$path" || true
  done
}

plan_units() {
  local name text role
  for name in piccolo-master piccolo-nodeagent; do
    text=$(<"$RELEASE/systemd/$name.service")
    text=${text//\/opt\/piccolo/$PREFIX}
    plan_file "$UNITS/$name.service" "$text" && CHANGED+="$name "
  done
  for role in "${ROLES[@]}"; do
    name=$(unit_of "$role")
    plan_link "$UNITS/multi-user.target.wants/$name" "$UNITS/$name" || true
  done
  ! has_role sub || plan_podman_socket
}

# Enabled here, unless somebody else has done so: then it is not ours to remove either.
plan_podman_socket() {
  local link=$UNITS/sockets.target.wants/podman.socket unit=/usr/lib/systemd/system/podman.socket
  [[ -e $R$unit ]] || unit=${unit#/usr}
  [[ -e $R$unit ]] || return 0
  if [[ -L $R$link ]] && ! is_ours "$link"; then return; fi
  plan_link "$link" "$unit" || true
}

unit_of() { [[ $1 == master ]] && echo piccolo-master.service || echo piccolo-nodeagent.service; }

# The file that is there, the template as written last, and the template of this release.
plan_config() {
  local name dest have last want
  for name in master.yaml nodeagent.yaml system_check.conf; do
    dest=/etc/piccolo/$name
    want=$(<"$RELEASE/config/$name")
    [[ $name != nodeagent.yaml ]] || want=$(with_masters "$want" | with_name "${NAME:-$OLD_NAME}")
    last='' have=''
    [[ ! -f $R$PREFIX/templates/$name ]] || last=$(<"$R$PREFIX/templates/$name")
    [[ ! -f $R$dest ]] || have=$(<"$R$dest")
    [[ -n $last ]] || ! is_unedited "$name" || last=$have
    plan_file "$PREFIX/templates/$name" "$want" || true
    if [[ -z $have || $have == "$want" || $have == "$last" ]]; then
      plan_file "$dest" "$want" && CHANGED+="$name "
      [[ ! -e $R$dest.new ]] || plan gone "$dest.new" ""
      continue
    fi
    MANIFEST+=("$dest")
    if [[ $name == nodeagent.yaml && $MASTERS_NAMED -gt 0 && $have != *"$(masters_yaml)"* ]]; then
      fail "$dest was edited, and names other masters" \
        "write these into it, and run this without --master: ${MASTERS[*]}"
    fi
    if [[ $name == nodeagent.yaml && -n $NAME ]] &&
      ! grep -qE "^name: *[\"']?${NAME}[\"']?([[:space:]]|$)" <<<"$have"; then
      fail "$dest was edited, and does not say name: $NAME" "write that into it, and run this again"
    fi
    say "$dest was edited and stays as it is"
    [[ $want == "$last" ]] || ! plan_file "$dest.new" "$want" || say "the new one is in $dest.new"
  done
}

# Kept beside a configuration whose installation has gone: which of its files nobody has edited.
is_unedited() {
  [[ -f $R/etc/piccolo/.unedited && -f $R/etc/piccolo/$1 ]] || return 1
  grep -qxF -- "$(cd "$R/etc/piccolo" && sha256sum "$1")" "$R/etc/piccolo/.unedited"
}

# shellcheck disable=SC2317 # called by the name
note_unedited() {
  local name
  for name in master.yaml nodeagent.yaml system_check.conf; do
    [[ -f $R/etc/piccolo/$name && -f $R$PREFIX/templates/$name ]] || continue
    [[ $(<"$R/etc/piccolo/$name") == "$(<"$R$PREFIX/templates/$name")" ]] || continue
    is_unedited "$name" || (cd "$R/etc/piccolo" && sha256sum "$name" >>.unedited)
  done
}

with_masters() {
  local line inside=no text=''
  ((${#MASTERS[@]} > 0)) || { printf '%s' "$1" && return; }
  while IFS= read -r line; do
    if [[ $line == '#masters:' ]]; then
      inside=yes line=$(masters_yaml)
    elif [[ $inside == yes && $line == '#  - '* ]]; then
      continue
    else
      inside=no
    fi
    text+=$line$'\n'
  done < <(printf '%s\n' "$1")
  printf '%s' "${text%$'\n'}"
}

with_name() { if [[ -z $1 ]]; then cat; else sed "s/^#name: .*/name: $1/"; fi; }

masters_yaml() {
  local master
  printf 'masters:'
  for master in "${MASTERS[@]}"; do printf '\n  - "%s"' "$master"; done
}

# What an older release had put somewhere and this one has not, e.g. a page of a command that is gone.
plan_obsolete() {
  local kind path
  while IFS=$'\t' read -r kind path; do
    [[ $kind == file && " ${MANIFEST[*]} " != *" $path "* ]] || continue
    case $path in
      "$PREFIX"/*) ;;
      /etc/piccolo/*) MANIFEST+=("$path") ;;
      *) [[ ! -e $R$path && ! -L $R$path ]] || plan gone "$path" "" ;;
    esac
  done < <(old_manifest)
}

old_manifest() { [[ ! -r $R$PREFIX/manifest ]] || cat "$R$PREFIX/manifest"; }

# Whatever was installed later is no longer what that run has installed.
plan_mark() {
  if [[ -n $MARK ]]; then
    plan_file "$PREFIX/first" "$MARK" || true
  elif [[ -e $R$PREFIX/first ]]; then
    plan gone "$PREFIX/first" ""
  fi
}

plan_settings() {
  local item text current=''
  [[ ! -L $R$PREFIX/current ]] || current=$(readlink "$R$PREFIX/current")
  current=${current#releases/}
  [[ -z $current || $current == "$ID" ]] || PREVIOUS=$current
  text="# by install.sh"
  for item in "${ROLES[@]}"; do text+=$'\n'role=$item; done
  for item in ${MASTERS[@]+"${MASTERS[@]}"}; do text+=$'\n'master=$item; done
  [[ -z $NAME$OLD_NAME ]] || text+=$'\n'name=${NAME:-$OLD_NAME}
  plan_file "$PREFIX/settings" "$text"$'\n'"previous=$PREVIOUS" || true
  MANIFEST+=("$PREFIX/manifest")
  text=$(printf 'file\t%s\n' "${MANIFEST[@]}" | sort -u && list_folders)
  plan_file "$PREFIX/manifest" "$text" || true
}

# Folders that are ours to remove: those of before, and those that are not there yet.
list_folders() {
  local kind path known=$'\n'
  while IFS=$'\t' read -r kind path; do
    [[ $kind != folder ]] || known+=$path$'\n'
  done < <(old_manifest)
  for path in "$PREFIX/releases" "${MANIFEST[@]%/*}"; do
    while [[ -n $path && ! -d $R$path && $known != *$'\n'$path$'\n'* ]]; do
      known+=$path$'\n'
      path=${path%/*}
    done
  done
  printf '%s' "$known" | sort | sed -n 's/^./folder\t&/p'
}

show_plan() {
  local index
  local -A words=([tree]="copy the release to" [link]=link [file]=write [gone]=remove)
  for index in "${!OPS[@]}"; do say "would ${words[${OPS[index]}]} ${DESTS[index]}"; done
  ((${#OPS[@]} > 0)) || say "nothing to do: release $ID is in place"
  [[ -z $TOKEN_FILE ]] || say "would hand the token to the agent"
  say "nothing was changed (--dry-run)"
}

# --- The transaction ---

# Saves what will be replaced, writes down what will be done, and begins by a rename.
begin() {
  local index dest new=$R$PREFIX/transaction.new unit state
  mkdir -p "$new"
  for index in "${!OPS[@]}"; do
    dest=${DESTS[index]}
    if [[ -e $R$dest || -L $R$dest ]]; then
      cp -a "$R$dest" "$new/saved.$index"
      printf 'had\t%s\t%s\n' "$index" "$dest"
    else
      printf 'new\t%s\t%s\n' "$index" "$dest"
    fi
  done >"$new/journal"
  list_folders | while IFS=$'\t' read -r _ dest; do
    [[ -z $dest || -d $R$dest ]] || printf 'folder\t-\t%s\n' "$dest"
  done >>"$new/journal"
  for unit in piccolo-master.service piccolo-nodeagent.service; do
    [[ $LIVE == yes ]] || break
    state=$(systemctl is-active "$unit") || state=${state:-inactive}
    printf 'service\t%s\t%s\n' "$state" "$unit"
  done >>"$new/journal"
  to_disk
  IN_TRANSACTION=yes SERVICES_AS_BEFORE=yes
  mv -T "$new" "$R$PREFIX/transaction"
}

apply() {
  local index dest
  for index in "${!OPS[@]}"; do
    dest=$R${DESTS[index]}
    [[ -d ${dest%/*} ]] || mkdir -p "${dest%/*}"
    case ${OPS[index]} in
      tree)
        copy_release "$dest"
        continue
        ;;
      gone)
        rm -f "$dest"
        continue
        ;;
      link) ln -sfn "${ARGS[index]}" "$dest.piccolo-new" ;;
      file)
        printf '%s\n' "${ARGS[index]}" >"$dest.piccolo-new"
        chmod 0644 "$dest.piccolo-new"
        ;;
    esac
    mv -fT "$dest.piccolo-new" "$dest"
  done
  # Where SELinux labels files, a moved one has kept the label of another place.
  if [[ -z $R ]] && command -v selinuxenabled >/dev/null && selinuxenabled; then
    restorecon -RF "$PREFIX" "$UNITS"/piccolo-* /etc/piccolo || true
    [[ $PREFIX == /opt/* ]] || chcon -R -t bin_t "$PREFIX/releases/$ID/bin" || true
  fi
  to_disk
}

copy_release() {
  local partial=$R$PREFIX/releases/.partial
  mkdir "$partial"
  (cd "$RELEASE" && cp --parents "${FILES[@]}" SHA256SUMS "$partial") ||
    fail "the release cannot be copied to $PREFIX" "is there space? See df $PREFIX"
  # Whatever the modes were on a stick.
  chmod -R u=rwX,go=rX "$partial"
  chmod 0644 "${FILES[@]/#/$partial/}"
  chmod 0755 "$partial"/bin/* "$partial"/*.sh
  # What was read from a stick may have been read wrongly.
  matches_sums "$partial" <"$RELEASE/SHA256SUMS" ||
    fail "the copy of the release is damaged" "is the disk full or worn? See dmesg"
  mv -T "$partial" "$1"
}

# An executable for another processor or C library would be found out only after the next boot.
try_executables() {
  local name said
  [[ $ARCH == "$HOST_ARCH" ]] || return 0
  for name in "${EXECUTABLES[@]}"; do
    said=$("$R$PREFIX/releases/$ID/bin/$name" --version 2>&1 </dev/null) || true
    [[ $said == "$name $VERSION"* ]] ||
      fail "$name does not run here: ${said:-it says nothing}" "is $PREFIX mounted noexec?"
  done
  # Where the release came from is perhaps mounted noexec.
  try_configuration "$R$PREFIX/releases/$ID/bin"
}

# FOLDER of executables: whether they take the configuration that stays. One that they refuse would keep the
# service from starting, and afterwards the old one too: nothing that runs is touched then.
try_configuration() {
  local role name file said arguments
  for role in "${ROLES[@]}"; do
    name=$(unit_of "$role") name=${name%.service} file=/etc/piccolo/${name#piccolo-}.yaml
    [[ -e $R$file && $CHANGED != *" ${file##*/} "* ]] || continue
    [[ $ARCH == "$HOST_ARCH" ]] || { say "$file was not tried: $name does not run here" && continue; }
    # Neither in an older release of the agent, nor where nothing may be executed.
    "$1/$name" check-config --help >/dev/null 2>&1 </dev/null || continue
    arguments=(--config "$R$file")
    [[ -z $R ]] || arguments+=(--state-dir "$R/var/lib/piccolo/${name#piccolo-}")
    # The variables of whoever installs are not those of the service.
    said=$(env -i "PATH=$PATH" "$1/$name" "${arguments[@]}" check-config 2>&1 >/dev/null </dev/null) ||
      fail "${said#error: }" "correct it and run this again: $name of $VERSION does not start with it. Nothing that runs was touched"
  done
}

commit() {
  to_disk
  mv -T "$R$PREFIX/transaction" "$R$PREFIX/transaction.done"
  IN_TRANSACTION=no
  rm -rf "$R$PREFIX/transaction.done"
  say "release $ID is in use: $PREFIX/current"
}

# Whatever an earlier run has left.
repair() {
  if [[ -e $R$PREFIX/transaction ]]; then
    say "an installation was interrupted here; rolling back first"
    roll_back
  fi
  tidy
  remove_scratches
}

tidy() {
  local left
  for left in transaction.new transaction.done releases/.partial releases/.trash; do
    [[ ! -e $R$PREFIX/$left ]] || rm -rf "${R}${PREFIX:?}/$left"
  done
  [[ -e $R$PREFIX/manifest || ! -d $R$PREFIX ]] || rmdir --ignore-fail-on-non-empty "$R$PREFIX"
}

# May itself be interrupted and repeated.
roll_back() {
  local what key dest here=$R$PREFIX/transaction end="everything is as it was before"
  rm -rf "$R$PREFIX/releases/.partial"
  while IFS=$'\t' read -r what key dest; do
    [[ $what != had && $what != new ]] || rm -rf "$R$dest.piccolo-new"
    case $what in
      new) rm -rf "${R}${dest:?}" ;;
      had)
        cp -a "$here/saved.$key" "$R$dest.piccolo-new"
        mv -fT "$R$dest.piccolo-new" "$R$dest"
        ;;
    esac
  done <"$here/journal"
  while IFS=$'\t' read -r what _ dest; do
    [[ $what != folder || ! -d $R$dest ]] || rmdir --ignore-fail-on-non-empty "$R$dest"
  done < <(tac "$here/journal")
  [[ $LIVE == no ]] || systemctl daemon-reload || true
  while IFS=$'\t' read -r what key dest; do
    [[ $LIVE/$SERVICES_AS_BEFORE/$what == yes/no/service ]] || continue
    case $key in
      active | activating | reloading) key=restart end+=", and $dest starts again" ;;
      *) key=stop ;;
    esac
    systemctl --no-block "$key" "$dest" 2>/dev/null || true
  done <"$here/journal"
  to_disk
  mv -T "$here" "$R$PREFIX/transaction.done"
  say "rolled back: $end"
}

to_disk() { sync -f "$R$PREFIX" 2>/dev/null || sync; }

# The release in use and the one before are kept.
prune() {
  local folder name
  for folder in "$R$PREFIX"/releases/*/; do
    name=${folder%/} name=${name##*/}
    [[ $name != "$ID" && $name != "$PREVIOUS" && $name != '*' ]] || continue
    mv -T "${folder%/}" "$R$PREFIX/releases/.trash"
    rm -rf "$R$PREFIX/releases/.trash"
  done
}

# --- Services ---

start_services() {
  local role unit config
  [[ $LIVE == yes ]] || return 0
  systemctl daemon-reload
  [[ $START == yes ]] || return 0
  SERVICES_AS_BEFORE=no
  ! has_role sub || systemctl start podman.socket || say "podman.socket does not start here"
  for role in "${ROLES[@]}"; do
    unit=$(unit_of "$role")
    config=${unit#piccolo-} config=${config%.service}.yaml
    if [[ ! $CHANGED =~ \ (release|${unit%.service}|$config)\  ]] &&
      systemctl is-active --quiet "$unit"; then
      continue
    fi
    # It returns when the service has said that it is ready.
    systemctl restart "$unit" </dev/null || fail "$unit does not start" "journalctl -u $unit -n 50"
    say "$unit runs"
  done
}

# The agent takes the token itself, from standard input: it stands on no command line.
hand_over_token() {
  local agent=$R$PREFIX/current/bin/piccolo-nodeagent arguments=()
  [[ -n $TOKEN_FILE ]] || return 0
  [[ ! -e $R/var/lib/piccolo/nodeagent/identity.pem ]] ||
    { say "this node has joined already; the token was not used" && return; }
  [[ -z $R ]] || arguments=(--config "$R/etc/piccolo/nodeagent.yaml"
    --state-dir "$R/var/lib/piccolo/nodeagent" --control-socket "$R/run/piccolo/nodeagent.sock")
  [[ $TOKEN_FILE == - ]] || exec <"$TOKEN_FILE"
  "$agent" ${arguments[@]+"${arguments[@]}"} join --token-file - ||
    { complain "PICCOLO is installed, but the agent does not take the token" \
      "make a new one: piccolo token create --role sub, and run this again" && exit "$EXIT_NO_TOKEN"; }
}

farewell() {
  local role
  [[ -n $R || $LIVE == yes ]] || say "no systemd here: start the programs by this system's own means"
  for role in "${ROLES[@]}"; do
    [[ $LIVE == no || $START == yes ]] || say "next: systemctl start $(unit_of "$role")"
  done
  ! has_role master || say "next: piccolo token create --role sub --ttl 10m, for each board"
  has_role sub || return 0
  # Also in a file that was kept.
  ((${#MASTERS[@]} > 0)) || grep -Eq '^masters:([^[]*|.*\[ *[^] ].*)$' "$R/etc/piccolo/nodeagent.yaml" ||
    say "next: set \`masters\` in /etc/piccolo/nodeagent.yaml, and restart the agent"
  [[ -n $TOKEN_FILE || -e $R/var/lib/piccolo/nodeagent/identity.pem ]] ||
    say "next: piccolo-nodeagent join --token-file -"
}

# --- Removal: the manifest goes last, so that an interrupted removal can be repeated ---

uninstall() {
  local unit kind path
  is_of_this_mark || { say "what is installed here is somebody else's, and stays" && return; }
  [[ -e $R$PREFIX/manifest || $PURGE == yes ]] || { say "nothing is installed here" && return; }
  for unit in piccolo-nodeagent.service piccolo-master.service; do
    [[ $LIVE == no ]] || doing "stop $unit" systemctl disable --now "$unit" 2>/dev/null || true
  done
  while IFS=$'\t' read -r kind path; do
    case $kind:$path in
      file:/etc/piccolo/* | file:"$PREFIX"/* | folder:*) ;;
      file:*) [[ ! -e $R$path && ! -L $R$path ]] || doing "remove $path" rm -f "$R$path" ;;
    esac
  done < <(old_manifest)
  [[ $LIVE == no || $DRY_RUN == yes ]] || systemctl daemon-reload
  [[ $PURGE == yes ]] || doing "note which configuration nobody has edited" note_unedited
  for path in current releases templates settings; do remove "$PREFIX/$path"; done
  if [[ $PURGE == yes ]]; then
    for path in /etc/piccolo /var/lib/piccolo/{master,backups,nodeagent} /var/lib/private/piccolo \
      /run/piccolo "$UNITS"/piccolo-{master,nodeagent}.service.d; do
      remove "$path"
    done
  fi
  remove_folders
  [[ $PURGE == yes ]] || say "kept: configuration (/etc/piccolo) and state (/var/lib/piccolo); --purge"
  [[ $PURGE == no ]] || say "the cluster still lists this node: piccolo node remove NODE"
}

remove_folders() {
  local folders path
  folders=$(old_manifest | sed -n 's/^folder\t//p' | sort -r)
  for path in $folders; do
    [[ $path == "$PREFIX" || ! -d $R$path ]] ||
      doing "remove $path if it is empty" rmdir --ignore-fail-on-non-empty "$R$path"
  done
  remove "$PREFIX/manifest"
  remove "$PREFIX/first"
  for path in "$PREFIX" /var/lib/piccolo $folders; do
    [[ $DRY_RUN == yes || ! -d $R$path ]] || rmdir --ignore-fail-on-non-empty "$R$path"
  done
}

remove() {
  [[ ! -e $R$1 && ! -L $R$1 ]] || doing "remove $1" rm -rf "$R${1:?}"
}

# WHAT COMMAND...: does it, or says that it would.
doing() {
  local what=$1
  shift
  if [[ $DRY_RUN == yes ]]; then say "would $what"; else "$@"; fi
}

# --- Words ---

say() { printf '%s\n' "$1"; }

complain() { printf 'error: %s\nhelp: %s\n' "$1" "$2" >&2; }

fail() { complain "$1" "$2" && exit 1; }

wrong() { complain "$1" "install.sh --help" && exit "$EXIT_USAGE"; }

# shellcheck disable=SC2317 # called by the trap
on_exit() {
  local code=$? undone
  set +e
  trap '' HUP INT TERM
  if [[ $IN_TRANSACTION == yes && -d $R$PREFIX/transaction ]]; then
    # What cannot be restored now is kept for the next run.
    (set -e; roll_back; tidy) # not before ||, where errors would be passed over
    undone=$?
    ((undone == 0)) || complain "not everything could be rolled back" "run install.sh again"
  fi
  [[ -z $SCRATCH ]] || rm -rf "$SCRATCH"
  exit "$code"
}

# Read to its end before it begins: it may remove or replace this very file.
main "$@"; exit
