//! One process at a time in a state folder.
//!
//! Two agents on one folder would share an identity, a ledger and a journal, and the later one would take
//! the control socket from the earlier. The lock is the kernel's: it ends with the process, however that
//! ends, so a free lock says for certain that no agent runs here. Its file stays.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Bytes of the owner's process id at most.
const PID_BYTES_MAX: u64 = 16;

/// Keeps other processes out of the state folder until it is dropped. The file is closed on exec, and
/// the lock is ended by name, so that no child keeps it.
#[derive(Debug)]
pub struct StateLock(File);

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Taken {
    Ours(StateLock),
    /// In words: `process 17`.
    HeldBy(String),
}

impl StateLock {
    /// # Errors
    /// Another process has it; or the file cannot be used.
    pub fn take(state_dir: &Path) -> Result<Self> {
        match Self::ask(state_dir)? {
            Taken::Ours(lock) => Ok(lock),
            Taken::HeldBy(owner) => anyhow::bail!(
                "the state folder {} is in use by {owner}: an agent runs here already (see it with \
                 piccolo-nodeagent status); stop that one first, or give this one a state_dir of its own",
                state_dir.display()
            ),
        }
    }

    /// Does not wait.
    ///
    /// # Errors
    /// The file cannot be made or locked; that says nothing of who has it.
    pub fn ask(state_dir: &Path) -> Result<Taken> {
        let path = state_dir.join("agent.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("the lock {} cannot be opened", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Taken::HeldBy(owner(file))),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
        // only for people, so a full disk is no reason not to start: the lock itself is the kernel's
        let _ = file
            .rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Taken::Ours(Self(file)))
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // should it fail, it ends with the process
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn owner(file: File) -> String {
    let mut text = String::new();
    let read = file.take(PID_BYTES_MAX).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        (Ok(_) | Err(_), _) => "another process".to_owned(),
    }
}
