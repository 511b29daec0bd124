//! The only one who writes: every commit compares the writer's key, so a master that was replaced cannot.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use piccolo_core::state_manager::keys;
use piccolo_store::{Error, KeyRing, Revision, Store, TXN_OPERATIONS_MAX, Transaction};

use crate::figures::Figures;

/// Who writes to this store; its revision is compared by every commit.
pub(crate) const WRITER: &str = "/piccolo/v1/meta/writer";
/// Between two attempts while the store is away.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Revisions of history that the store keeps, and commits between two compactions.
const HISTORY_REVISIONS: u64 = 1000;
const COMPACT_EVERY_COMMITS: u64 = 500;

/// What is written together; `None` deletes.
pub(crate) type Writes = BTreeMap<String, Option<Vec<u8>>>;

/// How the store is, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct StoreHealth {
    problem: Mutex<Option<String>>,
}

impl StoreHealth {
    /// "ok", or what is wrong.
    pub(crate) fn get(&self) -> String {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone().unwrap_or_else(|| "ok".to_owned())
    }

    fn set(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// Why this process may not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(
        "another master has taken over this store; this one ends, and wrote nothing since. Only one master \
         may use a store at a time"
    )]
    Replaced,
    #[error(
        "the store cannot be written any more; nothing that was not stored was shown to anybody"
    )]
    Store(#[source] Error),
}

#[derive(Debug)]
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    seal: Arc<KeyRing>,
    fence: Revision,
    health: Arc<StoreHealth>,
    figures: Arc<Figures>,
    commits: AtomicU64,
}

impl Writer {
    /// Takes the store over: from now on nobody else's commits hold.
    pub(crate) async fn take_over(
        store: Arc<dyn Store>,
        seal: Arc<KeyRing>,
        name: &str,
        health: Arc<StoreHealth>,
        figures: Arc<Figures>,
    ) -> Result<Self, WriteError> {
        let fence = loop {
            let found = store.get(WRITER).await.map_err(WriteError::Store)?;
            let at = found.map_or(0, |item| item.mod_revision);
            let take = Transaction::new().when(WRITER, at).put(WRITER, name);
            match store.txn(&take).await {
                Ok(revision) => break revision,
                Err(Error::CompareFailed { .. }) => {}
                Err(error) => return Err(WriteError::Store(error)),
            }
        };
        Ok(Self { store, seal, fence, health, figures, commits: AtomicU64::new(0) })
    }

    /// Durable when it returns. Waits for a store that is away, however long that takes.
    pub(crate) async fn commit(&self, writes: Writes) -> Result<(), WriteError> {
        for writes in portions(writes) {
            let mut transaction = Transaction::new().when(WRITER, self.fence);
            for (key, value) in writes {
                transaction = match value {
                    // no secret reaches the store in the clear (HLD §9.3)
                    Some(secret) if key.starts_with(keys::SEALED) => {
                        let sealed = self.seal.seal(&key, &secret).map_err(WriteError::Store)?;
                        transaction.put(key, sealed)
                    }
                    Some(value) => transaction.put(key, value),
                    None => transaction.delete(key),
                };
            }
            let began = Instant::now();
            let revision = self.insist(&transaction).await?;
            self.figures.committed(began.elapsed());
            if self.commits.fetch_add(1, Ordering::Relaxed) % COMPACT_EVERY_COMMITS
                == COMPACT_EVERY_COMMITS - 1
            {
                self.compact(revision.saturating_sub(HISTORY_REVISIONS)).await;
            }
        }
        Ok(())
    }

    /// Tries until the store has said yes or no.
    async fn insist(&self, transaction: &Transaction) -> Result<Revision, WriteError> {
        let mut pause = RETRY_MIN;
        loop {
            match self.store.txn(transaction).await {
                Ok(revision) => {
                    if pause > RETRY_MIN {
                        tracing::info!("the store is back");
                        self.health.set(None);
                    }
                    return Ok(revision);
                }
                Err(Error::CompareFailed { .. }) => return Err(WriteError::Replaced),
                Err(error) if may_pass(&error) => {
                    tracing::warn!(%error, "a commit waits for the store");
                    self.health.set(Some(error.to_string()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                Err(error) => return Err(WriteError::Store(error)),
            }
        }
    }

    async fn compact(&self, revision: Revision) {
        if revision > 0
            && let Err(error) = self.store.compact(revision).await
        {
            tracing::warn!(%error, revision, "old history was not compacted; it is tried again later");
        }
    }
}

/// One transaction nearly always. Where retired entries of a log make it too large for the store, they go in
/// transactions of their own: one that is deleted later is only kept for longer.
fn portions(mut writes: Writes) -> Vec<Writes> {
    if writes.len() <= TXN_OPERATIONS_MAX {
        return vec![writes];
    }
    let is_log = |key: &str| key.starts_with(keys::EVENTS) || key.starts_with(keys::AUDIT);
    let mut retired = Vec::new();
    writes.retain(|key, value| {
        let stays = value.is_some() || !is_log(key);
        if !stays {
            retired.push(key.clone());
        }
        stays
    });
    let some = |keys: &[String]| keys.iter().map(|key| (key.clone(), None)).collect();
    std::iter::once(writes).chain(retired.chunks(TXN_OPERATIONS_MAX).map(some)).collect()
}

/// Whether waiting helps: the store may come back, and an administrator may make room or grant access.
fn may_pass(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Full { .. } | Error::Denied { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_entries_make_room_for_what_must_be_written_at_once() {
        let put = |id| (keys::event(id), Some(vec![1]));
        let retired = |id| (keys::event(id), None);
        let removed = ("/piccolo/v1/nodes/n1".to_owned(), None);
        let writes: Writes =
            (0..48).map(put).chain((100..300).map(retired)).chain([removed.clone()]).collect();
        let portions = portions(writes.clone());
        assert!(portions.iter().all(|portion| portion.len() <= TXN_OPERATIONS_MAX));
        assert!(portions[0].contains_key(&removed.0) && portions[0].len() == 49);
        let together: Writes = portions.into_iter().flatten().collect();
        assert_eq!(together, writes, "nothing is lost");
    }

    #[test]
    fn what_fits_stays_together() {
        let writes: Writes = (0..127).map(|id| (keys::event(id), None)).collect();
        assert_eq!(portions(writes.clone()), [writes]);
    }
}
