//! What does not change while the board is up: names, versions, identities.

use std::{path::PathBuf, time::Duration};

use super::parse;
use super::{KeptFile, Roots};

/// Facts that a node reports when it registers. HLD §5.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostInfo {
    pub hostname: Option<String>,
    pub kernel_release: Option<String>,
    /// `PRETTY_NAME` of os-release, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_name: Option<String>,
    /// `ID` of os-release, such as `debian`.
    pub os_id: Option<String>,
    /// `VERSION_ID` of os-release, such as `12`.
    pub os_version: Option<String>,
    /// As Rust names it: `x86_64`, `aarch64`, `arm`.
    pub architecture: &'static str,
    /// Changes with each boot, so that a restart of the agent and of the board can be told apart: the kernel's,
    /// and the start of process 1, because a board may be a container.
    pub boot_id: Option<String>,
    /// Stays with the installation. Two boards from one image may share it: never an identity.
    pub machine_id: Option<String>,
    pub cpu_cores: Option<u16>,
    pub memory_total_bytes: Option<u64>,
}

impl HostInfo {
    /// Reads everything once. What is missing is `None`.
    pub fn read(roots: &Roots) -> Self {
        let line = |path: PathBuf| KeptFile::new(path).read().and_then(parse::first_line);
        let kernel = |name: &str| line(roots.proc.join("sys/kernel").join(name));
        let mut os_release = KeptFile::new(roots.etc.join("os-release"));
        let mut os = |key| os_release.read().and_then(|text| parse::os_release_value(text, key));
        let mut stat = KeptFile::new(roots.proc.join("stat"));
        let mut meminfo = KeptFile::new(roots.proc.join("meminfo"));
        Self {
            hostname: kernel("hostname"),
            kernel_release: kernel("osrelease"),
            os_name: os("PRETTY_NAME"),
            os_id: os("ID"),
            os_version: os("VERSION_ID"),
            architecture: std::env::consts::ARCH,
            boot_id: kernel("random/boot_id").map(|id| format!("{id} {}", first_started_s(roots))),
            machine_id: line(roots.etc.join("machine-id")),
            cpu_cores: stat.read().and_then(parse::cpu).map(|s| s.cores).filter(|&c| c > 0),
            memory_total_bytes: meminfo.read().and_then(|text| parse::memory(text).total_bytes),
        }
    }
}

/// Since the board's last boot, or its container's where it is one: as old as process 1.
pub fn up_for(roots: &Roots) -> Option<Duration> {
    let now = KeptFile::new(roots.proc.join("uptime")).read().and_then(parse::uptime_s)?;
    now.checked_sub(first_started_s(roots)).map(Duration::from_secs)
}

fn first_started_s(roots: &Roots) -> u64 {
    let mut first = KeptFile::new(roots.proc.join("1/stat"));
    first.read().and_then(parse::started_s).unwrap_or_default()
}
