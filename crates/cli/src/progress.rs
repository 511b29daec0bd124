//! A sign of life for anything that takes longer than a second: on stderr, and only on a terminal.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep_until};

use crate::text::clean;

/// What is faster than this is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(100);

/// One thing that is waited for. Gone from the terminal when dropped.
#[derive(Debug)]
pub struct Progress {
    message: String,
    shown_from: Instant,
    bar: Option<ProgressBar>,
    terminal: bool,
}

impl Progress {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            shown_from: Instant::now() + PATIENCE,
            bar: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// What is waited for now.
    pub fn set(&mut self, message: impl AsRef<str>) {
        self.message = clean(message.as_ref()).into_owned();
        if let Some(bar) = &self.bar {
            bar.set_message(self.message.clone());
        }
    }

    /// A line that stays, beside what is shown.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => crate::output::say(line),
        }
    }

    /// Waits for `future`, showing that it does.
    pub async fn over<F: Future>(&mut self, future: F) -> F::Output {
        if !self.terminal || self.bar.is_some() {
            return future.await;
        }
        tokio::pin!(future);
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = sleep_until(self.shown_from) => self.show(),
        }
        future.await
    }

    fn show(&mut self) {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        let bar = bar.with_elapsed(PATIENCE);
        bar.set_message(self.message.clone());
        // From a thread of its own: it moves even while this one computes.
        bar.enable_steady_tick(FRAME);
        self.bar = Some(bar);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
