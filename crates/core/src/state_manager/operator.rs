//! What people ask for: nodes, topology, tokens, users. Every change is audited in its own commit.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use super::{
    Answer, COMMAND_TIMEOUT, Effect, FAREWELL, PARKED_MAX, Parked, Request, RequestId,
    StateManager, TokenRequest, keys, log::Draft, outbox::Outbox, sessions::goodbye, settle::enter,
};
use crate::{
    api_server::{Call, Caller, Code, Refusal, Role},
    log_level,
    model::{
        EventKind, FieldError, Labels, NodeId, NodeStatus, SessionId, Severity, TokenRecord,
        UserName, UserRecord, check_labels, check_text,
    },
    mutant::mutant,
    node_lifecycle::{NodeEvent, next},
    session::{AgentCommand, GoodbyeReason, ToAgent},
    time::Now,
    topology::TopologyUpdate,
};

const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3600);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
const TOKEN_USES_MAX: u32 = 1000;
const USER_TTL_DEFAULT: Duration = Duration::from_secs(365 * 86_400);
const USER_TTL_MAX: Duration = Duration::from_secs(5 * 366 * 86_400);
const REASON_BYTES_MAX: usize = 256;

impl Request {
    /// The row of the role table.
    pub fn call(&self) -> Call {
        match self {
            Self::Register(_) => Call::RegisterNode,
            Self::Heartbeat { .. } => Call::Heartbeat,
            Self::ReportStatus { .. } => Call::ReportStatus,
            Self::ReceiveConfig { .. } => Call::ReceiveConfig,
            Self::GetNodes(_) => Call::GetNodes,
            Self::GetNode(_) => Call::GetNode,
            Self::GetTopology => Call::GetTopology,
            Self::GetClusterStatus => Call::GetClusterStatus,
            Self::Allow { call, .. } => *call,
            Self::UpdateTopology(_) => Call::UpdateTopology,
            Self::ApproveNode(_) => Call::ApproveNode,
            Self::RejectNode { .. } => Call::RejectNode,
            Self::SetMaintenance { .. } => Call::SetMaintenance,
            Self::RemoveNode(_) => Call::RemoveNode,
            Self::LabelNode { .. } => Call::LabelNode,
            Self::ResetNodeIdentity(_) => Call::ResetNodeIdentity,
            Self::PauseRecovery { .. } => Call::PauseRecovery,
            Self::Command { command, .. } => match command {
                AgentCommand::SetLogLevel { .. } => Call::SetLogLevel,
                AgentCommand::RestartContainer { .. } => Call::RestartContainer,
                AgentCommand::CheckSystem => Call::CheckNode,
                AgentCommand::Recover { .. } => Call::ForceRecovery,
                AgentCommand::Probe => Call::ProbeNode,
            },
            Self::CreateToken(_) => Call::CreateToken,
            Self::ListTokens => Call::ListTokens,
            Self::RevokeToken(_) => Call::RevokeToken,
            Self::CreateUser { .. } => Call::CreateUser,
            Self::ListUsers => Call::ListUsers,
            Self::RevokeUser(_) => Call::RevokeUser,
            Self::CreateApiToken { .. } => Call::CreateApiToken,
            Self::ListApiTokens => Call::ListApiTokens,
            Self::RevokeApiToken(_) => Call::RevokeApiToken,
            Self::OpenConsole { .. } => Call::OpenConsole,
            Self::OpenSession { .. } => Call::OpenSession,
            Self::CloseSession => Call::CloseSession,
            Self::Alert(request) => request.call(),
            Self::OnlyAt { request, .. } => request.call(),
        }
    }

