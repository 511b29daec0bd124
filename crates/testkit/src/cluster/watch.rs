//! A command that goes on and prints, followed line by line with the moment of each.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Result, io};

/// Ended when dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    lines: Receiver<(Instant, String)>,
    seen: Vec<String>,
}

impl Watch {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io("a watch cannot be started"))?;
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                    if sender.send((Instant::now(), line)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, lines, seen: Vec::new() })
    }

    /// The first line from now on that `matches`, and when it came.
    ///
    /// # Errors
    /// None comes in time; what came is in the message.
    pub fn expect(
        &mut self,
        what: &str,
        within: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> Result<(Instant, String)> {
        let until = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((at, line)) => {
                    if matches(&line) {
                        return Ok((at, line));
                    }
                    self.seen.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seen = self.seen.join("\n");
                    return Err(Error::Unexpected(format!(
                        "no line says that {what}; seen:\n{seen}"
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let seen = self.seen.join("\n");
                    return Err(Error::Unexpected(format!("the watch has ended; seen:\n{seen}")));
                }
            }
        }
    }

    /// It takes nothing more until it is thawed.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // one that has ended cannot be told anything; the next line that is expected says so
            let _ = kill_process(pid, signal);
        }
    }

    /// Everything that has come, without waiting.
    pub fn so_far(&mut self) -> Vec<String> {
        self.seen.extend(self.lines.try_iter().map(|(_, line)| line));
        self.seen.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
