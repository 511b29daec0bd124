//! Important lines of this node's units for the kept log of the master (HLD §11.2), read by somebody or not.
//!
//! The journal of the system is asked now and then, from where it was read to the last time; what is within the budget of
//! its unit waits in a journal of our own, on disk, until the master has acknowledged it. One batch is under way at a
//! time, and each acknowledgement allows the next. It is a task, and the disk is waited for in a thread: the loop never
//! waits for either.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use piccolo_core::logs::{
    LogLine,
    kept::{Batch, Budget, KeptLine, step_over},
};
use piccolo_rpc::{convert::AgentFrame, v1};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    OWN_UNIT,
    journald::{self, Since},
};
use crate::{
    config::Logs,
    durable,
    journal::{Criticality, Error, Journal, Limits},
};

/// Between two looks into the system's journal.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Lines that are kept at once: what has waited for days must not be in memory all together.
const LINES_PER_LOOK: usize = 500;
/// For one look.
const LOOK_WITHIN: Duration = Duration::from_secs(60);
/// Until the next one, where the journal cannot be read.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// Lines of an average length for each MiB that may wait.
const ENTRIES_PER_MIB: u64 = 4000;
const MIB: u64 = 1 << 20;
/// Bytes of a place in the system's journal, as it is written.
const CURSOR_BYTES_MAX: usize = 1024;
/// This severe: it goes last where there is no room.
const ERROR: u8 = 3;

/// The task, and what the loop tells it.
#[derive(Debug)]
pub(crate) struct Keeper {
    allowed: watch::Sender<Option<Allowed>>,
    task: JoinHandle<()>,
}

/// Kept through here, and one more batch may be sent.
#[derive(Debug, Clone)]
struct Allowed {
    through: u64,
    outgoing: mpsc::Sender<v1::AgentMessage>,
}

impl Keeper {
    /// Nothing where nothing shall be kept.
    pub(crate) fn start(folder: PathBuf, logs: &Logs) -> Option<Self> {
        let level = logs.keep_level?;
        let mut units = vec![OWN_UNIT.to_owned()];
        units.extend(logs.units.iter().filter(|unit| *unit != OWN_UNIT).cloned());
        let bytes_max = logs.keep_bytes_max;
        let entries_max = usize::try_from(bytes_max / MIB * ENTRIES_PER_MIB).unwrap_or(usize::MAX);
        let limits = Limits { entries_max, bytes_max };
        let (allowed, told) = watch::channel(None);
        let task = tokio::spawn(async move {
            let opened = tokio::task::spawn_blocking(move || Store::open(folder, limits)).await;
            match opened {
                Ok(Ok(store)) => {
                    let store = Arc::new(Mutex::new(store));
                    Task { units, level, store, budget: Budget::default() }.run(told).await;
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "important lines are not kept: their journal cannot be opened");
                }
                Err(error) => tracing::error!(%error, "important lines are not kept"),
            }
        });
        Some(Self { allowed, task })
    }

    /// By the master, on a session that this leads to.
    pub(crate) fn allowed(&self, through: u64, outgoing: mpsc::Sender<v1::AgentMessage>) {
        self.allowed.send_replace(Some(Allowed { through, outgoing }));
    }

    pub(crate) fn session_over(&self) {
        self.allowed.send_replace(None);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    units: Vec<String>,
    level: u8,
    store: Arc<Mutex<Store>>,
    budget: Budget,
}

