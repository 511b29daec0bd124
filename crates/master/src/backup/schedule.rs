//! Backups that the master makes by itself, while it serves: one every so often, and only the newest are kept.
//!
//! Nothing waits for them. The store is read page by page between two commits, the file is written by a thread
//! of its own, and what became of it is told to the owner of the state as an input like any other.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use piccolo_core::{
    state_manager::Input,
    time::{Timestamp, WallTime},
};
use piccolo_store::Store;
use tokio::runtime::Handle;

use super::{
    create::{Made, Source, made_at, remove_halves},
    passphrase,
};
use crate::{
    clock::MasterClock,
    config::{BackupConfig, Config},
    startup,
    state_manager::StateHandle,
};

/// After one that failed the next is tried this soon, or when it is due if that is sooner.
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// A clock that is set forward is noticed this soon.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(600);

/// How it went last, for readers.
#[derive(Debug, Default)]
pub(crate) struct BackupHealth(Mutex<Option<BackupState>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackupState {
    pub(crate) every: Duration,
    /// The newest that is there: when it was made, and its file.
    pub(crate) newest: Option<(WallTime, PathBuf)>,
    /// Why the last one failed; empty where it did not.
    pub(crate) problem: String,
}

impl BackupHealth {
    /// `None` where none are scheduled.
    pub(crate) fn get(&self) -> Option<BackupState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: BackupState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }
}

pub(crate) struct Schedule {
    pub(crate) settings: BackupConfig,
    pub(crate) config: Config,
    pub(crate) cluster: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: MasterClock,
    pub(crate) state: StateHandle,
    pub(crate) health: Arc<BackupHealth>,
}

impl Schedule {
    /// Runs until the master ends.
    pub(crate) async fn run(self) {
        let every = self.settings.every;
        self.health.set(BackupState { every, ..BackupState::default() });
        let mut retry: Option<Timestamp> = None;
        loop {
            let now = self.clock.now();
            let newest = self.look(now.wall);
            let due = newest.map_or(now.wall, |at| at.plus(every));
            let waits = retry.map_or(Duration::ZERO, |retry| retry.since(now.at));
            let wait = due.since(now.wall).max(waits).min(LOOK_EVERY_MAX);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            let made = self.make().await;
            retry = (!made).then(|| self.clock.now().at + RETRY_AFTER.min(every));
        }
    }

    /// When the newest was made, which readers are told too. A folder that is away says nothing.
    fn look(&self, now: WallTime) -> Option<WallTime> {
        let before = self.health.get().unwrap_or_default();
        let newest = self.newest(now).or(before.newest.clone());
        let at = newest.as_ref().map(|(at, _)| *at);
        if newest != before.newest {
            self.health.set(BackupState { newest, ..before });
        }
        at
    }

    /// Whether it was made.
    async fn make(&self) -> bool {
        let before = self.health.get().unwrap_or_default();
        let made = self.write().await;
        let problem = match &made {
            Ok(made) => {
                tracing::info!(
                    file = %made.path.display(),
                    bytes = made.bytes,
                    revision = made.revision,
                    "a backup was made"
                );
                String::new()
            }
            Err(error) => {
                let problem = format!("{error:#}");
                tracing::warn!(error = %problem, "the backup was not made; it is tried again later");
                problem
            }
        };
        let newest = self.newest(self.clock.now().wall).or(before.newest);
        self.health.set(BackupState { newest, problem: problem.clone(), ..before });
        let failed = (!problem.is_empty()).then_some(problem);
        self.state.tell(Input::BackupEnded { failed }).await;
        made.is_ok()
    }

    async fn write(&self) -> anyhow::Result<Made> {
        let source = Source {
            store: Arc::clone(&self.store),
            state_dir: self.config.state_dir.clone(),
            configuration: self.config.written.clone(),
            at_ms: self.clock.now().wall.0,
            host: startup::host_name(),
        };
        let (settings, cluster) = (self.settings.clone(), self.cluster.clone());
        let now = WallTime(source.at_ms);
        let runtime = Handle::current();
        let write = move || {
            let BackupConfig { folder, every, keep, passphrase_file } = settings;
            let passphrase = passphrase::for_new(passphrase::from_file(&passphrase_file)?)?;
            folder_is_there(&folder)?;
            remove_halves(&folder, &cluster).with_context(|| {
                format!("what is half written in {} cannot be removed", folder.display())
            })?;
            let made = source.write(&folder, &passphrase, &runtime)?;
            retire(&folder, &cluster, keep, now.plus(every)).with_context(|| {
                format!("old backups in {} cannot be removed", folder.display())
            })?;
            Ok(made)
        };
        tokio::task::spawn_blocking(write).await?
    }

