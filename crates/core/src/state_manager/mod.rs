//! The master's machine: who is in the cluster, how they are, what they shall do (HLD §3.2, §6.2).
//!
//! One owner task feeds it inputs and performs its effects in order. A `Commit` always comes before what
//! reveals it, and what must be atomic is one `Commit`: an input makes at most one.
//!
//! - [`keys`]: what is stored, under which keys; [`Snapshot`] reads it back
//! - `node`: one node at run time; `settle` derives status and conditions from what is known
//! - `join`, `sessions`, `operator`: the inputs
//! - `credentials`: API tokens, and sessions of browsers
//! - `restoration`: what a restored master does not know, and how it gets by
//! - `recovery`: what operators want of it, what is done about silent nodes, and probes
//! - `alerts`: feeds the alerts with what changes, and takes what comes of it into the commit
//! - `log`: events and the audit chain, both bounded
//! - `outbox`: gathers writes and effects of one input into one commit and what follows it

mod alerts;
mod condition;
mod credentials;
#[cfg(test)]
pub(crate) mod fixtures;
mod join;
pub mod keys;
mod log;
mod node;
mod operator;
mod outbox;
mod reads;
mod recovery;
mod restoration;
mod sessions;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use credentials::{SESSION_IDLE_MAX, SESSION_TTL};
pub use keys::{CorruptRecord, Snapshot};
pub use reads::ClusterStatus;
pub use restoration::{Restoration, is_restored};

use self::{credentials::Credentials, log::Log, node::Node, outbox::Outbox, restoration::Settled};
use crate::{
    api_server::{Call, Caller, JoinLimiter, Refusal, Registration, Role, Selector},
    failure_detector::Timing,
    model::{
        AuditEnds, Condition, ConditionKind, CredentialRecord, Event, Labels, NodeId, NodeName,
        NodeRole, NodeStatus, NodeView, SessionId, TokenRecord, UserName, UserRecord,
    },
    monitoring_server::alerts::{
        Alerts,
        alert::{Alert, Id},
        facts::ClusterFacts,
        outbox::{DeliveryError, Dispatch},
        requests::{AlertAnswer, AlertRequest},
    },
    mutant::mutant,
    session::{AgentCommand, Goodbye, Hello, MissedFigures, StatusReport, ToAgent, ToMaster},
    time::{Deadline, Now, Timestamp, WallTime, earliest},
    topology::{NodeConfig, Readiness, TopologyRecord, TopologyUpdate, TopologyView},
};

/// Nodes handled by one deadline at most, so that a commit stays within a store's transaction limit.
const NODES_PER_DEADLINE_MAX: usize = 24;
/// Nodes whose containers are stored by one commit at most, for the same reason.
const CONTAINERS_SAVED_MAX: usize = 8;
/// Between two writes of what was last heard from whom: flash wears out.
const HEARTBEATS_SAVED_EVERY: Duration = Duration::from_secs(60);
/// A deadline that is later than this was missed because the master stood still: what the nodes said
/// meanwhile waits in its sockets, where no queue can be drained first.
const STALL: Duration = Duration::from_secs(1);
/// Between two looks at what is too old.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);
/// For an agent to answer a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// For a removed node to hear of it before its record goes.
const FAREWELL: Duration = Duration::from_secs(3);
/// Long polls and commands under way at most.
const PARKED_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// A valid token is enough.
    Auto,
    /// A node waits in Pending for `piccolo node approve`.
    Manual,
}

/// The master's configuration, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// On top of it comes what the topology's configuration says.
    pub timing: Timing,
    pub approval: Approval,
    /// What the topology's configuration says goes before it.
    pub readiness: Readiness,
    pub certificate_lifetime: Duration,
    pub nodes_max: usize,
    pub tokens_max: usize,
    pub users_max: usize,
    pub events_max: usize,
    pub events_age_max: Duration,
    pub audit_max: usize,
    /// Between two probes of a node.
    pub probe_interval: Duration,
    /// Addresses of all masters, for the agents.
    pub masters: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            approval: Approval::Auto,
            readiness: Readiness::default(),
            certificate_lifetime: Duration::from_secs(90 * 86_400),
            nodes_max: 10_000,
            tokens_max: 1_000,
            users_max: 1_000,
            events_max: 10_000,
            events_age_max: Duration::from_secs(30 * 86_400),
            audit_max: 10_000,
            probe_interval: Duration::from_secs(300),
            masters: Vec::new(),
        }
    }
}

