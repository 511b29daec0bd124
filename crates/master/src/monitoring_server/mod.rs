//! The MonitoringServer (HLD §3.1): remembers what nodes tell of themselves, as the performer shows it, and keeps it
//! on disk ([`files`]).

mod files;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use piccolo_core::{
    api_server::Refusal,
    model::{NodeId, NodeView},
    monitoring_server::{
        BYTES_MAX, Extent, MonitoringServer,
        query::{Answer, Query},
        record::Record,
    },
    session::MissedFigures,
    time::WallTime,
};
use tokio::sync::watch;

use self::files::Files;
use crate::clock::MasterClock;

/// The coarsest slot: whatever is written covers whole ones.
const WRITE_EVERY_MS: i64 = 900_000;
/// As far as the finest level reaches back.
const FINEST_MS: i64 = 3_600_000;
/// Reports of a slot that is over may still be on their way.
const WRITE_LATER: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Monitoring {
    memory: Mutex<MonitoringServer>,
    clock: MasterClock,
}

impl Monitoring {
    pub(crate) fn new(clock: MasterClock) -> Self {
        Self { memory: Mutex::new(MonitoringServer::new(BYTES_MAX)), clock }
    }

    pub(crate) fn seen(&self, view: &NodeView) {
        let now = self.clock.now().wall;
        self.lock().seen(now, view);
    }

    pub(crate) fn missed(&self, node: &NodeId, figures: &MissedFigures) {
        let now = self.clock.now().wall;
        self.lock().missed(now, node, figures);
    }

    pub(crate) fn removed(&self, node: &NodeId) {
        self.lock().removed(node);
    }

    /// # Errors
    /// The query makes no sense, or is too much.
    pub(crate) fn query(&self, query: &Query) -> Result<Answer, Refusal> {
        let now = self.clock.now().wall;
        self.lock().query(now, query)
    }

    /// The names of what is remembered; of containers where `containers`.
    pub(crate) fn figures(&self, containers: bool) -> Vec<String> {
        self.lock().figures(containers)
    }

    pub(crate) fn extent(&self) -> Extent {
        self.lock().extent()
    }

    /// Reads what an earlier life has written, and writes what this one sees, until the master stops. Nothing waits
    /// for it, and where the disk fails the memory goes on without.
    pub(crate) async fn keep(self: Arc<Self>, state_dir: PathBuf, mut stop: watch::Receiver<bool>) {
        let files = Arc::new(Files::below(&state_dir));
        self.recall(&files).await;
        let mut written = quarter(self.clock.now().wall);
        loop {
            let due = WallTime(written.0 + WRITE_EVERY_MS).plus(WRITE_LATER);
            let stopped = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                () = tokio::time::sleep(due.since(self.clock.now().wall)) => false,
            };
            let now = self.clock.now().wall;
            let until = if stopped { now.plus(Duration::from_secs(1)) } else { quarter(now) };
            let mut records: Vec<Record> =
                [1, 2].map(|level| self.lock().record(level, written, until)).into();
            if stopped {
                records.push(self.lock().record(0, WallTime(until.0 - FINEST_MS), until));
            }
            self.write(&files, records).await;
            if stopped {
                return;
            }
            written = until.max(written);
        }
    }

    async fn recall(&self, files: &Arc<Files>) {
        let reader = Arc::clone(files);
        let read = tokio::task::spawn_blocking(move || {
            let read = reader.read();
            reader.forget_recent();
            read
        });
        let Ok((recalled, problems)) = read.await else { return };
        for problem in problems {
            tracing::warn!(%problem, "figures of an earlier time cannot be read, from there on");
        }
        if !recalled.is_empty() {
            self.lock().absorb(recalled);
        }
    }

    async fn write(&self, files: &Arc<Files>, records: Vec<Record>) {
        let files = Arc::clone(files);
        let write = move || {
            let told = records.iter().filter(|record| !record.series.is_empty());
            told.into_iter().try_for_each(|record| files.write(record))
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "figures could not be written; they are kept in memory")
            }
            Err(error) => tracing::warn!(%error, "figures could not be written"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, MonitoringServer> {
        // a panic elsewhere leaves whole series behind
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The quarter of an hour that has begun.
fn quarter(now: WallTime) -> WallTime {
    WallTime(now.0.div_euclid(WRITE_EVERY_MS) * WRITE_EVERY_MS)
}
