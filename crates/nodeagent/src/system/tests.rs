use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A board made of files. `set` writes one below proc, sys or etc.
pub(super) struct Board {
    root: TempDir,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(super) fn set(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A symbolic link, as the kernel makes one for each device.
    pub(super) fn link(&self, path: &str, target: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    pub(super) fn roots(&self) -> Roots {
        let at = |name| self.root.path().join(name);
        Roots { proc: at("proc"), sys: at("sys"), etc: at("etc") }
    }

    fn sampler(&self) -> Sampler {
        patient(Sampler::new(self.roots(), [self.root.path().to_owned()]))
    }

    /// A file whose reader is held up until somebody writes to it.
    pub(super) fn hang(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        path
    }
}

/// However slow the machine is.
fn patient(mut sampler: Sampler) -> Sampler {
    sampler.beside.patience = Duration::from_secs(60);
    sampler
}

const MEMINFO: &str = "MemTotal:        1024 kB\nMemFree:  100 kB\nMemAvailable:    256 kB\n";

#[test]
fn the_cpu_share_is_what_was_busy_between_two_samples() {
    let board = Board::new();
    let mut sampler = board.sampler();
    let start = Instant::now();
    board.set("proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5 0\n");
    let first = sampler.sample(start);
    assert_eq!((first.cpu_basis_points, first.cpu_cores), (None, Some(2)));
    board.set("proc/stat", "cpu  110 0 115 770 105 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5 0\n");
    assert_eq!(sampler.sample(start).cpu_basis_points, Some(2500));
}

#[test]
fn a_counter_that_goes_back_is_no_progress_and_no_panic() {
    let board = Board::new();
    let mut sampler = board.sampler();
    board.set("proc/stat", "cpu 100 0 100 700 900 0 0 0\n");
    sampler.sample(Instant::now());
    board.set("proc/stat", "cpu 150 0 150 800 100 0 0 0\n");
    assert_eq!(sampler.sample(Instant::now()).cpu_basis_points, Some(10_000));
}

#[test]
fn memory_load_and_uptime_are_read_with_their_units() {
    let board = Board::new();
    board.set("proc/meminfo", MEMINFO);
    board.set("proc/loadavg", "0.52 1.05 12.00 1/234 5678\n");
    board.set("proc/uptime", "350735.47 234388.90\n");
    let mut sampler = board.sampler();
    let sample = sampler.sample(Instant::now());
    assert_eq!(sample.memory_total_bytes, Some(1_048_576));
    assert_eq!(sample.memory_used_basis_points(), Some(7500));
    let load = Load { one_minute_x100: 52, five_minutes_x100: 105, fifteen_minutes_x100: 1200 };
    assert_eq!(sample.load, Some(load));
    assert_eq!(sample.uptime_s, Some(350_735));
}

#[test]
fn an_old_kernel_without_available_memory_counts_free_and_cached() {
    let memory = parse::memory(b"MemTotal: 100 kB\nMemFree: 10 kB\nCached: 5 kB\n");
    assert_eq!(memory.available_bytes, Some(15 * 1024));
}

#[test]
fn network_rates_count_each_byte_once() {
    let board = Board::new();
    let mut sampler = board.sampler();
    let start = Instant::now();
    let dev = |rx: u64, tx: u64| {
        format!(
            "Inter-|   Receive                |  Transmit\n face |bytes    packets\n    \
             lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0:{rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n\
             veth12: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n wlan0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"
        )
    };
    board.set("proc/net/dev", dev(1000, 2000));
    assert_eq!(sampler.sample(start).network_rx_bytes_per_s, None);
    board.set("proc/net/dev", dev(6000, 12_000));
    let sample = sampler.sample(start + Duration::from_secs(5));
    assert_eq!(sample.network_rx_bytes_per_s, Some(1000));
    assert_eq!(sample.network_tx_bytes_per_s, Some(2000));
    board.set("proc/net/dev", dev(10, 10));
    let after_reset = sampler.sample(start + Duration::from_secs(10));
    assert_eq!(after_reset.network_rx_bytes_per_s, None);
}

#[test]
fn sensors_are_found_named_and_read() {
    let board = Board::new();
    board.set("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    board.set("sys/class/thermal/thermal_zone0/temp", "48312\n");
    board.set("sys/class/thermal/cooling_device0/type", "fan\n");
    board.set("sys/class/hwmon/hwmon0/name", "nvme\n");
    board.set("sys/class/hwmon/hwmon0/temp1_label", "Composite\n");
    board.set("sys/class/hwmon/hwmon0/temp1_input", "-5000\n");
    board.set("sys/class/hwmon/hwmon1/temp2_input", "255000\n");
    let mut sampler = board.sampler();
    let sample = sampler.sample(Instant::now()).clone();
    let readings: Vec<_> =
        sample.temperatures.iter().map(|t| (t.name.as_str(), t.millidegrees)).collect();
    let expected =
        [("cpu-thermal", Some(48_312)), ("nvme Composite", Some(-5000)), ("hwmon1 2", None)];
    assert_eq!(readings, expected);
    assert_eq!(sample.hottest_millidegrees(), Some(48_312));
}

#[test]
fn a_missing_board_gives_an_empty_sample_and_heals_when_files_appear() {
    let board = Board::new();
    let mut sampler = patient(Sampler::new(board.roots(), ["/no/such/disk".into()]));
    let empty = sampler.sample(Instant::now()).clone();
    let disk = Disk { path: "/no/such/disk".into(), total_bytes: None, free_bytes: None };
    assert_eq!(empty, Sample { disks: vec![disk], ..Sample::default() });
    board.set("proc/meminfo", MEMINFO);
    assert!(sampler.sample(Instant::now()).memory_total_bytes.is_some());
}

#[test]
fn a_sensor_that_never_answers_holds_up_nothing_and_is_named() {
    let board = Board::new();
    board.set("proc/meminfo", MEMINFO);
    board.set("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    let sensor = board.hang("sys/class/thermal/thermal_zone0/temp");
    let mut sampler = Sampler::new(board.roots(), [board.root.path().to_owned()]);
    let later = Instant::now() + Duration::from_secs(3600);
    // each call comes back, whether or not the thread has got as far as the sensor
    let (what, waited) = loop {
        let sample = sampler.sample(Instant::now());
        assert!(sample.memory_total_bytes.is_some());
        assert_eq!(sample.disks[0].total_bytes, None, "it has not answered");
        if let Some(waits) = sampler.waits_for(later).filter(|(what, _)| *what == sensor) {
            break waits;
        }
    };
    assert!(waited > Duration::from_secs(3000), "{} for {waited:?}", what.display());
    // a writer is what its open waits for; nothing is written, since a FIFO cannot be read at a place of one's own
    // and who reads it may have closed it by then: it has answered, with nothing
    drop(fs::File::options().write(true).open(&sensor).unwrap());
    while sampler.sample(Instant::now()).disks[0].total_bytes.is_none() {}
    assert_eq!(sampler.sample(Instant::now()).temperatures.len(), 1);
}

#[test]
fn host_facts_come_from_the_kernel_and_the_distribution() {
    let board = Board::new();
    board.set("proc/sys/kernel/hostname", "zone-a\n");
    board.set("proc/sys/kernel/osrelease", "6.1.0-rt\n");
    board.set("proc/sys/kernel/random/boot_id", "b7c0ffee-0000\n");
    board.set("proc/stat", "cpu 1 1 1 1\ncpu0 1\n");
    board.set("proc/meminfo", MEMINFO);
    board.set("etc/os-release", "NAME=x\nID=poky\nVERSION_ID='4.0'\nPRETTY_NAME=\"Poky 4\"\n");
    board.set("etc/machine-id", "abc\n");
    let host = HostInfo::read(&board.roots());
    assert_eq!(host.hostname.as_deref(), Some("zone-a"));
    assert_eq!(host.kernel_release.as_deref(), Some("6.1.0-rt"));
    assert_eq!(host.boot_id.as_deref(), Some("b7c0ffee-0000 0"));
    assert_eq!(host.os_name.as_deref(), Some("Poky 4"));
    assert_eq!((host.os_id.as_deref(), host.os_version.as_deref()), (Some("poky"), Some("4.0")));
    assert_eq!((host.cpu_cores, host.memory_total_bytes), (Some(1), Some(1_048_576)));
    assert_eq!(HostInfo::read(&Board::new().roots()).hostname, None);
}

#[test]
fn a_board_is_up_for_as_long_as_its_first_process() {
    let board = Board::new();
    assert_eq!(up_for(&board.roots()), None);
    board.set("proc/sys/kernel/random/boot_id", "b7c0ffee-0000\n");
    let ticks = rustix::param::clock_ticks_per_second();
    board.set("proc/uptime", "1000.99 234.90\n");
    let fields = "S 0 1 1 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0";
    board.set("proc/1/stat", format!("1 (a) b)) {fields} {} 99 1\n", 700 * ticks));
    assert_eq!(up_for(&board.roots()), Some(Duration::from_secs(300)));
    let boot = HostInfo::read(&board.roots()).boot_id;
    assert_eq!(boot.as_deref(), Some("b7c0ffee-0000 700"));
}

#[test]
fn the_machine_this_runs_on_has_cores_memory_disk_and_uptime() {
    let mut sampler = patient(Sampler::new(Roots::default(), ["/".into()]));
    sampler.sample(Instant::now());
    let sample = sampler.sample(Instant::now() + Duration::from_secs(1));
    assert!(sample.cpu_cores.is_some_and(|cores| cores > 0));
    assert!(sample.memory_total_bytes > sample.memory_available_bytes);
    assert!(sample.disks.iter().all(|disk| disk.total_bytes > disk.free_bytes));
    assert!(sample.network_rx_bytes_per_s.is_some());
    assert!(sample.load.is_some() && sample.uptime_s.is_some());
    assert!(HostInfo::read(&Roots::default()).boot_id.is_some());
}

#[test]
fn a_file_larger_than_the_first_buffer_is_read_from_its_start() {
    let board = Board::new();
    let cores: String = (0..400).map(|n| format!("cpu{n} 1 2 3 4 5 6 7 8\n")).collect();
    board.set("proc/stat", format!("cpu 1 1 1 1 1 1 1 1\n{cores}intr 1\n"));
    assert_eq!(board.sampler().sample(Instant::now()).cpu_cores, Some(400));
}

/// Text that is almost right, which reaches further into a parser than noise does.
fn almost_right() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("cpu".to_owned()),
        Just("cpu0".to_owned()),
        Just("MemTotal:".to_owned()),
        Just("MemAvailable:".to_owned()),
        Just("eth0:".to_owned()),
        Just("0::/".to_owned()),
        Just("\n".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("-9.99999".to_owned()),
        any::<u64>().prop_map(|n| n.to_string()),
        ".{0,4}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" ").into_bytes())
}

proptest! {
    #[test]
    fn no_parser_panics_whatever_the_file_holds(
        text in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), almost_right()],
        before in any::<(u64, u64)>(),
        micros in any::<u32>(),
    ) {
        if let Some(stat) = parse::cpu(&text) {
            let before = CpuTimes { busy_ticks: before.0, idle_ticks: before.1 };
            let share = stat.times.busy_basis_points_since(before);
            prop_assert!(share.is_none_or(|points| points <= 10_000));
        }
        if let Some(totals) = parse::network(&text) {
            let before = NetworkTotals { rx_bytes: before.0, tx_bytes: before.1 };
            totals.bytes_per_s_since(before, Duration::from_micros(micros.into()));
        }
        let memory = parse::memory(&text);
        let sample = Sample {
            memory_total_bytes: memory.total_bytes,
            memory_available_bytes: memory.available_bytes,
            ..Sample::default()
        };
        prop_assert!(sample.memory_used_basis_points().is_none_or(|points| points <= 10_000));
        parse::load(&text);
        parse::uptime_s(&text);
        parse::os_release_value(&text, "ID");
        prop_assert!(parse::first_line(&text).is_none_or(|line| !line.is_empty()));
        prop_assert!(parse::millidegrees(&text).is_none_or(|t| (-100_000..=200_000).contains(&t)));
    }

    #[test]
    fn every_number_that_is_printed_is_read_back(value in any::<u64>()) {
        prop_assert_eq!(parse::number(value.to_string().as_bytes()), Some(value));
    }
}

#[test]
fn a_disk_is_measured_by_its_file_system() {
    let space = disk_space(Path::new("/")).unwrap();
    assert!(space.0 >= space.1 && space.0 > 0);
}
