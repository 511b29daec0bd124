//! How a command ends: an exit code that scripts can use, and an error that says what to do.
//!
//! Errors go to stderr as `error:` (what was tried), `cause:` (why it was not done, outermost
//! first) and `help:` (what to do now). The codes are part of the interface;
//! `docs/operations/cli.md` lists them.

use std::{fmt, io, process::ExitCode};

use crate::text::clean;

/// What scripts see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    Done = 0,
    /// The master or this machine could not do it.
    Failed = 1,
    /// The command line, or a value in it, is wrong. Nothing was done.
    Usage = 2,
    /// There is no such node, token, user or file.
    NotFound = 3,
    /// No master of the context answered in time.
    Unreachable = 4,
    /// The master knows who asks and refuses, or does not know who asks.
    Denied = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// Of a file of the user's that could not be read.
    pub fn of_unreadable(error: &io::Error) -> Exit {
        if error.kind() == io::ErrorKind::NotFound {
            Exit::NotFound
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Exit::Denied
        } else {
            Exit::Failed
        }
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub error: String,
    pub causes: Vec<String>,
    pub help: Vec<String>,
    /// Nothing more to say: it was said already, or nobody reads.
    pub silent: bool,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<String>) -> Self {
        Self { exit, error: error.into(), causes: vec![], help: vec![], silent: false }
    }

    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(Exit::Failed, error)
    }

    pub fn usage(error: impl Into<String>) -> Self {
        Self::new(Exit::Usage, error)
    }

    /// Ends the command with this code and without a word.
    pub fn silent(exit: Exit) -> Self {
        Self { silent: true, ..Self::new(exit, "") }
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and everything that led to it, without saying the same twice.
    #[must_use]
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !self.causes.last().is_some_and(|last| last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// The whole report, a line each; later lines of one text are indented below its first.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = self.causes.iter().map(|text| ("cause", text));
        let help = self.help.iter().map(|text| ("help", text));
        for (word, text) in [("error", &self.error)].into_iter().chain(causes).chain(help) {
            let mut lines = text.lines();
            writeln!(f, "{word}: {}", clean(lines.next().unwrap_or_default()))?;
            for line in lines {
                writeln!(f, "{:width$}{}", "", clean(line), width = word.len() + 2)?;
            }
        }
        Ok(())
    }
}

/// Writing to stdout: a reader that went away has seen enough.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Done);
        }
        Self::failed("the output could not be written").because(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_error_cause_and_help_a_line_each() {
        let failure = Failure::failed("cannot list nodes")
            .cause("first\nsecond")
            .help("look at \u{1b}[31mthis");
        let expect = "error: cannot list nodes\ncause: first\n       second\n\
                      help: look at \\u{1b}[31mthis\n";
        assert_eq!(failure.to_string(), expect);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.silent), (Exit::Done, true));
        assert_eq!(Failure::from(io::Error::other("disk full")).exit, Exit::Failed);
    }
}