impl Task {
    async fn run(mut self, mut told: watch::Receiver<Option<Allowed>>) {
        let mut since = self.with_store(Store::since).await.unwrap_or(Since::Newest);
        let mut look_at = Instant::now();
        let mut outgoing = None;
        // whether anything may wait
        let (mut waits, mut failed) = (true, false);
        loop {
            tokio::select! {
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let allowed = told.borrow_and_update().clone();
                    outgoing = match allowed {
                        Some(Allowed { through, outgoing }) => {
                            self.with_store(move |store| store.acknowledged(through)).await;
                            waits = true;
                            Some(outgoing)
                        }
                        None => None,
                    };
                }
                () = sleep_until(look_at) => {
                    let looked = self.look(&mut since).await;
                    if let Err(why) = &looked && !failed {
                        tracing::warn!(why, "the system's journal cannot be read: nothing is kept of it");
                    }
                    failed = looked.is_err();
                    let lines = looked.unwrap_or_default();
                    waits |= lines > 0;
                    look_at = Instant::now() + match lines {
                        _ if failed => LOOK_AGAIN,
                        LINES_PER_LOOK.. => Duration::ZERO,
                        _ => LOOK_EVERY,
                    };
                }
            }
            if let (true, Some(way)) = (waits, &outgoing) {
                let lines = self.with_store(Store::batch).await.unwrap_or_default();
                if lines.is_empty() {
                    waits = false;
                    continue;
                }
                // the session may have ended: the next one begins with what is kept
                let _ = way.send(AgentFrame::Kept(lines).into()).await;
                outgoing = None;
            }
        }
    }

    /// Keeps what has come since the last time, or the first part of it; says how many lines that were.
    async fn look(&mut self, since: &mut Since) -> Result<usize, String> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut lines = Vec::new();
        let mut take = |unit: &str, line: Option<LogLine>| {
            match line {
                Some(line) if self.budget.take(unit, &line) => {
                    lines.push(KeptLine { unit: unit.to_owned(), line, ..KeptLine::default() });
                }
                Some(_) => {}
                None => {
                    let now = i64::try_from(started.as_nanos()).unwrap_or(i64::MAX);
                    self.budget.lost(unit, now, 1);
                }
            }
            lines.len() < LINES_PER_LOOK
        };
        let read = journald::important(&self.units, self.level, since, &mut take);
        let read = tokio::time::timeout(LOOK_WITHIN, read).await;
        let cursor = match read {
            Ok(Ok(cursor)) => cursor,
            Err(_) => return Err("journalctl does not end".to_owned()),
            Ok(Err(why)) => {
                if why.contains("cursor") {
                    // of a journal that is not there any more
                    *since = Since::Newest;
                }
                return Err(why);
            }
        };
        lines.extend(self.budget.dropped());
        match &cursor {
            Some(cursor) => *since = Since::Cursor(cursor.clone()),
            None if *since == Since::Newest => *since = Since::Time(started),
            None => {}
        }
        if cursor.is_none() && lines.is_empty() {
            return Ok(0);
        }
        let count = lines.len();
        let lost = self.with_store(move |store| store.keep(lines, cursor.as_deref())).await;
        for KeptLine { unit, line, dropped, .. } in lost.unwrap_or_default() {
            self.budget.lost(&unit, line.at_ns, dropped.max(1));
        }
        Ok(count)
    }

    /// In a thread, which waits for the disk.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let store = Arc::clone(&self.store);
        let work = move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// What waits for the master, and how far the system's journal was read.
#[derive(Debug)]
struct Store {
    journal: Journal,
    cursor: PathBuf,
    problem: bool,
}

impl Store {
    fn open(folder: PathBuf, limits: Limits) -> Result<Self, Error> {
        let cursor = folder.with_extension("cursor");
        Ok(Self { journal: Journal::open(folder, limits)?, cursor, problem: false })
    }

    fn since(&mut self) -> Since {
        match std::fs::read_to_string(&self.cursor) {
            Ok(text) if is_cursor(&text) => Since::Cursor(text),
            Ok(_) | Err(_) => Since::Newest,
        }
    }

    /// First the lines, then how far they go: a crash in between repeats some, and loses none. Returns those that the
    /// disk did not take.
    fn keep(&mut self, mut lines: Vec<KeptLine>, cursor: Option<&str>) -> Vec<KeptLine> {
        let failed = lines.iter().position(|line| {
            let kept = self.append(line.clone());
            let failed = kept.is_err();
            self.written(kept);
            failed
        });
        let lost = failed.map(|first| lines.split_off(first)).unwrap_or_default();
        let synced = self.journal.sync();
        self.written(synced);
        if let Some(cursor) = cursor.filter(|cursor| is_cursor(cursor)) {
            let saved = durable::replace(&self.cursor, &[cursor.as_bytes()]);
            self.written(saved);
        }
        lost
    }

    fn append(&mut self, line: KeptLine) -> Result<(), Error> {
        let severe = line.line.level <= ERROR || line.dropped > 0;
        let criticality = if severe { Criticality::Critical } else { Criticality::Normal };
        self.journal.append(criticality, &v1::KeptLine::from(line).encode_to_vec()).map(|_| ())
    }

