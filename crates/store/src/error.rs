//! What can go wrong with the durable state, told apart by what the caller has to do about it.

use std::{io, path::PathBuf, sync::Arc};

use crate::{LeaseId, Revision};

/// The result of every call on a store.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed call. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store does not answer now. Nothing was changed; trying again later is right.
    #[error("the store {store} cannot be reached, nothing was changed: {cause}")]
    Unavailable { store: String, cause: String },

    /// The connection broke while a transaction was under way. It may have been applied.
    /// Calling `txn` again with an equal transaction on the same store is safe: it is applied once.
    #[error("the store {store} may or may not have applied the transaction: {cause}")]
    OutcomeUnknown { store: String, cause: String },

    /// A key did not have the revision that the transaction was made for. Read again and decide
    /// anew.
    #[error(
        "key {key} is at revision {found}, not at {expected} (0 = absent); nothing was changed"
    )]
    CompareFailed { key: String, expected: Revision, found: Revision },

    /// The revision asked for is no longer kept. List again and go on from there.
    #[error("revision {asked} is no longer kept, history starts after {compact_revision}")]
    Compacted { asked: Revision, compact_revision: Revision },

    /// The revision asked for does not exist yet.
    #[error("revision {asked} does not exist yet, the store is at {current}")]
    FutureRevision { asked: Revision, current: Revision },

    /// The lease ended, was revoked or never existed; its keys are gone.
    #[error("lease {lease} does not exist: it ended, was revoked, or was never granted")]
    LeaseNotFound { lease: LeaseId },

    /// What is stored cannot be trusted. Nothing was repaired, recreated or removed.
    #[error("{what} is damaged or not a PICCOLO store: {problem}; {remedy}")]
    Corrupt { what: String, problem: String, remedy: String },

    /// The data were written by a newer version of PICCOLO. Nothing was touched.
    #[error(
        "{what} has format {found}, this version understands up to {supported}; use the newer version again"
    )]
    NewerFormat { what: String, found: u32, supported: u32 },

    /// A migration into this store was not finished.
    #[error(
        "{store} holds a migration that was not finished ({detail}); run the same `piccolo store migrate` \
         (or `piccolo backup restore`) again to finish it, or `piccolo store migrate --wipe` to empty this target; \
         the source is untouched"
    )]
    Incomplete { store: String, detail: String },

    /// Another process uses the same embedded file.
    #[error("{} is in use by {holder}; only one master may use it at a time", path.display())]
    Locked { path: PathBuf, holder: String },

    /// The store knows us and refuses, or refuses to know us: user, password, role or certificate.
    #[error("the store refuses access: {problem}")]
    Denied { problem: String },

    /// The caller exceeded one of the limits of this crate or of the etcd server.
    #[error("{what} is {actual} {unit}, the limit is {limit} {unit}; nothing was changed")]
    TooLarge { what: String, actual: usize, limit: usize, unit: &'static str },

    /// No room is left. Reads go on; writes fail until space is made.
    #[error("the store {store} is full, nothing was changed: {problem}")]
    Full { store: String, problem: String },

    /// The call makes no sense (a key outside the name space, the same key twice, ...).
    #[error("not a valid request: {problem}")]
    Invalid { problem: String },

    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },

    /// The store was closed, or its thread ended.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. })
    }

    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid { problem: problem.into() }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }
}