/// Names one unary request until its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Request {
        id: RequestId,
        by: Caller,
        request: Request,
    },
    /// Whoever waited for the reply is gone.
    Cancelled {
        id: RequestId,
    },
    SessionOpened {
        by: Caller,
        session: SessionId,
        hello: Box<Hello>,
    },
    FromAgent {
        node: NodeId,
        session: SessionId,
        message: ToMaster,
    },
    /// The new key of a certificate request; the shell has checked the request's signature.
    RenewalRequested {
        node: NodeId,
        session: SessionId,
        csr: Vec<u8>,
        key_fingerprint: String,
    },
    SessionClosed {
        node: NodeId,
        session: SessionId,
    },
    /// A call that did not get as far as a request.
    Refused {
        by: Caller,
        call: Call,
        refusal: Refusal,
    },
    /// A backup that was due was made, or was not, and why.
    BackupEnded {
        failed: Option<String>,
    },
    /// Somebody who may looks at the figures of these nodes.
    Watched {
        nodes: Selector,
    },
    /// The first administrator, at the first start.
    AdminIssued {
        user: UserRecord,
    },
    /// What no node tells, every now and then.
    ClusterFacts(Box<ClusterFacts>),
    /// An attempt to deliver a notification has ended.
    Delivered {
        delivery: Id,
        result: Result<(), DeliveryError>,
    },
}

/// What a caller asks for. Every one is checked against the role table first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Register(Box<Registration>),
    Heartbeat {
        node: String,
    },
    ReportStatus {
        node: String,
        report: Box<StatusReport>,
    },
    ReceiveConfig {
        node: String,
        applied: u64,
        rejected: Option<String>,
        wait: Duration,
    },
    GetNodes(Selector),
    GetNode(String),
    GetTopology,
    GetClusterStatus,
    /// A call that the shell answers by itself, once it is allowed.
    Allow {
        call: Call,
        target: String,
    },
    UpdateTopology(TopologyUpdate),
    ApproveNode(String),
    RejectNode {
        node: String,
        reason: String,
    },
    SetMaintenance {
        node: String,
        on: bool,
        reason: String,
    },
    RemoveNode(String),
    LabelNode {
        node: String,
        set: Labels,
        remove: Vec<String>,
    },
    ResetNodeIdentity(String),
    /// For so long; no time at all ends a pause.
    PauseRecovery {
        node: String,
        span: Duration,
    },
    Command {
        node: String,
        command: AgentCommand,
    },
    CreateToken(TokenRequest),
    ListTokens,
    RevokeToken(String),
    CreateUser {
        name: UserName,
        role: Role,
        ttl: Duration,
        serial: String,
    },
    ListUsers,
    RevokeUser(String),
    CreateApiToken {
        name: UserName,
        role: Role,
        ttl: Duration,
        /// SHA-256 of the secret, hexadecimal; here and below.
        hash: String,
    },
    ListApiTokens,
    RevokeApiToken(String),
    OpenConsole {
        hash: String,
    },
    OpenSession {
        hash: String,
    },
    CloseSession,
    Alert(Box<AlertRequest>),
    /// Only if what it changes is still at one of these revisions, or generations.
    OnlyAt {
        versions: Vec<u64>,
        request: Box<Request>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// SHA-256 of the secret, hexadecimal.
    pub hash: String,
    pub role: NodeRole,
    pub ttl: Duration,
    pub uses: u32,
    pub node_name: Option<NodeName>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done,
    Registered(Registered),
    Heartbeat { next: Duration, generation: u64, status: NodeStatus },
    Status(NodeStatus),
    Config { generation: u64, config: Option<NodeConfig> },
    Nodes { nodes: Vec<NodeView>, revision: u64 },
    Node(Box<NodeView>),
    Topology(Box<TopologyView>),
    ClusterStatus(Box<ClusterStatus>),
    Token(TokenRecord),
    Tokens(Vec<TokenRecord>),
    User(UserRecord),
    Users(Vec<UserRecord>),
    Credential(CredentialRecord),
    Credentials(Vec<CredentialRecord>),
    Command(String),
    Alert(Box<AlertAnswer>),
}

