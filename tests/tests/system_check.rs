//! `scripts/system_check.sh` on made-up boards: folders with /proc, /sys and /etc, and in front of the
//! search path the few programs that it asks. Whatever a test does not change is a healthy board.

use std::{
    error::Error,
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

type Story = Result<(), Box<dyn Error>>;

const OK: &str = "ok";
const WARNING: &str = "warning";
const ERROR: &str = "error";
/// A healthy board is one however slow the machine is that plays it.
const PATIENT: [&str; 4] = ["--timeout", "60", "--limit", "LATENCY_WARN=60000"];
/// Columns of a table at most.
const COLUMNS_MAX: usize = 100;

/// What is changed on the board, the finding that shows it, and how bad it is.
const SHORTAGES: &[(&str, &str, &str, &str)] = &[
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "900000", "cpu_frequency", WARNING),
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "400000", "cpu_frequency", ERROR),
    ("proc/loadavg", "9.00 10.00 9.00 1/99 1", "cpu_load", WARNING),
    ("proc/loadavg", "9.00 40.04 9.00 1/99 1", "cpu_load", ERROR),
    ("proc/meminfo", "MemTotal: 460800 kB\nMemAvailable: 300000 kB\n", "memory", WARNING),
    ("proc/meminfo", "MemTotal: 262144 kB\nMemAvailable: 200000 kB\n", "memory", ERROR),
    ("proc/meminfo", "MemTotal: 524288 kB\nMemAvailable: 81920 kB\n", "memory_available", WARNING),
    ("proc/meminfo", "MemTotal: 524288 kB\nMemAvailable: 20480 kB\n", "memory_available", ERROR),
    ("disk", "25600 4096 100000 50000", "state_space", WARNING),
    ("disk", "2560 4096 100000 50000", "state_space", ERROR),
    ("disk", "2560000 4096 100000 5000", "state_inodes", WARNING),
    ("disk", "2560000 4096 100000 100", "state_inodes", ERROR),
    ("disk", "", "state_space", ERROR),
    ("disk-containers", "128000 4096 100000 50000", "containers_space", WARNING),
    ("disk-containers", "25600 4096 100000 50000", "containers_space", ERROR),
    ("disk-containers", "2560000 4096 100000 5000", "containers_inodes", WARNING),
    ("disk-containers", "2560000 4096 100000 100", "containers_inodes", ERROR),
    (
        "proc/mounts",
        "/dev/a / ext4 ro 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        "state_writable",
        ERROR,
    ),
    ("proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "state_writable", WARNING),
    ("proc/sys/kernel/osrelease", "4.19.0-rt", "kernel", WARNING),
    ("proc/sys/kernel/osrelease", "3.18.140", "kernel", ERROR),
    (
        "proc/mounts",
        "/dev/a / ext4 rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw 0 0\n",
        "cgroups",
        WARNING,
    ),
    ("proc/mounts", "/dev/a / ext4 rw 0 0\n", "cgroups", ERROR),
    ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids", "cgroup_memory", WARNING),
    ("podman", "echo found 4.1.1 overlay", "podman", WARNING),
    ("podman", "echo found 3.4.4 overlay", "podman", ERROR),
    ("podman", "echo found 5.2.0 vfs", "podman_storage", WARNING),
    ("podman", "echo Error: no lock >&2; exit 125", "podman", ERROR),
    ("podman", "exit 127", "podman", ERROR),
    ("podman", "exec sleep 600", "podman", WARNING),
    ("now", "0", "clock", ERROR),
    ("now", "5000000000", "clock", ERROR),
    ("timedatectl", "echo no", "clock_synchronised", WARNING),
    ("timedatectl", "exec sleep 600", "clock_synchronised", WARNING),
    ("proc/sys/kernel/hostname", "localhost", "host_name", ERROR),
    ("proc/sys/kernel/hostname", "", "host_name", ERROR),
    ("proc/sys/kernel/hostname", "under_score", "host_name", ERROR),
    (
        "proc/sys/kernel/hostname",
        "a23456789.b23456789.c23456789.d23456789.e23456789.f23456789.g234",
        "host_name",
        WARNING,
    ),
    ("etc/machine-id", "", "machine_id", ERROR),
    ("etc/machine-id", "0000", "machine_id", ERROR),
    ("etc/machine-id", "uninitialized", "machine_id", WARNING),
    ("ip", "true", "address", WARNING),
    ("ip", "exec sleep 600", "address", WARNING),
    (
        "proc/self/limits",
        "Max open files            1024                 2048                 files",
        "open_files",
        WARNING,
    ),
    (
        "proc/self/limits",
        "Max open files            256                  512                  files",
        "open_files",
        ERROR,
    ),
    ("sys/class/thermal/thermal_zone0/temp", "85000", "temperature", WARNING),
    ("sys/class/thermal/thermal_zone0/temp", "99500", "temperature", ERROR),
    ("sys/block/mmcblk0/device/life_time", "0x01 0x09", "flash_wear", WARNING),
    ("sys/block/mmcblk0/device/life_time", "0x0b 0x01", "flash_wear", ERROR),
    ("sys/block/mmcblk0/device/pre_eol_info", "0x02", "flash_wear", WARNING),
    ("sys/block/mmcblk0/device/pre_eol_info", "0x03", "flash_wear", ERROR),
    ("sys/fs/ext4/mmcblk0p2/errors_count", "3", "file_systems", WARNING),
    ("sys/kernel/debug/mmc0/err_stats", MMC_ERRORS, "mmc_errors", WARNING),
    ("nvme0n1.txt", include_str!("smart/failing.txt"), "disk_health nvme0n1", ERROR),
    ("smartctl", "echo 'SMART overall-health: PASSED'; exit 8", "disk_health nvme0n1", ERROR),
    ("nvme0n1.txt", include_str!("smart/sas.txt"), "disk_wear nvme0n1", WARNING),
    ("nvme0n1.txt", "Percentage Used:                    81%", "disk_wear nvme0n1", WARNING),
    (
        "nvme0n1.txt",
        "Media and Data Integrity Errors:    1,204",
        "disk_unreadable nvme0n1",
        WARNING,
    ),
    (
        "nvme0n1.txt",
        "197 Current_Pending_Sector  0x0032   200   200   000    Old_age   Always       -       8",
        "disk_unreadable nvme0n1",
        WARNING,
    ),
    (
        "nvme0n1.txt",
        "  5 Reallocated_Sector_Ct   0x0033   100   100   010    Pre-fail  Always       -       11",
        "disk_reallocated nvme0n1",
        WARNING,
    ),
    (
        "nvme0n1.txt",
        "177 Wear_Leveling_Count     0x0013   009   009   000    Pre-fail  Always       -       3119",
        "disk_wear nvme0n1",
        WARNING,
    ),
];

