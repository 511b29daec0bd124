# shellcheck shell=bash
# What system_check.sh says, how it judges, and how it ends: limits, findings, the table and the JSON. Sourced by it.

# Of the JSON: raised when a field changes its meaning.
readonly JSON_VERSION=1
# Bytes of anything read from outside that is shown.
readonly VALUE_BYTES_MAX=400
readonly MASTER_PORT=47098

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
DISK_WEAR_WARN       80          percent of the life of a SATA or NVMe disk that is used up, at most (SMART)
DISK_REALLOCATED_WARN 10         sectors that a disk has replaced, at most (SMART)
DISK_UNREADABLE_WARN 0           sectors that a disk cannot read, at most (SMART)
MMC_ERRORS_WARN      10          transfers that failed at all MMC hosts since boot, at most
'

# Sets everything that is noted to nothing.
no_findings() {
  declare -gA LIMITS=()
  NAMES=() LEVELS=() VALUES=() WANTED=() REMEDIES=() WARNINGS=0 ERRORS=0
}

# --- Limits ---

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

# --- Findings ---

# NAME LEVEL VALUE LIMIT REMEDY
found() {
  NAMES+=("$1") LEVELS+=("$2") VALUES+=("${3:0:VALUE_BYTES_MAX}") WANTED+=("$4") REMEDIES+=("${5:-}")
  case $2 in
    warning) WARNINGS=$((WARNINGS + 1)) ;;
    error) ERRORS=$((ERRORS + 1)) ;;
  esac
}

unknown() { found "$1" warning unknown "" "is /proc mounted?"; }

worst() { printf '%s' $((ERRORS > 0 ? 2 : WARNINGS > 0)); }

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

# --- Disks and masters ---

# DISK HEALTH WHY_NOT
judge_disk() {
  case $2 in
    PASSED | OK) found "disk_health $1" ok "$2" PASSED ;;
    '' | UNKNOWN!) found "disk_health $1" ok "not read: ${3:-the disk does not know}" "" ;;
    *)
      found "disk_health $1" error "$2" PASSED \
        "the disk says that it is about to fail: make a backup now and replace it; see smartctl -a /dev/$1"
      ;;
  esac
}

# `masters:` of the agent's configuration, as a block or in one line.
configured_masters() {
  local line inside=no items
  [[ -r $ROOT/etc/piccolo/nodeagent.yaml ]] || return 0
  while IFS= read -r line; do
    line=${line%%#*}
    if [[ $line =~ ^masters:[[:space:]]*(.*)$ ]]; then
      inside=yes line=${BASH_REMATCH[1]}
      [[ $line != \[* ]] || { line=${line#\[} && line=${line%\]*}; }
    elif [[ $inside == yes && $line =~ ^[[:space:]]*-[[:space:]]*(.*)$ ]]; then
      line=${BASH_REMATCH[1]}
    elif [[ -n ${line//[[:space:]]/} ]]; then
      inside=no
    fi
    [[ $inside == yes ]] || continue
    read -ra items <<<"${line//[,\"\']/ }"
    MASTERS+=(${items[@]+"${items[@]}"})
  done <"$ROOT/etc/piccolo/nodeagent.yaml"
}

# HOST or HOST:PORT, with the port; fails where it is neither. As install.sh has it, which stands alone.
master_address() {
  local master=$1
  [[ $master == \[*\]:* || $master == [!\[]*:* ]] || master+=:$MASTER_PORT
  [[ $master =~ ^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})$ ]] || return 1
  ((10#${BASH_REMATCH[3]} >= 1 && 10#${BASH_REMATCH[3]} <= 65535)) || return 1
  printf '%s' "$master"
}

# --- The end ---

finish() { ENDED=yes && exit "$1"; }

# Bash ends with 1 where it finds a fault of a script: nobody shall take that for warnings.
# shellcheck disable=SC2317 # called by the trap
on_exit() {
  local code=$?
  [[ $ENDED == yes ]] || ((code >= EXIT_ERRORS)) || exit "$EXIT_ERRORS"
}

# What a function prints, at once and whole.
write() {
  local text
  text=$("$1") && printf '%s\n' "$text" 2>/dev/null && return
  printf 'error: what was found cannot be written: is the disk full?\n' >&2
  finish "$EXIT_ERRORS"
}

# --- Printing ---

# Columns of 8, 28, 36 and 24: a terminal of 100. What does not fit is shown in full below.
print_table() {
  local index colour plain='' red='' yellow='' green='' value
  if [[ $COLOURS == yes ]]; then
    plain=$'\e[0m' red=$'\e[31m' yellow=$'\e[33m' green=$'\e[32m'
  fi
  printf '%-8s %-28s %-36s %s\n' LEVEL CHECK FOUND LIMIT
  for index in "${!NAMES[@]}"; do
    case ${LEVELS[index]} in
      error) colour=$red ;;
      warning) colour=$yellow ;;
      *) colour=$green ;;
    esac
    value=${VALUES[index]}
    printf '%s%-8s%s %-28s %-36s %s\n' "$colour" "${LEVELS[index]}" "$plain" \
      "$(cell 28 "${NAMES[index]}")" "$(cell 36 "$value")" "$(cell 24 "${WANTED[index]}")"
    ((${#value} <= 36)) || indented "found:  $value"
    [[ -z ${REMEDIES[index]} ]] || indented "remedy: ${REMEDIES[index]}"
  done
  printf '\n%s checks, %s warnings, %s errors\n' "${#NAMES[@]}" "$WARNINGS" "$ERRORS"
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
  local index separator='' words=(ok warning error)
  printf '{"version":%s,"time":%s,' "$JSON_VERSION" "$(date +%s)"
  json_field host "$(first_line "$ROOT/proc/sys/kernel/hostname")"
  printf ',"role":"%s","level":"%s","warnings":%s,"errors":%s,"findings":[' \
    "$ROLE" "${words[$(worst)]}" "$WARNINGS" "$ERRORS"
  for index in "${!NAMES[@]}"; do
    printf '%s\n{' "$separator"
    json_field name "${NAMES[index]}"
    printf ',"level":"%s",' "${LEVELS[index]}"
    json_field value "${VALUES[index]}"
    printf ,
    json_field limit "${WANTED[index]}"
    printf ,
    json_field remedy "${REMEDIES[index]}"
    printf '}'
    separator=,
  done
  printf '\n]}\n'
}

# Bytes that are no UTF-8 become the replacement character: the result is valid JSON whatever comes.
json_field() {
  local text=$2 out='' char rest code
  local tail=$'[\x80-\xbf]' many
  many="[\xc2-\xdf]$tail|\xe0[\xa0-\xbf]$tail|[\xe1-\xec\xee\xef]$tail$tail|\xed[\x80-\x9f]$tail"
  many+="|\xf0[\x90-\xbf]$tail$tail|[\xf1-\xf3]$tail$tail$tail|\xf4[\x80-\x8f]$tail$tail"
  printf -v many '%b' "^($many)"
  if [[ $text != *[!\ -~]* && $text != *[\"\\]* ]]; then
    printf '"%s":"%s"' "$1" "$text"
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
  printf '"%s":"%s"' "$1" "$out"
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