/// A registration was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub node: NodeId,
    pub name: NodeName,
    pub role: NodeRole,
    pub cluster: String,
    pub status: NodeStatus,
    /// Sign the key, valid until then. `None`: wait for approval, and ask again.
    pub certificate_until: Option<WallTime>,
    pub heartbeat_interval: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// All or nothing, durable before the next effect.
    Commit(Transaction),
    Send {
        node: NodeId,
        session: SessionId,
        message: ToAgent,
    },
    /// Sign the key of `csr` for the node and send the certificate on its session.
    SendCertificate {
        node: NodeId,
        name: NodeName,
        role: NodeRole,
        session: SessionId,
        csr: Vec<u8>,
        until: WallTime,
    },
    Close {
        node: NodeId,
        session: SessionId,
        goodbye: Goodbye,
    },
    Reply {
        request: RequestId,
        result: Result<Answer, Refusal>,
    },
    /// For everybody who watches nodes.
    Changed(Box<NodeView>),
    Removed {
        node: NodeId,
        revision: u64,
    },
    /// For the history of figures.
    Missed {
        node: NodeId,
        figures: MissedFigures,
    },
    /// For everybody who watches events.
    Happened(Event),
    /// For everybody who watches alerts.
    Alerted(Box<Alert>),
    /// An alert that was over for long is not kept any more.
    AlertForgotten(Id),
    /// Have a channel tell of an alert, and say what became of it.
    Dispatch(Box<Dispatch>),
}

impl Effect {
    /// A beat reveals nothing: it may overtake commits that a slow store holds up.
    pub fn may_overtake(&self) -> bool {
        matches!(self, Self::Send { message: ToAgent::Beat, .. })
    }
}

/// Writes that happen together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// `None` deletes.
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// Who waits for something that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parked {
    node: NodeId,
    until: Timestamp,
    command: Option<String>,
    /// The answer is the node, as it is after the command.
    wants_node: bool,
}

#[derive(Debug)]
pub struct StateManager {
    settings: Settings,
    nodes: BTreeMap<NodeId, Node>,
    /// By [`NodeName::key`].
    names: BTreeMap<String, NodeId>,
    topology: TopologyRecord,
    tokens: BTreeMap<String, TokenRecord>,
    users: BTreeMap<UserName, UserRecord>,
    credentials: Credentials,
    log: Log,
    joins: JoinLimiter,
    /// One entry a node at most: when to look at it again.
    timers: BTreeSet<(Timestamp, NodeId)>,
    parked: BTreeMap<RequestId, Parked>,
    /// Of the newest change that a watcher can see; grows over restarts too.
    revision: u64,
    epoch: u64,
    heartbeats_saved_at: Timestamp,
    heard_since_saved: bool,
    retention_at: Timestamp,
    started: Now,
    commands_sent: u64,
    restoration: Option<Restoration>,
    settled: Settled,
    /// Why the last backup was not made.
    backup_failed: Option<String>,
    alerts: Alerts,
    /// Where the last look at everything has come to.
    looked_at: Option<NodeId>,
}

impl StateManager {
    /// After a (re)start nothing is known of who is alive: every detector begins afresh.
    pub fn restore(mut snapshot: Snapshot, settings: Settings, now: Now) -> Self {
        snapshot.leap(now.wall);
        let mut topology = snapshot.topology;
        topology.config.extend(snapshot.secrets);
        let timing = topology.timing(settings.timing);
        let mut names = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        for (id, record) in snapshot.nodes {
            names.insert(record.name.key(), id.clone());
            let heard = snapshot.heartbeats.get(&id).copied();
            let last = snapshot.containers.remove(&id);
            nodes.insert(id, Node::restored(record, heard, last, timing, now));
        }
        let epoch = snapshot.epoch + 1;
        let lifetime = settings.certificate_lifetime;
        let alerts = Alerts::restore(snapshot.alerts, topology.name.as_str(), lifetime, epoch, now);
        let mut manager = Self {
            nodes,
            names,
            topology,
            tokens: snapshot.tokens,
            users: snapshot.users,
            credentials: Credentials::restored(snapshot.credentials),
            log: Log::restored(snapshot.log, settings.events_max, settings.audit_max),
            joins: JoinLimiter::default(),
            timers: BTreeSet::new(),
            parked: BTreeMap::new(),
            // a restarted master's revisions are all newer than those before
            revision: epoch << keys::EPOCH_BITS,
            epoch,
            heartbeats_saved_at: now.at,
            heard_since_saved: false,
            retention_at: now.at + RETENTION_EVERY,
            started: now,
            commands_sent: 0,
            restoration: snapshot.restoration,
            settled: snapshot.settled,
            backup_failed: None,
            alerts,
            looked_at: None,
            settings,
        };
        for node in manager.nodes.values_mut() {
            node.revision = manager.revision;
        }
        let ids: Vec<_> = manager.nodes.keys().cloned().collect();
        for id in &ids {
            manager.schedule(id, now.at);
        }
        manager
    }