#[test]
fn a_healthy_board_has_nothing_to_complain_of() -> Story {
    let board = Board::new()?;
    let report = board.check(&[])?;
    assert_eq!(report.complaints(), Vec::<String>::new());
    assert_eq!(report.code, 0);
    assert!(report.findings().len() > 20, "{:?}", report.json);
    let report = board.check(&["--role", "master"])?;
    assert_eq!((report.complaints(), report.code), (Vec::new(), 0));
    assert_eq!(report.level("port 47098"), OK);
    Ok(())
}

#[test]
fn every_shortage_is_found_with_its_level_limit_and_remedy() -> Story {
    for (what, content, finding, level) in SHORTAGES {
        let board = Board::new()?;
        board.change(what, content)?;
        // what hangs, hangs for longer than that
        let arguments: &[&str] = if content.contains("sleep") { &["--timeout", "4"] } else { &[] };
        let report = board.check(arguments)?;
        let context = format!("{what} = {content:?}: {:#}", report.json);
        assert_eq!(report.level(finding), *level, "{context}");
        assert_eq!(report.code, if *level == ERROR { 2 } else { 1 }, "{context}");
        assert!(!report.text(finding, "remedy").is_empty(), "{context}");
        assert!(!report.text(finding, "value").is_empty(), "{context}");
    }
    Ok(())
}

#[test]
fn what_a_board_lacks_is_said_and_is_no_failure() -> Story {
    let board = Board::new()?;
    for path in ["sys/class/thermal", "sys/devices", "sys/block", "run/systemd", "run/podman"] {
        fs::remove_dir_all(board.root().join(path))?;
    }
    let report = board.check(&[])?;
    assert_eq!(report.level("temperature"), OK);
    assert_eq!(report.level("flash_wear"), OK);
    assert_eq!(report.level("cpu_frequency"), WARNING);
    assert_eq!(report.level("systemd"), WARNING);
    assert_eq!(report.level("podman_socket"), WARNING);
    assert_eq!(report.code, 1);
    // the two other places where boards tell their frequency
    board.change("proc/cpuinfo", "processor : 0\ncpu MHz\t\t: 1495.123\n")?;
    assert_eq!(board.check(&[])?.text("cpu_frequency", "value"), "1495 MHz");
    fs::remove_file(board.root().join("proc/cpuinfo"))?;
    let cpu = board.root().join("proc/device-tree/cpus/cpu@0");
    fs::create_dir_all(&cpu)?;
    fs::write(cpu.join("clock-frequency"), 1_200_000_000_u32.to_be_bytes())?;
    assert_eq!(board.check(&[])?.text("cpu_frequency", "value"), "1200 MHz");
    Ok(())
}