    /// What it is about, for the audit log.
    fn target(&self) -> String {
        match self {
            Self::Register(registration) => registration.node.to_string(),
            Self::Heartbeat { node }
            | Self::ReportStatus { node, .. }
            | Self::ReceiveConfig { node, .. }
            | Self::GetNode(node)
            | Self::ApproveNode(node)
            | Self::RemoveNode(node)
            | Self::LabelNode { node, .. }
            | Self::ResetNodeIdentity(node)
            | Self::PauseRecovery { node, .. } => node.clone(),
            Self::RejectNode { node, reason } | Self::SetMaintenance { node, reason, .. } => {
                format!("{node}{}", why(reason))
            }
            Self::Command { node, command: AgentCommand::SetLogLevel { filter, span } } => {
                format!("{node} {}", log_level::words(filter, *span))
            }
            Self::Command { node, .. } => node.clone(),
            Self::Allow { target, .. } => target.clone(),
            Self::RevokeToken(id) | Self::RevokeApiToken(id) => id.clone(),
            Self::CreateApiToken { name, .. } => name.to_string(),
            Self::CreateUser { name, .. } => name.to_string(),
            Self::RevokeUser(name) => name.clone(),
            Self::Alert(request) => request.target(),
            Self::OnlyAt { request, .. } => request.target(),
            Self::UpdateTopology(update) => update.name.clone(),
            Self::CreateToken(token) => token.hash.get(..12).unwrap_or_default().to_owned(),
            Self::GetNodes(_)
            | Self::GetTopology
            | Self::GetClusterStatus
            | Self::ListTokens
            | Self::ListUsers
            | Self::ListApiTokens
            | Self::OpenConsole { .. }
            | Self::OpenSession { .. }
            | Self::CloseSession => String::new(),
        }
    }
}

/// Calls that a caller makes of itself all the time are not audited one by one; refusals are.
fn is_audited(call: Call) -> bool {
    match call {
        Call::UpdateTopology
        | Call::ApproveNode
        | Call::RejectNode
        | Call::SetMaintenance
        | Call::RemoveNode
        | Call::LabelNode
        | Call::ResetNodeIdentity
        | Call::RestartContainer
        | Call::CheckNode
        | Call::PauseRecovery
        | Call::ForceRecovery
        | Call::ProbeNode
        | Call::SetLogLevel
        | Call::ReadContainerLogs
        | Call::CreateToken
        | Call::RevokeToken
        | Call::CreateUser
        | Call::RevokeUser
        | Call::AcknowledgeAlerts
        | Call::SilenceAlerts
        | Call::UnsilenceAlerts
        | Call::ApplyAlertRules
        | Call::DeleteAlertRule
        | Call::ApplyAlertChannels
        | Call::DeleteAlertChannel
        | Call::SwitchAlertChannel
        | Call::TestAlertChannel
        | Call::ResendDeadLetters
        | Call::ClearDeadLetters
        | Call::CreateApiToken
        | Call::RevokeApiToken
        | Call::OpenConsole
        | Call::OpenSession
        | Call::CloseSession => true,
        // audits itself, once it has changed something
        Call::RegisterNode
        | Call::Session
        | Call::Heartbeat
        | Call::ReportStatus
        | Call::ReceiveConfig
        | Call::GetNodes
        | Call::GetNode
        | Call::GetTopology
        | Call::WatchNodes
        | Call::ListEvents
        | Call::WatchEvents
        | Call::GetClusterStatus
        | Call::QueryMetrics
        | Call::Metrics
        | Call::ReadLogs
        | Call::Reflection
        | Call::ListTokens
        | Call::ListUsers
        | Call::ListApiTokens
        | Call::GetSession
        | Call::ListAudit
        | Call::VerifyAudit
        | Call::GetSettings
        | Call::ListAlerts
        | Call::WatchAlerts
        | Call::ListAlertRules
        | Call::ListAlertChannels => false,
    }
}

impl StateManager {
    pub(super) fn request(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: RequestId,
        by: Caller,
        request: Request,
    ) {
        let (call, target) = (request.call(), request.target());
        let standing = if call == Call::RegisterNode { Ok(()) } else { self.check_standing(&by) };
        let result =
            by.check(call).and(standing).and_then(|()| self.carry_out(now, out, id, &by, request));
        match result {
            Ok(()) if is_audited(call) => self.audit(now, out, &by, call, &target),
            Ok(()) => {}
            Err(refusal) => {
                self.audit_refusal(now, out, &by, call, &target, &refusal);
                out.reply(id, Err(refusal));
            }
        }
    }

