//! How the master speaks to servers of others: one request on one connection, and whom to believe at its other end.

pub(crate) mod post;
pub(crate) mod tls;

/// Why something was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It may be taken later.
    ForNow(String),
    /// It would be refused again.
    ForGood(String),
}

impl Failed {
    pub(crate) fn now(what: impl std::fmt::Display) -> Self {
        Self::ForNow(what.to_string())
    }
}
