//! The kept log of the cluster (HLD §11.2): what agents tell of importance, on disk ([`files`]), past the owner.
//!
//! Each agent sends one batch and waits for its acknowledgement, so a disk that is slow, or an agent that tells much,
//! holds up nobody but itself.

mod files;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use piccolo_core::{
    api_server::{Code, Refusal},
    logs::{
        Filter,
        kept::{Found, KeptLine, Newest, OF_NODE, Retention, Target, share},
        pace::Pace,
    },
    model::{NodeId, SessionId},
};
use tokio::sync::{Semaphore, mpsc};

pub(crate) use self::files::Extent;
use self::files::Files;
use crate::{api_server::sessions::Sessions, clock::MasterClock};

/// Batches that wait for the disk at most, of all nodes.
const WAITING_MAX: usize = 64;
/// Before a batch that could not be kept is sent again.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Between two looks for what is too old.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// Who reads goes through files in a thread of its own: one at a time.
const READERS: usize = 1;
/// A line counts so many bytes in a pace.
const LINE_BYTES: usize = 256;

/// A batch that has come on a session.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) lines: Vec<KeptLine>,
}

#[derive(Debug)]
pub(crate) struct KeptLogs {
    files: Files,
    arrived: mpsc::Sender<Arrived>,
    readers: Semaphore,
}

impl KeptLogs {
    /// Reads where an earlier life came to; what arrives is for [`Self::keep`].
    pub(crate) fn open(
        state_dir: &Path,
        retention: Retention,
    ) -> (Arc<Self>, mpsc::Receiver<Arrived>) {
        let (files, problems) = Files::open(state_dir, retention);
        for problem in problems {
            tracing::warn!(%problem, "a part of the kept log cannot be read, from there on");
        }
        let (arrived, arriving) = mpsc::channel(WAITING_MAX);
        (Arc::new(Self { files, arrived, readers: Semaphore::new(READERS) }), arriving)
    }

    /// Kept through this sequence number.
    pub(crate) fn through(&self, node: &NodeId) -> u64 {
        self.files.through(node)
    }

    /// Whether there is room for it now.
    pub(crate) fn offer(&self, arrived: Arrived) -> bool {
        self.arrived.try_send(arrived).is_ok()
    }

    /// Writes what arrives, and acknowledges it, as long as the master runs.
    pub(crate) async fn keep(
        self: Arc<Self>,
        sessions: Arc<Sessions>,
        mut arriving: mpsc::Receiver<Arrived>,
        clock: MasterClock,
    ) {
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let mut paces = BTreeMap::new();
        loop {
            tokio::select! {
                Some(Arrived { node, session, lines }) = arriving.recv() => {
                    let now = clock.now().at;
                    let pace = paces.entry(node.clone()).or_insert_with(|| Pace::of(OF_NODE, now));
                    let wait = pace.take(now, lines.len() * LINE_BYTES).err().unwrap_or_default();
                    let kept = self.append(&clock, node, lines).await;
                    let wait = if kept { wait } else { AGAIN_AFTER };
                    sessions.allow_kept_in(wait, session);
                }
                _ = tidy.tick() => {
                    let (kept, now) = (Arc::clone(&self), clock.now().wall);
                    let tidied = tokio::task::spawn_blocking(move || kept.files.tidy(now)).await;
                    if let Ok(Err(error)) = tidied {
                        tracing::warn!(%error, "what is too old of the kept log was not removed");
                    }
                }
            }
        }
    }

    async fn append(
        self: &Arc<Self>,
        clock: &MasterClock,
        node: NodeId,
        lines: Vec<KeptLine>,
    ) -> bool {
        let (kept, now) = (Arc::clone(self), clock.now().wall);
        let write = move || kept.files.append(now, &node, lines);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "important lines of a node could not be kept; it sends them again");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "important lines of a node could not be kept");
                false
            }
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        self.files.extent()
    }

    /// Of which nodes something is kept.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.files.nodes()
    }

    /// The newest that are wanted of each target.
    ///
    /// # Errors
    /// Somebody else reads for too long.
    pub(crate) async fn read(
        self: &Arc<Self>,
        targets: Vec<Target>,
        filter: Filter,
    ) -> Result<Vec<(Target, Found)>, Refusal> {
        let busy = || {
            let message = "the kept log could not be read";
            Refusal::new(Code::Unavailable, "Busy", message).help("try again")
        };
        let turn = self.readers.acquire().await.map_err(|_| busy())?;
        let kept = Arc::clone(self);
        let read = move || {
            let bytes_max = share(targets.len());
            let one = |target: Target| {
                let mut newest = Newest::new(filter.clone(), target.unit.clone(), bytes_max);
                kept.files.read(&target.node, &mut newest);
                (target, newest.found())
            };
            targets.into_iter().map(one).collect()
        };
        let found = tokio::task::spawn_blocking(read).await.map_err(|_| busy());
        drop(turn);
        found
    }
}
