//! CPU and memory of each container, read from the kernel without asking Podman.
//!
//! The container's own control group counts all its processes; version 1, version 2 and both side
//! by side are understood. A container that shares a group with others (`--cgroups=disabled`), or
//! whose group cannot be seen from here, is measured by its first process alone, which is less
//! exact and says so in [`Usage::source`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ContainerId;
use crate::system::KeptFile;
use crate::system::parse::{lines, number, words};

/// Containers beyond this are not measured.
const CONTAINERS_MEASURED_MAX: usize = 500;

/// What one container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Hundredths of a per cent of one core since the sample before; 20000 is two whole cores.
    /// `None` in the first sample of a container.
    pub cpu_basis_points: Option<u32>,
    /// What the kernel charges to the container, page cache included, as `podman stats` shows it.
    pub memory_bytes: Option<u64>,
    pub source: Source,
}

/// Where a [`Usage`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    CgroupV1,
    CgroupV2,
    /// The container's first process only.
    FirstProcess,
}

/// Measures the running containers. Keeps their files open while they run.
#[derive(Debug)]
pub struct UsageReader {
    proc: PathBuf,
    cgroup: PathBuf,
    entries: BTreeMap<ContainerId, Entry>,
    usages: BTreeMap<ContainerId, Usage>,
}

#[derive(Debug)]
struct Entry {
    pid: u32,
    source: Source,
    cpu: KeptFile,
    memory: KeptFile,
    before: Option<(Instant, u64)>,
}

impl UsageReader {
    /// `proc` is `/proc`, `cgroup` is `/sys/fs/cgroup`. Tests name folders of their own.
    pub fn new(proc: impl Into<PathBuf>, cgroup: impl Into<PathBuf>) -> Self {
        let (entries, usages) = (BTreeMap::new(), BTreeMap::new());
        Self { proc: proc.into(), cgroup: cgroup.into(), entries, usages }
    }

    /// Measures the containers that run (id and process id). Others are forgotten.
    pub fn sample<'a>(
        &mut self,
        now: Instant,
        running: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> &BTreeMap<ContainerId, Usage> {
        let mut before = std::mem::take(&mut self.entries);
        self.usages.clear();
        for (id, pid) in running.into_iter().take(CONTAINERS_MEASURED_MAX) {
            let known = before.remove_entry(id).filter(|(_, entry)| entry.pid == pid);
            let (id, mut entry) = known
                .unwrap_or_else(|| (id.to_owned(), Entry::open(&self.proc, &self.cgroup, id, pid)));
            self.usages.insert(id.clone(), entry.measure(now));
            self.entries.insert(id, entry);
        }
        &self.usages
    }
}

impl Entry {
    fn open(proc: &Path, cgroup: &Path, id: &str, pid: u32) -> Self {
        let process = proc.join(pid.to_string());
        let groups = KeptFile::new(process.join("cgroup")).read().map(<[u8]>::to_vec);
        let found = groups.and_then(|groups| own_groups(&groups, id, cgroup));
        let (source, cpu, memory) = found
            .unwrap_or_else(|| (Source::FirstProcess, process.join("stat"), process.join("statm")));
        let (cpu, memory) = (KeptFile::new(cpu), KeptFile::new(memory));
        Self { pid, source, cpu, memory, before: None }
    }

    fn measure(&mut self, now: Instant) -> Usage {
        let used_us = self.cpu.read().and_then(|text| cpu_time_us(self.source, text));
        let cpu_basis_points = used_us.zip(self.before).and_then(|(used, (then, before))| {
            let passed_us = now.saturating_duration_since(then).as_micros();
            let points = u128::from(used.checked_sub(before)?) * 10_000;
            u32::try_from(points.checked_div(passed_us)?).ok()
        });
        self.before = used_us.map(|used| (now, used)).or(self.before);
        let memory_bytes = self.memory.read().and_then(|text| memory_bytes(self.source, text));
        Usage { cpu_basis_points, memory_bytes, source: self.source }
    }
}

