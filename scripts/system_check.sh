#!/usr/bin/env bash
# Is this board ready for PICCOLO? (HLD 4.1 (4), 5.1, 13.3)
#
# Looks at the machine, changes nothing, and says for each thing what it found, what the limit is,
# and what to do about it. Needs Bash 4.2, coreutils, procps and iproute2. `install.sh` runs it before it
# touches anything; it may be run at any time. Nothing here keeps an agent from starting.
#
# Top-down: limits, the list of checks, the checks by theme, the two ways to print, the arguments.
# What takes long (Podman, the masters, the time service) is started first and read last, so that
# everything together takes less than two seconds. Each has a time limit of its own.
set -uo pipefail
export LC_ALL=C

# Of the JSON: raised when a field changes its meaning.
readonly JSON_VERSION=1
readonly EXIT_USAGE=64
# Seconds until Podman, a master and the time service must have answered.
readonly PODMAN_S=1.5 MASTER_S=1.5 TIMEDATE_S=1
# Seconds for a real container, with --run-container.
readonly CONTAINER_S=30
# Bytes of anything read from outside that is shown.
readonly VALUE_BYTES_MAX=400

# KEY, default, what it is. A value of `off` leaves the check out.
readonly LIMITS_TABLE='
CPU_MHZ_WARN         980         MHz of the fastest core, at least; a nominal 1 GHz reads 996
CPU_MHZ_ERROR        600         MHz
LOAD_WARN            2           load of five minutes per core, at most
LOAD_ERROR           10          load of five minutes per core
MEMORY_WARN          480         MiB of memory in all, at least; the kernel keeps a part of the 512
MEMORY_ERROR         400         MiB
MEMORY_FREE_WARN     100         MiB available, at least
MEMORY_FREE_ERROR    50          MiB
STATE_FREE_WARN      200         MiB free where the state is kept, at least
STATE_FREE_ERROR     50          MiB
CONTAINER_FREE_WARN  1024        MiB free where Podman keeps images and containers, at least
CONTAINER_FREE_ERROR 200         MiB
INODES_WARN          10          percent of inodes free in both places, at least
INODES_ERROR         2           percent
KERNEL_WARN          5.4         version, at least; from 5.3 on the agent sees containers end at once
KERNEL_ERROR         4.14        version
PODMAN_WARN          4.3         version, at least
PODMAN_ERROR         4.0         version; older ones lack the interface that the agent uses
CLOCK_MIN            1735689600  seconds since 1970 that the clock must show: 2025-01-01
CLOCK_MAX            4102444800  seconds since 1970 that it may show: 2100-01-01
LATENCY_WARN         500         milliseconds to connect to a master, at most
FILES_WARN           4096        open files allowed to a process (hard limit), at least
FILES_ERROR          1024        open files
TEMPERATURE_WARN     80          degrees Celsius of the hottest sensor, at most
TEMPERATURE_ERROR    95          degrees Celsius
WEAR_WARN            80          percent of the life of the flash that is used up, at most
WEAR_ERROR           100         percent
'

