//! The words both stores share, and the limits both enforce before anything reaches a disk or a
//! wire.

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;

use crate::{Error, Result, sealed::is_sealed};

/// Where all of PICCOLO's state lives.
pub const ROOT: &str = "/piccolo/v1/";
/// Where sealed values live; a value that was not sealed by [`crate::KeyRing`] is refused here.
pub const SEALED: &str = "/piccolo/v1/sealed/";
/// What the stores keep for themselves. Never listed, copied or counted as state.
pub const PREFIX_INTERNAL: &str = "/piccolo/internal/";

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of a value. etcd's limit is 1.5 MiB for a whole request.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// Puts and deletes in one transaction. etcd's default (`--max-txn-ops`) is 128, one of which we
/// use ourselves.
pub const TXN_OPERATIONS_MAX: usize = 127;
/// Compares in one transaction; the same limit of etcd.
pub const TXN_COMPARES_MAX: usize = 127;
/// Bytes of all keys and values in one transaction. etcd's default (`--max-request-bytes`) is 1.5
/// MiB.
pub const TXN_BYTES_MAX: usize = 1024 * 1024;
/// Keys in one page of a range.
pub const RANGE_PAGE_KEYS_MAX: usize = 1000;
/// Bytes after which a page ends early (with etcd, twice as many). One key always fits.
pub const RANGE_PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Revisions that wait for a slow watcher in memory; the others wait in the store.
pub const WATCH_QUEUE_ITEMS_MAX: usize = 16;
/// Seconds a lease may be granted for.
pub const LEASE_TTL_SECONDS_MAX: u64 = 86_400;

/// Version of the whole store: counts committed transactions. An empty store is at 1.
pub type Revision = u64;

/// Names a lease in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key as it was at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Vec<u8>,
    /// The revision that made the key (again, if it had been deleted).
    pub create_revision: Revision,
    /// The revision that changed it last: what a [`Compare`] looks at.
    pub mod_revision: Revision,
    /// How often it was put since it was made; 1 at first.
    pub version: u64,
    pub lease: Option<LeaseId>,
}

/// Which keys to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub prefix: String,
    /// First key to return (inclusive), to go on from a page; `None` starts at the prefix.
    pub start: Option<String>,
    /// Keys at most, 1 to [`RANGE_PAGE_KEYS_MAX`].
    pub limit: usize,
    /// `None` = as it is now.
    pub revision: Option<Revision>,
}

impl Range {
    /// The first page under a prefix, as it is now.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), start: None, limit: RANGE_PAGE_KEYS_MAX, revision: None }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        validate_prefix(&self.prefix)?;
        if let Some(start) = &self.start {
            validate_key(start)?;
            if !start.starts_with(&self.prefix) {
                return Err(Error::invalid(format!(
                    "start key {start} is not under prefix {}",
                    self.prefix
                )));
            }
        }
        if self.revision == Some(0) {
            return Err(Error::invalid("a page at revision 0; revisions start at 1"));
        }
        if self.limit == 0 {
            return Err(Error::invalid("a page of 0 keys"));
        }
        check_limit("a page", self.limit, RANGE_PAGE_KEYS_MAX, "keys")
    }

    pub(crate) fn first_key(&self) -> &str {
        self.start.as_deref().unwrap_or(&self.prefix)
    }
}

/// Some of the keys that a [`Range`] asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<KeyValue>,
    /// The revision this page shows. Give it with the next page to read all at one revision.
    pub revision: Revision,
    /// Where the next page starts; `None` = this was the last.
    pub next: Option<String>,
}

/// A condition of a transaction: the key was changed last at `mod_revision`; 0 = it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    pub mod_revision: Revision,
}

/// One change in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Put { key: String, value: Vec<u8>, lease: Option<LeaseId> },
    Delete { key: String },
}

impl Operation {
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// What is done all together, or not at all. Each key may be changed once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub compares: Vec<Compare>,
    pub operations: Vec<Operation>,
}