/// Also with nothing at all to look at, there is an answer, and a valid one.
#[test]
fn an_empty_root_gives_errors_and_no_mess() -> Story {
    let board = Board::new()?;
    let empty = tempfile::tempdir()?;
    for role in ["sub", "master"] {
        let output =
            board.command(&["--json", "--role", role]).arg("--root").arg(empty.path()).output()?;
        let json: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!((output.status.code(), json["level"].as_str()), (Some(2), Some(ERROR)));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
    Ok(())
}

#[test]
fn a_master_that_cannot_be_reached_is_a_warning_only() -> Story {
    let board = Board::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = listener.local_addr()?.to_string();
    let gone = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let report = board.check(&["--master", &here, "--master", &gone])?;
    assert_eq!(report.level(&format!("master {here}")), OK);
    assert_eq!(report.level(&format!("master {gone}")), WARNING);
    let said = report.text(&format!("master {gone}"), "value");
    assert_eq!(said, "Connection refused; route by eth0");
    assert_eq!(report.code, 1);
    // a slow one: this board's clock jumps a second at each look
    board.change("now", "jumps")?;
    let report = board.check(&["--master", &here, "--limit", "LATENCY_WARN=500"])?;
    assert_eq!(report.level(&format!("master {here}")), WARNING, "{:#}", report.json);
    Ok(())
}

#[test]
fn masters_are_found_in_the_agents_configuration() -> Story {
    let board = Board::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = listener.local_addr()?.to_string();
    board.change("etc/piccolo/nodeagent.yaml", "masters: [\"[::1\", 'h:99999']\n")?;
    let report = board.check(&[])?;
    for wrong in ["master [::1", "master h:99999"] {
        assert_eq!(report.text(wrong, "value"), "neither HOST nor HOST:PORT", "{:#}", report.json);
        assert!(report.text(wrong, "remedy").contains("nodeagent.yaml"));
    }
    for yaml in ["masters: [ '[::1]:1', \"*\" ]\n", "masters:\n  - \"[::1]:1\"\n"] {
        board.change("etc/piccolo/nodeagent.yaml", yaml)?;
        let report = board.check(&[])?;
        assert_eq!(report.level("master [::1]:1"), WARNING, "{:#}", report.json);
        assert_eq!(report.text("master [::1]:1", "limit"), "reachable", "{:#}", report.json);
    }
    for yaml in [
        format!("name: x\nmasters: # of the cluster\n  - \"{here}\"\n#  - 192.0.2.1\nrole: sub\n"),
        format!("masters: ['{here}']\nlabels:\n  - not-a-master\n"),
    ] {
        board.change("etc/piccolo/nodeagent.yaml", &yaml)?;
        let report = board.check(&[])?;
        assert_eq!(report.level(&format!("master {here}")), OK, "{yaml}");
        let masters = report
            .findings()
            .iter()
            .filter(|f| f["name"].as_str().is_some_and(|n| n.starts_with("master ")));
        assert_eq!(masters.count(), 1, "{yaml}: {:#}", report.json);
    }
    Ok(())
}

#[test]
fn a_port_that_another_program_has_is_an_error_for_a_master_only() -> Story {
    let board = Board::new()?;
    let listening = "  sl  local_address rem_address   st\n   0: 00000000:B7FA 00000000:0000 0A\n   1: 0100007F:B7FB 0100007F:9999 01\n";
    board.change("proc/net/tcp", listening)?;
    assert_eq!(board.check(&[])?.code, 0);
    let report = board.check(&["--role", "master"])?;
    assert_eq!((report.level("port 47098"), report.level("port 47099")), (ERROR, OK));
    assert_eq!(report.text("port 47098", "value"), "in use by nginx");
    assert_eq!(report.code, 2);
    board.change("ss", r#"echo 'LISTEN 0 9 *:47098 *:* users:(("piccolo-master",pid=7,fd=9))'"#)?;
    assert_eq!(board.check(&["--role", "master"])?.code, 0);
    let report = board.check(&["--role", "master", "--port", "47099", "--port", "80"])?;
    assert_eq!((report.level("port 80"), report.code), (OK, 0));
    Ok(())
}

#[test]
fn limits_come_from_a_file_and_from_flags_and_may_be_off() -> Story {
    let board = Board::new()?;
    board.change("proc/meminfo", "MemTotal: 262144 kB\nMemAvailable: 200000 kB\n")?;
    assert_eq!(board.check(&[])?.code, 2);
    board.change("etc/piccolo/system_check.conf", "# small boards\nMEMORY_ERROR = 200 # MiB\n")?;
    let report = board.check(&[])?;
    assert_eq!((report.level("memory"), report.code), (WARNING, 1));
    let report = board.check(&["--limit", "MEMORY_WARN=off"])?;
    assert_eq!((report.level("memory"), report.code), (OK, 0));
    let report = board.check(&["--limit", "MEMORY_WARN=off", "--limit", "MEMORY_ERROR=off"])?;
    assert!(report.finding("memory").is_none());
    let file = board.root().join("limits");
    fs::write(&file, "LOAD_WARN=0.01")?;
    let report = board.check(&["--limits", &file.display().to_string()])?;
    assert_eq!((report.level("cpu_load"), report.level("memory")), (WARNING, ERROR));
    let shown = board.run(&["--print-limits"])?;
    assert!(String::from_utf8(shown.stdout)?.contains("\nMEMORY_ERROR=200\n"));
    Ok(())
}

#[test]
fn wrong_usage_is_said_and_has_a_code_of_its_own() -> Story {
    let board = Board::new()?;
    board.change("bad.conf", "MEMORY_ERROR=much\n")?;
    let bad = board.root().join("bad.conf").display().to_string();
    let wrong: &[(&[&str], &str)] = &[
        (&["--limit", "MEMORY=1"], "`MEMORY` is no limit"),
        (&["--limit", "a[$(touch x)]=1"], "is no limit"),
        (&["--limit", "MEMORY_ERROR"], "is not KEY=VALUE"),
        (&["--limits", "/nowhere"], "/nowhere cannot be read"),
        (&["--limits", &bad], "`much` for MEMORY_ERROR is neither a number"),
        (&["--role", "king"], "`king` is no role"),
        (&["--timeout", "long"], "`long` is no number of seconds"),
        (&["--timeout", "0", "--json"], "`0` is no number of seconds"),
        (&["--timeout", "0.0"], "`0.0` is no number of seconds"),
        (&["--master", ""], "`` is no master"),
        (&["--master", "bad host!"], "`bad host!` is no master"),
        (&["--master", "host:99999"], "`host:99999` is no master"),
        (&["--master", "[::1"], "`[::1` is no master"),
        (&["--master", "::1"], "`::1` is no master"),
        (&["--master", "10.0.0.1:abc"], "`10.0.0.1:abc` is no master"),
        (&["--port", "99999"], "`99999` is no port"),
        (&["--state", "here"], "does not begin with /"),
        (&["--frob"], "`--frob` is no option"),
        (&["--master"], "--master wants a value"),
    ];
    for (arguments, expected) in wrong {
        let output = board.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    let help = String::from_utf8(board.run(&["--help"])?.stdout)?;
    assert!(help.contains("Examples:") && help.contains("Exit code:"), "{help}");
    Ok(())
}

/// Whoever reads the exit code must not take half a check for one with warnings.
#[test]
fn a_check_that_cannot_be_ended_or_told_has_the_code_of_errors() -> Story {
    let board = Board::new()?;
    for arguments in [&[][..], &["--json"], &["--help"], &["--print-limits"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
        let output = board.command(arguments).stdout(full).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("error: what was found cannot be written"), "{said}");
    }
    // a fault of the script itself, as Bash ends with 1 for it
    let scripts = tempfile::tempdir()?;
    for name in ["system_check.sh", "findings.sh"] {
        let text = fs::read_to_string(checkout().join("scripts").join(name))?;
        let faulty =
            text.replace("check_kernel() {\n", "check_kernel() {\n  : \"$no_such_variable\"\n");
        assert_eq!(faulty != text, name == "system_check.sh");
        fs::write(scripts.path().join(name), faulty)?;
    }
    let mut command = Command::new("bash");
    command.arg(scripts.path().join("system_check.sh")).env("PICCOLO_CHECK_ROOT", board.root());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no_such_variable"), "{said}");
    Ok(())
}

/// Each that hangs would cost its own limit if they were asked one after the other.
#[test]
fn all_that_may_hang_is_asked_at_once() -> Story {
    for (role, programs) in [
        ("sub", ["podman", "timedatectl", "ip", "stat", "smartctl"]),
        ("master", ["ss", "timedatectl", "ip", "stat", "smartctl"]),
    ] {
        let board = Board::new()?;
        let met = board.root().join("met").display().to_string();
        for program in programs {
            // nobody answers until all have been asked
            let meet = format!(
                "echo {program} >>{met}; until [ $(sort -u {met} | wc -l) -eq {} ]; do sleep 0.02; done; exit 9",
                programs.len()
            );
            board.change(program, &meet)?;
        }
        let report = board.check(&["--role", role])?;
        assert_eq!(report.text("address", "value"), "ip fails with exit code 9");
        assert_eq!(report.level("state_space"), ERROR);
    }
    Ok(())
}

#[test]
fn an_ip_that_hangs_is_not_one_that_is_missing() -> Story {
    let board = Board::new()?;
    for (ip, value, remedy) in [
        ("exit 127", "unknown: there is no ip", "install iproute2"),
        ("exit 3", "ip fails with exit code 3", "try: ip addr"),
        ("exec sleep 600", "ip: no answer within 4 s", "try: ip addr. "),
    ] {
        board.change("ip", ip)?;
        let report = board.check(&["--timeout", "4"])?;
        assert_eq!((report.level("address"), report.text("address", "value")), (WARNING, value));
        assert!(report.text("address", "remedy").starts_with(remedy), "{:#}", report.json);
    }
    // the addresses are there, and only the route is not told
    board.change(
        "ip",
        "case $2$3 in addrshow) echo '2: eth0 inet 10.0.0.9/24' ;; *) exec sleep 600 ;; esac",
    )?;
    let report = board.check(&["--timeout", "4"])?;
    assert_eq!(report.text("address", "value"), "10.0.0.9 on eth0");
    assert_eq!(report.text("route", "value"), "no default route");
    Ok(())
}

/// Names and messages come from outside; what is made of them stays JSON, and steers no terminal.
#[test]
fn odd_characters_break_neither_json_nor_table() -> Story {
    let board = Board::new()?;
    let odd = b"a\"b\\c\x01\x1b[31m\xff\xc3\xa9\xed\xa0\x80\xf0\x9f\x9a\x97";
    fs::write(board.root().join("proc/sys/kernel/hostname"), [odd.as_slice(), b"\n"].concat())?;
    board.change("podman", "printf 'Error: \\033[2J \\\\ \"\\351\\n' >&2; exit 1")?;
    let report = board.check(&[])?;
    let expected = "a\"b\\c\u{1}\u{1b}[31m\u{fffd}é\u{fffd}\u{fffd}\u{fffd}\u{1f697}";
    assert_eq!(report.text("host_name", "value"), expected);
    assert_eq!(report.json["host"], expected);
    assert_eq!(report.text("podman", "value"), "fails: Error: \u{1b}[2J \\ \"\u{fffd}");
    let table = board.run(&[])?.stdout;
    assert!(table.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n'));
    let table = String::from_utf8(table)?;
    let long = table.lines().find(|line| line.len() > COLUMNS_MAX);
    assert_eq!(long, None, "{table}");
    assert!(table.contains("remedy: give the board a name of its own"), "{table}");
    Ok(())
}

#[test]
fn a_long_value_is_folded_and_nothing_is_lost() -> Story {
    let board = Board::new()?;
    let long = "word ".repeat(60);
    board.change("podman", &format!("echo 'Error: {long}end' >&2; exit 1"))?;
    let table = String::from_utf8(
        board.run(&["--master", &format!("{}.example:1", "x".repeat(60))])?.stdout,
    )?;
    assert!(table.lines().all(|line| line.len() <= COLUMNS_MAX), "{table}");
    assert!(table.contains("end\n"), "{table}");
    Ok(())
}

#[test]
fn disks_tell_their_health_and_wear() -> Story {
    let board = Board::new()?;
    for (disk, sample) in [
        ("sda", include_str!("smart/sata_ssd.txt")),
        ("sdb", include_str!("smart/sata_hdd.txt")),
        ("sdc", "(nobody asks a stick, nor a card)"),
    ] {
        board.change(
            &format!("sys/block/{disk}/removable"),
            if disk == "sdc" { "1" } else { "0" },
        )?;
        board.change(&format!("{disk}.txt"), sample)?;
    }
    board.change("sys/block/mmcblk1/removable", "0")?;
    board.change("sys/kernel/debug/mmc0/err_stats", "# Command Timeout Occurred:\t 99\n")?;
    let report = board.check(&[])?;
    assert_eq!((report.complaints(), report.code), (Vec::new(), 0));
    let disks = report.findings().iter().filter_map(|finding| {
        let name = finding["name"].as_str().filter(|name| name.starts_with("disk_"))?;
        Some(format!("{name}: {}", finding["value"].as_str().unwrap_or_default()))
    });
    let mut disks: Vec<_> = disks.collect();
    disks.sort();
    let expected = [
        "disk_health nvme0n1: PASSED",
        "disk_health sda: PASSED",
        "disk_health sdb: PASSED",
        "disk_reallocated sda: 3 sectors replaced",
        "disk_reallocated sdb: 0 sectors replaced",
        "disk_unreadable nvme0n1: 0 sectors that cannot be read",
        "disk_unreadable sdb: 0 sectors that cannot be read",
        "disk_wear nvme0n1: 7 % of its life used",
        "disk_wear sda: 12 % of its life used",
    ];
    assert_eq!(disks, expected);
    let asked = fs::read_to_string(board.folder.path().join("bin/asked"))?;
    assert!(asked.lines().all(|line| line.starts_with("-n standby -H -A /dev/")), "{asked}");
    assert_eq!(report.level("mmc_errors"), "(not there)", "commands that time out are no fault");
    Ok(())
}

/// What is changed on the board, and what is said of the disk: nothing that worries anybody.
#[test]
fn a_disk_that_cannot_be_asked_worries_nobody_and_says_why() -> Story {
    let cases: &[(&str, &str, &str)] = &[
        ("smartctl", "exit 127", "not read: smartctl is not installed"),
        ("smartctl", "exec sleep 600", "not read: no answer within 4 s"),
        ("smartctl", "trap '' TERM; while :; do sleep 600; done", "not read: no answer within 4 s"),
        ("smartctl", "exec cat /dev/zero", "not read: smartctl tells no health, exit code 141"),
        ("smartctl", "yes 'Percentage Used: 1%'", "not read: smartctl tells no health"),
        (
            "smartctl",
            "echo 'Smartctl open device: /dev/nvme0n1 failed: Permission denied'; exit 2",
            "not read: Smartctl open device: /dev/nvme0n1 failed: Permission denied",
        ),
        (
            "smartctl",
            "echo 'Device is in STANDBY mode, exit(2)'; exit 2",
            "not read: it sleeps, and is left alone",
        ),
        (
            "nvme0n1.txt",
            "Percentage Used: a[$(touch x)]%\n177 x 5 999999999999999999999",
            "not read",
        ),
        ("nvme0n1.txt", "\u{1b}[31m|sdz|FAILED!|9|9|9|", "not read: smartctl tells no health"),
        ("nvme0n1.txt", "SMART overall-health self-assessment test result: UNKNOWN!", "not read"),
    ];
    for (what, content, said) in cases {
        let board = Board::new()?;
        board.change(what, content)?;
        let hangs = content.contains("sleep 600");
        let report = board.check(if hangs { &["--timeout", "4"] } else { &[] })?;
        assert_eq!(report.complaints(), Vec::<String>::new(), "{content}");
        assert_eq!(report.level("disk_health nvme0n1"), OK, "{content}");
        let value = report.text("disk_health nvme0n1", "value");
        assert!(value.starts_with(said), "{content}: {value}");
    }
    Ok(())
}

/// Inside of the agent's unit: systemd runs the same script where there are disks.
#[test]
fn where_there_are_no_devices_systemd_is_asked_to_look() -> Story {
    let board = Board::new()?;
    fs::remove_file(board.root().join("dev/nvme0n1"))?;
    board.change("systemd-run", "while [ \"$1\" != bash ]; do shift; done; exec \"$@\"")?;
    let report = board.check(&[])?;
    assert_eq!(report.text("disk_wear nvme0n1", "value"), "7 % of its life used");
    board.change("systemd-run", "echo 'Failed to connect to bus: No such file'; exit 1")?;
    let report = board.check(&[])?;
    assert_eq!((report.complaints(), report.code), (Vec::new(), 0));
    let said = report.text("disk_health nvme0n1", "value");
    assert_eq!(said, "not read: Failed to connect to bus: No such file");
    Ok(())
}

#[test]
fn a_node_without_containers_needs_no_podman() -> Story {
    let board = Board::new()?;
    board.change("podman", "exit 127")?;
    let report = board.check(&["--no-podman"])?;
    assert_eq!(report.code, 0);
    assert!(
        report
            .findings()
            .iter()
            .all(|f| !f["name"].as_str().unwrap_or_default().contains("podman"))
    );
    Ok(())
}

#[test]
fn a_container_is_run_only_when_asked_for() -> Story {
    let board = Board::new()?;
    assert!(board.check(&[])?.finding("podman_container").is_none());
    let runs = "case $1 in info) echo found 4.9.3 overlay ;; run) echo it runs ;; esac";
    board.change("podman", runs)?;
    assert_eq!(board.check(&["--run-container"])?.level("podman_container"), OK);
    let fails =
        "case $1 in info) echo found 4.9.3 overlay ;; run) echo crun: no >&2; exit 126 ;; esac";
    board.change("podman", fails)?;
    let report = board.check(&["--run-container"])?;
    assert_eq!((report.level("podman_container"), report.code), (ERROR, 2));
    assert_eq!(report.text("podman_container", "value"), "crun: no");
    Ok(())
}

#[test]
fn the_template_shows_every_limit_with_its_default() -> Story {
    let board = Board::new()?;
    let shown = String::from_utf8(board.run(&["--print-limits"])?.stdout)?;
    let template = fs::read_to_string(checkout().join("config/system_check.conf"))?;
    let limits: Vec<&str> = shown.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(limits.len() > 20, "{shown}");
    let in_template = template.lines().filter_map(|line| line.strip_prefix('#'));
    let in_template: Vec<&str> =
        in_template.filter(|line| line.contains('=') && !line.starts_with(' ')).collect();
    assert_eq!(in_template, limits);
    Ok(())
}

#[test]
fn every_check_is_in_the_reference() -> Story {
    let board = Board::new()?;
    let reference = fs::read_to_string(checkout().join("docs/operations/system-check.md"))?;
    board.change(
        "podman",
        "case $1 in info) echo found 4.9.3 overlay ;; run) echo it runs ;; esac",
    )?;
    let mut names = Vec::new();
    for role in ["sub", "master"] {
        let report =
            board.check(&["--role", role, "--run-container", "--master", "127.0.0.1:1"])?;
        names
            .extend(report.findings().iter().filter_map(|f| f["name"].as_str().map(str::to_owned)));
    }
    for name in names {
        let name = name.split(' ').next().unwrap_or_default();
        assert!(reference.contains(&format!("`{name}")), "{name} is not explained");
    }
    let shown = String::from_utf8(board.run(&["--print-limits"])?.stdout)?;
    for key in shown.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key) {
        assert!(key.starts_with('#') || reference.contains(key), "{key} is not explained");
    }
    Ok(())
}

/// A healthy board, to be spoilt.
struct Board {
    folder: TempDir,
    _socket: UnixListener,
}

struct Report {
    json: Value,
    code: i32,
}

impl Board {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let podman = folder.path().join("root/run/podman");
        fs::create_dir_all(&podman)?;
        let socket = UnixListener::bind(podman.join("podman.sock"))?;
        let board = Self { folder, _socket: socket };
        for (path, content) in [
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1200000"),
            ("proc/loadavg", "0.10 0.20 0.30 1/99 1"),
            ("proc/stat", "cpu 1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\ncpu2 1 2 3\ncpu3 1 2 3\nintr 5\n"),
            ("proc/meminfo", "MemTotal: 507904 kB\nMemFree: 1 kB\nMemAvailable: 300000 kB\n"),
            (
                "proc/mounts",
                "/dev/a / ext4 rw 0 0\n/dev/b /boot\\040x vfat ro 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
            ),
            ("proc/sys/kernel/osrelease", "6.1.0-18-arm64"),
            ("proc/sys/kernel/hostname", "board-9"),
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files",
            ),
            ("proc/1/comm", "systemd"),
            ("proc/net/tcp", "  sl  local_address rem_address   st\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids"),
            ("sys/class/thermal/thermal_zone0/temp", "45123"),
            ("sys/block/mmcblk0/device/life_time", "0x01 0x02"),
            ("sys/fs/ext4/mmcblk0p2/errors_count", "0"),
            ("sys/block/nvme0n1/removable", "0"),
            ("dev/nvme0n1", ""),
            ("smartctl", SMARTCTL),
            ("nvme0n1.txt", include_str!("smart/nvme.txt")),
            ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4"),
            ("run/systemd/system/x", ""),
            ("var/lib/containers/x", ""),
            ("disk", "2560000 4096 100000 50000"),
            ("disk-containers", "2560000 4096 100000 50000"),
            ("now", "1767225600"),
            ("podman", "echo 'a warning first' >&2; echo found 4.9.3 overlay"),
            ("timedatectl", "echo yes"),
            (
                "ip",
                "case \"$*\" in *addr*) echo '2: eth0    inet 10.0.0.9/24 scope global eth0' ;; *) echo 'x dev eth0 y' ;; esac",
            ),
            ("ss", r#"echo 'LISTEN 0 9 *:47098 *:* users:(("nginx",pid=7,fd=9))'"#),
            ("date", DATE),
            ("stat", STAT),
        ] {
            board.change(path, content)?;
        }
        Ok(board)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A file of the board; without a slash, one of the programs, or what they answer.
    fn change(&self, what: &str, content: &str) -> Story {
        const PROGRAMS: [&str; 8] =
            ["podman", "timedatectl", "ip", "ss", "date", "stat", "smartctl", "systemd-run"];
        let is_program = PROGRAMS.contains(&what);
        let answers = !is_program && !what.contains('/') && !what.ends_with(".conf");
        let path = if is_program || answers {
            self.folder.path().join("bin").join(what)
        } else {
            self.root().join(what)
        };
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        if is_program {
            fs::write(&path, format!("#!/bin/sh\n{content}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        } else {
            fs::write(&path, format!("{content}\n"))?;
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        let path =
            format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.folder.path().join("bin").display());
        command.arg(checkout().join("scripts/system_check.sh")).args(arguments);
        command.env_clear().env("PATH", path).env("PICCOLO_CHECK_ROOT", self.root());
        command.process_group(0);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
        Ok(self.command(arguments).output()?)
    }

    fn check(&self, arguments: &[&str]) -> Result<Report, Box<dyn Error>> {
        let arguments = [PATIENT.as_slice(), arguments].concat();
        let output = self.command(&arguments).arg("--json").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "it complains");
        let json = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stdout)))?;
        Ok(Report { json, code: output.status.code().unwrap_or(-1) })
    }
}

impl Report {
    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().map_or(&[], Vec::as_slice)
    }

    fn finding(&self, name: &str) -> Option<&Value> {
        self.findings().iter().find(|finding| finding["name"] == name)
    }

    fn level(&self, name: &str) -> &str {
        self.text(name, "level")
    }

    fn text(&self, name: &str, field: &str) -> &str {
        self.finding(name).and_then(|finding| finding[field].as_str()).unwrap_or("(not there)")
    }

    fn complaints(&self) -> Vec<String> {
        let bad = self.findings().iter().filter(|finding| finding["level"] != OK);
        bad.map(ToString::to_string).collect()
    }
}