usage() {
  cat <<'END'
system_check.sh: is this board ready for PICCOLO?

Usage: system_check.sh [OPTION]...

  --role master|sub     what the board shall be; a master needs ports, a sub node Podman [sub]
  --master HOST[:PORT]  a master to reach; may be repeated [those in the agent's configuration]
  --no-podman           a node without containers
  --run-container       really run a container (takes seconds)
  --state DIR           where the state is kept [/var/lib/piccolo]
  --containers DIR      where Podman keeps its storage [graphroot of storage.conf]
  --port PORT           that a master needs; may be repeated [47098 and 47099]
  --limits FILE         limits as KEY=VALUE [/etc/piccolo/system_check.conf, if there]
  --limit KEY=VALUE     one limit; `off` leaves the check out
  --print-limits        show all limits in force, as such a file
  --json                for programs
  --root DIR            look at /proc, /sys, /etc, /run below DIR (also PICCOLO_CHECK_ROOT)
  --help

Exit code: 0 all well, 1 warnings, 2 errors, 64 wrong usage.

Examples:
  system_check.sh
  system_check.sh --role master --json
  system_check.sh --master 192.0.2.10 --limit MEMORY_ERROR=200 --limit TEMPERATURE_WARN=off
END
}

main() {
  declare -gA LIMITS=()
  NAMES=() LEVELS=() VALUES=() WANTED=() REMEDIES=()
  MASTERS=() PORTS=()
  ROLE=sub FORMAT=table PODMAN=yes RUN_CONTAINER=no STATE=/var/lib/piccolo CONTAINERS=
  ROOT=${PICCOLO_CHECK_ROOT:-} LIMITS_FILE='' LIMIT_FLAGS=() ONLY_LIMITS=no
  read_arguments "$@"
  ROOT=${ROOT%/}
  load_limits
  if [[ $ONLY_LIMITS == yes ]]; then
    print_limits
    exit 0
  fi
  check_all
  if [[ $FORMAT == json ]]; then print_json; else print_table; fi
  exit "$(worst)"
}

check_all() {
  start_slow_ones
  check_processor
  check_memory
  check_storage state "$STATE" STATE_FREE
  check_kernel
  check_cgroups
  check_systemd
  check_host_name
  check_machine_id
  check_address
  check_open_files
  check_temperature
  check_wear
  check_file_system_errors
  [[ $ROLE != master ]] || check_ports
  if [[ $PODMAN == yes ]]; then
    check_storage containers "$CONTAINERS" CONTAINER_FREE
    check_podman
    [[ $RUN_CONTAINER == no ]] || check_container
  fi
  check_clock
  check_masters
}

# --- What takes long: begun here, read by the checks through a pipe each ---

start_slow_ones() {
  local master
  find_masters
  if [[ $PODMAN == yes ]]; then
    find_container_storage
    exec {PODMAN_FD}< <(ask_podman </dev/null)
  fi
  exec {TIME_FD}< <(timeout "$TIMEDATE_S" timedatectl show -p NTPSynchronized --value 2>/dev/null)
  MASTER_FDS=()
  for master in ${MASTERS[@]+"${MASTERS[@]}"}; do
    exec {fd}< <(reach "$master" 2>/dev/null)
    MASTER_FDS+=("$fd")
  done
}

# The exit code, then what Podman said: what was asked for, or its last complaint.
ask_podman() {
  local said code
  said=$(timeout "$PODMAN_S" podman info --format \
    'found {{.Version.Version}} {{.Store.GraphDriverName}}' 2>&1)
  code=$?
  if ((code == 0)); then
    # It warns on the same way.
    [[ $said == found\ * ]] || said=${said##*$'\n'found }
    said=${said#found }
  fi
  printf '%s\n%s\n' "$code" "${said##*$'\n'}"
}

# `ok MILLISECONDS`, or why not.
reach() {
  local host=${1%:*} port=${1##*:} begun ended said
  host=${host#[} host=${host%]}
  begun=$(date +%s%N)
  # The child says why by itself; only its first line counts.
  # shellcheck disable=SC2016
  if said=$(timeout "$MASTER_S" bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "$host" "$port" 2>&1); then
    ended=$(date +%s%N)
    printf 'ok %s\n' $(((ended - begun) / 1000000))
  else
    case $? in
      124) printf 'no answer within %s s\n' "$MASTER_S" ;;
      *)
        said=${said%%$'\n'*}
        printf '%s\n' "${said##*: }"
        ;;
    esac
  fi
}

# --- Processor and memory ---

check_processor() {
  local mhz cores load rest
  mhz=$(processor_mhz)
  cores=$(processor_cores)
  if [[ -n $mhz ]]; then
    judge cpu_frequency "$mhz" MHz at_least CPU_MHZ \
      "a slower board answers late; raise the frequency limit of its governor, or use a faster one"
  elif ! is_off CPU_MHZ_WARN; then
    found cpu_frequency warning "not told by the kernel" ">= ${LIMITS[CPU_MHZ_WARN]} MHz" \
      "look into the board's data sheet, then set CPU_MHZ_WARN=off"
  fi
  if read -r _ load rest 2>/dev/null <"$ROOT/proc/loadavg"; then
    load=$(per_core "$load" "$cores")
    judge cpu_load "$load" "per core ($cores)" at_most LOAD \
      "something keeps the processors busy: see top"
  else
    found cpu_load warning "unknown" "" "is /proc mounted?"
  fi
}

# Of the fastest core. Boards tell it in one of three places, or not at all.
processor_mhz() {
  local file khz best=0 key value
  for file in "$ROOT"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do
    khz=$(first_line "$file")
    is_number "$khz" && ((khz / 1000 > best)) && best=$((khz / 1000))
  done
  if ((best == 0)) && [[ -r $ROOT/proc/cpuinfo ]]; then
    while IFS=: read -r key value; do
      value=${value//[[:space:]]/} value=${value%%.*}
      [[ $key == "cpu MHz"* ]] && is_number "$value" && ((value > best)) && best=$value
    done <"$ROOT/proc/cpuinfo"
  fi
  file=$ROOT/proc/device-tree/cpus/cpu@0/clock-frequency
  if ((best == 0)) && [[ -r $file ]]; then
    # Four bytes, the highest first.
    value=$(od -An -tx1 -N4 "$file" 2>/dev/null) value=${value//[[:space:]]/}
    [[ $value =~ ^[0-9a-f]{8}$ ]] && best=$((16#$value / 1000000))
  fi
  ((best == 0)) || printf '%s' "$best"
}

processor_cores() {
  local cores=0 name rest
  while read -r name rest; do
    [[ $name != cpu[0-9]* ]] || cores=$((cores + 1))
  done 2>/dev/null <"$ROOT/proc/stat"
  printf '%s' $((cores > 0 ? cores : 1))
}

# In hundredths, because Bash knows whole numbers only.
per_core() {
  local hundredths=$(($(hundredths "$1") / $2))
  printf '%d.%02d' $((hundredths / 100)) $((hundredths % 100))
}

check_memory() {
  local key kib rest total='' free=''
  while read -r key kib rest; do
    case $key in
      MemTotal:) total=$((kib / 1024)) ;;
      MemAvailable:) free=$((kib / 1024)) ;;
    esac
  done 2>/dev/null <"$ROOT/proc/meminfo"
  if [[ -z $total ]]; then
    found memory error "unknown" "" "is /proc mounted?"
    return
  fi
  judge memory "$total" MiB at_least MEMORY "PICCOLO needs a board with 512 MB"
  [[ -z $free ]] || judge memory_available "$free" MiB at_least MEMORY_FREE \
    "stop what is not needed, or limit the containers' memory"
}

# --- Storage ---

# WHAT DIR LIMIT: space, inodes, and whether it can be written.
check_storage() {
  local what=$1 dir=$2 limit=$3 existing avail size inodes inodes_free mib
  existing=$(existing_part "$ROOT$dir")
  read -r avail size inodes inodes_free \
    < <(timeout 1 stat -f -c '%a %S %c %d' -- "$existing" 2>/dev/null)
  if ! is_number "$avail" || ! is_number "$size" || ! is_number "$inodes_free"; then
    found "${what}_space" error "$dir cannot be looked at" "" "does its file system answer?"
    return
  fi
  mib=$((avail * size / 1048576))
  judge "${what}_space" "$mib" "MiB free for $dir" at_least "$limit" \
    "remove what is not needed (podman image prune), or use a larger disk"
  # Some file systems have no such number.
  if is_number "$inodes" && ((inodes > 0)); then
    judge "${what}_inodes" $((inodes_free * 100 / inodes)) "% free for $dir" at_least INODES \
      "too many small files: remove some, or make the file system anew with more inodes"
  fi
  check_writable "$what" "$dir"
}

check_writable() {
  local what=$1 dir=$2 point options mounted='' mounted_options='' rest
  while read -r _ point _ options rest; do
    point=$(printf '%b' "$point") # a space is written \040
    if [[ $dir/ == "${point%/}"/* ]] && ((${#point} >= ${#mounted})); then
      mounted=$point mounted_options=$options
    fi
  done 2>/dev/null <"$ROOT/proc/mounts"
  case ",$mounted_options," in
    ,,) found "${what}_writable" warning "unknown" "" "is /proc mounted?" ;;
    *,ro,*)
      found "${what}_writable" error "$mounted is read-only" "writable" \
        "mount a writable file system on $dir; if it became read-only by itself, see dmesg"
      ;;
    *) found "${what}_writable" ok "$mounted can be written" "writable" "" ;;
  esac
}

# eMMC tells its wear in steps of 10 %, and how much of its reserve is gone.
check_wear() {
  local file a b used worst=-1 reserve device=''
  for file in "$ROOT"/sys/block/mmcblk*/device/life_time; do
    read -r a b 2>/dev/null <"$file" || continue
    for used in "$a" "${b:-0x00}"; do
      [[ $used =~ ^0x[0-9a-fA-F]{2}$ ]] || continue
      used=$((used * 10))
      ((used <= worst)) || { worst=$used device=${file%/device/*} device=${device##*/}; }
    done
    reserve=$(first_line "${file%/*}/pre_eol_info")
    case $reserve in
      0x02) ((worst >= 90)) || worst=90 ;;
      0x03) ((worst >= 110)) || worst=110 ;;
    esac
  done
  if ((worst < 0)); then
    found flash_wear ok "not told" "" ""
  else
    judge flash_wear "$worst" "% of the life of ${device:-the flash} used" at_most WEAR \
      "plan to replace the board or its flash; keep a backup of the state"
  fi
}

check_file_system_errors() {
  local file count bad=''
  for file in "$ROOT"/sys/fs/ext4/*/errors_count; do
    count=$(first_line "$file")
    file=${file%/*}
    is_number "$count" && ((count > 0)) && bad+="${bad:+, }${file##*/}: $count errors"
  done
  if [[ -n $bad ]]; then
    found file_systems warning "$bad" "no errors" "run fsck from a rescue system; see dmesg"
  else
    found file_systems ok "no errors recorded" "no errors" ""
  fi
}

# --- Kernel and services ---

check_kernel() {
  local release
  release=$(first_line "$ROOT/proc/sys/kernel/osrelease")
  if [[ $release =~ ^[0-9]+\.[0-9]+ ]]; then
    judge_version kernel "$release" KERNEL "update the board's kernel"
  else
    found kernel warning "${release:-unknown}" "" "is /proc mounted?"
  fi
}

check_cgroups() {
  local kind point rest has_v1=no has_v2=no unified=no memory=no name enabled
  while read -r _ point kind rest; do
    case $kind in
      cgroup) has_v1=yes ;;
      cgroup2)
        has_v2=yes
        [[ $point != /sys/fs/cgroup ]] || unified=yes
        ;;
    esac
  done 2>/dev/null <"$ROOT/proc/mounts"
  local remedy="boot with systemd.unified_cgroup_hierarchy=1: Podman 5 wants version 2 alone"
  case $has_v1$has_v2$unified in
    noyesyes) found cgroups ok "version 2" "version 2" "" ;;
    yesyes*) found cgroups warning "versions 1 and 2 (hybrid)" "version 2" "$remedy" ;;
    yesno*) found cgroups warning "version 1" "version 2" "$remedy" ;;
    *)
      found cgroups error "none" "version 2" "mount cgroup2 on /sys/fs/cgroup"
      return
      ;;
  esac
  if [[ $unified == yes ]]; then
    [[ " $(first_line "$ROOT/sys/fs/cgroup/cgroup.controllers") " != *" memory "* ]] || memory=yes
  else
    while read -r name _ _ enabled; do
      [[ $name != memory || $enabled != 1 ]] || memory=yes
    done 2>/dev/null <"$ROOT/proc/cgroups"
  fi
  if [[ $memory == yes ]]; then
    found cgroup_memory ok "on" "on" ""
  else
    found cgroup_memory warning "off: containers have no memory limit" "on" \
      "add cgroup_enable=memory to the kernel's command line"
  fi
}

