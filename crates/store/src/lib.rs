//! The durable state of a PICCOLO master (HLD §1.2.3, §3.2; design §7).
//!
//! Everything that must survive a restart is a key under [`ROOT`] with a value of bytes. A
//! [`Store`] keeps such keys, changes several of them in one [`Transaction`], and tells a [`Watch`]
//! what changed since a revision. There are two:
//!
//! * [`EmbeddedStore`] is one SQLite file in the master's own process: the default.
//! * [`EtcdStore`] talks to an etcd cluster, 3.4 or newer: for several masters.
//!
//! Both pass one contract suite (`tests/store/contract.rs`), etcd being the real server.
//!
//! A revision counts committed transactions. Every key remembers the revision that made it and the
//! one that changed it last, so "change it only if nobody else did" is one compare in a
//! transaction, and "tell me what I missed" is a watch from the revision after the one that was
//! listed.
//!
//! Secret values are sealed with [`KeyRing`] before they get here and live under [`SEALED`].
//! Metrics and heartbeats are never stored (docs/adr/0004-stores.md).

#[cfg(not(any(feature = "embedded", feature = "etcd")))]
compile_error!("a store is needed: enable the feature `embedded`, `etcd`, or both");

mod error;
mod migrate;
mod sealed;
mod types;

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "testing")]
pub mod testing;

use std::{future::Future, pin::Pin, time::Duration};

#[cfg(feature = "embedded")]
pub use crate::embedded::{EmbeddedOptions, EmbeddedStore};
#[cfg(feature = "etcd")]
pub use crate::etcd::{EtcdOptions, EtcdStore, EtcdTls};
pub use crate::{
    error::{Error, Result},
    migrate::{Import, MigrationReport, is_incomplete, migrate, wipe_incomplete},
    sealed::{KeyRing, ResealReport, is_sealed},
    types::{
        Change, Compare, Health, KEY_BYTES_MAX, KeyValue, LEASE_TTL_SECONDS_MAX, LeaseId,
        Operation, PREFIX_INTERNAL, Page, RANGE_PAGE_BYTES_MAX, RANGE_PAGE_KEYS_MAX, ROOT, Range,
        Revision, SEALED, StoreKind, StoreStatus, TXN_BYTES_MAX, TXN_COMPARES_MAX,
        TXN_OPERATIONS_MAX, Transaction, VALUE_BYTES_MAX, WATCH_QUEUE_ITEMS_MAX, Watch, WatchItem,
    },
};

/// The answer of a store, later. (A boxed future, so that `dyn Store` works.)
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Durable keys and values with transactions, history and leases.
///
/// Shared as `Arc<dyn Store>`. Every call has a deadline inside and returns [`Error::Unavailable`]
/// rather than hang. Reads are linearizable: they see every transaction that returned before they
/// began.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// One key, or `None` where it does not exist.
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<KeyValue>>;

    /// One page of the keys with a prefix, in the order of their bytes.
    /// [`list`] reads all pages at one revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`] where a revision was named that is not
    /// there.
    fn range<'a>(&'a self, range: &'a Range) -> Reply<'a, Page>;

    /// Applies all operations if all compares hold, or nothing at all. Durable when it returns.
    ///
    /// Returns the revision of the store afterwards. A transaction without operations makes no new
    /// revision; one that only deletes absent keys may.
    ///
    /// # Errors
    /// [`Error::CompareFailed`] names the first compare that did not hold. After
    /// [`Error::Unavailable`] and [`Error::OutcomeUnknown`], calling again with an equal
    /// transaction on the same store is safe: it is applied once. A future that is dropped half-way
    /// leaves the outcome unknown.
    fn txn<'a>(&'a self, transaction: &'a Transaction) -> Reply<'a, Revision>;

    /// Everything that changes under a prefix, from a revision on (inclusive; use the listed one +
    /// 1).
    ///
    /// Lost connections are mended inside. A watcher is never told less than everything: where
    /// history is gone it gets [`WatchItem::Compacted`] as last item and has to list again.
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Reply<'a, Watch>;

    /// A lease of whole seconds, 1 s to [`LEASE_TTL_SECONDS_MAX`]. When it ends, the keys put with
    /// it are deleted.
    fn grant(&self, ttl: Duration) -> Reply<'_, LeaseId>;

    /// Starts the time of the lease anew and returns it. Writes nothing to disk in the embedded
    /// store.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] where it ended already.
    fn keep_alive(&self, lease: LeaseId) -> Reply<'_, Duration>;

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] where it ended already.
    fn revoke(&self, lease: LeaseId) -> Reply<'_, ()>;

    /// Forgets what was before a revision; the state at that revision is kept. Doing it twice is no
    /// error.
    ///
    /// # Errors
    /// [`Error::FutureRevision`] where the store is not there yet.
    fn compact(&self, revision: Revision) -> Reply<'_, ()>;

    /// What an operator wants to know about the store.
    fn status(&self) -> Reply<'_, StoreStatus>;
}

/// All keys with a prefix, at one revision, whatever changes meanwhile.
///
/// # Errors
/// Those of [`Store::range`]; a compaction in between starts the listing again.
pub async fn list(store: &dyn Store, prefix: &str) -> Result<(Vec<KeyValue>, Revision)> {
    const RESTARTS_MAX: usize = 8;
    let mut restarts = 0;
    loop {
        match list_once(store, prefix).await {
            Err(Error::Compacted { .. }) if restarts < RESTARTS_MAX => restarts += 1,
            other => return other,
        }
    }
}

async fn list_once(store: &dyn Store, prefix: &str) -> Result<(Vec<KeyValue>, Revision)> {
    let mut range = Range::prefix(prefix);
    let mut all = Vec::new();
    loop {
        let page = store.range(&range).await?;
        all.extend(page.items);
        let Some(next) = page.next else { return Ok((all, page.revision)) };
        range.start = Some(next);
        range.revision = Some(page.revision);
    }
}
