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
use piccolo_core::{state_manager::Input, time::WallTime};
use piccolo_store::Store;
use tokio::runtime::Handle;

use super::{
    create::{Made, Source, file_prefix},
    parse_stamp, passphrase,
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
        let newest = self.newest();
        self.health.set(BackupState { every, newest, problem: String::new() });
        let mut retry: Option<WallTime> = None;
        loop {
            let now = self.clock.now().wall;
            let state = self.health.get().unwrap_or_default();
            let due = state.newest.as_ref().map_or(now, |(at, _)| at.plus(every));
            // a clock that was set back must not put it off for long
            let due = due.min(now.plus(every));
            let due = retry.map_or(due, |retry| due.max(retry));
            let wait = due.since(now).min(LOOK_EVERY_MAX);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            retry = self.make().await.then_some(()).map_or_else(
                || Some(self.clock.now().wall.plus(RETRY_AFTER.min(every))),
                |()| None,
            );
        }
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
        let newest = self.newest().or(before.newest);
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
        let runtime = Handle::current();
        let write = move || {
            let BackupConfig { folder, keep, passphrase_file, .. } = settings;
            let passphrase = passphrase::for_new(passphrase::from_file(&passphrase_file)?)?;
            let made = folder_is_there(&folder)
                .and_then(|()| source.write(&folder, &passphrase, &runtime))?;
            retire(&folder, &cluster, keep).with_context(|| {
                format!("old backups in {} cannot be removed", folder.display())
            })?;
            Ok(made)
        };
        tokio::task::spawn_blocking(write).await?
    }

    fn newest(&self) -> Option<(WallTime, PathBuf)> {
        let (at, path) = backups(&self.settings.folder, &self.cluster).ok()?.pop()?;
        Some((WallTime(at), path))
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
fn retire(folder: &Path, cluster: &str, keep: usize) -> std::io::Result<()> {
    let all = backups(folder, cluster)?;
    let surplus = all.len().saturating_sub(keep);
    all.into_iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
}

/// This cluster's, oldest first, by the names that this master gave them.
fn backups(folder: &Path, cluster: &str) -> std::io::Result<Vec<(i64, PathBuf)>> {
    let prefix = file_prefix(cluster);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp =
            name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".backup"));
        if let Some(at) = stamp.and_then(parse_stamp) {
            found.push((at, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_of_this_cluster_are_kept_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "piccolo-c1-20260101T000000Z.backup",
            "piccolo-c1-20260301T000000Z.backup",
            "piccolo-c1-20260201T000000Z.backup",
            "piccolo-c2-20250101T000000Z.backup",
            "piccolo-c1-before-the-move.backup",
            "notes.txt",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        retire(folder.path(), "c1", 2).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let expected = [
            "notes.txt",
            "piccolo-c1-20260201T000000Z.backup",
            "piccolo-c1-20260301T000000Z.backup",
            "piccolo-c1-before-the-move.backup",
            "piccolo-c2-20250101T000000Z.backup",
        ];
        assert_eq!(left, expected);
        let newest = backups(folder.path(), "c1").unwrap().pop().unwrap();
        assert!(newest.1.ends_with("piccolo-c1-20260301T000000Z.backup"));
    }
}