    /// An `Err` has changed nothing.
    fn carry_out(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: RequestId,
        by: &Caller,
        request: Request,
    ) -> Result<(), Refusal> {
        let answer = match request {
            Request::Register(registration) => {
                return self.register(now, out, id, by, *registration);
            }
            Request::Heartbeat { node } => {
                let node = self.itself(out, by, &node)?;
                self.unary_heartbeat(now, out, id, &node);
                return Ok(());
            }
            Request::ReportStatus { node, report } => {
                let node = self.itself(out, by, &node)?;
                return self.unary_report(now, out, id, &node, *report);
            }
            Request::ReceiveConfig { node, applied, rejected, wait } => {
                let node = self.itself(out, by, &node)?;
                return self.unary_config(now, out, id, &node, (applied, rejected, wait));
            }
            Request::Command { node, command: AgentCommand::Probe } => {
                return self.probe_asked(now, out, id, &node);
            }
            Request::Command { node, command } => {
                return self.command(now, out, id, &node, command);
            }
            Request::GetNodes(selector) => self.get_nodes(&selector),
            Request::GetNode(node) => Answer::Node(Box::new(self.node_view(&self.find(&node)?))),
            Request::GetTopology => Answer::Topology(Box::new(self.topology_view())),
            Request::GetClusterStatus => Answer::ClusterStatus(Box::new(self.cluster_status())),
            Request::Allow { .. } => Answer::Done,
            Request::UpdateTopology(update) => self.update_topology(now, out, update)?,
            Request::ApproveNode(node) => self.approve(now, out, &node)?,
            Request::RejectNode { node, reason } => self.reject(now, out, &node, &reason)?,
            Request::SetMaintenance { node, on, reason } => {
                self.set_maintenance(now, out, &node, on, &reason)?
            }
            Request::RemoveNode(node) => self.remove(now, out, &node)?,
            Request::LabelNode { node, set, remove } => {
                self.label(now, out, &node, set, &remove)?
            }
            Request::ResetNodeIdentity(node) => self.reset_identity(now, out, &node)?,
            Request::PauseRecovery { node, span } => self.pause_recovery(now, out, &node, span)?,
            Request::CreateToken(token) => self.create_token(now, out, by, token)?,
            Request::ListTokens => Answer::Tokens(self.tokens.values().cloned().collect()),
            Request::RevokeToken(token) => self.revoke_token(now, out, &token)?,
            Request::CreateUser { name, role, ttl, serial } => {
                self.create_user(now, out, by, name, (role, ttl, serial))?
            }
            Request::ListUsers => Answer::Users(self.users.values().cloned().collect()),
            Request::RevokeUser(name) => self.revoke_user(now, out, &name)?,
            Request::CreateApiToken { name, role, ttl, hash } => {
                self.create_api_token(now, out, by, (name, role), (ttl, hash))?
            }
            Request::ListApiTokens => Answer::Credentials(self.api_tokens().cloned().collect()),
            Request::RevokeApiToken(text) => self.revoke_api_token(now, out, &text)?,
            Request::OpenConsole { hash } => self.open_console(now, out, by, hash)?,
            Request::OpenSession { hash } => self.open_session(now, out, by, hash)?,
            Request::CloseSession => self.close_session(out, by)?,
            Request::Alert(request) => return self.alert_request(now, out, id, by, *request),
            Request::OnlyAt { versions, request } => {
                self.check_unchanged(&versions, &request)?;
                return self.carry_out(now, out, id, by, *request);
            }
        };
        out.reply(id, Ok(answer));
        Ok(())
    }