/// The files of the group that belongs to container `id` alone, from its `/proc/PID/cgroup`.
fn own_groups(groups: &[u8], id: &str, root: &Path) -> Option<(Source, PathBuf, PathBuf)> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        lines(groups).find_map(|line| {
            let mut parts = std::str::from_utf8(line).ok()?.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            if wanted(controllers) { own_part(path, id) } else { None }
        })
    };
    let has = |name: &'static str| move |list: &str| list.split(',').any(|one| one == name);
    if let (Some(cpu), Some(memory)) = (path_of(&has("cpuacct")), path_of(&has("memory"))) {
        let cpu = root.join("cpuacct").join(cpu).join("cpuacct.usage");
        let memory = root.join("memory").join(memory).join("memory.usage_in_bytes");
        return Some((Source::CgroupV1, cpu, memory)).filter(|(_, cpu, _)| cpu.exists());
    }
    let group = path_of(&|controllers| controllers.is_empty())?;
    let hybrid = root.join("unified");
    let root = if hybrid.join("cgroup.procs").exists() { hybrid } else { root.to_owned() };
    let (cpu, memory) =
        (root.join(&group).join("cpu.stat"), root.join(&group).join("memory.current"));
    Some((Source::CgroupV2, cpu, memory)).filter(|(_, cpu, _)| cpu.exists())
}

/// `machine.slice/libpod-ID.scope` of `/machine.slice/libpod-ID.scope/container`: everything up to
/// the part that names the container. `None` if no part does, or the path leads out of our view.
fn own_part(path: &str, id: &str) -> Option<PathBuf> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        return None;
    }
    let own = parts.iter().position(|part| part.contains(id) && !part.contains("conmon"))?;
    Some(parts.get(..=own)?.iter().collect())
}

fn cpu_time_us(source: Source, text: &[u8]) -> Option<u64> {
    match source {
        Source::CgroupV1 => Some(number(text.trim_ascii())? / 1000),
        Source::CgroupV2 => {
            let line = lines(text).find_map(|line| line.strip_prefix(b"usage_usec "))?;
            number(line.trim_ascii())
        }
        Source::FirstProcess => {
            // the name in parentheses may hold anything, so count from its end
            let end = text.iter().rposition(|&byte| byte == b')')?;
            let mut fields = words(text.get(end + 1..)?).skip(11);
            let (user, system) = (number(fields.next()?)?, number(fields.next()?)?);
            let ticks_per_s = rustix::param::clock_ticks_per_second().max(1);
            user.checked_add(system)?.checked_mul(1_000_000)?.checked_div(ticks_per_s)
        }
    }
}

