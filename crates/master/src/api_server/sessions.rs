//! Sessions of agents (HLD §7.1.2; docs/protocol.md): the live ones, and the way of one.
//!
//! A session has a task that reads, and a bounded queue that is read. Neither the owner nor the
//! performer ever waits for an agent: one that does not read what it is sent loses its session, and nobody else notices.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use piccolo_core::{
    api_server::{Call, Caller, Code, Refusal},
    hex::hex,
    logs::{
        Order,
        kept::{self, KeptLine},
    },
    model::{FieldError, NodeId, SessionId},
    session::{Goodbye, GoodbyeReason, Hello, ToAgent, ToMaster},
    state_manager::Input,
};
use piccolo_rpc::{convert::AgentFrame, status, v1};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{
    connections::Connections,
    outgoing::{Outgoing, OutgoingStream},
};
use crate::{
    certificate_authority::request_spki_sha256,
    figures::Figures,
    kept_logs::{AGAIN_AFTER, Arrived, KeptLogs},
    logs::LogStreams,
    state_manager::StateHandle,
};

/// For the first message of a stream.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// For an agent to read the farewell before its connection is closed.
const FAREWELL: Duration = Duration::from_secs(2);
/// Messages of one agent in a moment, and per second in the long run. An agent that comes back with a full
/// journal sends some hundreds.
const MESSAGES_BURST: f64 = 1000.0;
const MESSAGES_PER_SECOND: f64 = 50.0;

/// Bytes of one batch of events: it becomes one transaction, and as JSON it may take twice the bytes.
const EVENTS_BYTES_MAX: usize = 256 * 1024;

/// The live sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<SessionId, Live>>,
    connections: Arc<Connections>,
    figures: Arc<Figures>,
    pub(crate) logs: LogStreams,
    pub(crate) kept: Arc<KeptLogs>,
}

#[derive(Debug, Clone)]
struct Live {
    outgoing: Arc<Outgoing>,
    connection: u64,
    node: NodeId,
    reads_logs: bool,
    keeps_logs: bool,
    /// It may send a batch for the kept log.
    kept_allowed: bool,
    /// The owner has taken it for the session of its node.
    welcomed: bool,
}

impl Sessions {
    pub(crate) fn new(
        connections: Arc<Connections>,
        figures: Arc<Figures>,
        kept: Arc<KeptLogs>,
    ) -> Self {
        Self { live: Mutex::default(), connections, figures, logs: LogStreams::default(), kept }
    }

    /// To an agent; where it does not read, its session ends.
    pub(crate) fn send(&self, session: &SessionId, message: ToAgent) {
        let welcome = matches!(message, ToAgent::Welcome(_));
        let outgoing = {
            let mut live = self.lock();
            let Some(live) = live.get_mut(session) else { return };
            live.welcomed |= welcome;
            Arc::clone(&live.outgoing)
        };
        self.push(session, &outgoing, message.into());
        if welcome {
            self.allow_kept(session);
        }
    }

    /// Says how far the node's lines are kept, and lets one more batch of them come.
    fn allow_kept(&self, session: &SessionId) {
        let (outgoing, node) = {
            let mut live = self.lock();
            let Some(live) = live.get_mut(session).filter(|live| live.keeps_logs) else { return };
            live.kept_allowed = true;
            (Arc::clone(&live.outgoing), live.node.clone())
        };
        let ack = v1::KeptAck { sequence: self.kept.through(&node) };
        let message = Some(v1::master_message::Message::KeptAck(ack));
        self.push(session, &outgoing, v1::MasterMessage { message });
    }

