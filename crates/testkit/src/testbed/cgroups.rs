//! A control group for each host, in every tree of this machine: v1 trees, or the one of v2.
//!
//! In its own group a host is alone: its systemd sees that as the root of all. And the group knows every
//! process of the host, so that ending them needs no guess.

use std::{
    fs, io as std_io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::until;
use crate::cluster::{Error, Result, io};

/// The kernel takes a moment to forget a process.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(30);

/// Makes `name` in every tree, and returns the folders to enter.
pub(super) fn create(name: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for tree in trees() {
        let group = tree.join(name);
        fs::create_dir_all(&group).map_err(io(&format!("no control group {}", group.display())))?;
        // v1: a new group has none of them, and may not be entered
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read(tree.join(file)) {
                fs::write(group.join(file), all).map_err(io("a group without processors"))?;
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Ends every process of the host, and removes its groups.
pub(super) fn destroy(name: &str) -> Result<()> {
    let all: Vec<PathBuf> =
        trees().into_iter().map(|tree| tree.join(name)).filter(|group| group.exists()).collect();
    let is_gone = until(FORGOTTEN_WITHIN, || {
        all.iter().flat_map(|group| processes(group)).for_each(kill);
        let removed = all.iter().filter(|group| remove(group).is_ok() || !group.exists()).count();
        (removed == all.len()).then_some(())
    });
    is_gone.ok_or_else(|| {
        let left: Vec<u32> = all.iter().flat_map(|group| processes(group)).collect();
        Error::Unexpected(format!("control group {name} stays; its processes: {left:?}"))
    })
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // gone meanwhile is as good
    pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// All below it. Of other PID namespaces the kernel says 0.
fn processes(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0);
    let mut all: Vec<u32> = own.collect();
    all.extend(children(group).iter().flat_map(|child| processes(child)));
    all
}

fn remove(group: &Path) -> std_io::Result<()> {
    for child in children(group) {
        remove(&child)?;
    }
    fs::remove_dir(group)
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// The bytes a second that a service of the host may write to the disk that `folder` is on.
pub(super) fn limit_writes(
    name: &str,
    service: &str,
    folder: &Path,
    bytes_per_second: Option<u32>,
) -> Result<()> {
    let disk = disk_of(folder)?;
    let limit = bytes_per_second.map(|limit| limit.to_string());
    let (file, text) = if are_v1() {
        // 0 is no limit
        ("blkio.throttle.write_bps_device", format!("{disk} {}", limit.as_deref().unwrap_or("0")))
    } else {
        ("io.max", format!("{disk} wbps={}", limit.as_deref().unwrap_or("max")))
    };
    let all = trees().into_iter().map(|tree| tree.join(name));
    let group = all
        .flat_map(|group| below(&group))
        .find(|group| group.ends_with(service) && group.join(file).exists());
    let missing = || Error::Unexpected(format!("{service} has no control group with {file}"));
    fs::write(group.ok_or_else(missing)?.join(file), text)
        .map_err(io(&format!("disk {disk} cannot be slowed down")))
}

fn below(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![group.to_owned()];
    all.extend(children(group).iter().flat_map(|child| below(child)));
    all
}

/// `MAJOR:MINOR` of the whole disk; a partition cannot be limited.
fn disk_of(folder: &Path) -> Result<String> {
    let device = fs::metadata(folder).map_err(io("a host's folder"))?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let block = Path::new("/sys/dev/block").join(&number);
    if !block.join("partition").exists() {
        return Ok(number);
    }
    let whole = fs::read_to_string(block.join("../dev")).map_err(io("the disk of a partition"))?;
    Ok(whole.trim().to_owned())
}

/// Where v1 is in use, a v2 tree beside it is left alone.
pub(super) fn trees() -> Vec<PathBuf> {
    let v1 = of_type("cgroup");
    if v1.is_empty() { of_type("cgroup2") } else { v1 }
}

/// Whether the machine has v1 trees.
pub(super) fn are_v1() -> bool {
    !of_type("cgroup").is_empty()
}

/// Where such file systems are mounted.
fn of_type(wanted: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter(|f| f.get(2) == Some(&wanted));
    found.filter_map(|f| f.get(1).map(PathBuf::from)).collect()
}
