//! The way to a master: joining, and the one session. Each runs in a task of its own that speaks to
//! the loop through inputs; the loop decides, and a task that it gave up is simply dropped.

use std::{
    net::{IpAddr, UdpSocket},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use piccolo_core::{
    logs::Order,
    model::{NodeId, NodeKind, NodeRole},
    node_agent::Host,
    session::ToAgent,
};
use piccolo_rpc::{
    convert::{self, MasterFrame},
    tls::{
        clock::Clock,
        connector::{ClientOptions, Connector},
        identity::{Identity, PrivateKey},
        token::JoinToken,
    },
    v1::{self, node_agent_service_client::NodeAgentServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// For a master to answer a registration.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
/// For the first packet to be answered. Attempts follow each other quickly, so one that a dead network
/// swallowed must not hold up the next.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// For a connection with its handshake: on a slow board and a slow network that takes its time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// For a heartbeat beside the session, connection and all: later it would help nobody.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages to the master that wait for the network at most; a master that reads none is given up.
pub(super) const OUTGOING_MAX: usize = 64;
/// Chunks of logs that wait for the network at most; their streams wait for room.
const LOGS_MAX: usize = 4;
/// Bytes of one message at most, either way.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What the tasks tell the loop.
#[derive(Debug)]
pub(super) enum Report {
    /// The way is open; what is put here goes to the master.
    Open {
        ip: String,
        outgoing: mpsc::Sender<v1::AgentMessage>,
        /// For lines of logs: what is put here waits for everything else.
        logs: mpsc::Sender<v1::AgentMessage>,
    },
    Message(Box<ToAgent>),
    Logs(Box<Order>),
    /// Important lines are kept through here, and a batch more may be sent.
    Kept {
        through: u64,
        outgoing: mpsc::Sender<v1::AgentMessage>,
    },
    Over {
        why: String,
    },
}

/// How a registration ended.
#[derive(Debug)]
pub(super) enum Registration {
    Certified(Box<Identity>),
    Pending,
    Failed { why: String, fatal: bool },
}

/// Who wants to register, with everything that a task needs.
#[derive(Debug, Clone)]
pub(super) struct Applicant {
    pub(super) node: NodeId,
    pub(super) role: NodeRole,
    pub(super) kind: NodeKind,
    pub(super) labels: piccolo_core::model::Labels,
    pub(super) host: Host,
    pub(super) address: Option<IpAddr>,
    pub(super) bind: Option<IpAddr>,
    pub(super) clock: Clock,
}

/// What is shown to the master.
#[derive(Debug)]
pub(super) enum Proof {
    Token {
        token: JoinToken,
        key: PrivateKey,
    },
    /// Perhaps expired: only good for being issued again.
    Certificate(Box<Identity>),
}

impl Applicant {
    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions {
            source: self.bind,
            dial_timeout: DIAL_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            ..ClientOptions::new(self.clock.clone())
        }
    }

    /// What the master shall know us by: configured, or the address that leads to it.
    fn ip(&self, master: &str) -> String {
        let address = self.address.or(self.bind).or_else(|| route_to(master));
        address.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string()
    }
}

pub(super) async fn register(applicant: Applicant, proof: Proof, master: String) -> Registration {
    match tokio::time::timeout(REGISTER_TIMEOUT, try_register(&applicant, proof, &master)).await {
        Err(_) => Registration::Failed {
            why: format!("{master} did not answer the registration in time"),
            fatal: false,
        },
        Ok(Ok(registration)) => registration,
        Ok(Err(error)) => {
            let fatal = error.downcast_ref::<tonic::Status>().is_some_and(is_final);
            Registration::Failed { why: chain(&error), fatal }
        }
    }
}

async fn try_register(applicant: &Applicant, proof: Proof, master: &str) -> Result<Registration> {
    let (connector, key, token) = match proof {
        Proof::Token { token, key } => {
            let connector = Connector::joining(token.ca_digest(), applicant.options())?;
            (connector, key, token.expose())
        }
        Proof::Certificate(identity) => {
            let connector = Connector::new(&identity, applicant.options())?;
            (connector, identity.key().clone(), String::new())
        }
    };
    let channel = connector.channel(master).await?;
    let request = v1::NodeRegistrationRequest {
        node_id: applicant.node.to_string(),
        hostname: applicant.host.hostname.clone(),
        ip_address: applicant.ip(master),
        role: convert::node_role_to_wire(applicant.role).into(),
        resources: Some(applicant.host.resources.into()),
        credentials: Some(v1::Credentials {
            token,
            certificate_signing_request: key.signing_request()?,
        }),
        kind: convert::node_kind_to_wire(applicant.kind).into(),
        labels: applicant.labels.clone().into_iter().collect(),
        system: Some(applicant.host.system.clone().into()),
    };
    let response = NodeAgentServiceClient::new(channel).register_node(request).await?.into_inner();
    if response.certificate.is_empty() {
        return Ok(Registration::Pending);
    }
    let pem = [response.certificate, response.ca_certificate].concat();
    let pem = String::from_utf8(pem).context("the master's answer is not PEM")?;
    let identity = Identity::from_issued(key, &pem)?;
    if identity.name().id != applicant.node.as_str() {
        bail!("the master's certificate is for {}, not for this node", identity.name().id);
    }
    Ok(Registration::Certified(Box::new(identity)))
}

/// Opens a session and passes on what the master says, until either side ends it.
pub(super) async fn session(
    connector: Connector,
    applicant: Applicant,
    master: String,
    reports: mpsc::Sender<Report>,
) {
    let why = match converse(connector, &applicant, &master, &reports).await {
        Ok(()) => format!("{master} has closed the session"),
        Err(error) => chain(&error),
    };
    // the loop may have ended
    let _ = reports.send(Report::Over { why }).await;
}

async fn converse(
    connector: Connector,
    applicant: &Applicant,
    master: &str,
    reports: &mpsc::Sender<Report>,
) -> Result<()> {
    let channel = connector.channel(master).await?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    // Hello may be on its way before the master answers the call
    let (logs, chunks) = mpsc::channel(LOGS_MAX);
    let kept = logs.clone();
    reports.send(Report::Open { ip: applicant.ip(master), outgoing, logs }).await?;
    let mut client = NodeAgentServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut incoming = client.session(Outbound { messages, chunks }).await?.into_inner();
    while let Some(message) = incoming.message().await? {
        let report = match message.try_into()? {
            MasterFrame::Message(message) => Report::Message(Box::new(message)),
            MasterFrame::Logs(order) => Report::Logs(Box::new(order)),
            MasterFrame::Kept(through) => Report::Kept { through, outgoing: kept.clone() },
        };
        reports.send(report).await?;
    }
    Ok(())
}

/// What goes to the master: lines of logs only where nothing else waits, so that no beat waits for them.
struct Outbound {
    messages: mpsc::Receiver<v1::AgentMessage>,
    chunks: mpsc::Receiver<v1::AgentMessage>,
}

impl Stream for Outbound {
    type Item = v1::AgentMessage;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<v1::AgentMessage>> {
        match self.messages.poll_recv(context) {
            Poll::Pending => {}
            ready @ Poll::Ready(_) => return ready,
        }
        match self.chunks.poll_recv(context) {
            Poll::Ready(Some(chunk)) => Poll::Ready(Some(chunk)),
            // nobody reads logs any more; the session goes on
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Whether the master answers a heartbeat on a connection of its own.
pub(super) async fn probe(connector: Connector, node: NodeId, master: String) -> bool {
    let heartbeat = async {
        let channel = connector.channel(&master).await?;
        let request = v1::HeartbeatRequest { node_id: node.to_string(), sent_at: None };
        NodeAgentServiceClient::new(channel).heartbeat(request).await?;
        Ok::<_, anyhow::Error>(())
    };
    matches!(tokio::time::timeout(PROBE_TIMEOUT, heartbeat).await, Ok(Ok(())))
}

/// The local address that the kernel would use; nothing is sent.
fn route_to(master: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(master).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether trying again soon would change nothing.
fn is_final(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::InvalidArgument
            | tonic::Code::PermissionDenied
            | tonic::Code::AlreadyExists
            | tonic::Code::Unauthenticated
    )
}

/// The error and its causes in one line, without repetitions.
fn chain(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return status.message().to_owned();
    }
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
