//! From a source to the master: filtered, in chunks, as fast as the master allows.
//!
//! What is there already waits for its reader, in the journal or the file where it is anyway. Who follows is waited
//! for too, but not for ever: then lines are left out and counted, so that what he sees next is of now.

use std::{sync::Arc, time::Duration};

use piccolo_core::{
    logs::{Chunk, End, Filter, LogLine, Query, pace::Pace, pack::Pack, place::Resume},
    time::Timestamp,
};
use piccolo_rpc::{convert::AgentFrame, v1};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};

/// Lines between a source and its stream.
pub(super) const LINES_WAITING_MAX: usize = 32;
/// How long a line waits for others to fill a chunk, and an empty source for its first word.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// How long a reader that follows is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a source gives.
#[derive(Debug)]
pub(super) enum Item {
    Line(LogLine),
    /// One that nobody could show.
    Dropped,
    /// Why, where it is no good end.
    End(Option<String>),
}

#[derive(Debug)]
pub(super) struct Stream {
    id: u64,
    filter: Filter,
    follow: bool,
    resume: Resume,
    pace: Pace,
    pack: Pack,
    started: Instant,
    /// When what is packed goes, full or not.
    flush_at: Option<Instant>,
    /// Since when a full chunk waits for its reader.
    full_since: Option<Instant>,
    end: Option<End>,
    credit: Arc<Semaphore>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
}

impl Stream {
    pub(super) fn new(
        id: u64,
        query: &Query,
        credit: Arc<Semaphore>,
        outgoing: mpsc::Sender<v1::AgentMessage>,
    ) -> Self {
        let started = Instant::now();
        Self {
            id,
            filter: query.filter.clone(),
            follow: query.follow,
            resume: Resume::after(query.after),
            pace: Pace::new(Timestamp::default()),
            pack: Pack::default(),
            started,
            // the first word, even where there is nothing to say
            flush_at: Some(started + FLUSH_AFTER),
            full_since: None,
            end: None,
            credit,
            outgoing,
        }
    }

    /// Until the source has ended, or nobody listens.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        loop {
            let full = self.pack.is_full();
            let impatient = self.full_since.is_some_and(|since| since.elapsed() >= PATIENCE);
            let due = full || self.end.is_some() || self.is_flush_due();
            let wake_at = match (due, self.full_since) {
                (false, _) => self.flush_at,
                (true, Some(since)) if self.follow => Some(since + PATIENCE),
                (true, _) => None,
            };
            let reads = self.end.is_none() && (!full || (self.follow && impatient));
            let credit = Arc::clone(&self.credit);
            tokio::select! {
                biased;
                permit = credit.acquire(), if due => {
                    let Ok(permit) = permit else { return };
                    permit.forget();
                    if !self.send().await {
                        return;
                    }
                }
                item = items.recv(), if reads => match item {
                    Some(item) => self.take(item, full).await,
                    None => return,
                },
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)),
                    if wake_at.is_some() && !impatient => {}
            }
        }
    }

    fn is_flush_due(&self) -> bool {
        self.flush_at.is_some_and(|at| at <= Instant::now())
    }

    async fn take(&mut self, item: Item, full: bool) {
        match item {
            Item::Line(line) if self.filter.keeps(&line) && self.resume.is_new(line.at_ns) => {
                if full || !self.is_in_pace(&line).await {
                    self.pack.drop_line();
                } else {
                    self.pack.push(line);
                }
            }
            Item::Line(_) => return,
            Item::Dropped => self.pack.drop_line(),
            Item::End(problem) => self.end = Some(End { problem }),
        }
        self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
        if self.pack.is_full() {
            self.full_since.get_or_insert_with(Instant::now);
        }
    }

    /// What is there already is read later, what comes just now is too much.
    async fn is_in_pace(&mut self, line: &LogLine) -> bool {
        loop {
            let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            match self.pace.take(Timestamp(micros), line.bytes()) {
                Ok(()) => return true,
                Err(_) if self.follow => return false,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Whether it goes on.
    async fn send(&mut self) -> bool {
        let (lines, dropped) = self.pack.take();
        let end = self.end.clone();
        let over = end.is_some();
        let chunk = Chunk { id: self.id, lines, dropped, end };
        (self.flush_at, self.full_since) = (None, None);
        self.outgoing.send(AgentFrame::Logs(chunk).into()).await.is_ok() && !over
    }
}

#[cfg(test)]
mod tests {
    use piccolo_core::logs::Source;

    use super::*;

    /// A stream, what it is given, and what it sends.
    struct Run {
        items: mpsc::Sender<Item>,
        credit: Arc<Semaphore>,
        sent: mpsc::Receiver<v1::AgentMessage>,
    }

    impl Run {
        fn start(follow: bool, credit: usize) -> Self {
            let (items, received) = mpsc::channel(LINES_WAITING_MAX);
            let (outgoing, sent) = mpsc::channel(4);
            let credit = Arc::new(Semaphore::new(credit));
            let filter = Filter::default();
            let query = Query { source: Source::Agent, filter, follow, after: None };
            let stream = Stream::new(1, &query, Arc::clone(&credit), outgoing);
            tokio::spawn(stream.run(received));
            Self { items, credit, sent }
        }

        async fn say(&self, at: i64) {
            let line = LogLine::new(at, 6, "", &"x".repeat(4096));
            self.items.send(Item::Line(line)).await.unwrap();
        }

        /// Times of the next chunk, how many were left out, and whether it was the last.
        async fn next(&mut self) -> (Vec<i64>, u64, bool) {
            let message = self.sent.recv().await.unwrap();
            let Ok(AgentFrame::Logs(chunk)) = AgentFrame::try_from(message) else {
                panic!("only chunks are sent")
            };
            (chunk.lines.iter().map(|l| l.at_ns).collect(), chunk.dropped, chunk.end.is_some())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_word_comes_also_where_there_is_nothing_and_then_the_end() {
        let mut run = Run::start(true, 9);
        assert_eq!(run.next().await, (vec![], 0, false));
        run.say(1).await;
        assert_eq!(run.next().await, (vec![1], 0, false));
        run.items.send(Item::End(None)).await.unwrap();
        assert_eq!(run.next().await, (vec![], 0, true));
        assert!(run.sent.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_to_the_end_misses_nothing_however_slow_he_is() {
        let mut run = Run::start(false, 0);
        let items = run.items.clone();
        tokio::spawn(async move {
            for at in 0..200 {
                let line = LogLine::new(at, 6, "", &"x".repeat(4096));
                items.send(Item::Line(line)).await.unwrap();
            }
            items.send(Item::End(None)).await.unwrap();
        });
        let mut seen = Vec::new();
        loop {
            tokio::time::advance(PATIENCE * 3).await;
            run.credit.add_permits(1);
            let (times, dropped, over) = run.next().await;
            assert_eq!(dropped, 0);
            seen.extend(times);
            if over {
                break;
            }
        }
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_and_does_not_read_is_told_how_many_lines_he_missed() {
        let mut run = Run::start(true, 0);
        for at in 0..1000 {
            run.say(at).await;
        }
        tokio::time::sleep(PATIENCE).await;
        run.credit.add_permits(2);
        let (times, dropped, _) = run.next().await;
        assert_eq!((times, dropped), (vec![0, 1, 2], 997));
        run.say(1000).await;
        assert_eq!(run.next().await, (vec![1000], 0, false));
    }
}
