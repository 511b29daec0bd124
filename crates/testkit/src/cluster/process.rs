//! One process of a cluster, with its log in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Result, io};

const ENDS_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(5);
/// Bytes of a log that are shown when something went wrong.
const TAIL_BYTES: usize = 3000;
/// What the standard library writes of a thread that panics.
const PANICKED: &str = "' panicked at ";

/// Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(io("a log cannot be written"))?;
        let err = file.try_clone().map_err(io("a log cannot be written"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(err)
            .spawn()
            .map_err(io(&format!("{:?} cannot be started", command.get_program())))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Freezes it: everything is open, and nothing moves.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It goes on.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < ENDS_WITHIN {
            if let Some(status) = self.child.try_wait().map_err(io("waiting for a process"))? {
                return Ok(status);
            }
            std::thread::sleep(POLL_EVERY);
        }
        Err(Error::Unexpected(format!("{} does not end\n{}", self.name, self.log_tail())))
    }

    /// Its exit status, once it has ended by itself.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.child.try_wait().map_err(io("waiting for a process"))
    }

    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(TAIL_BYTES)..];
        format!("--- {} ---\n{}\n", self.name, String::from_utf8_lossy(tail))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // it may have ended by itself
            let _ = kill_process(pid, signal);
        }
    }
}

/// A task that panics takes nothing else down, and a story may well go on to its end without it: it has failed.
impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let panicked = log.find(PANICKED).map(|at| &log[at..]);
        let words = panicked.map(|words| words.chars().take(TAIL_BYTES).collect::<String>());
        assert!(
            words.is_none() || std::thread::panicking(),
            "{}: {}",
            self.name,
            words.unwrap_or_default()
        );
    }
}