    /// What is to be done once, before the first input.
    #[must_use]
    pub fn start(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Outbox::default();
        out.put(keys::EPOCH, &self.epoch);
        // from the first start of this version on
        out.put(keys::AUDIT_ENDS, self.log.audit_ends());
        if self.epoch == 1 {
            out.put(keys::TOPOLOGY, &self.topology);
            self.happened(now, &mut out, log::cluster_created(&self.topology));
        }
        self.tell_of_restoration(now, &mut out);
        self.happened(now, &mut out, log::master_started(self.epoch));
        self.finish(now, out)
    }

    #[must_use]
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Outbox::default();
        match input {
            Input::Request { id, by, request } => self.request(now, &mut out, id, by, request),
            Input::Cancelled { id } => {
                self.parked.remove(&id);
                self.alerts.cancelled(id);
            }
            Input::SessionOpened { by, session, hello } => {
                self.session_opened(now, &mut out, &by, session, *hello);
            }
            Input::FromAgent { node, session, message } => {
                self.take_from_agent(now, &mut out, &node, &session, message);
            }
            Input::RenewalRequested { node, session, csr, key_fingerprint } => {
                self.renewal_requested(now, &mut out, &node, &session, csr, key_fingerprint);
            }
            Input::SessionClosed { node, session } => {
                self.session_closed(now, &mut out, &node, &session);
            }
            Input::Refused { by, call, refusal } => {
                self.audit_refusal(now, &mut out, &by, call, "", &refusal);
            }
            Input::Watched { nodes } => self.watched(now, &mut out, &nodes),
            Input::BackupEnded { failed } => self.backup_ended(now, &mut out, failed),
            Input::AdminIssued { user } => self.admin_issued(now, &mut out, user),
            Input::ClusterFacts(facts) => self.take_cluster_facts(now, &mut out, *facts),
            Input::Delivered { delivery, result } => {
                self.delivered(now, &mut out, delivery, result);
            }
        }
        self.finish(now, out)
    }

    #[must_use]
    pub fn handle_deadline(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Outbox::default();
        if self.timers.first().is_some_and(|(at, _)| now.at.since(*at) > STALL) {
            self.forgive_all(now.at);
        }
        for _ in 0..NODES_PER_DEADLINE_MAX {
            let Some((at, _)) = self.timers.first() else { break };
            let late =
                Duration::from_secs(if mutant!("a deadline is served late") { 2 } else { 0 });
            if *at + late > now.at {
                break;
            }
            if let Some((_, id)) = self.timers.pop_first() {
                self.node_timer(now, &mut out, &id);
            }
        }
        self.answer_overdue(now, &mut out);
        if self.heard_since_saved && self.heartbeats_saved_at + HEARTBEATS_SAVED_EVERY <= now.at {
            self.save_heartbeats(now, &mut out);
        }
        if self.retention_at <= now.at && out.is_empty() {
            let more = self.log.retire_old(now.wall, self.settings.events_age_max, &mut out);
            self.retention_at = now.at + if more { Duration::ZERO } else { RETENTION_EVERY };
        }
        self.alerts_due(now, &mut out);
        self.finish(now, out)
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let node = self.timers.first().map(|(at, _)| Deadline { at: *at, why: "node" });
        let parked = self.parked.values().map(|p| p.until).min();
        let parked = parked.map(|at| Deadline { at, why: "waiting request" });
        let saving = self.heard_since_saved.then(|| Deadline {
            at: self.heartbeats_saved_at + HEARTBEATS_SAVED_EVERY,
            why: "heartbeats to save",
        });
        let retention = Some(Deadline { at: self.retention_at, why: "retention" });
        let alerts = Some(self.alerts.deadline());
        earliest(&[node, parked, saving, retention, alerts])
    }

    /// Who may not call any more: removed nodes, revoked users, replaced keys.
    pub fn standing(&self, caller: &Caller) -> Result<(), Refusal> {
        self.check_standing(caller)
    }

    pub fn timing(&self) -> Timing {
        self.topology.timing(self.settings.timing)
    }

    pub fn readiness(&self) -> Readiness {
        self.topology.readiness(self.settings.readiness)
    }

    /// One look at every node, for a watcher that begins or fell behind.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView> + '_ {
        self.nodes.values().map(Node::view)
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest event that is kept, and the newest.
    pub fn events_kept(&self) -> (u64, u64) {
        self.log.events_kept()
    }

    /// The oldest audit entry that is kept, and the newest with its hash.
    pub fn audit_ends(&self) -> &AuditEnds {
        self.log.audit_ends()
    }

    /// After a stall nobody is declared lost for what the master itself did not hear.
    fn forgive_all(&mut self, now: Timestamp) {
        for node in self.nodes.values_mut() {
            let lost = |c: &Condition| {
                matches!(c.kind, ConditionKind::SessionLost | ConditionKind::HeartbeatTimeout)
            };
            if !node.record.conditions.iter().any(lost) {
                node.detector.forgive(now);
            }
        }
    }

    fn save_heartbeats(&mut self, now: Now, out: &mut Outbox) {
        let heard = self.nodes.values().filter_map(|n| Some((&n.record.id, n.last_heartbeat?)));
        let heard: Vec<_> = heard.collect();
        for (part, heard) in heard.chunks(keys::HEARTBEATS_PER_VALUE_MAX).enumerate() {
            out.put(keys::heartbeats(part), &heard.iter().copied().collect::<BTreeMap<_, _>>());
        }
        self.heartbeats_saved_at = now.at;
        // what is left over of the containers is for the next time
        let ids = self.nodes.keys().cloned().collect();
        self.heard_since_saved = self.save_containers(&ids, &mut out.writes);
    }

    /// With what is written anyway, a few at a time. Whether some are left over.
    fn save_containers(
        &mut self,
        of: &BTreeSet<NodeId>,
        writes: &mut BTreeMap<String, Option<Vec<u8>>>,
    ) -> bool {
        let mut room = CONTAINERS_SAVED_MAX;
        for id in of {
            let Some(node) = self.nodes.get_mut(id).filter(|node| !node.containers_saved) else {
                continue;
            };
            if room == 0 {
                return true;
            }
            room -= 1;
            if let Some(last) = node.containers_to_save() {
                writes.insert(keys::containers(id), Some(keys::encode(&last)));
            }
        }
        false
    }

    /// One commit, then what it reveals.
    fn finish(&mut self, now: Now, mut out: Outbox) -> Vec<Effect> {
        let changed = self.views(std::mem::take(&mut out.changed));
        self.look_at(now, &mut out, &changed);
        let Outbox { mut writes, mut effects, touched, .. } = out;
        let is_silent = |id: &NodeId| self.nodes.get(id).is_some_and(|n| n.session.is_none());
        // a node that is lost may be lost for long
        let silent = touched.iter().filter(|id| is_silent(id)).cloned().collect();
        self.save_containers(&silent, &mut writes);
        for id in touched.iter().filter(|_| !mutant!("records are not stored")) {
            if let Some(node) = self.nodes.get(id) {
                writes.insert(keys::node(id), Some(keys::encode(&node.record)));
            }
        }
        // what is revealed lies in an epoch that is stored, so that the next start's revisions are newer
        let epoch = (self.revision + changed.len() as u64) >> keys::EPOCH_BITS;
        if epoch > self.epoch {
            self.epoch = epoch;
            writes.insert(keys::EPOCH.to_owned(), Some(keys::encode(&epoch)));
        }
        let mut all = Vec::with_capacity(effects.len() + changed.len() + 1);
        if !writes.is_empty() {
            all.push(Effect::Commit(Transaction { writes }));
        }
        for (id, view) in changed {
            self.revision += 1;
            if let Some(node) = self.nodes.get_mut(&id) {
                node.revision = self.revision;
            }
            all.push(match view {
                Some(view) => {
                    Effect::Changed(Box::new(NodeView { revision: self.revision, ..view }))
                }
                None => Effect::Removed { node: id, revision: self.revision },
            });
        }
        self.tell_new_revisions(&mut effects);
        all.extend(effects);
        all
    }
}