    /// Of those that this clock may have dated.
    fn newest(&self, now: WallTime) -> Option<(WallTime, PathBuf)> {
        let horizon = now.plus(self.settings.every);
        let all = backups(&self.settings.folder, &self.cluster, horizon).ok()?;
        all.into_iter().next_back().filter(|(at, _)| *at <= horizon)
    }
}

fn folder_is_there(folder: &Path) -> anyhow::Result<()> {
    // a disk that is not mounted must not be taken for an empty one: it is never made
    anyhow::ensure!(
        folder.is_dir(),
        "the folder for backups, {}, is not there; make it, or mount its disk, and let the master's user write into it",
        folder.display()
    );
    Ok(())
}

/// Keeps the newest.
fn retire(folder: &Path, cluster: &str, keep: usize, horizon: WallTime) -> std::io::Result<()> {
    let all = backups(folder, cluster, horizon)?;
    let surplus = all.len().saturating_sub(keep);
    all.into_iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
}

/// This cluster's, oldest first, by the names that this master gave them. What is dated beyond the horizon was made
/// while the clock was wrong, and before anything that it dates since: it neither puts the next one off nor outlives it.
fn backups(
    folder: &Path,
    cluster: &str,
    horizon: WallTime,
) -> std::io::Result<Vec<(WallTime, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(at) = name.to_str().and_then(|name| made_at(name, cluster)) {
            found.push((WallTime(at), entry.path()));
        }
    }
    found.sort_by_key(|(at, _)| (*at <= horizon, *at));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::{super::parse_stamp, *};

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn at(stamp: &str) -> WallTime {
        WallTime(parse_stamp(stamp).unwrap())
    }

    #[test]
    fn only_the_newest_of_this_cluster_are_kept_and_nothing_else_is_touched() {
        let folder = folder_with(&[
            "piccolo-c1-20260101T000000Z.backup",
            "piccolo-c1-20260301T000000Z.backup",
            "piccolo-c1-20260201T000000Z.backup",
            "piccolo-c2-20250101T000000Z.backup",
            "piccolo-c1-before-the-move.backup",
            "notes.txt",
        ]);
        let horizon = at("20260302T000000Z");
        retire(folder.path(), "c1", 2, horizon).unwrap();
        let expected = [
            "notes.txt",
            "piccolo-c1-20260201T000000Z.backup",
            "piccolo-c1-20260301T000000Z.backup",
            "piccolo-c1-before-the-move.backup",
            "piccolo-c2-20250101T000000Z.backup",
        ];
        assert_eq!(names(folder.path()), expected);
        let newest = backups(folder.path(), "c1", horizon).unwrap().pop().unwrap();
        assert!(newest.1.ends_with("piccolo-c1-20260301T000000Z.backup"));
    }

    #[test]
    fn what_a_killed_backup_has_left_goes_and_what_is_being_written_stays() {
        let folder = folder_with(&[
            ".piccolo-c1-20260101T000000Z.backup.new",
            ".piccolo-c1-20260201T000000Z.backup.new",
            ".piccolo-c2-20260101T000000Z.backup.new",
            ".piccolo-c1-notes.backup.new",
            "piccolo-c1-20260101T000000Z.backup",
        ]);
        let writes = folder.path().join(".piccolo-c1-20260201T000000Z.backup.new");
        let writes = std::fs::File::open(writes).unwrap();
        flock(&writes, FlockOperation::LockExclusive).unwrap();
        remove_halves(folder.path(), "c1").unwrap();
        let expected = [
            ".piccolo-c1-20260201T000000Z.backup.new",
            ".piccolo-c1-notes.backup.new",
            ".piccolo-c2-20260101T000000Z.backup.new",
            "piccolo-c1-20260101T000000Z.backup",
        ];
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn what_a_clock_of_the_future_has_dated_goes_before_what_is_dated_since_it_was_mended() {
        let folder = folder_with(&[
            "piccolo-c1-20380101T000000Z.backup",
            "piccolo-c1-20380102T000000Z.backup",
            "piccolo-c1-20260301T000000Z.backup",
        ]);
        let horizon = at("20260302T000000Z");
        let newest = backups(folder.path(), "c1", horizon).unwrap().pop().unwrap();
        assert_eq!(newest.0, at("20260301T000000Z"));
        retire(folder.path(), "c1", 2, horizon).unwrap();
        let expected = ["piccolo-c1-20260301T000000Z.backup", "piccolo-c1-20380102T000000Z.backup"];
        assert_eq!(names(folder.path()), expected);
        retire(folder.path(), "c1", 1, horizon).unwrap();
        assert_eq!(names(folder.path()), expected[..1]);
    }
}
