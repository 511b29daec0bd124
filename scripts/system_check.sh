#!/usr/bin/env bash
# Is this board ready for PICCOLO? (HLD 4.1 (4), 5.1, 13.3)
#
# Looks at the machine, changes nothing, and says for each thing what it found, what the limit is,
# and what to do about it. Needs Bash 4.2, coreutils, procps and iproute2. `install.sh` runs it before it
# touches anything; it may be run at any time. Nothing here keeps an agent from starting.
#
# Top-down: the list of checks, the checks by theme, the arguments. Beside it, findings.sh has the limits
# and the two ways to print.
# What may take long (Podman, masters, disks, file systems, network) is started first and read last, so that
# everything together takes about as long as the slowest may. Each has a time limit of its own.
set -uo pipefail
export LC_ALL=C

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/findings.sh
. "$here/findings.sh" || exit 64

readonly EXIT_ERRORS=2 EXIT_USAGE=64
# Seconds for a real container, with --run-container.
readonly CONTAINER_S=30
# Disks whose SMART is asked for, bytes of what smartctl says of one, and of why it says nothing.
readonly DISKS_MAX=6 SMART_BYTES_MAX=65536 WHY_BYTES_MAX=200

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
  --timeout SECONDS     until what is asked must have answered [1.5 for Podman and masters, else 1]
  --port PORT           that a master needs; may be repeated [47098 and 47099]
  --limits FILE         limits as KEY=VALUE [/etc/piccolo/system_check.conf, if there]
  --limit KEY=VALUE     one limit; `off` leaves the check out
  --print-limits        show all limits in force, as such a file
  --json                for programs
  --root DIR            look at /proc, /sys, /etc, /run below DIR (also PICCOLO_CHECK_ROOT)
  --help

Exit code: 0 all well, 1 warnings, 2 errors or no end of the check itself, 64 wrong usage.

Examples:
  system_check.sh
  system_check.sh --role master --json
  system_check.sh --master 192.0.2.10 --limit MEMORY_ERROR=200 --limit TEMPERATURE_WARN=off
END
}

main() {
  ENDED=no
  trap on_exit EXIT
  no_findings
  MASTERS=() PORTS=()
  # Seconds until Podman and the masters must have answered, and everything else.
  SLOW_S=1.5 QUICK_S=1
  ROLE=sub FORMAT=table PODMAN=yes RUN_CONTAINER=no STATE=/var/lib/piccolo CONTAINERS=
  ASKED_OUTSIDE='' IP_ANSWERS=no COLOURS=no
  [[ ! -t 1 || -n ${NO_COLOR:-} ]] || COLOURS=yes
  ROOT=${PICCOLO_CHECK_ROOT:-} LIMITS_FILE='' LIMIT_FLAGS=() ONLY_LIMITS=no
  read_arguments "$@"
  ROOT=${ROOT%/}
  if [[ $ASKED_OUTSIDE == yes ]]; then
    find_disks
    ask_disks
    finish 0
  fi
  load_limits
  if [[ $ONLY_LIMITS == yes ]]; then
    write print_limits
    finish 0
  fi
  check_all
  if [[ $FORMAT == json ]]; then write print_json; else write print_table; fi
  finish "$(worst)"
}

check_all() {
  start_slow_ones
  check_processor
  check_memory
  check_storage state "$STATE" "$STATE_FD" STATE_FREE
  check_kernel
  check_cgroups
  check_systemd
  check_host_name
  check_machine_id
  check_address
  check_open_files
  check_temperature
  check_wear
  check_mmc_errors
  check_file_system_errors
  [[ $ROLE != master ]] || check_ports
  if [[ $PODMAN == yes ]]; then
    check_storage containers "$CONTAINERS" "$CONTAINERS_FD" CONTAINER_FREE
    check_podman
    [[ $RUN_CONTAINER == no ]] || check_container
  fi
  check_disks
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
  find_disks
  exec {DISKS_FD}< <(exec </dev/null 2>/dev/null && ask_disks)
  exec {STATE_FD}< <(ask_storage "$STATE")
  [[ $PODMAN == no ]] || exec {CONTAINERS_FD}< <(ask_storage "$CONTAINERS")
  exec {NETWORK_FD}< <(ask_network)
  [[ $ROLE != master ]] || exec {PORTS_FD}< <(exec timeout "$QUICK_S" ss -Hltnp </dev/null 2>/dev/null)
  exec {TIME_FD}< <(timeout "$QUICK_S" timedatectl show -p NTPSynchronized --value 2>/dev/null)
  MASTER_FDS=()
  for master in ${MASTERS[@]+"${MASTERS[@]}"}; do
    exec {fd}< <(reach "$master" 2>/dev/null)
    MASTER_FDS+=("$fd")
  done
}

