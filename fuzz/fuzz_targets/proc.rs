//! What the kernel's files may hold: each is filled with the same bytes, and read twice.
#![no_main]

use std::{
    cell::RefCell,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::{
    podman::UsageReader,
    system::{HostInfo, Roots, Sampler},
};
use tempfile::TempDir;

const FILES: [&str; 12] = [
    "stat",
    "meminfo",
    "loadavg",
    "uptime",
    "net/dev",
    "os-release",
    "machine-id",
    "class/thermal/thermal_zone0/temp",
    "class/thermal/thermal_zone0/type",
    "7/cgroup",
    "7/stat",
    "7/statm",
];

thread_local!(static BOARD: RefCell<TempDir> = RefCell::new(
    tempfile::tempdir().expect("a temporary folder")
));

fuzz_target!(|bytes: &[u8]| {
    BOARD.with_borrow(|board| read(board.path(), bytes));
});

fn read(board: &Path, bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    fill(board, first);
    let roots = Roots { proc: board.into(), sys: board.into(), etc: board.into() };
    let now = Instant::now();
    let mut sampler = Sampler::new(roots.clone(), []);
    sampler.sample(now);
    let mut usage = UsageReader::new(board, board);
    usage.sample(now, [("abc", 7)]);
    fill(board, second);
    let sample = sampler.sample(now + Duration::from_secs(5));
    assert!(sample.cpu_basis_points.is_none_or(|points| points <= 10_000));
    assert!(sample.memory_used_basis_points().is_none_or(|points| points <= 10_000));
    let _ = sample.hottest_millidegrees();
    usage.sample(now + Duration::from_secs(5), [("abc", 7)]);
    let _ = HostInfo::read(&roots);
}

fn fill(board: &Path, bytes: &[u8]) {
    for file in FILES {
        let path = board.join(file);
        fs::create_dir_all(path.parent().unwrap_or(board)).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}