impl Transaction {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` was changed last at `mod_revision` (0 = does not exist).
    #[must_use]
    pub fn when(mut self, key: impl Into<String>, mod_revision: Revision) -> Self {
        self.compares.push(Compare { key: key.into(), mod_revision });
        self
    }

    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        lease: LeaseId,
    ) -> Self {
        self.operations.push(Operation::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        });
        self
    }

    /// Deleting an absent key is no error and no change.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }

    /// Checks every limit of this crate. Stores call it; a caller may, to fail early.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLarge`], naming the key or the limit.
    pub fn validate(&self) -> Result<()> {
        check_limit("a transaction", self.operations.len(), TXN_OPERATIONS_MAX, "operations")?;
        check_limit("a transaction", self.compares.len(), TXN_COMPARES_MAX, "compares")?;
        let mut bytes = 0;
        for compare in &self.compares {
            validate_key(&compare.key)?;
            bytes += compare.key.len();
        }
        let mut seen = BTreeSet::new();
        for operation in &self.operations {
            validate_key(operation.key())?;
            if !seen.insert(operation.key()) {
                return Err(Error::invalid(format!(
                    "key {} is changed twice in one transaction",
                    operation.key()
                )));
            }
            bytes += operation.key().len();
            if let Operation::Put { key, value, .. } = operation {
                validate_value(key, value)?;
                bytes += value.len();
            }
        }
        check_limit("a transaction", bytes, TXN_BYTES_MAX, "bytes")
    }
}

/// One change that a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(KeyValue),
    Delete { key: String },
}

impl Change {
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete { key } => key,
        }
    }
}

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// Everything that one revision changed under the prefix, never a part of it.
    Changes { revision: Revision, changes: Vec<Change> },
    /// Last item: what came next is no longer kept. List again, and watch from there.
    Compacted { compact_revision: Revision },
    /// Last item: going on makes no sense (access refused, damaged data, store closed).
    Failed(Error),
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    items: mpsc::Receiver<WatchItem>,
}

impl Watch {
    pub(crate) fn channel() -> (mpsc::Sender<WatchItem>, Self) {
        let (sender, items) = mpsc::channel(WATCH_QUEUE_ITEMS_MAX);
        (sender, Self { items })
    }

    /// The next item, waiting for it; `None` after the last.
    pub async fn next(&mut self) -> Option<WatchItem> {
        self.items.recv().await
    }
}

impl Stream for Watch {
    type Item = WatchItem;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        self.items.poll_recv(context)
    }
}

/// Which implementation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Embedded,
    Etcd,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        })
    }
}

/// Whether the store can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Good,
    /// It works, but somebody should look: an endpoint is down, an alarm is raised, space runs out.
    Degraded(String),
}

/// What an operator wants to know about the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    pub kind: StoreKind,
    /// Of SQLite, or of the etcd server that answered.
    pub version: String,
    /// Identity of the data: another one means that revisions cannot be compared.
    pub instance: String,
    /// The file, or the endpoints.
    pub location: String,
    pub revision: Revision,
    /// Bytes on disk, without the write-ahead log.
    pub size_bytes: u64,
    pub health: Health,
}

pub(crate) fn check_limit(
    what: &str,
    actual: usize,
    limit: usize,
    unit: &'static str,
) -> Result<()> {
    if actual > limit {
        return Err(Error::TooLarge { what: what.to_owned(), actual, limit, unit });
    }
    Ok(())
}

pub(crate) fn validate_key(key: &str) -> Result<()> {
    validate_prefix(key)?;
    if key == ROOT || key == PREFIX_INTERNAL {
        return Err(Error::invalid(format!("{key} is a prefix, not a key")));
    }
    Ok(())
}

pub(crate) fn validate_prefix(prefix: &str) -> Result<()> {
    if !prefix.starts_with(ROOT) && !prefix.starts_with(PREFIX_INTERNAL) {
        return Err(Error::invalid(format!("key {prefix:?} is not under {ROOT}")));
    }
    // U+10FFFF is no character; the embedded store uses it as the end of a range.
    if let Some(odd) = prefix.chars().find(|c| c.is_control() || *c == char::MAX) {
        return Err(Error::invalid(format!("key {prefix:?} contains {odd:?}")));
    }
    check_limit("a key", prefix.len(), KEY_BYTES_MAX, "bytes")
}

pub(crate) fn validate_ttl(ttl: std::time::Duration) -> Result<u64> {
    let seconds = ttl.as_secs();
    if seconds == 0 || ttl.subsec_nanos() != 0 {
        return Err(Error::invalid(format!(
            "a lease of {ttl:?}; it takes whole seconds, 1 or more"
        )));
    }
    check_limit("a lease", usize::try_from(seconds).unwrap_or(usize::MAX), 86_400, "seconds")?;
    Ok(seconds)
}

fn validate_value(key: &str, value: &[u8]) -> Result<()> {
    if key.starts_with(SEALED) && !is_sealed(value) {
        return Err(Error::invalid(format!(
            "the value of {key} must be sealed before it is stored"
        )));
    }
    check_limit(&format!("the value of {key}"), value.len(), VALUE_BYTES_MAX, "bytes")
}
