//! Boards made of files, as the kernels of real ones write them.

use proptest::prelude::*;

use super::*;
use crate::system::tests::Board;

/// Written as a table: sign, part, value and limit of each reading.
#[track_caller]
fn check(board: &Board, expect: &[(Sign, &str, u64, Option<u64>)]) {
    let seen = look(&board.roots());
    let seen: Vec<_> = seen.iter().map(|r| (r.sign, r.part.as_str(), r.value, r.limit)).collect();
    assert_eq!(seen, expect);
}

fn board(files: &[(&str, &str)]) -> Board {
    let board = Board::new();
    for (path, text) in files {
        board.set(path, text);
    }
    board
}

const MMC: &str = "sys/block/mmcblk0/device";
const ZONE: &str = "sys/class/thermal/thermal_zone0";

/// An ARM board with eMMC: everything is well.
fn healthy() -> Board {
    let board = board(&[
        ("sys/devices/system/edac/mc/mc0/ce_count", "0\n"),
        ("sys/devices/system/edac/mc/mc0/ue_count", "0\n"),
        ("sys/class/watchdog/watchdog0/identity", "imx2+ watchdog\n"),
        ("sys/class/watchdog/watchdog0/state", "active\n"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1800000\n"),
        ("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000\n"),
        ("sys/class/thermal/cooling_device0/type", "thermal-cpufreq-0\n"),
        ("sys/class/thermal/cooling_device0/cur_state", "0\n"),
        ("sys/class/thermal/cooling_device1/type", "pwm-fan\n"),
        ("sys/class/thermal/cooling_device1/cur_state", "3\n"),
        ("sys/fs/ext4/mmcblk0p2/errors_count", "0\n"),
        ("sys/block/loop0/size", "0\n"),
        ("proc/self/mountinfo", MOUNTS),
    ]);
    for (file, text) in [("life_time", "0x01 0x02\n"), ("pre_eol_info", "0x01\n")] {
        board.set(&format!("{MMC}/{file}"), text);
        board.set(&format!("sys/block/mmcblk0boot0/device/{file}"), text);
    }
    for (file, text) in [
        ("type", "cpu-thermal\n"),
        ("temp", "48312\n"),
        ("trip_point_0_type", "passive\n"),
        ("trip_point_0_temp", "85000\n"),
        ("trip_point_1_type", "critical\n"),
        ("trip_point_1_temp", "95000\n"),
    ] {
        board.set(&format!("{ZONE}/{file}"), text);
    }
    board.link("sys/dev/block/179:2", "../../devices/platform/mmc/block/mmcblk0/mmcblk0p2");
    board
}

/// The root is mounted read-only for the agent and is not; what it was installed on is read-only on purpose.
const MOUNTS: &str = "\
22 1 179:2 / / ro,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
23 1 179:3 / /usr ro,relatime - squashfs /dev/mmcblk0p3 ro
24 22 0:5 / /proc rw,nosuid shared:5 - proc proc rw
";

const WELL: [(Sign, &str, u64, Option<u64>); 5] = [
    (Sign::EccCorrected, "mc0", 0, None),
    (Sign::EccUncorrected, "mc0", 0, None),
    (Sign::FlashWear, "mmcblk0", 20, None),
    (Sign::Watchdog, "imx2+ watchdog", 1, None),
    (Sign::Heat, "cpu-thermal", 49, Some(95)),
];

#[test]
fn a_healthy_board_says_so() {
    check(&healthy(), &WELL);
}

#[test]
fn flash_is_as_worn_as_its_worse_half_and_as_its_reserve_says() {
    let emmc = |life: &str, reserve: &str| {
        let board = Board::new();
        board.set(&format!("{MMC}/life_time"), life);
        board.set(&format!("{MMC}/pre_eol_info"), reserve);
        look(&board.roots()).first().map(|r| (r.sign, r.value))
    };
    let worn = |percent| Some((Sign::FlashWear, percent));
    assert_eq!(emmc("0x02 0x09\n", "0x01\n"), worn(90));
    assert_eq!(emmc("0x0b 0x01\n", "0x01\n"), worn(110));
    assert_eq!(emmc("0x01 0x01\n", "0x02\n"), worn(90));
    assert_eq!(emmc("0x01 0x01\n", "0x03\n"), worn(110));
    assert_eq!(emmc("0x05\n", ""), worn(50));
    assert_eq!(emmc("0x00 0x00\n", "0x00\n"), None, "an old card does not tell");
    assert_eq!(emmc("0xff -1\n", "0x01\n"), None);
}

#[test]
fn the_flash_of_a_phone_is_worn_as_one_however_many_units_it_shows() {
    let board = board(&[
        ("sys/devices/soc/ufs/health_descriptor/life_time_estimation_a", "0x03\n"),
        ("sys/devices/soc/ufs/health_descriptor/life_time_estimation_b", "0x04\n"),
        ("sys/devices/soc/ufs/health_descriptor/eol_info", "0x01\n"),
        ("sys/devices/soc/ufs/host0/target0:0:0/0:0:0:0/state", "running\n"),
        ("sys/devices/soc/ufs/host0/target0:0:0/0:0:0:1/state", "running\n"),
    ]);
    let unit = "../../devices/soc/ufs/host0/target0:0:0/0:0:0";
    board.link("sys/block/sda/device", &format!("{unit}:0"));
    board.link("sys/block/sdb/device", &format!("{unit}:1"));
    check(&board, &[(Sign::FlashWear, "ufs", 40, None)]);
}

#[test]
fn a_throttled_board_is_told_by_kernel_counters_and_firmware() {
    let board = healthy();
    board.set(&format!("{ZONE}/temp"), "86000\n");
    board.set("sys/class/thermal/cooling_device0/cur_state", "2\n");
    board.set("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000\n");
    board.set("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "7\n");
    board.set("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "5\n");
    board.set("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    let [ecc, uncorrected, wear, watchdog, _] = WELL;
    let expect = [
        ecc,
        uncorrected,
        wear,
        (Sign::Throttles, "cpu", 12, None),
        (Sign::ClockCap, "policy0", 55, None),
        (Sign::Slowed, "thermal-cpufreq-0", 1, None),
        (Sign::VoltageLow, "firmware", 1, None),
        (Sign::Slowed, "firmware", 1, None),
        watchdog,
        (Sign::PassiveHeat, "cpu-thermal", 86, Some(85)),
        (Sign::Heat, "cpu-thermal", 86, Some(95)),
    ];
    check(&board, &expect);
}

#[test]
fn a_low_supply_is_told_by_its_chip_or_by_its_battery() {
    let board = board(&[
        ("sys/class/hwmon/hwmon0/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n"),
        ("sys/class/hwmon/hwmon1/name", "nct6775\n"),
        ("sys/class/hwmon/hwmon1/in3_alarm", "1\n"),
        ("sys/class/hwmon/hwmon1/in4_min_alarm", "0\n"),
        ("sys/class/hwmon/hwmon1/in4_label", "+5V\n"),
        ("sys/class/hwmon/hwmon1/curr1_min_alarm", "1\n"),
        ("sys/class/power_supply/BAT0/status", "Discharging\n"),
        ("sys/class/power_supply/BAT0/capacity", "17\n"),
        ("sys/class/power_supply/BAT1/status", "Full\n"),
        ("sys/class/power_supply/BAT1/capacity", "100\n"),
        ("sys/class/power_supply/mouse/scope", "Device\n"),
        ("sys/class/power_supply/mouse/status", "Discharging\n"),
        ("sys/class/power_supply/mouse/capacity", "3\n"),
    ]);
    let expect = [
        (Sign::VoltageLow, "rpi_volt in0", 1, None),
        (Sign::VoltageLow, "nct6775 +5V", 0, None),
        (Sign::Battery, "BAT0", 17, None),
        (Sign::Charging, "BAT1", 100, None),
    ];
    check(&board, &expect);
}

#[test]
fn errors_of_memory_and_disks_are_counted_as_they_are_written() {
    let board = board(&[
        ("sys/devices/system/edac/mc/mc0/ce_count", "1240\n"),
        ("sys/devices/system/edac/mc/mc0/ue_count", "1\n"),
        ("sys/block/sda/device/ioerr_cnt", "0x1f\n"),
        ("sys/block/sda/device/state", "offline\n"),
        ("sys/block/nvme0n1/device/state", "live\n"),
        ("sys/block/sr0/device/ioerr_cnt", "0x99\n"),
        ("sys/fs/ext4/sda1/errors_count", "2\n"),
        ("sys/fs/ext4/features/casefold", "supported\n"),
    ]);
    let expect = [
        (Sign::EccCorrected, "mc0", 1240, None),
        (Sign::EccUncorrected, "mc0", 1, None),
        (Sign::DiskErrors, "sda", 31, None),
        (Sign::DiskGone, "sda", 1, None),
        (Sign::FileSystemErrors, "sda1", 2, None),
    ];
    check(&board, &expect);
}

#[test]
fn a_file_system_is_read_only_by_errors_only_where_it_has_some() {
    let read_only = |line: &str, errors: &str| {
        let board = healthy();
        board.set("sys/fs/ext4/mmcblk0p2/errors_count", errors);
        board.set("proc/self/mountinfo", line);
        let seen = look(&board.roots());
        seen.iter().find(|r| r.sign == Sign::ReadOnly).map(|r| r.part.clone())
    };
    let root =
        |options| format!("22 1 179:2 / / rw shared:1 master:2 - ext4 /dev/root {options}\n");
    assert_eq!(read_only(&root("ro,errors=remount-ro"), "3\n").as_deref(), Some("/"));
    assert_eq!(read_only(&root("ro,errors=remount-ro"), "0\n"), None, "somebody wanted it so");
    assert_eq!(read_only(&root("rw,errors=continue"), "3\n"), None);
    assert_eq!(read_only(&root("rw,emergency_ro"), "0\n").as_deref(), Some("/"));
    let xfs = "30 1 8:1 / /data rw - xfs /dev/sda1 rw,shutdown\n";
    assert_eq!(read_only(xfs, "0\n").as_deref(), Some("/data"));
}

#[test]
fn of_many_sensors_those_nearest_to_their_limit_are_told_and_a_zone_once() {
    let board = healthy();
    board.set("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
    board.set("sys/class/hwmon/hwmon0/temp1_input", "48312\n");
    board.set("sys/class/hwmon/hwmon0/temp1_crit", "95000\n");
    for chip in 1..=20 {
        let at = format!("sys/class/hwmon/hwmon{chip}");
        board.set(&format!("{at}/name"), format!("chip{chip}\n"));
        board.set(&format!("{at}/temp1_input"), format!("{}\n", 40_000 + chip * 1000));
        board.set(&format!("{at}/temp1_crit"), "100000\n");
        // unset limits look like this
        board.set(&format!("{at}/temp2_input"), "40000\n");
        board.set(&format!("{at}/temp2_crit"), "65261850\n");
    }
    let told = look(&board.roots()).into_iter().filter(|r| r.sign == Sign::Heat);
    let told: Vec<_> = told.map(|r| r.part).collect();
    assert_eq!(told, ["chip20", "chip19", "chip18", "chip17", "chip16", "chip15"]);
}

#[test]
fn an_empty_board_has_nothing_to_say() {
    check(&Board::new(), &[]);
}

#[test]
fn what_makes_no_sense_is_not_told() {
    let board = healthy();
    for (at, nonsense) in [
        ("sys/devices/system/edac/mc/mc0/ce_count", "99999999999999999999999999\n"),
        ("sys/devices/system/edac/mc/mc0/ue_count", "-1\n"),
        ("sys/block/mmcblk0/device/life_time", "\u{1}\u{2}\u{3}"),
        ("sys/class/thermal/thermal_zone0/temp", "-274000\n"),
        ("sys/class/thermal/cooling_device0/cur_state", "-1\n"),
        ("sys/class/watchdog/watchdog0/state", ""),
        ("sys/class/power_supply/BAT0/capacity", "4000\n"),
        ("sys/class/hwmon/hwmon0/in0_min_alarm", "7\n"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "ffffffffffff\n"),
        ("proc/self/mountinfo", "- - - - -\n1 2 3 - a b c\n"),
    ] {
        board.set(at, nonsense);
    }
    check(&board, &[]);
}

#[test]
fn an_endless_file_is_read_for_a_while_only() {
    let board = healthy();
    let endless = "9".repeat(10 << 20);
    for at in [
        "sys/devices/system/edac/mc/mc0/ce_count",
        "sys/class/watchdog/watchdog0/identity",
        "proc/self/mountinfo",
    ] {
        board.set(at, &endless);
    }
    let seen = look(&board.roots());
    assert!(seen.iter().all(|r| r.part.len() <= 256 && r.sign != Sign::EccCorrected), "{seen:?}");
}

#[test]
fn the_machine_this_runs_on_is_not_called_broken() {
    let seen = look(&Roots::default());
    let broken = |r: &&Reading| matches!(r.sign, Sign::ReadOnly | Sign::DiskGone);
    assert_eq!(seen.iter().find(broken), None);
    assert!(seen.len() <= READINGS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_content_of_any_file_breaks_a_look(
        texts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                any::<i64>().prop_map(|n| format!("{n}\n").into_bytes()),
                any::<u64>().prop_map(|n| format!("0x{n:x} 0x{n:x}\n").into_bytes()),
                "([a-z0-9:/,]{0,6} ){0,9}- [a-z0-9 ,]{0,20}".prop_map(String::into_bytes),
            ],
            24,
        ),
    ) {
        let board = Board::new();
        for (file, text) in FILES.iter().zip(texts) {
            board.set(file, text);
        }
        let seen = look(&board.roots());
        prop_assert!(seen.len() <= READINGS_MAX);
        for reading in seen {
            let most = match reading.sign {
                Sign::FlashWear => 110,
                Sign::Battery | Sign::Charging | Sign::ClockCap => 100,
                Sign::Heat | Sign::PassiveHeat => 200,
                Sign::Slowed | Sign::VoltageLow | Sign::DiskGone | Sign::ReadOnly
                | Sign::Watchdog | Sign::NoWatchdog => 1,
                Sign::Throttles | Sign::DiskErrors | Sign::FileSystemErrors
                | Sign::EccCorrected | Sign::EccUncorrected | Sign::NoAnswer => u64::MAX,
            };
            prop_assert!(reading.value <= most, "{:?}", reading);
        }
    }
}

const FILES: [&str; 24] = [
    "sys/devices/system/edac/mc/mc0/ce_count",
    "sys/devices/system/edac/mc/mc0/ue_count",
    "proc/self/mountinfo",
    "sys/block/mmcblk0/device/life_time",
    "sys/block/mmcblk0/device/pre_eol_info",
    "sys/block/sda/device/ioerr_cnt",
    "sys/block/sda/device/state",
    "sys/fs/ext4/sda1/errors_count",
    "sys/class/hwmon/hwmon0/name",
    "sys/class/hwmon/hwmon0/in0_lcrit_alarm",
    "sys/class/hwmon/hwmon0/temp1_input",
    "sys/class/hwmon/hwmon0/temp1_crit",
    "sys/class/power_supply/BAT0/status",
    "sys/class/power_supply/BAT0/capacity",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq",
    "sys/class/thermal/cooling_device0/type",
    "sys/class/thermal/cooling_device0/cur_state",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/class/watchdog/watchdog0/state",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
];
