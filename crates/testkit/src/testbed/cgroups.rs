//! A control group for each host, in every tree of this machine: v1 trees, or the one of v2.
//!
//! In its own group a host is alone: its systemd sees that as the root of all. And the group knows every
//! process of the host, so that ending them needs no guess.

use std::{
    fs, io as std_io,
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