check_systemd() {
  local init
  init=$(first_line "$ROOT/proc/1/comm")
  if [[ -d $ROOT/run/systemd/system ]]; then
    found systemd ok "runs this system" "runs" ""
  else
    found systemd warning "not here; process 1 is ${init:-unknown}" "runs" \
      "start and watch piccolo-nodeagent by this system's own means"
  fi
}

check_open_files() {
  local line hard=''
  while read -r line; do
    [[ $line =~ ^Max\ open\ files\ +[0-9a-z]+\ +([0-9]+|unlimited) ]] && hard=${BASH_REMATCH[1]}
  done 2>/dev/null <"$ROOT/proc/self/limits"
  [[ $hard != unlimited ]] || hard=1048576
  if [[ -n $hard ]]; then
    judge open_files "$hard" "files" at_least FILES \
      "raise it: LimitNOFILE of the unit, or DefaultLimitNOFILE in /etc/systemd/system.conf"
  else
    found open_files warning "unknown" "" "is /proc mounted?"
  fi
}

check_temperature() {
  local file value hottest=''
  for file in "$ROOT"/sys/class/thermal/thermal_zone*/temp; do
    value=$(first_line "$file")
    [[ $value =~ ^-?[0-9]+$ ]] || continue
    value=$((value / 1000))
    [[ -n $hottest ]] && ((value <= hottest)) || hottest=$value
  done
  if [[ -n $hottest ]]; then
    judge temperature "$hottest" "degrees C" at_most TEMPERATURE "cool the board, or load it less"
  else
    found temperature ok "no sensor" "" ""
  fi
}