# The exit code, then what Podman said: what was asked for, or its last complaint.
ask_podman() {
  local said code
  said=$(timeout "$SLOW_S" podman info --format \
    'found {{.Version.Version}} {{.Store.GraphDriverName}}' 2>&1)
  code=$?
  if ((code == 0)); then
    # It warns on the same way.
    [[ $said == found\ * ]] || said=${said##*$'\n'found }
    said=${said#found }
  fi
  printf '%s\n%s\n' "$code" "${said##*$'\n'}"
}

# `ok MILLISECONDS`, or why not. The child looks at the clock, so that its own start does not count.
reach() {
  local host=${1%:*} port=${1##*:} said code
  master_address "$1" >/dev/null || { echo "no master" && return; }
  host=${host#[} host=${host%]}
  # shellcheck disable=SC2016
  said=$(timeout "$SLOW_S" bash -c 'begun=$(date +%s%N) && exec 3<>"/dev/tcp/$1/$2" &&
    echo "ok $((($(date +%s%N) - begun) / 1000000))"' _ "$host" "$port" 2>&1)
  code=$?
  said=${said%%$'\n'*}
  ((code != 124)) || said="no answer within $SLOW_S s"
  printf '%s\n' "${said##*: }"
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
  read -r _ load rest 2>/dev/null <"$ROOT/proc/loadavg" || { unknown cpu_load && return; }
  load=$(($(hundredths "$load") / cores)) # in hundredths: Bash knows whole numbers only
  printf -v load '%d.%02d' $((load / 100)) $((load % 100))
  judge cpu_load "$load" "per core ($cores)" at_most LOAD "something keeps them busy: see top"
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

ask_storage() { exec timeout "$QUICK_S" stat -f -c '%a %S %c %d' -- "$(existing_part "$ROOT$1")" 2>/dev/null; }

# WHAT DIR FD LIMIT: space, inodes, and whether it can be written.
check_storage() {
  local what=$1 dir=$2 fd=$3 limit=$4 avail size inodes inodes_free mib
  read -r avail size inodes inodes_free <&"$fd"
  exec {fd}<&-
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
    ,,) unknown "${what}_writable" ;;
    *,ro,*)
      found "${what}_writable" error "$mounted is read-only" "writable" \
        "mount a writable file system on $dir; if it became read-only by itself, see dmesg"
      ;;
    *) found "${what}_writable" ok "$mounted can be written" "writable" ;;
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
  ((worst >= 0)) || { found flash_wear ok "not told" "" && return; }
  judge flash_wear "$worst" "% of the life of ${device:-the flash} used" at_most WEAR \
    "plan to replace the board or its flash; keep a backup of the state"
}

# Of data alone: commands time out whenever a slot is looked at for cards.
check_mmc_errors() {
  local file what count total=0 host=''
  for file in "$ROOT"/sys/kernel/debug/mmc[0-9]*/err_stats; do
    while IFS=: read -r what count; do
      count=${count//[[:space:]]/}
      case $what in
        "# Data "* | "# ADMA "* | "# Request Timedout"*) is_number "$count" || continue ;;
        *) continue ;;
      esac
      total=$((total + count)) host=${file%/*} host=${host##*/}
    done 2>/dev/null < <(head -c 4096 -- "$file" 2>/dev/null)
  done
  [[ -z $host ]] || judge mmc_errors "$total" "failed transfers since boot" at_most MMC_ERRORS \
    "keep a backup; look at the card, its contacts and its supply; see dmesg for ${host}"
}

check_file_system_errors() {
  local file count bad=''
  for file in "$ROOT"/sys/fs/ext4/*/errors_count; do
    count=$(first_line "$file")
    file=${file%/*}
    is_number "$count" && ((count > 0)) && bad+="${bad:+, }${file##*/}: $count errors"
  done
  [[ -n $bad ]] || { found file_systems ok "no errors recorded" "no errors" && return; }
  found file_systems warning "$bad" "no errors" "run fsck from a rescue system; see dmesg"
}

# --- SMART of SATA and NVMe disks ---

find_disks() {
  local folder disk
  DISKS=()
  for folder in "$ROOT"/sys/block/*; do
    disk=${folder##*/}
    [[ $disk =~ ^(sd[a-z]+|nvme[0-9]+n[0-9]+)$ && $(first_line "$folder/removable") != 1 ]] || continue
    ((${#DISKS[@]} >= DISKS_MAX)) || DISKS+=("$disk")
  done
}

# A line for each disk, in the order in which they answer: see `ask_disk`.
ask_disks() {
  local disk
  ((${#DISKS[@]} > 0)) || return 0
  if [[ -z $ASKED_OUTSIDE && ! -e $ROOT/dev/${DISKS[0]} ]]; then
    # The agent's unit has no devices and no right to ask them: systemd has a unit of one look do it. Its
    # name is taken while one hangs, so that there is never a second one.
    timeout "$SLOW_S" systemd-run --quiet --wait --pipe --collect --unit=piccolo-disks \
      -p RuntimeMaxSec=5 -p TasksMax=64 -p MemoryMax=64M -p NoNewPrivileges=yes -p PrivateNetwork=yes \
      -p ProtectSystem=strict -p ProtectHome=read-only -p "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RAWIO" \
      --setenv="PICCOLO_CHECK_ROOT=$ROOT" bash "$here/system_check.sh" --timeout "$SLOW_S" --ask-disks 2>&1
    return
  fi
  for disk in "${DISKS[@]}"; do ask_disk "$disk" & done
  wait
}

# `NAME|HEALTH|WEAR|REALLOCATED|UNREADABLE|WHY NOT`, with nothing for what is not told. A disk that sleeps
# goes on sleeping.
ask_disk() {
  local said code health='' wear='' moved='' bad='' why='' line name value raw rest
  said=$(
    timeout -k 1 "$SLOW_S" smartctl -n standby -H -A "/dev/$1" 2>&1 | head -c "$SMART_BYTES_MAX" | tr -d '\0|'
    exit "${PIPESTATUS[0]}"
  )
  code=$?
  while IFS= read -r line; do
    value=${line##*:} value=${value//[, %]/}
    case $line in
      "SMART overall-health"*": "* | "SMART Health Status: "*) health=$value ;;
      "Percentage Used: "* | "Percentage used endurance indicator: "*) wear=$value ;;
      "Media and Data Integrity Errors: "*) bad=$(number_in "$value") ;;
      *" in STANDBY mode"* | *" in SLEEP mode"*) why="it sleeps, and is left alone" ;;
      Smartctl\ open\ device* | *"Unavailable - device lacks SMART"*) why=$line ;;
    esac
    # ID# ATTRIBUTE_NAME FLAG VALUE WORST THRESH TYPE UPDATED WHEN_FAILED RAW_VALUE
    read -r value name _ rest <<<"$line"
    read -r value _ _ _ _ _ raw _ <<<"$rest"
    is_number "$value" || continue
    raw=$(number_in "$raw") value=$((10#$value))
    [[ -n $raw ]] || continue
    case $name in
      Reallocated_Sector_Ct | Reallocate_NAND_Blk_Cnt) moved=$raw ;;
      Current_Pending_Sector* | Offline_Uncorrectable) bad=$((${bad:-0} > raw ? bad : raw)) ;;
      Wear_Leveling_Count | Media_Wearout_Indicator | SSD_Life_Left | Percent_Lifetime_* | \
        Remaining_Lifetime_Perc) wear=$((value > 100 ? 0 : 100 - value)) ;;
    esac
  done <<<"$said"
  # Of its exit code, this bit is the disk's own verdict.
  ((code >= 124 || (code & 8) == 0)) || health=FAILED!
  case $code:$why in
    124:* | 137:*) why="no answer within $SLOW_S s" ;;
    126:* | 127:*) why="smartctl is not installed (smartmontools)" ;;
    *:) why="smartctl tells no health, exit code $code" ;;
  esac
  printf '%s|%s|%s|%s|%s|%s\n' "$1" "${health:0:20}" "$(number_in "$wear")" "$(number_in "$moved")" \
    "$(number_in "$bad")" "${why:0:WHY_BYTES_MAX}"
}