    /// The same after a while: so an agent is held up that tells too much, or whose lines could not be kept.
    pub(crate) fn allow_kept_in(self: &Arc<Self>, wait: Duration, session: SessionId) {
        if wait.is_zero() {
            return self.allow_kept(&session);
        }
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            sessions.allow_kept(&session);
        });
    }

    /// A batch for the kept log.
    ///
    /// # Errors
    /// It was not allowed, or makes no sense.
    fn kept_arrived(
        self: &Arc<Self>,
        node: NodeId,
        session: SessionId,
        lines: Vec<KeptLine>,
    ) -> Result<(), Refusal> {
        kept::check(&lines)?;
        let mut live = self.lock();
        let allowed = live.get_mut(&session).map(|live| std::mem::take(&mut live.kept_allowed));
        drop(live);
        match allowed {
            // it is closed already
            None => return Ok(()),
            Some(false) => return Err(protocol("lines for the kept log that were not allowed")),
            Some(true) => {}
        }
        if !self.kept.offer(Arrived { node, session: session.clone(), lines }) {
            self.allow_kept_in(AGAIN_AFTER, session);
        }
        Ok(())
    }

    /// About a log. Past the owner, and without any order to what it sends.
    pub(crate) fn order(&self, session: &SessionId, order: Order) {
        let Some(live) = self.lock().get(session).cloned() else { return };
        self.push(session, &live.outgoing, order.into());
    }

    /// The session that the owner has taken for that of the node, and whether it can be asked for logs.
    pub(crate) fn of_node(&self, node: &NodeId) -> Option<(SessionId, bool)> {
        let live = self.lock();
        let mut of_node = live.iter().filter(|(_, live)| live.welcomed && live.node == *node);
        of_node.next().map(|(session, live)| (session.clone(), live.reads_logs))
    }

    fn push(&self, session: &SessionId, outgoing: &Outgoing, message: v1::MasterMessage) {
        if outgoing.push(message).is_err() {
            self.figures.sessions_dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%session, "an agent does not read what it is sent; its session ends");
            let message = "what was sent was not read in time".to_owned();
            self.close(session, Goodbye { reason: GoodbyeReason::Slow, message });
        }
    }

    /// Says goodbye and ends the stream. A connection on which even that is not read is closed a little later.
    pub(crate) fn close(&self, session: &SessionId, goodbye: Goodbye) {
        let Some(live) = self.lock().remove(session) else { return };
        self.logs.session_over(session);
        live.outgoing.end(Some(ToAgent::Goodbye(goodbye).into()), Ok(()));
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            if !live.outgoing.is_delivered() {
                connections.close_one(live.connection);
            }
        });
    }

    /// The master stops.
    pub(crate) fn close_all(&self, goodbye: &Goodbye) {
        for (_, live) in self.lock().drain() {
            live.outgoing.end(Some(ToAgent::Goodbye(goodbye.clone()).into()), Ok(()));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session from its first message to its end.
pub(super) struct SessionTask {
    pub(super) state: StateHandle,
    pub(super) sessions: Arc<Sessions>,
    pub(super) by: Caller,
    pub(super) connection: u64,
    pub(super) inbound: Streaming<v1::AgentMessage>,
    pub(super) outgoing: Arc<Outgoing>,
}

impl SessionTask {
    /// Starts it, and gives the stream for the agent.
    pub(super) fn start(self) -> OutgoingStream {
        let stream = OutgoingStream(Arc::clone(&self.outgoing));
        tokio::spawn(self.run());
        stream
    }

    async fn run(mut self) {
        let hello = match tokio::time::timeout(HELLO_WITHIN, self.hello()).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(refusal)) => return self.refuse(refusal).await,
            Err(_) => {
                let message = format!("no Hello within {} s", HELLO_WITHIN.as_secs());
                return self.refuse(Refusal::new(Code::InvalidArgument, "NoHello", message)).await;
            }
        };
        let session = match new_session_id() {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(%error, "no session can be named");
                self.outgoing.end(None, Err(Status::internal("no randomness")));
                return;
            }
        };
        let node = hello.node.clone();
        let live = Live {
            outgoing: Arc::clone(&self.outgoing),
            connection: self.connection,
            node: node.clone(),
            reads_logs: hello.reads_logs,
            keeps_logs: hello.keeps_logs,
            kept_allowed: false,
            welcomed: false,
        };
        self.sessions.lock().insert(session.clone(), live);
        let opened = Input::SessionOpened {
            by: self.by.clone(),
            session: session.clone(),
            hello: Box::new(hello),
        };
        self.state.tell(opened).await;
        if let Err(refusal) = self.follow(&node, &session).await {
            let message = refusal.message.clone();
            self.state.refused(self.by.clone(), Call::Session, refusal).await;
            self.sessions.close(&session, Goodbye { reason: GoodbyeReason::Protocol, message });
        }
        self.sessions.lock().remove(&session);
        self.sessions.logs.session_over(&session);
        self.outgoing.end(None, Ok(()));
        self.state.tell(Input::SessionClosed { node, session }).await;
    }

    async fn hello(&mut self) -> Result<Hello, Refusal> {
        let broken = |message: &str| Refusal::new(Code::InvalidArgument, "NoHello", message);
        match self.inbound.message().await {
            Ok(Some(message)) => match AgentFrame::try_from(message)? {
                AgentFrame::Hello(hello) => Ok(*hello),
                AgentFrame::Message(_) | AgentFrame::Logs(_) | AgentFrame::Kept(_) => {
                    Err(broken("the first message must be Hello"))
                }
            },
            Ok(None) => Err(broken("the stream ended before Hello")),
            Err(status) => Err(broken(status.message())),
        }
    }

    /// Until either side ends it. An error is a breach of the protocol.
    async fn follow(&mut self, node: &NodeId, session: &SessionId) -> Result<(), Refusal> {
        let mut allowance = Allowance::new();
        loop {
            let message = tokio::select! {
                () = self.outgoing.over() => return Ok(()),
                message = self.inbound.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                // ended, or broken: the owner hears of it at once
                Ok(None) => return Ok(()),
                Err(status) => return end_of(&status),
            };
            // chunks of logs have a limit of their own: each was allowed
            let is_chunk = matches!(message.message, Some(v1::agent_message::Message::Logs(_)));
            if !is_chunk && !allowance.take() {
                return Err(protocol("too many messages"));
            }
            if let Some(v1::agent_message::Message::Events(batch)) = &message.message
                && batch.encoded_len() > EVENTS_BYTES_MAX
            {
                return Err(protocol("a batch of events is too large"));
            }
            let (node, session) = (node.clone(), session.clone());
            let input = match AgentFrame::try_from(message)? {
                AgentFrame::Hello(_) => return Err(protocol("a second Hello")),
                AgentFrame::Logs(chunk) => {
                    // one of a stream that was closed meanwhile counts like any message
                    if !self.sessions.logs.arrived(&session, chunk)? && !allowance.take() {
                        return Err(protocol("too many messages"));
                    }
                    continue;
                }
                AgentFrame::Kept(lines) => {
                    self.sessions.kept_arrived(node, session, lines)?;
                    continue;
                }
                AgentFrame::Message(ToMaster::CertificateRequest { csr }) => {
                    let key_fingerprint = request_spki_sha256(&csr).map_err(bad_request)?;
                    Input::RenewalRequested { node, session, csr, key_fingerprint }
                }
                AgentFrame::Message(message) => Input::FromAgent { node, session, message },
            };
            self.state.tell(input).await;
        }
    }

    async fn refuse(self, refusal: Refusal) {
        self.outgoing.end(None, Err(status::status(&refusal)));
        self.state.refused(self.by, Call::Session, refusal).await;
    }
}

