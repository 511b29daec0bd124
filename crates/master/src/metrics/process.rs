//! What this process costs, from `/proc/self`.

use std::fs;

/// Clock ticks per second, as Linux counts CPU time for user space everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
    pub(super) open_fds: u64,
    pub(super) threads: u64,
}

impl Process {
    /// What cannot be read is 0.
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let page = rustix::param::page_size() as u64;
        let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self { open_fds: fds as u64, ..Self::parse(&stat, page) }
    }

    fn parse(stat: &str, page: u64) -> Self {
        // the name may hold spaces and parentheses: fields are counted from behind it
        let fields: Vec<&str> = match stat.rsplit_once(')') {
            Some((_, rest)) => rest.split_whitespace().collect(),
            None => return Self::default(),
        };
        let number =
            |i: usize| fields.get(i).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let ticks = number(11) + number(12);
        Self {
            resident_bytes: number(21) * page,
            cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
            open_fds: 0,
            threads: number(17),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_a_hostile_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 2000 0 0 0 150 50 0 0 20 0 3 0 100 9000000 \
                    2048 18446744073709551615 1 1 0 0 0";
        let process = Process::parse(stat, 4096);
        assert_eq!(process.resident_bytes, 2048 * 4096);
        assert_eq!(process.cpu_seconds, 2.0);
        assert_eq!(process.threads, 3);
        assert_eq!(Process::parse("", 4096), Process::default());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.open_fds > 0, "{process:?}");
    }
}
