//! Ends the cluster: exactly its processes, its containers and its mounts, also after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use piccolo_testkit::podman::PrivatePodman;

use super::NODES_MAX;
use super::place::{Place, node_name};
use crate::run;

/// Programs that may be left behind with our folder on their command line. Others that name it,
/// e.g. a pager on a log, are the user's.
const OURS: [&str; 5] = ["conmon", "podman", "etcd", "piccolo-master", "piccolo-nodeag"];

/// Says whether there was anything to end.
///
/// # Errors
/// Something of it goes on; it is named.
pub(crate) fn end_everything(place: &Place) -> Result<bool> {
    let nodes = place.recorded().map_or(NODES_MAX, |record| record.nodes);
    let mut found = end(place, "supervisor");
    for node in 1..=nodes {
        found |= end(place, &node_name(node));
    }
    std::thread::scope(|scope| {
        for node in 1..=nodes {
            // Dropped, it ends its containers and itself.
            scope.spawn(move || drop(PrivatePodman::attach(place.podman(node))));
        }
    });
    found |= end(place, "master");
    found |= end(place, "etcd");
    let Ok(dir) = place.dir().canonicalize() else { return Ok(found) };
    found |= end_leftovers(&dir);
    unmount_below(&dir)?;
    let left = leftovers(&dir);
    if !left.is_empty() {
        bail!("processes {left:?} do not end; they belong to {}", dir.display());
    }
    Ok(found)
}

fn end(place: &Place, name: &str) -> bool {
    let process = place.process(name);
    let found = process.is_some();
    if let Some(mut process) = process {
        process.end();
    }
    fs::remove_file(place.pid(name)).ok();
    found
}

/// What a crash left: a container's keeper and what it keeps.
fn end_leftovers(dir: &Path) -> bool {
    let left = leftovers(dir);
    let children = left.iter().flat_map(|&parent| children_of(parent));
    let all: Vec<u32> = children.chain(left.iter().copied()).collect();
    for pid in &all {
        // Gone meanwhile is as good.
        run::answer(Command::new("kill").args(["-KILL", &pid.to_string()]));
    }
    let is_there = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while all.iter().any(is_there) && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    !all.is_empty()
}

/// Processes of ours by name whose command line has a path below `dir`.
fn leftovers(dir: &Path) -> Vec<u32> {
    let marker = format!("{}/", dir.display());
    let is_ours = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        OURS.contains(&comm.trim_end()) && String::from_utf8_lossy(&line).contains(&marker)
    };
    processes().filter(is_ours).collect()
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    processes().filter(is_child).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

/// The deepest first.
fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    points.sort();
    for point in points.iter().rev() {
        let mut umount = Command::new("umount");
        if run::answer(umount.arg(point)).is_none() {
            bail!("{} cannot be unmounted", point.display());
        }
    }
    Ok(())
}