/// A stream that broke is an end like any other; a message that cannot be read is a breach.
fn end_of(status: &Status) -> Result<(), Refusal> {
    tracing::debug!(code = ?status.code(), message = status.message(), "a session's stream broke");
    let breach = matches!(
        status.code(),
        tonic::Code::InvalidArgument
            | tonic::Code::Internal
            | tonic::Code::OutOfRange
            | tonic::Code::ResourceExhausted
    );
    // HTTP/2 says Internal too where a connection was cut
    let cut = std::error::Error::source(status).is_some();
    if breach && !cut {
        return Err(protocol(&format!("a message cannot be read: {}", status.message())));
    }
    Ok(())
}

fn protocol(message: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "BrokenProtocol", message)
}

fn bad_request(error: impl std::fmt::Display) -> Refusal {
    let field = "certificate_request.certificate_signing_request";
    FieldError::new(field, error.to_string()).into()
}

fn new_session_id() -> Result<SessionId, getrandom::Error> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes)?;
    Ok(SessionId::new(hex(&bytes)))
}

/// A budget of messages that fills up again.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { left: MESSAGES_BURST, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let refill = (now - self.at).as_secs_f64() * MESSAGES_PER_SECOND;
        self.left = (self.left + refill).min(MESSAGES_BURST);
        self.at = now;
        self.left -= 1.0;
        self.left >= 0.0
    }
}
