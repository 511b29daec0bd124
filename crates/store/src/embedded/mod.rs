//! The embedded store: one SQLite file, one thread that owns it, no second process.
//!
//! A call travels as a closure to the thread and its result travels back, so the async side never
//! waits on a disk and the connection needs no lock. A transaction is on disk (WAL,
//! `synchronous=FULL`) before its call returns. Watchers hold no queue of their own in the store:
//! each reads the history table from where it was, when the thread says that the revision grew. A
//! slow watcher costs nothing, and finds out when it was too slow.

mod engine;
mod file;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as thread_channel},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    Error, KeyValue, LeaseId, Page, Range, Reply, Result, Revision, Store, StoreStatus,
    Transaction, Watch, WatchItem,
    embedded::engine::Engine,
    types::{validate_key, validate_prefix, validate_ttl},
};

/// Calls that wait for the thread at the same time; more wait before they are sent.
const CALLS_WAITING_MAX: usize = 64;
/// Bytes of stack of the thread. SQLite needs less than 64 KiB.
const THREAD_STACK_BYTES: usize = 256 * 1024;

/// How to open an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    pub path: PathBuf,
    /// Make the file if there is none. Set it at a first start only, so that a lost file is
    /// noticed.
    pub create: bool,
    /// Bytes the file may grow to; then writes fail with [`Error::Full`] until history is
    /// compacted.
    pub file_bytes_max: u64,
    /// How long to wait for another program (`sqlite3`, a backup) that holds the file's write lock.
    pub busy_wait: Duration,
    /// Open the target of an unfinished migration, in order to finish or to wipe it.
    pub allow_incomplete: bool,
    /// Read what is there now, beside the master that uses the file: without its lock, and without changing anything.
    pub beside_master: bool,
}

impl EmbeddedOptions {
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: false,
            file_bytes_max: 256 * 1024 * 1024,
            busy_wait: Duration::from_secs(5),
            allow_incomplete: false,
            beside_master: false,
        }
    }

    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    #[must_use]
    pub fn beside_master(mut self) -> Self {
        self.beside_master = true;
        self
    }

    #[must_use]
    pub fn allow_incomplete(mut self) -> Self {
        self.allow_incomplete = true;
        self
    }
}