number_in() { ! is_number "$1" || printf '%s' $((10#$1)); }

# That SMART cannot be read is no fault of the board. `read` has a limit too: a process that the kernel holds
# in a request to a disk cannot be killed, and nobody waits for it.
check_disks() {
  local disk health wear moved bad why asked=' ' trouble=''
  while IFS='|' read -r -t "$SLOW_S" -u "$DISKS_FD" disk health wear moved bad why; do
    if [[ -z $disk || " ${DISKS[*]} " != *" $disk "* || $asked == *" $disk "* ]]; then
      trouble=${trouble:-${disk:0:WHY_BYTES_MAX}}
      continue
    fi
    asked+="$disk "
    judge_disk "$disk" "$health" "$why"
    [[ -z $wear ]] || judge "disk_wear $disk" "$wear" "% of its life used" at_most DISK_WEAR \
      "plan to replace the disk; keep a backup of the state"
    [[ -z $moved ]] || judge "disk_reallocated $disk" "$moved" "sectors replaced" at_most DISK_REALLOCATED \
      "keep a backup, and replace the disk when there are more each week"
    [[ -z $bad ]] || judge "disk_unreadable $disk" "$bad" "sectors that cannot be read" at_most \
      DISK_UNREADABLE "keep a backup; replace the disk, and see dmesg for what was lost"
  done
  exec {DISKS_FD}<&-
  for disk in ${DISKS[@]+"${DISKS[@]}"}; do
    [[ $asked == *" $disk "* ]] || judge_disk "$disk" '' "${trouble:-no answer within $SLOW_S s}"
  done
}

# --- Kernel and services ---

check_kernel() {
  local release
  release=$(first_line "$ROOT/proc/sys/kernel/osrelease")
  judge_version kernel "$release" KERNEL "update the board's kernel"
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
    noyesyes) found cgroups ok "version 2" "version 2" ;;
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
  [[ $memory == no ]] || { found cgroup_memory ok "on" "on" && return; }
  found cgroup_memory warning "off: containers have no memory limit" "on" \
    "add cgroup_enable=memory to the kernel's command line"
}

check_systemd() {
  local init
  init=$(first_line "$ROOT/proc/1/comm")
  [[ ! -d $ROOT/run/systemd/system ]] || { found systemd ok "runs this system" "runs" && return; }
  found systemd warning "not here; process 1 is ${init:-unknown}" "runs" \
    "start and watch piccolo-nodeagent by this system's own means"
}

check_open_files() {
  local line hard=''
  while read -r line; do
    [[ $line =~ ^Max\ open\ files\ +[0-9a-z]+\ +([0-9]+|unlimited) ]] && hard=${BASH_REMATCH[1]}
  done 2>/dev/null <"$ROOT/proc/self/limits"
  [[ $hard != unlimited ]] || hard=1048576
  [[ -n $hard ]] || { unknown open_files && return; }
  judge open_files "$hard" "files" at_least FILES \
    "raise it: LimitNOFILE of the unit, or DefaultLimitNOFILE in /etc/systemd/system.conf"
}

check_temperature() {
  local file value hottest=''
  for file in "$ROOT"/sys/class/thermal/thermal_zone*/temp; do
    value=$(first_line "$file")
    [[ $value =~ ^-?[0-9]+$ ]] || continue
    value=$((value / 1000))
    [[ -n $hottest ]] && ((value <= hottest)) || hottest=$value
  done
  [[ -n $hottest ]] || { found temperature ok "no sensor" "" && return; }
  judge temperature "$hottest" "degrees C" at_most TEMPERATURE "cool the board, or load it less"
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
    found clock ok "$shown" "plausible"
  fi
  read -r synchronised <&"$TIME_FD"
  exec {TIME_FD}<&-
  [[ ! -e $ROOT/run/systemd/timesync/synchronized ]] || synchronised=yes
  [[ $synchronised != yes ]] || { found clock_synchronised ok yes yes && return; }
  [[ $synchronised == no ]] || synchronised=unknown
  found clock_synchronised warning "$synchronised" yes "run a time service: chrony, systemd-timesyncd"
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
        found host_name ok "$name" "one of its own"
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
        found machine_id ok "$id" "one of its own"
      else
        found machine_id error "$id" "32 hexadecimal digits" "$remedy"
      fi
      ;;
  esac
}

# --- Network ---

# The addresses, how that ended, and the route.
ask_network() {
  exec timeout "$QUICK_S" sh -c 'ip -o addr show up scope global; echo "ended $?"
    exec ip -o route show default' </dev/null 2>/dev/null
}

check_address() {
  local list='' first name address route='' code=none
  while [[ $code == none ]] && read -r first name _ address _; do
    if [[ $first == ended ]]; then code=$name; else list+="${list:+, }${address%/*} on $name"; fi
  done <&"$NETWORK_FD"
  read -r route <&"$NETWORK_FD"
  exec {NETWORK_FD}<&-
  case $code in
    0) IP_ANSWERS=yes ;;
    none) found address warning "ip: no answer within $QUICK_S s" "" "try: ip addr. The kernel is busy with the network" ;;
    126 | 127) found address warning "unknown: there is no ip" "" "install iproute2" ;;
    *) found address warning "ip fails with exit code $code" "" "try: ip addr" ;;
  esac
  [[ $code == 0 ]] || return 0
  if [[ -n $list ]]; then
    found address ok "$list" "one at least"
  else
    found address warning none "one at least" "plug in the cable, or set an address"
  fi
  [[ $route =~ dev\ ([^ ]+) ]] && route="default by ${BASH_REMATCH[1]}" || route="no default route"
  found route ok "$route" ""
}