/// Says what is in `DISK.txt`, and notes how it was asked.
const SMARTCTL: &str = r#"printf "%s\n" "$*" >>"${0%/*}/asked"
for disk; do :; done
cat "${0%/*}/${disk##*/}.txt""#;

/// As the kernel prints them.
const MMC_ERRORS: &str = "# Command Timeout Occurred:\t 4
# Command CRC Errors Occurred:\t 0
# Data Timeout Occurred:\t 2
# Data CRC Errors Occurred:\t 9
# Auto-Cmd Error Occurred:\t 0
# ADMA Error Occurred:\t 0
# Request Timedout:\t 0";

/// `now` is the time, or `jumps`: a second at each look in nanoseconds.
const DATE: &str = r#"here=${0%/*}
read now <"$here/now"
case $now:$* in
  jumps:+%s%N) echo x >>"$here/looks"; echo "$(wc -l <"$here/looks")000000000" ;;
  jumps:*) exec /bin/date "$@" ;;
  *:+%s) echo "$now" ;;
  *) exec /bin/date "$@" ;;
esac"#;

/// `disk` and `disk-containers` are what it says of the two places.
const STAT: &str = r#"case $* in *containers) file=disk-containers ;; *) file=disk ;; esac
cat "${0%/*}/$file""#;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