fn memory_bytes(source: Source, text: &[u8]) -> Option<u64> {
    match source {
        Source::CgroupV1 | Source::CgroupV2 => number(text.trim_ascii()),
        Source::FirstProcess => {
            let pages = number(words(text).nth(1)?)?;
            pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const ID: &str = "9ad9c795fae7a019338ea12048ded5dcc485edde199f991d44616953830de4e1";

    fn machine(files: &[(&str, &str)]) -> (TempDir, UsageReader) {
        let root = tempfile::tempdir().unwrap();
        set(&root, files);
        let reader = UsageReader::new(root.path().join("proc"), root.path().join("cgroup"));
        (root, reader)
    }

    fn set(root: &TempDir, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.path().join(path.replace("ID", ID));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("ID", ID)).unwrap();
        }
    }

    /// Samples twice, one second apart, with `later` written in between.
    #[track_caller]
    fn check(before: &[(&str, &str)], later: &[(&str, &str)], expected: Usage) {
        let (root, mut reader) = machine(before);
        let start = Instant::now();
        let first = reader.sample(start, [(ID, 7)])[ID];
        assert_eq!(first.cpu_basis_points, None);
        set(&root, later);
        let second = reader.sample(start + Duration::from_secs(1), [(ID, 7)])[ID];
        assert_eq!(second, expected);
        assert!(reader.sample(start + Duration::from_secs(2), []).is_empty());
    }

    #[test]
    fn version_1_groups_are_read() {
        let usage = Usage {
            cpu_basis_points: Some(2500),
            memory_bytes: Some(4096),
            source: Source::CgroupV1,
        };
        let group =
            "8:memory:/libpod_parent/libpod-ID\n3:cpu,cpuacct:/libpod_parent/libpod-ID\n0::/\n";
        check(
            &[
                ("proc/7/cgroup", group),
                ("cgroup/cpuacct/libpod_parent/libpod-ID/cpuacct.usage", "1000000000\n"),
                ("cgroup/memory/libpod_parent/libpod-ID/memory.usage_in_bytes", "4096\n"),
            ],
            &[("cgroup/cpuacct/libpod_parent/libpod-ID/cpuacct.usage", "1250000000\n")],
            usage,
        );
    }

    #[test]
    fn version_2_groups_are_read_as_a_whole() {
        let usage = Usage {
            cpu_basis_points: Some(15_000),
            memory_bytes: Some(8192),
            source: Source::CgroupV2,
        };
        check(
            &[
                ("proc/7/cgroup", "0::/machine.slice/libpod-ID.scope/container\n"),
                ("cgroup/machine.slice/libpod-ID.scope/cpu.stat", "usage_usec 5\nuser_usec 1\n"),
                ("cgroup/machine.slice/libpod-ID.scope/memory.current", "8192\n"),
            ],
            &[("cgroup/machine.slice/libpod-ID.scope/cpu.stat", "usage_usec 1500005\n")],
            usage,
        );
    }

    /// As a kernel writes it for a group with a limit, whose processes had to wait; and as a hybrid machine, whose
    /// version 1 has the container not, mounts it.
    #[test]
    fn version_2_groups_are_read_with_limits_and_beside_version_1() {
        let stat = |used: u64| {
            format!(
                "usage_usec {used}\nuser_usec 7\nsystem_usec 3\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
                 nr_periods 90\nnr_throttled 41\nthrottled_usec 1800000\nnr_bursts 0\nburst_usec 0\n"
            )
        };
        for (groups, mounted, root) in [
            ("0::/libpod_parent/libpod-ID\n", "cgroup.procs", "cgroup"),
            (
                "4:memory:/\n3:cpu,cpuacct:/\n0::/libpod_parent/libpod-ID\n",
                "unified/cgroup.procs",
                "cgroup/unified",
            ),
        ] {
            let file = |name: &str| format!("{root}/libpod_parent/libpod-ID/{name}");
            check(
                &[
                    ("proc/7/cgroup", groups),
                    (&format!("cgroup/{mounted}"), "1\n"),
                    (&file("cpu.stat"), &stat(10)),
                    (&file("cpu.max"), "50000 100000\n"),
                    (&file("memory.current"), "16384\n"),
                ],
                &[(&file("cpu.stat"), &stat(500_010))],
                Usage {
                    cpu_basis_points: Some(5000),
                    memory_bytes: Some(16_384),
                    source: Source::CgroupV2,
                },
            );
        }
    }

    #[test]
    fn a_shared_or_invisible_group_falls_back_to_the_first_process() {
        let page = rustix::param::page_size() as u64;
        let ticks = rustix::param::clock_ticks_per_second();
        for group in ["0::/user.slice\n", "0::/../../libpod-ID\n", "0::/libpod-ID\n", "\u{0}"] {
            let later = format!("7 (a) b)) S 1 1 1 0 -1 4 1 0 0 0 {ticks} {ticks} 0 0\n");
            check(
                &[
                    ("proc/7/cgroup", group),
                    ("proc/7/stat", "7 (a) b)) S 1 1 1 0 -1 4 1 0 0 0 0 0 0 0\n"),
                    ("proc/7/statm", "100 3 1 1 0 1 0\n"),
                ],
                &[("proc/7/stat", &later)],
                Usage {
                    cpu_basis_points: Some(20_000),
                    memory_bytes: Some(3 * page),
                    source: Source::FirstProcess,
                },
            );
        }
    }

    #[test]
    fn a_restarted_container_is_measured_afresh() {
        let stat = "7 (a) S 1 1 1 0 -1 4 1 0 0 0 500 500 0 0\n";
        let (_root, mut reader) = machine(&[("proc/7/stat", stat), ("proc/8/stat", stat)]);
        let start = Instant::now();
        reader.sample(start, [(ID, 7)]);
        let usage = reader.sample(start + Duration::from_secs(1), [(ID, 8)])[ID];
        assert_eq!((usage.cpu_basis_points, usage.memory_bytes), (None, None));
    }

    proptest! {
        #[test]
        fn no_content_makes_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..120)) {
            own_groups(&text, ID, Path::new("/nowhere"));
            for source in [Source::CgroupV1, Source::CgroupV2, Source::FirstProcess] {
                cpu_time_us(source, &text);
                memory_bytes(source, &text);
            }
        }
    }
}
