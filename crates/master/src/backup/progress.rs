//! A sign of life for work at a prompt that takes longer than a second: on stderr, and only on a terminal.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What is faster than this is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(100);
const SPINNER: [char; 4] = ['-', '\\', '|', '/'];
/// Back to the beginning of the line, and nothing in it.
const CLEAR: &str = "\r\x1b[K";
/// In a narrow terminal the end is cut: a line that were broken could not be cleared.
const UNBROKEN: (&str, &str) = ("\x1b[?7l", "\x1b[?7h");

/// Shown until it is dropped.
#[derive(Debug)]
pub(super) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// `what` is being done.
    pub(super) fn of(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let (ends, ended) = channel();
        let shows = move || show(&mut io::stderr(), what, PATIENCE, &ended);
        // without the thread the work is done all the same
        let thread = std::thread::Builder::new().spawn(shows);
        Self(thread.ok().map(|thread| (ends, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((ends, thread)) = self.0.take() {
            drop(ends);
            thread.join().ok();
        }
    }
}

/// Until the other end of `ended` is gone.
fn show(out: &mut impl Write, what: &str, patience: Duration, ended: &Receiver<()>) {
    let begun = Instant::now();
    let mut wait = patience;
    let mut frames = 0;
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let spinner = SPINNER[frames % SPINNER.len()];
        let seconds = begun.elapsed().as_secs();
        let (begin, end) = UNBROKEN;
        let frame = format!("{CLEAR}{begin}{spinner} {what} ({seconds}s){end}");
        // at once, or it flickers; a terminal that is gone needs no sign of life
        if out.write_all(frame.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        (wait, frames) = (FRAME, frames + 1);
    }
    if frames > 0 {
        out.write_all(CLEAR.as_bytes()).and_then(|()| out.flush()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal on which work ends as soon as `frames` were seen.
    struct Terminal {
        text: String,
        frames: usize,
        work: Option<Sender<()>>,
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.text += &String::from_utf8_lossy(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.frames = self.frames.saturating_sub(1);
            if self.frames == 0 {
                self.work = None;
            }
            Ok(())
        }
    }

    #[test]
    fn what_takes_long_is_shown_and_nothing_of_it_is_left() {
        let (work, ended) = channel();
        let mut terminal = Terminal { text: String::new(), frames: 2, work: Some(work) };
        show(&mut terminal, "restoring", Duration::ZERO, &ended);
        let frames: Vec<_> = terminal.text.split(CLEAR).collect();
        assert_eq!(frames.len(), 4, "{frames:?}");
        for (frame, spinner) in frames[1..].iter().zip(["-", "\\"]) {
            let text =
                frame.strip_prefix(UNBROKEN.0).and_then(|text| text.strip_suffix(UNBROKEN.1));
            assert!(text.unwrap().starts_with(&format!("{spinner} restoring (")), "{frames:?}");
        }
        assert_eq!(frames[3], "", "{frames:?}");
    }

    #[test]
    fn what_is_done_soon_is_not_worth_a_word() {
        let (work, ended) = channel();
        drop(work);
        let mut terminal = Terminal { text: String::new(), frames: 0, work: None };
        show(&mut terminal, "restoring", Duration::from_secs(3600), &ended);
        assert_eq!(terminal.text, "");
    }
}