    fn acknowledged(&mut self, through: u64) {
        if let Some(first) = step_over(self.journal.next_sequence(), through) {
            let stepped = self.step_over(first);
            return self.written(stepped);
        }
        let trimmed = self.journal.trim_through(through);
        self.written(trimmed);
    }

    /// What waits gets numbers from `first` on.
    fn step_over(&mut self, first: u64) -> Result<(), Error> {
        let waiting: Vec<_> = self.journal.iter_from(1).filter_map(Result::ok).collect();
        self.journal.trim_through(u64::MAX)?;
        for (entry, sequence) in waiting.iter().zip(first..) {
            self.journal.append_as(sequence, entry.criticality, &entry.bytes)?;
        }
        self.journal.sync()
    }

    /// The oldest that wait.
    fn batch(&mut self) -> Vec<KeptLine> {
        let mut batch = Batch::default();
        for entry in self.journal.iter_from(1).filter_map(Result::ok) {
            let line = v1::KeptLine::decode(&entry.bytes[..]).ok();
            let Some(line) = line.and_then(|line| KeptLine::try_from(line).ok()) else { continue };
            if !batch.push(KeptLine { sequence: entry.sequence, ..line }) {
                break;
            }
        }
        batch.into_lines()
    }

    /// Goes on after what could not be written; once in the log.
    fn written<E: std::fmt::Display>(&mut self, result: Result<(), E>) {
        if let Err(error) = &result
            && !self.problem
        {
            tracing::warn!(%error, "important lines could not be kept");
        }
        self.problem = result.is_err();
    }
}

/// Whether journald may have written it.
fn is_cursor(text: &str) -> bool {
    !text.is_empty() && text.len() <= CURSOR_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn store(folder: &Path, entries_max: usize) -> Store {
        let limits = Limits { entries_max, bytes_max: 1 << 20 };
        Store::open(folder.join("kept"), limits).unwrap()
    }

    fn line(level: u8, message: &str) -> KeptLine {
        let line = LogLine::new(1, level, "a", message);
        KeptLine { unit: "a.service".to_owned(), line, ..KeptLine::default() }
    }

    fn waiting(store: &mut Store) -> Vec<(u64, String)> {
        let lines = store.batch().into_iter();
        lines.map(|kept| (kept.sequence, kept.line.message)).collect()
    }

    fn all(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(sequence, text)| (*sequence, (*text).to_owned())).collect()
    }

    #[test]
    fn lines_wait_over_a_restart_until_they_are_acknowledged_and_numbers_never_come_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = store(folder.path(), 10);
        let lines = vec![line(4, "one"), line(3, "two"), line(4, "three")];
        assert_eq!(before.keep(lines, Some("s=1;i=2")), []);
        before.acknowledged(1);
        drop(before);
        let mut after = store(folder.path(), 10);
        assert_eq!(after.since(), Since::Cursor("s=1;i=2".to_owned()));
        assert_eq!(waiting(&mut after), all(&[(2, "two"), (3, "three")]));
        after.acknowledged(3);
        drop(after);
        let mut last = store(folder.path(), 10);
        last.keep(vec![line(4, "four")], None);
        assert_eq!(waiting(&mut last), all(&[(4, "four")]));
    }

    #[test]
    fn a_full_journal_gives_up_the_least_severe_and_its_number_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 2);
        store.keep(vec![line(3, "error"), line(4, "warning"), line(4, "another")], None);
        assert_eq!(waiting(&mut store), all(&[(1, "error"), (3, "another")]));
    }

    #[test]
    fn a_board_that_forgot_its_earlier_life_goes_on_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 10);
        store.keep(vec![line(4, "one"), line(4, "two")], None);
        store.acknowledged(70);
        assert_eq!(waiting(&mut store), all(&[(71, "one"), (72, "two")]));
        store.acknowledged(71);
        store.acknowledged(u64::MAX);
        assert_eq!(waiting(&mut store), [], "what is beyond all numbers is no earlier life");
    }

    #[test]
    fn a_place_that_journald_did_not_write_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path(), 10);
        assert_eq!(store.since(), Since::Newest);
        for text in ["", "a b", "s=1\n", &"x".repeat(CURSOR_BYTES_MAX + 1)] {
            std::fs::write(&store.cursor, text).unwrap();
            assert_eq!(store.since(), Since::Newest, "{text:?}");
        }
    }
}
