//! One line for each thing under way: a spinner on a terminal, plain lines everywhere else.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const SPIN_EVERY: Duration = Duration::from_millis(120);

/// A thing under way. Dropped without an end, its line just disappears.
#[derive(Debug)]
pub(crate) struct Line {
    what: String,
    started: Instant,
    spinner: Option<ProgressBar>,
}

impl Line {
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let spinner = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                .with_message(what.clone());
            spinner.enable_steady_tick(SPIN_EVERY);
            spinner
        });
        if spinner.is_none() {
            println!("... {what}");
        }
        Self { what, started: Instant::now(), spinner }
    }

    pub(crate) fn done(self, outcome: &str) {
        self.end("ok ", outcome);
    }

    pub(crate) fn failed(self, why: &str) {
        self.end("!! ", why);
    }

    fn end(self, sign: &str, outcome: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let colon = if outcome.is_empty() { "" } else { ": " };
        println!("{sign} {}{colon}{outcome} ({seconds:.1} s)", self.what);
    }
}
