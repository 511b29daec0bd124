//! Reading the logs of nodes and containers (HLD §11.2): what is decided about it.
//!
//! An agent reads where the lines are kept anyway, journald and Podman, and only while somebody asks. Lines go to the
//! master in chunks, each of which the master has allowed before ([`CREDIT`]): a reader that stops reading stops its
//! own sources, and nobody else's. Then they are put in the order of their times ([`merge`]).
//!
//! Important lines are told by the agents themselves, and kept by the master ([`kept`]).
//!
//! - [`place`]: how far a source was read, so that a reader goes on after a cut without a gap
//! - [`pace`]: how many lines an agent reads a second
//! - [`pack`]: lines into chunks
//! - [`target`]: what a person calls a source

pub mod kept;
pub mod merge;
pub mod pace;
pub mod pack;
pub mod place;
pub mod target;

use self::place::Place;
use crate::model::{FieldError, check_text};

/// Bytes of one line's message at most; the rest is cut off, and said to be.
pub const LINE_BYTES_MAX: usize = 4096;
/// Bytes of where inside of its source a line is from.
pub const FROM_BYTES_MAX: usize = 128;
/// Bytes of the lines of one chunk, about. Beats wait behind one at most.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Lines of one chunk at most.
pub const CHUNK_LINES_MAX: usize = 256;
/// Chunks of one stream that may be under way, or wait for their reader.
pub const CREDIT: u32 = 4;
/// Streams of one node at once.
pub const STREAMS_PER_NODE_MAX: usize = 16;
/// Streams of one reader: its sources.
pub const SOURCES_MAX: usize = 64;
/// Streams of all readers of one caller.
pub const STREAMS_PER_CALLER_MAX: usize = 128;
/// Streams of everybody at once: with [`CREDIT`] this bounds the memory of the master.
pub const STREAMS_MAX: usize = 256;
/// Lines of a source that may be asked for by their number.
pub const LINES_MAX: u32 = 10_000;
/// Bytes of what is searched for.
pub const GREP_BYTES_MAX: usize = 256;
/// The least severe level, as syslog counts.
pub const DEBUG: u8 = 7;
/// Of what a container writes to its output, and to its errors, as journald counts them.
pub const OUTPUT: u8 = 6;
pub const ERRORS: u8 = 3;

/// One line, or one entry of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLine {
    /// Nanoseconds since 1970 by the clock of the node.
    pub at_ns: i64,
    /// As syslog counts: 0 is the most severe.
    pub level: u8,
    pub from: String,
    pub message: String,
    /// It was longer.
    pub cut: bool,
}

/// Where an agent reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The unit that it runs as itself.
    Agent,
    /// Of systemd.
    Unit(String),
    /// Name or id.
    Container(String),
}

/// Which lines are wanted of a source: all of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub since_ns: Option<i64>,
    pub until_ns: Option<i64>,
    /// The newest so many; 0 is all.
    pub lines: u32,
    /// So severe at least.
    pub level: Option<u8>,
    /// Somewhere in the message, as it is written.
    pub grep: String,
}

/// What an agent is asked to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub source: Source,
    pub filter: Filter,
    pub follow: bool,
    /// Go on from here.
    pub after: Option<Place>,
}

/// Of the master to an agent, about one stream of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub what: OrderKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// And so many chunks may be sent.
    Open(Box<Query>, u32),
    /// So many more.
    More(u32),
    Close,
}

/// A part of a stream. Each takes one of the chunks that were allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    pub id: u64,
    pub lines: Vec<LogLine>,
    /// Left out before these, because they were too many.
    pub dropped: u64,
    pub end: Option<End>,
}

/// A stream is over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// Why; nothing where everything was told.
    pub problem: Option<String>,
}

impl LogLine {
    /// With what is too long cut off.
    pub fn new(at_ns: i64, level: u8, from: &str, message: &str) -> Self {
        let kept = truncated(message, LINE_BYTES_MAX);
        Self {
            at_ns,
            level: level.min(DEBUG),
            from: truncated(from, FROM_BYTES_MAX).to_owned(),
            message: kept.to_owned(),
            cut: kept.len() < message.len(),
        }
    }

    /// About what it takes in a chunk.
    pub fn bytes(&self) -> usize {
        self.message.len() + self.from.len() + 24
    }
}

impl Filter {
    /// What no source could do.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("filter.grep", &self.grep, GREP_BYTES_MAX)?;
        if self.lines > LINES_MAX {
            let problem = format!("{} is more than {LINES_MAX}", self.lines);
            return Err(FieldError::new("filter.lines", problem));
        }
        if self.level.is_some_and(|level| level > DEBUG) {
            return Err(FieldError::new("filter.level", "must be 0 (emerg) to 7 (debug)"));
        }
        if let (Some(since), Some(until)) = (self.since_ns, self.until_ns)
            && since >= until
        {
            return Err(FieldError::new("filter.since", "must be before `until`"));
        }
        Ok(())
    }

    /// Whether a line that its source has given is wanted.
    pub fn keeps(&self, line: &LogLine) -> bool {
        self.since_ns.is_none_or(|since| line.at_ns >= since)
            && self.until_ns.is_none_or(|until| line.at_ns <= until)
            && self.level.is_none_or(|level| line.level <= level)
            && (self.grep.is_empty() || line.message.contains(&self.grep))
    }
}

/// As much of the beginning as fits, whole characters.
fn truncated(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters_and_says_so() {
        let line = LogLine::new(1, 9, "web", &"\u{d55c}".repeat(LINE_BYTES_MAX));
        assert_eq!((line.message.len(), line.cut, line.level), (4095, true, DEBUG));
        assert!(!LogLine::new(1, 6, "web", "short").cut);
    }

    #[test]
    fn all_of_a_filter_must_hold() {
        let line = LogLine::new(500, 4, "web", "out of memory");
        let all = Filter::default();
        assert!(all.keeps(&line));
        for (filter, keeps) in [
            (Filter { since_ns: Some(500), ..all.clone() }, true),
            (Filter { since_ns: Some(501), ..all.clone() }, false),
            (Filter { until_ns: Some(500), ..all.clone() }, true),
            (Filter { until_ns: Some(499), ..all.clone() }, false),
            (Filter { level: Some(4), ..all.clone() }, true),
            (Filter { level: Some(3), ..all.clone() }, false),
            (Filter { grep: "of mem".into(), ..all.clone() }, true),
            (Filter { grep: "of.mem".into(), ..all.clone() }, false),
        ] {
            assert_eq!(filter.keeps(&line), keeps, "{filter:?}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_names_its_field() {
        let all = Filter::default();
        for (filter, field) in [
            (Filter { lines: LINES_MAX + 1, ..all.clone() }, "filter.lines"),
            (Filter { level: Some(8), ..all.clone() }, "filter.level"),
            (Filter { grep: "x".repeat(GREP_BYTES_MAX + 1), ..all.clone() }, "filter.grep"),
            (Filter { since_ns: Some(2), until_ns: Some(1), ..all.clone() }, "filter.since"),
        ] {
            assert_eq!(filter.check().unwrap_err().field, field);
        }
        assert_eq!(all.check(), Ok(()));
    }
}
