//! Processes that are found again by a later run: each is noted in a file with the moment it began.
//!
//! A process id alone is a guess, because ids are used again. One that began at the noted tick is
//! the one that was noted.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const ENDS_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// A process that we started, or that an earlier run of ours did. Dropping it leaves it alone.
#[derive(Debug)]
pub struct Kept {
    pid: u32,
    child: Option<Child>,
}

impl Kept {
    #[must_use]
    pub fn of(child: Child) -> Self {
        Self { pid: child.id(), child: Some(child) }
    }

    /// Whoever calls this, so that a later run sees that it is gone.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { pid: std::process::id(), child: None }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Notes it in `path`, for [`Self::recall`].
    ///
    /// # Errors
    /// It has ended already, or the file cannot be written.
    pub fn write_down(&self, path: &Path) -> io::Result<()> {
        let started = started_at_ticks(self.pid).ok_or(io::ErrorKind::NotFound)?;
        fs::write(path, format!("{} {started}\n", self.pid))
    }

    /// The process noted in `path`, if it still runs.
    #[must_use]
    pub fn recall(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (started_at_ticks(pid)? == started).then_some(Self { pid, child: None })
    }

    pub fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => started_at_ticks(self.pid).is_some(),
        }
    }

    /// SIGTERM, and SIGKILL if that is not enough. Gone when this returns.
    pub fn end(&mut self) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.is_alive() || kill_process(pid, signal).is_err() {
                return;
            }
            let deadline = Instant::now() + ENDS_WITHIN;
            while self.is_alive() && Instant::now() < deadline {
                std::thread::sleep(POLL_EVERY);
            }
        }
    }
}

/// Field 22 of `/proc/PID/stat`, as text. A zombie is not there any more.
fn started_at_ticks(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18).map(str::to_owned) }
}
