//! What the kernel says that a process takes. Fields as in proc(5).

use std::fs;

use anyhow::{Context as _, Result};

/// Memory in RAM, kB, shared pages and all.
pub(crate) fn rss_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("{path} says no Rss"))
}

/// CPU time in user and kernel mode since the process began, s; with that of the children it has
/// waited for, where `children`.
pub(crate) fn cpu_seconds(pid: u32, children: bool) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // the name, in brackets, may hold blanks
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| fields.split_whitespace().nth(field).and_then(|t| t.parse().ok());
    let own: Vec<f64> = (11..if children { 15 } else { 13 }).filter_map(ticks).collect();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(own.iter().sum::<f64>() / per_second as f64)
}

/// The machine's load over the last minute: others disturb what is measured.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