find_masters() {
  local index master
  ((${#MASTERS[@]} > 0)) || configured_masters
  for index in "${!MASTERS[@]}"; do
    ! master=$(master_address "${MASTERS[index]}") || MASTERS[index]=$master
  done
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
      "no master")
        found "master $master" warning "neither HOST nor HOST:PORT" "HOST:PORT" \
          "correct \`masters\` in /etc/piccolo/nodeagent.yaml"
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
  [[ $IP_ANSWERS == yes && ($host == *:* || $host =~ ^[0-9.]+$) ]] || return 0
  if route=$(timeout "$QUICK_S" ip -o route get "$host" 2>/dev/null) && [[ $route =~ dev\ ([^ ]+) ]]; then
    printf 'route by %s' "${BASH_REMATCH[1]}"
  else
    printf 'no route'
  fi
}

check_ports() {
  local port file _slot place state hex who taken listeners
  IFS= read -r -d '' listeners <&"$PORTS_FD"
  exec {PORTS_FD}<&-
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
    [[ $taken == no ]] || who=$(grep -E "^[A-Z]+ +[0-9]+ +[0-9]+ +[^ ]+:$port " <<<"$listeners")
    [[ $who =~ \(\(\"([^\"]+)\" ]] && who=${BASH_REMATCH[1]} || who=${who:+another process}
    if [[ $taken == no ]]; then
      found "port $port" ok "free" "free"
    elif [[ $who == piccolo-master* ]]; then
      found "port $port" ok "in use by piccolo-master" "free"
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
        overlay | btrfs | zfs) found podman_storage ok "$driver" "overlay, btrfs or zfs" ;;
        *)
          found podman_storage warning "$driver" "overlay, btrfs or zfs" \
            "set driver = \"overlay\" in /etc/containers/storage.conf: ${driver:-this} copies whole images"
          ;;
      esac
      ;;
    124)
      found podman warning "no answer within $SLOW_S s" "answers" \
        "try: podman info. It is slow after a start, and hangs when its storage is locked"
      ;;
    126 | 127)
      found podman error "not installed" ">= ${LIMITS[PODMAN_WARN]}" \
        "install Podman 4 or newer; for a node without containers: go on with --force"
      ;;
    *) found podman error "fails: $said" "works" "try: podman info" ;;
  esac
  socket=/run/podman/podman.sock
  [[ ! -S $ROOT$socket ]] || { found podman_socket ok "$socket" there && return; }
  found podman_socket warning "no $socket" there "systemctl enable --now podman.socket"
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
    found podman_container ok "ran in $((($(date +%s%N) - begun) / 1000000)) ms" "runs"
  else
    ((code != 124)) || said="not done within $CONTAINER_S s"
    found podman_container error "${said:-exit code $code}" "runs" \
      "try: podman run --rm IMAGE true; crun or runc, conmon and cgroups must fit each other"
  fi
}

# --- Arguments ---

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --role | --master | --state | --containers | --port | --timeout | --limits | --limit | --root)
        (($# > 1)) || wrong "$1 wants a value"
        take_option "$1" "$2"
        shift 2
        ;;
      --no-podman) PODMAN=no && shift ;;
      --run-container) RUN_CONTAINER=yes && shift ;;
      --print-limits) ONLY_LIMITS=yes && shift ;;
      --json) FORMAT=json && shift ;;
      --ask-disks) ASKED_OUTSIDE=yes && shift ;;
      -h | --help)
        write usage
        finish 0
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
    --master)
      MASTERS+=("$(master_address "$2")") ||
        wrong "\`$2\` is no master: HOST or HOST:PORT, an IPv6 address in brackets"
      ;;
    --port)
      [[ $2 =~ ^[0-9]{1,5}$ && $2 -le 65535 ]] || wrong "\`$2\` is no port"
      PORTS+=("$((10#$2))")
      ;;
    --timeout)
      [[ $2 =~ ^[0-9]{1,3}(\.[0-9])?$ && $2 == *[1-9]* ]] || wrong "\`$2\` is no number of seconds"
      SLOW_S=$2 QUICK_S=$2
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

main "$@"
