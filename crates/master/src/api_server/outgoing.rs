//! What waits for one agent to read it: bounded, and never waited for.
//!
//! The sender puts messages in and goes on; the stream that tonic reads takes them out as fast as the agent
//! reads. An agent that does not read in time is found out by the next message that it is sent.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, task::AtomicWaker};
use piccolo_rpc::v1;
use prost::Message;
use tokio::{sync::Notify, time::Instant};
use tonic::Status;

/// Messages that may wait for one agent.
const MESSAGES_MAX: usize = 64;
/// Bytes of messages that may wait for one agent.
const BYTES_MAX: usize = 1024 * 1024;
/// How long a message may wait for its agent.
const WAITING_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    inner: Mutex<Inner>,
    reader: AtomicWaker,
    over: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(Instant, v1::MasterMessage)>,
    bytes: usize,
    /// No more will come; what waits is still delivered, then this.
    end: Option<Result<(), Status>>,
    /// Nobody reads any more.
    abandoned: bool,
}

/// The agent does not read what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slow;

impl Outgoing {
    pub(crate) fn push(&self, message: v1::MasterMessage) -> Result<(), Slow> {
        let mut inner = self.lock();
        if inner.end.is_some() || inner.abandoned {
            return Ok(());
        }
        let oldest = inner.waiting.front();
        let stalled = oldest.is_some_and(|(since, _)| since.elapsed() > WAITING_MAX);
        let bytes = inner.bytes + message.encoded_len();
        if stalled || inner.waiting.len() >= MESSAGES_MAX || bytes > BYTES_MAX {
            return Err(Slow);
        }
        inner.bytes = bytes;
        inner.waiting.push_back((Instant::now(), message));
        drop(inner);
        self.reader.wake();
        Ok(())
    }

    /// The last message, for which there is always room, and the end.
    pub(crate) fn end(&self, last: Option<v1::MasterMessage>, end: Result<(), Status>) {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.waiting.extend(last.map(|message| (Instant::now(), message)));
            inner.end = Some(end);
        }
        drop(inner);
        self.reader.wake();
        self.over.notify_waiters();
    }

    /// Waits until either side has ended it.
    pub(crate) async fn over(&self) {
        loop {
            let over = self.over.notified();
            if self.is_over() {
                return;
            }
            over.await;
        }
    }

    fn is_over(&self) -> bool {
        let inner = self.lock();
        inner.end.is_some() || inner.abandoned
    }

    /// Whether the agent has got everything, or has gone.
    pub(crate) fn is_delivered(&self) -> bool {
        let inner = self.lock();
        inner.waiting.is_empty() || inner.abandoned
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end, for tonic.
#[derive(Debug)]
pub(crate) struct OutgoingStream(pub(crate) Arc<Outgoing>);

impl Stream for OutgoingStream {
    type Item = Result<v1::MasterMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.reader.register(context.waker());
        let mut inner = self.0.lock();
        if let Some((_, message)) = inner.waiting.pop_front() {
            inner.bytes = inner.bytes.saturating_sub(message.encoded_len());
            return Poll::Ready(Some(Ok(message)));
        }
        match &mut inner.end {
            None => Poll::Pending,
            Some(end) => match std::mem::replace(end, Ok(())) {
                Ok(()) => Poll::Ready(None),
                Err(status) => Poll::Ready(Some(Err(status))),
            },
        }
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use piccolo_core::session::ToAgent;

    use super::*;

    fn beat() -> v1::MasterMessage {
        ToAgent::Beat.into()
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_is_delivered() {
        let outgoing = Arc::new(Outgoing::default());
        outgoing.push(beat()).unwrap();
        outgoing.end(Some(beat()), Ok(()));
        assert_eq!(outgoing.push(beat()), Ok(()), "what comes later is left");
        assert_eq!(OutgoingStream(outgoing).count().await, 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_an_agent_that_does_not_read() {
        let outgoing = Outgoing::default();
        for _ in 0..MESSAGES_MAX {
            assert_eq!(outgoing.push(beat()), Ok(()));
        }
        assert_eq!(outgoing.push(beat()), Err(Slow));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_waits_too_long_is_noticed_by_the_next() {
        let outgoing = Outgoing::default();
        outgoing.push(beat()).unwrap();
        tokio::time::advance(WAITING_MAX).await;
        assert_eq!(outgoing.push(beat()), Ok(()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(outgoing.push(beat()), Err(Slow));
    }

    #[tokio::test]
    async fn dropping_the_stream_is_the_end() {
        let outgoing = Arc::new(Outgoing::default());
        drop(OutgoingStream(Arc::clone(&outgoing)));
        outgoing.over().await;
        assert!(outgoing.is_delivered());
    }
}