# --- Time ---

# A board without a clock that keeps time starts in 1970: certificates and logs then make no sense.
check_clock() {
  local now shown synchronised='' remedy="set the clock: timedatectl set-ntp true, or date -s"
  now=$(date +%s)
  shown=$(date -u -d "@$now" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null) || shown=$now
  if is_off CLOCK_MIN || is_off CLOCK_MAX; then
    :
  elif ((now < LIMITS[CLOCK_MIN] || now > LIMITS[CLOCK_MAX])); then
    found clock error "$shown" "between CLOCK_MIN and CLOCK_MAX" "$remedy"
  else
    found clock ok "$shown" "plausible" ""
  fi
  read -r synchronised <&"$TIME_FD"
  exec {TIME_FD}<&-
  [[ ! -e $ROOT/run/systemd/timesync/synchronized ]] || synchronised=yes
  case $synchronised in
    yes) found clock_synchronised ok "yes" "yes" "" ;;
    no) found clock_synchronised warning "no" "yes" "run a time service: chrony, systemd-timesyncd" ;;
    *)
      found clock_synchronised warning "unknown" "yes" \
        "run a time service that timedatectl knows: chrony, systemd-timesyncd"
      ;;
  esac
}

# --- Identity ---

check_host_name() {
  local name label='[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
  local remedy="give the board a name of its own: hostnamectl set-hostname NAME"
  name=$(first_line "$ROOT/proc/sys/kernel/hostname")
  case $name in
    '' | '(none)' | localhost | localhost.*)
      found host_name error "${name:-none}" "one of its own" \
        "$remedy; two boards of one name cannot join one cluster"
      ;;
    *)
      if [[ ! $name =~ ^$label(\.$label)*$ ]]; then
        found host_name error "$name" "letters, digits, hyphens" "$remedy"
      elif ((${#name} > 63)); then
        found host_name warning "${#name} characters" "63 characters" "set \`name\` for the agent"
      else
        found host_name ok "$name" "one of its own" ""
      fi
      ;;
  esac
}

check_machine_id() {
  local id remedy="make one: rm -f /etc/machine-id; systemd-machine-id-setup"
  id=$(first_line "$ROOT/etc/machine-id")
  case $id in
    '') found machine_id error "none" "one of its own" "$remedy" ;;
    uninitialized) found machine_id warning "not made yet" "one of its own" "start the board once" ;;
    *)
      if [[ $id =~ ^[0-9a-f]{32}$ && ! $id =~ ^0+$ ]]; then
        found machine_id ok "$id" "one of its own" ""
      else
        found machine_id error "$id" "32 hexadecimal digits" "$remedy"
      fi
      ;;
  esac
}

