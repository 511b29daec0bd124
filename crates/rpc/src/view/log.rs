//! Lines of logs.

use serde::Serialize;

use super::{time, words};
use crate::v1;

/// One document of `piccolo logs -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = LogLine))]
pub struct LineView {
    /// RFC 3339 by the clock of the node, to the nanosecond where it is known.
    pub at: Option<String>,
    pub source: String,
    pub level: String,
    pub from: String,
    pub message: String,
    /// It was longer.
    pub cut: bool,
}

impl LineView {
    #[must_use]
    pub fn new(source: &str, line: &v1::LogLine) -> Self {
        Self {
            at: time(line.at.as_ref()),
            source: source.to_owned(),
            level: words::log_level(line.level),
            from: line.from.clone(),
            message: line.message.clone(),
            cut: line.cut,
        }
    }
}

/// One event of `watch/logs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = WatchLog))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchLogView {
    Line {
        line: LineView,
    },
    /// What a reader has to know of a source beside its lines.
    Notice {
        source: String,
        /// One CamelCase word: `Dropped`, `Lost`, `Back`, `Failed`, ...
        reason: String,
        message: String,
        /// Lines that were left out, because they were too many.
        dropped: u64,
    },
    /// Nothing more will come.
    Over,
}
