//! A picture that is drawn again and again in the same place of a terminal, what is typed meanwhile, and how a watch ends.

use std::{
    io::{self, Read as _, Write as _},
    pin::pin,
    thread,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::getpgrp,
    stdio::stdin,
    termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    connection::Step,
    failure::{Exit, Failure},
    output::{say, terminal_size},
};

/// How often ages grow in a live picture.
const TICK: Duration = Duration::from_secs(1);

/// What a watch is told.
#[derive(Debug)]
pub enum Moment<M> {
    Item(M),
    /// The connection is lost: a line for stderr.
    Lost(String),
    /// It is back: a line for stderr.
    Back(String),
    /// A second is over.
    Tick,
}

/// Runs a watch: every step goes to `tell`. Ends with success when the user interrupts or terminates it or the
/// reader of stdout has gone, because nothing else ends a watch; else with the failure.
///
/// # Errors
/// What the stream or `tell` fails with.
pub async fn run<M>(
    steps: impl Stream<Item = Result<Step<M>, Failure>>,
    mut tell: impl FnMut(Moment<M>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut steps = pin!(steps);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    // as an interrupt, or a terminal would stay as Keys made it
    let mut terminated = signal(SignalKind::terminate())?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let moment = tokio::select! {
            biased;
            _ = &mut interrupted => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            step = steps.next() => match step {
                Some(Ok(Step::Item(item))) => Moment::Item(item),
                Some(Ok(Step::Lost(text))) => Moment::Lost(text),
                Some(Ok(Step::Back(text))) => Moment::Back(text),
                Some(Err(failure)) => return Err(failure),
                None => return Ok(()),
            },
            _ = ticks.tick() => Moment::Tick,
        };
        if matches!(moment, Moment::Tick) && is_reader_gone() {
            return Err(Failure::silent(Exit::Done));
        }
        tell(moment)?;
    }
}

/// Has the terminal pass on each key at once, and show none; it is as it was when this is dropped.
#[derive(Debug)]
pub struct Keys {
    before: Option<Termios>,
}

/// Keys that wait for who types faster than is drawn.
const KEYS_MAX: usize = 16;

impl Keys {
    /// None come where stdin is no terminal, or one that another job has now.
    pub fn listen() -> (Self, impl Stream<Item = char>) {
        let (sender, mut typed) = mpsc::channel(KEYS_MAX);
        let before = Self::change();
        if before.is_some() {
            // it ends with the process: nothing else ends a read of a terminal
            thread::spawn(move || {
                let keys = io::stdin().lock().bytes().map_while(Result::ok).map(char::from);
                for key in keys {
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            });
        }
        (Self { before }, stream::poll_fn(move |context| typed.poll_recv(context)))
    }

    pub fn come(&self) -> bool {
        self.before.is_some()
    }

    /// How it was before.
    fn change() -> Option<Termios> {
        let is_ours = tcgetpgrp(stdin()).ok()? == getpgrp();
        let before = tcgetattr(stdin()).ok().filter(|_| is_ours)?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(before)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // what fails here has no terminal any more
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// The part of the terminal that the picture takes.
#[derive(Debug, Default)]
pub struct Screen {
    /// Lines of the picture that is shown now.
    shown: usize,
    /// What it was made of.
    picture: String,
}

impl Screen {
    /// Replaces the picture. What does not fit into the terminal is cut off and counted.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn draw(&mut self, picture: &str) -> Result<(), Failure> {
        if self.shown > 0 && self.picture == picture {
            return Ok(());
        }
        let (text, lines) = frame(picture, terminal_size().1.into(), self.shown);
        self.shown = lines;
        self.picture = picture.to_owned();
        write(&text)
    }

    /// A line that stays, above the picture. The picture has to be drawn again.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let erase = frame("", usize::MAX, self.shown).0;
        self.shown = 0;
        write(&erase)?;
        say(line);
        Ok(())
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The bytes that replace a picture of `shown` lines by a new one on a terminal of `rows` rows, and
/// the lines of the new one. Lines are overwritten rather than erased first: no flicker.
fn frame(picture: &str, rows: usize, shown: usize) -> (String, usize) {
    let lines: Vec<_> = picture.lines().collect();
    // The cursor rests on a line of its own.
    let room = rows.saturating_sub(1).max(1);
    let mut text = if shown > 0 { format!("\u{1b}[{shown}A\r") } else { String::new() };
    let cut = lines.len() > room;
    let whole = if cut { room.saturating_sub(1) } else { lines.len() };
    for line in lines.iter().take(whole) {
        text.push_str(line);
        text.push_str("\u{1b}[K\n");
    }
    if cut {
        text.push_str(&format!("... {} more lines\u{1b}[K\n", lines.len() - whole));
    }
    text.push_str("\u{1b}[J");
    (text, whole + usize::from(cut))
}

/// Whether stdout is a pipe that nobody reads any more. Asked, because a quiet watch would not
/// notice by writing.
fn is_reader_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
        && fds[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_replaces_the_one_before() {
        let (text, lines) = frame("a\nb\n", 24, 0);
        assert_eq!((text.as_str(), lines), ("a\u{1b}[K\nb\u{1b}[K\n\u{1b}[J", 2));
        let (text, lines) = frame("c\n", 24, 2);
        assert_eq!((text.as_str(), lines), ("\u{1b}[2A\rc\u{1b}[K\n\u{1b}[J", 1));
    }

    #[test]
    fn a_picture_higher_than_the_terminal_is_cut_and_says_so() {
        let (text, lines) = frame("1\n2\n3\n4\n5\n", 4, 0);
        assert_eq!(lines, 3);
        assert!(text.contains("2\u{1b}[K\n... 3 more lines"), "{text:?}");
    }
}
