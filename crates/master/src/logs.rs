//! Streams of logs between agents and readers (HLD §11.2), past the owner: nothing is decided by them.
//!
//! A reader opens a stream on the session of a node, and gets what comes through a channel of its own. How much can be
//! in that channel is what the reader has allowed, so nobody ever waits for it: not the session that the chunks come
//! on, nor another reader.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use piccolo_core::{
    api_server::{Code, Refusal},
    logs::{
        CREDIT, Chunk, Order, OrderKind, Query, STREAMS_MAX, STREAMS_PER_CALLER_MAX,
        STREAMS_PER_NODE_MAX,
    },
    model::{NodeId, SessionId},
};
use tokio::sync::mpsc;

use crate::api_server::sessions::Sessions;

/// What comes of one source of a reader.
#[derive(Debug)]
pub(crate) enum Arrival {
    Chunk(Chunk),
    /// The session of its node has ended, and the stream with it.
    Lost,
}

/// Which source of the reader, by its number.
pub(crate) type Arrivals = mpsc::Sender<(usize, Arrival)>;

/// Room for what can arrive of so many sources.
pub(crate) fn arrivals(sources: usize) -> (Arrivals, mpsc::Receiver<(usize, Arrival)>) {
    // what was allowed, and for each the end of its session; of a stream before, the same may still be there
    mpsc::channel(sources.max(1) * 2 * (CREDIT as usize + 1))
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct LogStreams {
    open: Mutex<BTreeMap<u64, Stream>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Stream {
    session: SessionId,
    node: NodeId,
    who: String,
    source: usize,
    arrivals: Arrivals,
    /// Chunks that may still come.
    credit: u32,
}

/// Who opens a stream, and for which of his sources.
#[derive(Debug, Clone)]
pub(crate) struct Opening<'a> {
    pub(crate) node: &'a NodeId,
    /// As people call it.
    pub(crate) name: &'a str,
    pub(crate) who: &'a str,
    pub(crate) source: usize,
    pub(crate) arrivals: &'a Arrivals,
}

/// A stream; dropping it ends it on the agent.
#[derive(Debug)]
pub(crate) struct Opened {
    id: u64,
    session: SessionId,
    sessions: Arc<Sessions>,
}

impl LogStreams {
    /// Opens one on the session that the node has now.
    ///
    /// # Errors
    /// It has none, or its agent is too old, or there are too many streams.
    pub(crate) fn open(
        sessions: &Arc<Sessions>,
        opening: &Opening<'_>,
        query: Query,
    ) -> Result<Opened, Refusal> {
        let name = opening.name;
        let Some((session, reads_logs)) = sessions.of_node(opening.node) else {
            let message = format!("node {name} is not connected");
            return Err(Refusal::new(Code::Unavailable, "NotConnected", message)
                .help("piccolo logs --kept shows what the master keeps of it"));
        };
        if !reads_logs {
            let message = format!("the agent of node {name} is too old to be asked for logs");
            return Err(Refusal::new(Code::FailedPrecondition, "AgentTooOld", message)
                .help("update it: piccolo node deploy"));
        }
        let streams = &sessions.logs;
        let id = streams.next.fetch_add(1, Ordering::Relaxed);
        streams.take_place(id, opening, session.clone())?;
        let open = OrderKind::Open(Box::new(query), CREDIT);
        sessions.order(&session, Order { id, what: open });
        Ok(Opened { id, session, sessions: Arc::clone(sessions) })
    }

    fn take_place(
        &self,
        id: u64,
        opening: &Opening<'_>,
        session: SessionId,
    ) -> Result<(), Refusal> {
        let Opening { node, name, who, source, arrivals } = opening;
        let mut open = self.lock();
        let of_node = open.values().filter(|stream| stream.node == **node).count();
        let of_caller = open.values().filter(|stream| stream.who == *who).count();
        let message = if of_node >= STREAMS_PER_NODE_MAX {
            format!("{of_node} logs of node {name} are being read, and no more may be")
        } else if of_caller >= STREAMS_PER_CALLER_MAX {
            format!("{who} reads {of_caller} logs, and no more may be")
        } else if open.len() >= STREAMS_MAX {
            format!("{STREAMS_MAX} logs are being read, and no more may be")
        } else {
            let stream = Stream {
                session,
                node: (*node).clone(),
                who: (*who).to_owned(),
                source: *source,
                arrivals: (*arrivals).clone(),
                credit: CREDIT,
            };
            open.insert(id, stream);
            return Ok(());
        };
        Err(Refusal::new(Code::ResourceExhausted, "TooManyReaders", message)
            .help("end those that nobody needs any more"))
    }

    /// A chunk that has come on a session. One of a stream that was closed meanwhile is passed over; says whether it
    /// was not.
    ///
    /// # Errors
    /// More came than was allowed.
    pub(crate) fn arrived(&self, session: &SessionId, chunk: Chunk) -> Result<bool, Refusal> {
        let mut open = self.lock();
        let id = chunk.id;
        let Some(stream) = open.get_mut(&id).filter(|stream| stream.session == *session) else {
            return Ok(false);
        };
        let Some(credit) = stream.credit.checked_sub(1) else {
            let message = "a chunk of a log that was not allowed";
            return Err(Refusal::new(Code::InvalidArgument, "BrokenProtocol", message));
        };
        stream.credit = credit;
        let over = chunk.end.is_some();
        // there is room for what was allowed, unless the reader has gone
        let _ = stream.arrivals.try_send((stream.source, Arrival::Chunk(chunk)));
        if over {
            open.remove(&id);
        }
        Ok(true)
    }

    /// Its streams end with it.
    pub(crate) fn session_over(&self, session: &SessionId) {
        self.lock().retain(|_, stream| {
            let over = stream.session == *session;
            if over {
                let _ = stream.arrivals.try_send((stream.source, Arrival::Lost));
            }
            !over
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Stream>> {
        // a panic elsewhere leaves whole streams behind
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// A chunk was read: another may come.
    pub(crate) fn allow_one(&self) {
        {
            let mut open = self.sessions.logs.lock();
            let Some(stream) = open.get_mut(&self.id) else { return };
            stream.credit += 1;
        }
        self.sessions.order(&self.session, Order { id: self.id, what: OrderKind::More(1) });
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let was_open = self.sessions.logs.lock().remove(&self.id).is_some();
        if was_open {
            self.sessions.order(&self.session, Order { id: self.id, what: OrderKind::Close });
        }
    }
}
