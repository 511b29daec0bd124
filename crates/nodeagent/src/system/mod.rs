//! How the board is doing: CPU, memory, disks, network, load, temperatures, uptime.
//!
//! A [`Sampler`] keeps every file it reads open and reads it again from offset 0, because opening
//! costs more than reading. Buffers are reused, so a sample allocates nothing once the first one is
//! taken. A file that is missing, unreadable or malformed makes its own figure `None` and nothing
//! else; it is opened again at the next sample. What may never answer is read [`beside`] the loop. HLD §4.2 (resources of a node), §8.1 (below 1 % CPU).

pub(crate) mod beside;
pub(crate) mod hardware;
mod host;
mod kept_file;
pub(crate) mod parse;
mod sensors;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use host::{HostInfo, up_for};
pub(crate) use kept_file::KeptFile;
pub use sensors::Temperature;

use beside::Beside;
use parse::{CpuTimes, NetworkTotals};

/// Where the kernel's and the distribution's files are. Tests name a folder of their own.
#[derive(Debug, Clone)]
pub struct Roots {
    pub proc: PathBuf,
    pub sys: PathBuf,
    /// Holds `os-release` and `machine-id`.
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into() }
    }
}

/// One look at the board. `None` means that the figure could not be read this time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Busy share of all cores together since the sample before, 0..=10000 (hundredths of a per
    /// cent). `None` in the first sample: there is nothing to compare with.
    pub cpu_basis_points: Option<u16>,
    pub cpu_cores: Option<u16>,
    pub memory_total_bytes: Option<u64>,
    /// What a new process could get without swapping (the kernel's `MemAvailable`).
    pub memory_available_bytes: Option<u64>,
    pub disks: Vec<Disk>,
    /// Received by all interfaces that lead out of the board, since the sample before.
    pub network_rx_bytes_per_s: Option<u64>,
    pub network_tx_bytes_per_s: Option<u64>,
    pub load: Option<Load>,
    pub temperatures: Vec<Temperature>,
    pub uptime_s: Option<u64>,
}

/// A file system that the configuration asked to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub path: PathBuf,
    pub total_bytes: Option<u64>,
    /// Free for ordinary users, which is less than what root may fill.
    pub free_bytes: Option<u64>,
}

/// Load averages in hundredths (1.50 is 150).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub one_minute_x100: u32,
    pub five_minutes_x100: u32,
    pub fifteen_minutes_x100: u32,
}

impl Sample {
    /// Used memory in basis points of the total.
    pub fn memory_used_basis_points(&self) -> Option<u16> {
        used_basis_points(self.memory_total_bytes?, self.memory_available_bytes?)
    }

    /// The hottest sensor.
    pub fn hottest_millidegrees(&self) -> Option<i32> {
        self.temperatures.iter().filter_map(|t| t.millidegrees).max()
    }
}

impl Disk {
    /// Used space in basis points of the total.
    pub fn used_basis_points(&self) -> Option<u16> {
        used_basis_points(self.total_bytes?, self.free_bytes?)
    }
}

/// Takes samples. Not `Sync` by design: one task owns it.
#[derive(Debug)]
pub struct Sampler {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    uptime: KeptFile,
    net_dev: KeptFile,
    beside: Beside,
    cpu_before: Option<CpuTimes>,
    network_before: Option<(Instant, NetworkTotals)>,
    sample: Sample,
}

impl Sampler {
    /// A sampler for the board below `roots` that also watches the file systems at `disks`.
    pub fn new(roots: Roots, disks: impl IntoIterator<Item = PathBuf>) -> Self {
        let file = |name: &str| KeptFile::new(roots.proc.join(name));
        let disks =
            disks.into_iter().map(|path| Disk { path, total_bytes: None, free_bytes: None });
        let disks: Vec<_> = disks.collect();
        Self {
            stat: file("stat"),
            meminfo: file("meminfo"),
            loadavg: file("loadavg"),
            uptime: file("uptime"),
            net_dev: file("net/dev"),
            beside: Beside::start(roots.sys.clone(), disks.clone()),
            cpu_before: None,
            network_before: None,
            sample: Sample { disks, ..Sample::default() },
        }
    }

    /// What holds at `now`. Rates are averages since the call before.
    pub fn sample(&mut self, now: Instant) -> &Sample {
        self.sample_cpu();
        let memory = self.meminfo.read().map(parse::memory).unwrap_or_default();
        self.sample.memory_total_bytes = memory.total_bytes;
        self.sample.memory_available_bytes = memory.available_bytes;
        self.sample.load = self.loadavg.read().and_then(parse::load);
        self.sample.uptime_s = self.uptime.read().and_then(parse::uptime_s);
        self.sample_network(now);
        self.sample_beside();
        &self.sample
    }

    /// What its reading of sensors and disks is at, and for how long: an answer takes a millisecond.
    pub(crate) fn waits_for(&self, now: Instant) -> Option<(PathBuf, Duration)> {
        self.beside.progress().current(now)
    }

    fn sample_cpu(&mut self) {
        let stat = self.stat.read().and_then(parse::cpu);
        self.sample.cpu_cores = stat.map(|s| s.cores).filter(|&cores| cores > 0);
        let times = stat.map(|s| s.times);
        self.sample.cpu_basis_points = match (self.cpu_before, times) {
            (Some(before), Some(times)) => times.busy_basis_points_since(before),
            _ => None,
        };
        self.cpu_before = times.or(self.cpu_before);
    }

    fn sample_network(&mut self, now: Instant) {
        let totals = self.net_dev.read().and_then(parse::network);
        let rates = totals.zip(self.network_before).and_then(|(totals, (then, before))| {
            totals.bytes_per_s_since(before, now.saturating_duration_since(then))
        });
        (self.sample.network_rx_bytes_per_s, self.sample.network_tx_bytes_per_s) = rates.unzip();
        self.network_before = totals.map(|totals| (now, totals)).or(self.network_before);
    }

    fn sample_beside(&mut self) {
        if let Some(seen) = self.beside.sample() {
            (self.sample.temperatures, self.sample.disks) = (seen.temperatures, seen.disks);
            return;
        }
        self.sample.temperatures.iter_mut().for_each(|sensor| sensor.millidegrees = None);
        for disk in &mut self.sample.disks {
            (disk.total_bytes, disk.free_bytes) = (None, None);
        }
    }
}

/// Total and free bytes of the file system that holds `path`.
fn disk_space(path: &std::path::Path) -> Option<(u64, u64)> {
    let space = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(space.f_frsize);
    Some((bytes(space.f_blocks)?, bytes(space.f_bavail)?))
}

fn used_basis_points(total: u64, free: u64) -> Option<u16> {
    let used = u128::from(total.saturating_sub(free));
    let points = (used * 10_000).checked_div(u128::from(total))?;
    u16::try_from(points).ok()
}

#[cfg(test)]
mod tests;