# --- Network ---

check_address() {
  local addresses list='' name address route
  if ! addresses=$(timeout 1 ip -o addr show up scope global 2>/dev/null); then
    found address warning "unknown" "" "install iproute2"
    return
  fi
  while read -r _ name _ address _; do
    [[ -z $name ]] || list+="${list:+, }${address%/*} on $name"
  done < <(printf '%s\n' "$addresses")
  if [[ -n $list ]]; then
    found address ok "$list" "one at least" ""
  else
    found address warning "none" "one at least" "plug in the cable, or set an address"
  fi
  route=$(timeout 1 ip -o route show default 2>/dev/null)
  if [[ $route =~ dev\ ([^ ]+) ]]; then
    found route ok "default by ${BASH_REMATCH[1]}" "to every master" ""
  else
    found route ok "no default route" "to every master" ""
  fi
}

find_masters() {
  local index
  ((${#MASTERS[@]} > 0)) || configured_masters
  for index in "${!MASTERS[@]}"; do
    # A port that is left out; an IPv6 address stands in brackets.
    case ${MASTERS[index]} in
      \[*\]:* | [!\[]*:*) ;;
      *) MASTERS[index]+=:47098 ;;
    esac
  done
}

# `masters:` of the agent's configuration, as a block or in one line.
configured_masters() {
  local line inside=no item
  [[ -r $ROOT/etc/piccolo/nodeagent.yaml ]] || return 0
  while IFS= read -r line; do
    line=${line%%#*}
    if [[ $line =~ ^masters:[[:space:]]*(.*)$ ]]; then
      inside=yes line=${BASH_REMATCH[1]}
    elif [[ $inside == yes && $line =~ ^[[:space:]]*-[[:space:]]*(.*)$ ]]; then
      line=${BASH_REMATCH[1]}
    elif [[ -n ${line//[[:space:]]/} ]]; then
      inside=no
    fi
    [[ $inside == yes ]] || continue
    for item in ${line//[\[\],\"\']/ }; do MASTERS+=("$item"); done
  done <"$ROOT/etc/piccolo/nodeagent.yaml"
}

# That a master cannot be reached is normal for a while: never an error.
check_masters() {
  local index master answer way
  for index in "${!MASTERS[@]}"; do
    master=${MASTERS[index]} answer=''
    read -r answer <&"${MASTER_FDS[index]}"
    case $answer in
      ok\ *)
        answer=${answer#ok }
        judge "master $master" "$answer" "ms to connect" at_most LATENCY \
          "a slow link: give its site longer times in the topology"
        ;;
      *)
        way=$(route_to "$master")
        found "master $master" warning "${answer:-no answer}${way:+; $way}" "reachable" \
          "is it on, is the cable in, does a firewall let TCP through? The agent tries again by itself"
        ;;
    esac
  done
}

# Only an address has a route that can be asked for without a name service.
route_to() {
  local host=${1%:*} route
  host=${host#[} host=${host%]}
  [[ $host == *:* || $host =~ ^[0-9.]+$ ]] || return 0
  if route=$(timeout 1 ip -o route get "$host" 2>/dev/null) && [[ $route =~ dev\ ([^ ]+) ]]; then
    printf 'route by %s' "${BASH_REMATCH[1]}"
  else
    printf 'no route'
  fi
}

check_ports() {
  local port file _slot place state hex who taken
  for port in "${PORTS[@]}"; do
    taken=no
    printf -v hex '%04X' "$port"
    for file in "$ROOT/proc/net/tcp" "$ROOT/proc/net/tcp6"; do
      [[ -r $file ]] || continue
      while read -r _slot place _ state _; do
        [[ $state != 0A || ${place##*:} != "$hex" ]] || taken=yes
      done <"$file"
    done
    who=''
    [[ $taken == no ]] || who=$(timeout 1 ss -Hltnp "sport = :$port" 2>/dev/null)
    [[ $who =~ \(\(\"([^\"]+)\" ]] && who=${BASH_REMATCH[1]} || who=${who:+another process}
    if [[ $taken == no ]]; then
      found "port $port" ok "free" "free" ""
    elif [[ $who == piccolo-master* ]]; then
      found "port $port" ok "in use by piccolo-master" "free" ""
    else
      found "port $port" error "in use by ${who:-another process}" "free" \
        "stop it, or set another port (listen, https_listen) in /etc/piccolo/master.yaml"
    fi
  done
}

# --- Podman ---

find_container_storage() {
  local file line
  [[ -z $CONTAINERS ]] || return 0
  CONTAINERS=/var/lib/containers
  for file in "$ROOT/usr/share/containers/storage.conf" "$ROOT/etc/containers/storage.conf"; do
    [[ -r $file ]] || continue
    while IFS= read -r line; do
      if [[ $line =~ ^[[:space:]]*graphroot[[:space:]]*=[[:space:]]*\"([^\"]+)\" ]]; then
        CONTAINERS=${BASH_REMATCH[1]}
      fi
    done <"$file"
  done
}

check_podman() {
  local code=127 said='' version driver socket
  read -r code <&"$PODMAN_FD"
  IFS= read -r said <&"$PODMAN_FD"
  exec {PODMAN_FD}<&-
  version=${said%% *} driver=${said##* }
  case $code in
    0)
      judge_version podman "$version" PODMAN "update Podman"
      case $driver in
        overlay | btrfs | zfs) found podman_storage ok "$driver" "overlay, btrfs or zfs" "" ;;
        *)
          found podman_storage warning "$driver" "overlay, btrfs or zfs" \
            "set driver = \"overlay\" in /etc/containers/storage.conf: ${driver:-this} copies whole images"
          ;;
      esac
      ;;
    124)
      found podman warning "no answer within $PODMAN_S s" "answers" \
        "try: podman info. It is slow after a start, and hangs when its storage is locked"
      ;;
    126 | 127)
      found podman error "not installed" ">= ${LIMITS[PODMAN_WARN]}" \
        "install Podman 4 or newer, or say --no-podman for a node without containers"
      ;;
    *) found podman error "fails: $said" "works" "try: podman info" ;;
  esac
  socket=/run/podman/podman.sock
  if [[ -S $ROOT$socket ]]; then
    found podman_socket ok "$socket" "there" ""
  else
    found podman_socket warning "no $socket" "there" "systemctl enable --now podman.socket"
  fi
}

# A container out of this system's own programs: it needs no image, and no registry.
check_container() {
  local folder said code part begun
  local -a mounts=()
  begun=$(date +%s%N)
  if ! folder=$(mktemp -d "${TMPDIR:-/tmp}/piccolo-check.XXXXXX" 2>/dev/null); then
    found podman_container warning "no temporary folder" "runs" "set TMPDIR to a writable folder"
    return
  fi
  mkdir -p "$folder"/{proc,sys,dev,etc,run,tmp}
  for part in usr bin lib lib32 lib64; do
    if [[ -L /$part ]]; then
      ln -s "$(readlink "/$part")" "$folder/$part"
    elif [[ -d /$part ]]; then
      mkdir "$folder/$part"
      mounts+=(--volume "/$part:/$part:ro")
    fi
  done
  said=$(timeout "$CONTAINER_S" podman run --rm --network none "${mounts[@]}" \
    --rootfs "$folder" /bin/sh -c 'echo it runs' 2>&1 </dev/null)
  code=$?
  rm -rf -- "$folder"
  if ((code == 0)) && [[ $said == *"it runs" ]]; then
    found podman_container ok "ran in $((($(date +%s%N) - begun) / 1000000)) ms" "runs" ""
  else
    ((code != 124)) || said="not done within $CONTAINER_S s"
    found podman_container error "${said:-exit code $code}" "runs" \
      "try: podman run --rm IMAGE true; crun or runc, conmon and cgroups must fit each other"
  fi
}

# --- Findings ---

# NAME LEVEL VALUE LIMIT REMEDY
found() {
  NAMES+=("$1") LEVELS+=("$2") VALUES+=("${3:0:VALUE_BYTES_MAX}") WANTED+=("$4") REMEDIES+=("$5")
}

# NAME NUMBER UNIT at_least|at_most LIMIT REMEDY: against LIMIT_WARN and, if there is one, LIMIT_ERROR.
judge() {
  local name=$1 value=$2 unit=$3 sense=$4 limit=$5 remedy=$6 level=ok shown warn error sign='>='
  [[ $sense == at_least ]] || sign='<='
  warn=${LIMITS[${limit}_WARN]} error=${LIMITS[${limit}_ERROR]:-off}
  ! is_off "${limit}_WARN" || warn=off
  [[ $warn != off || $error != off ]] || return 0
  if beyond "$sense" "$value" "$error"; then
    level=error
  elif beyond "$sense" "$value" "$warn"; then
    level=warning
  fi
  shown=$warn
  [[ $level != error && $warn != off ]] || shown=$error
  [[ $level != ok ]] || remedy=''
  found "$name" "$level" "$value $unit" "$sign $shown" "$remedy"
}

# at_least|at_most NUMBER LIMIT: whether NUMBER breaks the limit.
beyond() {
  local number limit
  [[ $3 != off ]] || return 1
  number=$(hundredths "$2") limit=$(hundredths "$3")
  if [[ $1 == at_least ]]; then ((number < limit)); else ((number > limit)); fi
}

judge_version() {
  local name=$1 version=$2 limit=$3 remedy=$4 level=ok wanted
  local warn=${LIMITS[${3}_WARN]} error=${LIMITS[${3}_ERROR]}
  [[ $warn != off || $error != off ]] || return 0
  wanted=$warn
  if [[ $error != off ]] && is_older "$version" "$error"; then
    level=error wanted=$error
  elif [[ $warn != off ]] && is_older "$version" "$warn"; then
    level=warning
  fi
  [[ $level != ok ]] || remedy=''
  found "$name" "$level" "$version" ">= $wanted" "$remedy"
}

is_older() {
  local have=${1%%[!0-9.]*}. want=$2. have_minor want_minor
  have_minor=${have#*.} want_minor=${want#*.}
  have=${have%%.*} want=${want%%.*} have_minor=${have_minor%%.*} want_minor=${want_minor%%.*}
  ((10#${have:-0} < 10#$want || (10#${have:-0} == 10#$want && 10#${have_minor:-0} < 10#${want_minor:-0})))
}

worst() {
  local level worst=0
  for level in "${LEVELS[@]}"; do
    case $level in
      error) worst=2 ;;
      warning) ((worst == 2)) || worst=1 ;;
    esac
  done
  printf '%s' "$worst"
}

# --- Printing ---

# Columns of 8, 28, 36 and 24: a terminal of 100. What does not fit is shown in full below.
print_table() {
  local index colour plain='' red='' yellow='' green='' warnings=0 errors=0 value
  if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    plain=$'\e[0m' red=$'\e[31m' yellow=$'\e[33m' green=$'\e[32m'
  fi
  printf '%-8s %-28s %-36s %s\n' LEVEL CHECK FOUND LIMIT
  for index in "${!NAMES[@]}"; do
    case ${LEVELS[index]} in
      error) colour=$red errors=$((errors + 1)) ;;
      warning) colour=$yellow warnings=$((warnings + 1)) ;;
      *) colour=$green ;;
    esac
    value=${VALUES[index]}
    printf '%s%-8s%s %-28s %-36s %s\n' "$colour" "${LEVELS[index]}" "$plain" \
      "$(cell 28 "${NAMES[index]}")" "$(cell 36 "$value")" "$(cell 24 "${WANTED[index]}")"
    ((${#value} <= 36)) || indented "found:  $value"
    [[ -z ${REMEDIES[index]} ]] || indented "remedy: ${REMEDIES[index]}"
  done
  printf '\n%s checks, %s warnings, %s errors\n' "${#NAMES[@]}" "$warnings" "$errors"
}

# What comes from outside must not steer a terminal: printable ASCII alone.
cell() {
  local text=${2//[!\ -~]/?}
  ((${#text} <= $1)) || text=${text:0:$(($1 - 1))}~
  printf '%s' "$text"
}

indented() {
  local text=${1//[!\ -~]/?}
  printf '%s\n' "$text" | fold -s -w 91 | while IFS= read -r text; do printf '%9s%s\n' '' "$text"; done
}

print_json() {
  local index separator='' errors=0 warnings=0 level host
  local -a words=(ok warning error)
  for level in "${LEVELS[@]}"; do
    [[ $level != error ]] || errors=$((errors + 1))
    [[ $level != warning ]] || warnings=$((warnings + 1))
  done
  host=$(first_line "$ROOT/proc/sys/kernel/hostname")
  printf '{"version":%s,"time":%s,"host":' "$JSON_VERSION" "$(date +%s)"
  json_string "$host"
  printf ',"role":"%s","level":"%s","warnings":%s,"errors":%s,"findings":[' \
    "$ROLE" "${words[$(worst)]}" "$warnings" "$errors"
  for index in "${!NAMES[@]}"; do
    printf '%s\n{"name":' "$separator"
    json_string "${NAMES[index]}"
    printf ',"level":"%s","value":' "${LEVELS[index]}"
    json_string "${VALUES[index]}"
    printf ',"limit":'
    json_string "${WANTED[index]}"
    printf ',"remedy":'
    json_string "${REMEDIES[index]}"
    printf '}'
    separator=,
  done
  printf '\n]}\n'
}

# Bytes that are no UTF-8 become the replacement character: the result is valid JSON whatever comes.
json_string() {
  local text=$1 out='' char rest code
  local tail=$'[\x80-\xbf]'
  local many="^([\xc2-\xdf]$tail|\xe0[\xa0-\xbf]$tail|[\xe1-\xec\xee\xef]$tail$tail|\xed[\x80-\x9f]$tail|\xf0[\x90-\xbf]$tail$tail|[\xf1-\xf3]$tail$tail$tail|\xf4[\x80-\x8f]$tail$tail)"
  printf -v many '%b' "$many"
  if [[ $text != *[!\ -~]* && $text != *[\"\\]* ]]; then
    printf '"%s"' "$text"
    return
  fi
  while [[ -n $text ]]; do
    char=${text:0:1} rest=${text:1}
    case $char in
      '"' | "\\") out+="\\$char" ;;
      [\ -~]) out+=$char ;;
      *)
        if [[ $text =~ $many ]]; then
          out+=${BASH_REMATCH[1]} rest=${text:${#BASH_REMATCH[1]}}
        else
          printf -v code '%d' "'$char"
          if ((code >= 0 && code < 128)); then printf -v char '\\u%04x' "$code"; else char='\ufffd'; fi
          out+=$char
        fi
        ;;
    esac
    text=$rest
  done
  printf '"%s"' "$out"
}

# --- Limits and arguments ---

load_limits() {
  local key default what line pair
  while read -r key default what; do
    [[ -z $key ]] || LIMITS[$key]=$default
  done < <(printf '%s' "$LIMITS_TABLE")
  if [[ -n $LIMITS_FILE ]]; then
    [[ -r $LIMITS_FILE ]] || wrong "$LIMITS_FILE cannot be read"
  elif [[ -r $ROOT/etc/piccolo/system_check.conf ]]; then
    LIMITS_FILE=$ROOT/etc/piccolo/system_check.conf
  fi
  if [[ -n $LIMITS_FILE ]]; then
    while IFS= read -r line || [[ -n $line ]]; do
      line=${line%%#*} line=${line//[[:space:]]/}
      [[ -z $line ]] || set_limit "$line" "$LIMITS_FILE: "
    done <"$LIMITS_FILE"
  fi
  for pair in ${LIMIT_FLAGS[@]+"${LIMIT_FLAGS[@]}"}; do set_limit "$pair" ""; done
}

set_limit() {
  local key=${1%%=*} value=${1#*=}
  [[ $1 == *=* ]] || wrong "$2\`$1\` is not KEY=VALUE"
  [[ $key =~ ^[A-Z_]+$ && -n ${LIMITS[$key]+known} ]] || wrong "$2\`$key\` is no limit; see --print-limits"
  [[ $value == off || $value =~ ^[0-9]{1,12}(\.[0-9]{1,4})?$ ]] ||
    wrong "$2\`$value\` for $key is neither a number nor \`off\`"
  case $key in
    CLOCK_*) [[ $value != *.* ]] || wrong "$2$key is a whole number of seconds" ;;
  esac
  LIMITS[$key]=$value
}

print_limits() {
  local key default what
  while read -r key default what; do
    [[ -z $key ]] || printf '# %s (default %s)\n%s=%s\n' "$what" "$default" "$key" "${LIMITS[$key]}"
  done < <(printf '%s' "$LIMITS_TABLE")
}

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --role | --master | --state | --containers | --port | --limits | --limit | --root)
        (($# > 1)) || wrong "$1 wants a value"
        take_option "$1" "$2"
        shift 2
        ;;
      --no-podman) PODMAN=no && shift ;;
      --run-container) RUN_CONTAINER=yes && shift ;;
      --print-limits) ONLY_LIMITS=yes && shift ;;
      --json) FORMAT=json && shift ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) wrong "\`$1\` is no option" ;;
    esac
  done
  ((${#PORTS[@]} > 0)) || PORTS=(47098 47099)
}

take_option() {
  case $1 in
    --role)
      [[ $2 == master || $2 == sub ]] || wrong "\`$2\` is no role: master or sub"
      ROLE=$2
      # A master watches no containers; it may have them all the same.
      [[ $2 != master ]] || PODMAN=no
      ;;
    --master) MASTERS+=("$2") ;;
    --port)
      [[ $2 =~ ^[0-9]{1,5}$ && $2 -le 65535 ]] || wrong "\`$2\` is no port"
      PORTS+=("$((10#$2))")
      ;;
    --state | --containers)
      [[ $2 == /* ]] || wrong "\`$2\` for $1 does not begin with /"
      if [[ $1 == --state ]]; then STATE=$2; else CONTAINERS=$2; fi
      ;;
    --limits) LIMITS_FILE=$2 ;;
    --limit) LIMIT_FLAGS+=("$2") ;;
    --root) ROOT=$2 ;;
  esac
}

wrong() {
  printf 'error: %s\nhelp: system_check.sh --help\n' "$1" >&2
  exit "$EXIT_USAGE"
}

# --- Small things ---

first_line() {
  local line=''
  { IFS= read -r line <"$1"; } 2>/dev/null
  printf '%s' "$line"
}

# The path itself, or the nearest folder above it that is there.
existing_part() {
  local path=$1
  while [[ -n $path && ! -e $path ]]; do path=${path%/*}; done
  printf '%s' "${path:-/}"
}

is_number() { [[ $1 =~ ^[0-9]{1,15}$ ]]; }

is_off() { [[ ${LIMITS[$1]} == off ]]; }

# 4.5 -> 450
hundredths() {
  local whole=${1%%.*} part=00 sign=1
  [[ $1 != *.* ]] || part=${1#*.}00
  [[ $whole != -* ]] || { sign=-1 whole=${whole#-}; }
  printf '%s' $((sign * (10#${whole:-0} * 100 + 10#${part:0:2})))
}

main "$@"