    /// The caller's own node; an id in the message must be the same.
    fn itself(&mut self, out: &mut Outbox, by: &Caller, claimed: &str) -> Result<NodeId, Refusal> {
        let id = NodeId::parse("node_id", claimed)?;
        if id.as_str() != by.id {
            return Err(super::join::speaks_for_another(by, claimed));
        }
        match self.nodes.get(&id).map(|node| node.record.status) {
            Some(NodeStatus::Pending) => Err(super::join::awaiting_approval()),
            Some(_) => {
                self.take_key_in(out, by, &id);
                Ok(id)
            }
            // its certificate is believed: it joined a master that was lost
            None => {
                let message = format!("node_id: {claimed} joined after the backup of this master");
                Err(Refusal::new(Code::FailedPrecondition, "RegisterAgain", message)
                    .help("call RegisterNode with the same certificate; it takes no token"))
            }
        }
    }

    fn update_topology(
        &mut self,
        now: Now,
        out: &mut Outbox,
        update: TopologyUpdate,
    ) -> Result<Answer, Refusal> {
        let current = self.topology.generation;
        if update.generation != 0 && update.generation != current {
            return Err(Refusal {
                field: Some("topology.generation".to_owned()),
                ..Refusal::new(
                    Code::Aborted,
                    "GenerationOutdated",
                    format!(
                        "topology.generation: {} was read, but {current} is the newest",
                        update.generation
                    ),
                )
            }
            .help("get it again, and apply the change to that"));
        }
        let base = self.settings.timing;
        self.topology = self.topology.updated(update, base, |id| self.nodes.contains_key(id))?;
        out.put(keys::TOPOLOGY, &self.topology.without_secrets());
        let secrets = self.topology.secrets();
        if secrets.is_empty() {
            out.delete(keys::TOPOLOGY_SECRETS.to_owned());
        } else {
            out.put(keys::TOPOLOGY_SECRETS, &secrets);
        }
        let generation = self.topology.generation;
        let draft = Draft::cluster(
            Severity::Info,
            EventKind::TopologyChanged,
            format!("the topology has changed: generation {generation}"),
        );
        self.happened(now, out, draft.field("generation", generation.to_string()));
        let ids: Vec<_> = self.nodes.keys().cloned().collect();
        for id in &ids {
            self.send_config(out, id);
            if mutant!("a new pace counts before it is known") {
                self.hold_to_timing(id);
                self.schedule(id, now.at);
            }
        }
        self.answer_config_polls(out);
        Ok(Answer::Topology(Box::new(self.topology_view())))
    }

    fn answer_config_polls(&mut self, out: &mut Outbox) {
        let polls: Vec<_> =
            self.parked.iter().filter(|(_, p)| p.command.is_none()).map(|(id, _)| *id).collect();
        for request in polls {
            self.parked.remove(&request);
            out.reply(request, Ok(self.config_answer(self.topology.generation - 1)));
        }
    }