/// The store in one file. Dropping it waits for the work under way and closes the file.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the file and checks all of it. Blocks while it does (milliseconds per MiB): for
    /// start-up.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged, truncated or foreign file, [`Error::Locked`] where another
    /// process has it, [`Error::Incomplete`] after an unfinished migration. The file is then left
    /// as it is.
    pub fn open(options: EmbeddedOptions) -> Result<Self> {
        let (revision_sender, revision) = watch::channel(0);
        let path = options.path.clone();
        let engine = Engine::open(options, revision_sender)?;
        let (calls, queue) = thread_channel::channel::<Call>();
        let thread = thread::Builder::new()
            .name("piccolo-store".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || serve(engine, &queue))
            .map_err(|e| Error::io("start a thread for", &path, e))?;
        let room = Arc::new(Semaphore::new(CALLS_WAITING_MAX));
        let shared = Arc::new(Shared { calls: Mutex::new(Some(calls)), room, revision });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Writes a copy of the whole store as of now to a new file, which can be opened in its place.
    ///
    /// # Errors
    /// [`Error::Io`] where the target exists or cannot be written.
    pub async fn backup(&self, target: &Path) -> Result<()> {
        let target = target.to_owned();
        self.shared.call(move |engine| engine.backup(&target)).await
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<KeyValue>> {
        Box::pin(async move {
            validate_key(key)?;
            let key = key.to_owned();
            self.shared.call(move |engine| engine.get(&key)).await
        })
    }

    fn range<'a>(&'a self, range: &'a Range) -> Reply<'a, Page> {
        Box::pin(async move {
            range.validate()?;
            let range = range.clone();
            self.shared.call(move |engine| engine.range(&range)).await
        })
    }

    fn txn<'a>(&'a self, transaction: &'a Transaction) -> Reply<'a, Revision> {
        Box::pin(async move {
            transaction.validate()?;
            let transaction = transaction.clone();
            self.shared.call(move |engine| engine.txn(&transaction)).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Reply<'a, Watch> {
        Box::pin(async move {
            validate_prefix(prefix)?;
            if from == 0 {
                return Err(Error::invalid(
                    "a watch from revision 0; give the listed revision + 1",
                ));
            }
            let (items, watch) = Watch::channel();
            let shared = Arc::clone(&self.shared);
            let revision = self.shared.revision.clone();
            tokio::spawn(follow(shared, prefix.to_owned(), from, revision, items));
            Ok(watch)
        })
    }

    fn grant(&self, ttl: Duration) -> Reply<'_, LeaseId> {
        Box::pin(async move {
            let seconds = validate_ttl(ttl)?;
            self.shared.call(move |engine| engine.grant(seconds, Instant::now())).await
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Reply<'_, Duration> {
        Box::pin(self.shared.call(move |engine| engine.keep_alive(lease, Instant::now())))
    }

    fn revoke(&self, lease: LeaseId) -> Reply<'_, ()> {
        Box::pin(self.shared.call(move |engine| engine.revoke(lease)))
    }

    fn compact(&self, revision: Revision) -> Reply<'_, ()> {
        Box::pin(self.shared.call(move |engine| engine.compact(revision)))
    }

    fn status(&self) -> Reply<'_, StoreStatus> {
        Box::pin(self.shared.call(|engine| engine.status()))
    }
}

struct Call {
    work: Box<dyn FnOnce(&mut Engine) + Send>,
    /// Held until the call is done, so that calls cannot pile up without bound.
    _room: OwnedSemaphorePermit,
}

/// What the store and its watches share. The watches do not keep the file open: closing takes
/// `calls` away.
#[derive(Debug)]
struct Shared {
    calls: Mutex<Option<thread_channel::Sender<Call>>>,
    room: Arc<Semaphore>,
    revision: watch::Receiver<Revision>,
}

impl Shared {
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |engine: &mut Engine| {
            let result = work(engine);
            // The caller may have gone; the work is done all the same.
            reply.send(result).ok();
        });
        match self.calls().as_ref() {
            Some(calls) => calls.send(Call { work, _room: room }).map_err(|_| Error::Closed)?,
            None => return Err(Error::Closed),
        }
        answer.await.map_err(|_| Error::Closed)?
    }

    fn calls(&self) -> MutexGuard<'_, Option<thread_channel::Sender<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        *self.shared.calls() = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded store ended by a panic");
        }
    }
}

/// The thread: calls in order, ended leases when they are due.
fn serve(mut engine: Engine, queue: &thread_channel::Receiver<Call>) {
    loop {
        let call = match engine.next_lease_end() {
            None => queue.recv().map_err(|_| thread_channel::RecvTimeoutError::Disconnected),
            Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match call {
            Ok(Call { work, _room }) => work(&mut engine),
            Err(thread_channel::RecvTimeoutError::Timeout) => {}
            Err(thread_channel::RecvTimeoutError::Disconnected) => return,
        }
        engine.end_leases(Instant::now());
    }
}

/// One watcher: reads what is there, then waits for the revision to grow.
async fn follow(
    shared: Arc<Shared>,
    prefix: String,
    mut next: Revision,
    mut revision: watch::Receiver<Revision>,
    items: mpsc::Sender<WatchItem>,
) {
    loop {
        let current = *revision.borrow_and_update();
        while next <= current {
            let (from, wanted) = (next, prefix.clone());
            let step = shared.call(move |engine| engine.changes(&wanted, from)).await;
            let (found, after) = match step {
                Ok(step) => step,
                Err(Error::Closed) => return,
                Err(Error::Compacted { compact_revision, .. }) => {
                    items.send(WatchItem::Compacted { compact_revision }).await.ok();
                    return;
                }
                Err(error) => {
                    items.send(WatchItem::Failed(error)).await.ok();
                    return;
                }
            };
            next = after;
            for (revision, changes) in found {
                if items.send(WatchItem::Changes { revision, changes }).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = items.closed() => return,
        }
    }
}
