//! Lines into chunks: not one message for each line, and none that beats would wait behind for long.

use super::{CHUNK_BYTES_MAX, CHUNK_LINES_MAX, LogLine};

/// Lines that wait to be sent as one chunk.
#[derive(Debug, Default)]
pub struct Pack {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl Pack {
    pub fn push(&mut self, line: LogLine) {
        self.bytes += line.bytes();
        self.lines.push(line);
    }

    /// A line was left out.
    pub fn drop_line(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// No further line fits.
    pub fn is_full(&self) -> bool {
        // one of the longest might still come
        self.bytes + super::LINE_BYTES_MAX > CHUNK_BYTES_MAX || self.lines.len() >= CHUNK_LINES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// What there is: the lines, and how many were left out.
    #[must_use]
    pub fn take(&mut self) -> (Vec<LogLine>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_bounded_by_lines_and_by_bytes() {
        let fill = |message: &str| {
            let mut pack = Pack::default();
            while !pack.is_full() {
                pack.push(LogLine::new(1, 6, "web", message));
            }
            let (lines, _) = pack.take();
            (lines.len(), lines.iter().map(LogLine::bytes).sum::<usize>())
        };
        assert_eq!(fill("").0, CHUNK_LINES_MAX);
        let (lines, bytes) = fill(&"x".repeat(4096));
        assert!(lines == 3 && bytes <= CHUNK_BYTES_MAX, "{lines} {bytes}");
    }

    #[test]
    fn what_was_left_out_is_told_once() {
        let mut pack = Pack::default();
        assert!(pack.is_empty());
        pack.drop_line();
        assert!(!pack.is_empty());
        assert_eq!(pack.take(), (Vec::new(), 1));
        assert!(pack.is_empty());
    }
}