    fn approve(&mut self, now: Now, out: &mut Outbox, node: &str) -> Result<Answer, Refusal> {
        let until = now.wall.plus(self.settings.certificate_lifetime);
        let step = (NodeEvent::Approved, EventKind::NodeApproved);
        let id = self.transition(now, out, node, step, "")?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.record.certificate_expires_at = Some(until);
            // it is watched from now on
            node.detector = crate::failure_detector::FailureDetector::unknown(now.at);
        }
        self.settle(now, out, &id);
        Ok(Answer::Node(Box::new(self.node_view(&id))))
    }

    fn reject(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        check_text("reason", reason, REASON_BYTES_MAX)?;
        let id = self.find(node)?;
        let Some(node) = self.nodes.get(&id) else { return Err(no_such_node(node, None)) };
        if node.record.status != NodeStatus::Pending {
            return Err(wrong_status(
                &node.record.name.to_string(),
                node.record.status,
                "rejected",
            )
            .help("to take a member out: piccolo node remove"));
        }
        let message = format!("node {} was rejected{}", node.record.name, why(reason));
        let draft = Draft::of(&node.record, Severity::Info, EventKind::NodeRejected, message);
        self.happened(now, out, draft);
        self.forget(out, &id);
        Ok(Answer::Done)
    }

    fn set_maintenance(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
        on: bool,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        check_text("reason", reason, REASON_BYTES_MAX)?;
        let step = if on {
            (NodeEvent::MaintenanceStarted, EventKind::NodeMaintenance)
        } else {
            (NodeEvent::MaintenanceEnded, EventKind::NodeMaintenanceEnded)
        };
        let id = self.transition(now, out, node, step, reason)?;
        self.send_recovery_orders(now, out, &id);
        self.settle(now, out, &id);
        Ok(Answer::Node(Box::new(self.node_view(&id))))
    }

    /// One step of the lifecycle that an operator asked for.
    fn transition(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
        (event, kind): (NodeEvent, EventKind),
        reason: &str,
    ) -> Result<NodeId, Refusal> {
        let id = self.find(node)?;
        let Some(node) = self.nodes.get_mut(&id) else { return Err(no_such_node(node, None)) };
        let status = node.record.status;
        let Some(after) = next(status, event) else {
            let verb = match event {
                NodeEvent::Approved => "approved",
                NodeEvent::MaintenanceStarted => "put into Maintenance",
                NodeEvent::MaintenanceEnded => "taken out of Maintenance",
                NodeEvent::ConfigApplied
                | NodeEvent::Impaired
                | NodeEvent::Recovered { .. }
                | NodeEvent::Removed => "changed",
            };
            return Err(wrong_status(&node.record.name.to_string(), status, verb));
        };
        let draft = enter(node, after, now.wall);
        let name = &node.record.name;
        let message = if event == NodeEvent::Approved {
            format!("node {name} was approved")
        } else if event == NodeEvent::MaintenanceEnded {
            format!("node {name} is out of Maintenance")
        } else {
            draft.message.clone()
        };
        let message = format!("{message}{}", why(reason));
        out.touch(&id);
        self.happened(now, out, Draft { kind, message, severity: Severity::Info, ..draft });
        Ok(id)
    }

    fn remove(&mut self, now: Now, out: &mut Outbox, node: &str) -> Result<Answer, Refusal> {
        let id = self.find(node)?;
        self.terminate(now, out, &id);
        Ok(Answer::Done)
    }

    /// Revokes at once and closes the session; the record goes a little later.
    pub(super) fn terminate(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let Some(status) = next(node.record.status, NodeEvent::Removed) else { return };
        let draft = enter(node, status, now.wall);
        node.gone_at = Some(now.at + FAREWELL);
        if let Some(session) = node.session.take() {
            let goodbye = goodbye(GoodbyeReason::Removed, "the node was removed from the cluster");
            out.effects.push(Effect::Close { node: id.clone(), session, goodbye });
        }
        out.touch(id);
        self.happened(now, out, draft);
        self.schedule(id, now.at);
    }

    /// Takes the record out of everything.
    pub(super) fn forget(&mut self, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.remove(id) else { return };
        self.settle_identity(out, id, None);
        if let Some(session) = node.session {
            let goodbye = goodbye(GoodbyeReason::Removed, "the node was removed from the cluster");
            out.effects.push(Effect::Close { node: id.clone(), session, goodbye });
        }
        if self.names.get(&node.record.name.key()) == Some(id) {
            self.names.remove(&node.record.name.key());
        }
        if let Some(at) = node.timer {
            self.timers.remove(&(at, id.clone()));
        }
        out.touched.remove(id);
        out.change(id);
        out.delete(keys::node(id));
        out.delete(keys::containers(id));
    }

    fn label(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
        set: Labels,
        remove: &[String],
    ) -> Result<Answer, Refusal> {
        let id = self.find(node)?;
        let Some(node) = self.nodes.get_mut(&id) else { return Err(no_such_node(node, None)) };
        let mut labels = node.record.labels.clone();
        labels.retain(|key, _| !remove.contains(key));
        labels.extend(set);
        check_labels("labels", &labels)?;
        if labels != node.record.labels {
            node.record.labels = labels;
            let message = format!("the labels of node {} have changed", node.record.name);
            let draft = Draft::of(&node.record, Severity::Info, EventKind::NodeLabelled, message);
            out.touch(&id);
            self.happened(now, out, draft);
        }
        Ok(Answer::Node(Box::new(self.node_view(&id))))
    }

    fn reset_identity(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
    ) -> Result<Answer, Refusal> {
        let id = self.find(node)?;
        let Some(node) = self.nodes.get_mut(&id) else { return Err(no_such_node(node, None)) };
        node.record.identity_reset = true;
        let message =
            format!("node {} may join again with a new identity and a token", node.record.name);
        let draft = Draft::of(&node.record, Severity::Info, EventKind::NodeIdentityReset, message);
        out.touch(&id);
        self.happened(now, out, draft);
        Ok(Answer::Done)
    }

    fn command(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        node: &str,
        command: AgentCommand,
    ) -> Result<(), Refusal> {
        let (id, session) = self.session_of(node)?;
        if matches!(command, AgentCommand::Recover { .. }) {
            self.check_recovers(&id)?;
        }
        if self.parked.len() >= PARKED_MAX {
            return Err(Refusal::new(Code::ResourceExhausted, "Busy", "too many requests wait"));
        }
        self.commands_sent += 1;
        let name = format!("{}-{}", self.epoch, self.commands_sent);
        let until = now.at + COMMAND_TIMEOUT;
        let wants_node = command == AgentCommand::CheckSystem;
        let parked = Parked { node: id.clone(), until, command: Some(name.clone()), wants_node };
        self.parked.insert(request, parked);
        let message = ToAgent::Command { id: name, command };
        out.effects.push(Effect::Send { node: id, session, message });
        Ok(())
    }

    pub(super) fn session_of(&self, node: &str) -> Result<(NodeId, SessionId), Refusal> {
        let id = self.find(node)?;
        let session = self.nodes.get(&id).and_then(|node| node.session.clone());
        session.map(|session| (id, session)).ok_or_else(|| {
            Refusal::new(
                Code::Unavailable,
                "NotConnected",
                format!("node {node} has no session now; nothing was sent"),
            )
        })
    }

    fn create_token(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        request: TokenRequest,
    ) -> Result<Answer, Refusal> {
        let ttl = if request.ttl.is_zero() { TOKEN_TTL_DEFAULT } else { request.ttl };
        let uses = request.uses.max(1);
        if ttl > TOKEN_TTL_MAX {
            return Err(FieldError::new("ttl_seconds", "is more than a year").into());
        }
        if uses > TOKEN_USES_MAX {
            return Err(FieldError::new("uses", "is more than 1000").into());
        }
        self.tokens.retain(|hash, token| {
            let keep = token.expires_at > now.wall;
            if !keep && out.writes.len() < 32 {
                out.delete(keys::token(hash));
            }
            keep || out.writes.len() >= 32
        });
        if self.tokens.len() >= self.settings.tokens_max {
            let count = self.tokens.len();
            return Err(Refusal::new(
                Code::ResourceExhausted,
                "TooManyTokens",
                format!("there are {count} tokens, and no more may be made"),
            )
            .help("piccolo token revoke"));
        }
        let token = TokenRecord {
            hash: request.hash,
            role: request.role,
            created_at: now.wall,
            expires_at: now.wall.plus(ttl),
            uses_left: uses,
            node_name: request.node_name,
            created_by: by.who(),
            used_by: BTreeSet::new(),
        };
        out.put(keys::token(&token.hash), &token);
        self.tokens.insert(token.hash.clone(), token.clone());
        let message = format!("{} made a token for role {}", by.who(), token.role);
        let draft = Draft::cluster(Severity::Info, EventKind::TokenCreated, message);
        self.happened(now, out, draft.field("token", token.id()));
        Ok(Answer::Token(token))
    }

    fn revoke_token(&mut self, now: Now, out: &mut Outbox, id: &str) -> Result<Answer, Refusal> {
        let found = self.tokens.keys().find(|hash| id.len() >= 8 && hash.starts_with(id)).cloned();
        let Some(hash) = found else {
            return Err(Refusal::new(
                Code::NotFound,
                "NoSuchToken",
                format!("there is no token {id:?}"),
            )
            .help("piccolo token list"));
        };
        if !mutant!("a revoked token is kept") {
            self.tokens.remove(&hash);
        }
        out.delete(keys::token(&hash));
        let short = hash.get(..12).unwrap_or_default();
        let draft = Draft::cluster(
            Severity::Info,
            EventKind::TokenRevoked,
            format!("token {short} was revoked"),
        );
        self.happened(now, out, draft);
        Ok(Answer::Done)
    }

    fn create_user(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        name: UserName,
        (role, ttl, serial): (Role, Duration, String),
    ) -> Result<Answer, Refusal> {
        let ttl = if ttl.is_zero() { USER_TTL_DEFAULT } else { ttl };
        if ttl > USER_TTL_MAX {
            return Err(FieldError::new("ttl_seconds", "is more than five years").into());
        }
        if !role.is_user() {
            return Err(FieldError::new("role", "must be viewer, operator or admin").into());
        }
        if self.users.get(&name).is_some_and(|user| user.expires_at > now.wall) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                "UserExists",
                format!("there is a user {name} already"),
            )
            .help("revoke it first, or take another name"));
        }
        if self.users.len() >= self.settings.users_max {
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyUsers", "too many users")
                .help("piccolo user revoke those that are not needed"));
        }
        let user = UserRecord {
            name,
            role,
            created_at: now.wall,
            expires_at: now.wall.plus(ttl),
            serial,
            created_by: by.who(),
        };
        self.insert_user(now, out, user.clone());
        Ok(Answer::User(user))
    }

    pub(super) fn admin_issued(&mut self, now: Now, out: &mut Outbox, user: UserRecord) {
        let by = Caller::anonymous("the master itself");
        self.audit(now, out, &by, Call::CreateUser, user.name.as_str());
        self.insert_user(now, out, user);
    }

    fn insert_user(&mut self, now: Now, out: &mut Outbox, user: UserRecord) {
        out.put(keys::user(&user.name), &user);
        let draft = Draft {
            severity: Severity::Info,
            kind: EventKind::UserCreated,
            node: None,
            message: format!("user {} was made, with role {}", user.name, user.role),
            fields: BTreeMap::new(),
        };
        self.happened(now, out, draft);
        self.users.insert(user.name.clone(), user);
    }

    fn revoke_user(&mut self, now: Now, out: &mut Outbox, name: &str) -> Result<Answer, Refusal> {
        let name = UserName::parse("name", name)?;
        let Some(user) = self.users.get(&name) else {
            return Err(Refusal::new(
                Code::NotFound,
                "NoSuchUser",
                format!("there is no user {name}"),
            )
            .help("piccolo user list"));
        };
        let admins = self.users.values().filter(|u| u.role == Role::Admin).count();
        if user.role == Role::Admin && admins == 1 {
            return Err(Refusal::new(
                Code::FailedPrecondition,
                "LastAdmin",
                format!("{name} is the last admin: nobody could make another"),
            )
            .help("make another first: piccolo user create NAME --role admin"));
        }
        self.users.remove(&name);
        out.delete(keys::user(&name));
        let draft = Draft::cluster(
            Severity::Info,
            EventKind::UserRevoked,
            format!("user {name} was revoked"),
        );
        self.happened(now, out, draft);
        Ok(Answer::Done)
    }
}

/// An operator's reason, behind what it is for.
fn why(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn wrong_status(name: &str, status: NodeStatus, verb: &str) -> Refusal {
    Refusal::new(
        Code::FailedPrecondition,
        "WrongStatus",
        format!("node {name} is {status}: it cannot be {verb}"),
    )
    .help("piccolo node list")
}

pub(super) fn no_such_node(text: &str, near: Option<&str>) -> Refusal {
    let text: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Refusal {
        field: Some("node_id".to_owned()),
        ..Refusal::new(
            Code::NotFound,
            "NoSuchNode",
            format!("node_id: there is no node {text:?}{hint}"),
        )
    }
    .help("piccolo node list")
}
