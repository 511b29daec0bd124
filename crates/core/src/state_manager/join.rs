//! Joining, and coming back with an old key (HLD §5.1; docs/protocol.md).
//!
//! A registration is answered the same when it is repeated with the same key: a lost answer costs nothing.
//! The name of another node is never taken over silently: only by a token bound to that name, or after
//! `reset-identity`, and never from a live session.

use super::{
    Answer, Node, Registered, RequestId, StateManager, keys, log::Draft, outbox::Outbox,
    restoration::Newcomer,
};
use crate::{
    api_server::{Call, Caller, Code, Refusal, Registration, Role},
    model::{
        EventKind, Labels, NodeId, NodeName, NodeRecord, NodeRole, NodeStatus, Severity,
        TokenRecord,
    },
    mutant::mutant,
    time::{Now, Timestamp},
};

use super::Approval;

/// Between two events about the same duplicate.
const DUPLICATE_TOLD_EVERY_US: u64 = 600_000_000;

impl StateManager {
    pub(super) fn register(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        by: &Caller,
        registration: Registration,
    ) -> Result<(), Refusal> {
        self.joins.check(&by.from, now.at)?;
        registration.check()?;
        match registration.token_hash.clone() {
            None => self.reissue(now, out, request, by, &registration),
            Some(hash) => self.join(now, out, request, by, registration, &hash),
        }
    }

    /// A known node shows its certificate, perhaps an expired one, and wants a new one for the same key.
    fn reissue(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        by: &Caller,
        registration: &Registration,
    ) -> Result<(), Refusal> {
        if !by.role.is_node() {
            return Err(Refusal::new(
                Code::Unauthenticated,
                "TokenRequired",
                "joining needs a token, or the certificate of a known node",
            )
            .help("make one on the master: piccolo token create"));
        }
        self.check_standing(by)?;
        if by.id != registration.node.as_str() {
            return Err(speaks_for_another(by, registration.node.as_str()));
        }
        if by.key_fingerprint != registration.key_fingerprint {
            return Err(Refusal::new(
                Code::PermissionDenied,
                "KeyChanged",
                "the request must be for the key of the certificate that was shown",
            )
            .help("for a new key: piccolo token create --role sub --node NAME"));
        }
        self.meet(now, out, by, Newcomer::registering(registration))?;
        self.audit(now, out, by, Call::RegisterNode, registration.node.as_str());
        let until = now.wall.plus(self.settings.certificate_lifetime);
        if let Some(node) = self.nodes.get_mut(&registration.node) {
            node.record.certificate_expires_at = Some(until);
            let draft = Draft::of(
                &node.record,
                Severity::Warning,
                EventKind::CertificateReissued,
                format!(
                    "node {} came back with an old key and got a new certificate",
                    node.record.name
                ),
            );
            out.touch(&registration.node);
            self.happened(now, out, draft);
        }
        self.answer_registered(out, request, &registration.node);
        Ok(())
    }

    fn join(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        by: &Caller,
        registration: Registration,
        hash: &str,
    ) -> Result<(), Refusal> {
        if self.is_repeated(&registration, hash) {
            self.answer_registered(out, request, &registration.node);
            return Ok(());
        }
        let token = self.usable_token(now, hash, &registration)?;
        if self.is_known_by_key(&registration) {
            self.audit(now, out, by, Call::RegisterNode, registration.node.as_str());
            self.use_token(out, token, &registration.node);
            if let Some(node) = self.nodes.get_mut(&registration.node) {
                hash.clone_into(&mut node.record.joined_with);
            }
            out.touch(&registration.node);
            self.answer_registered(out, request, &registration.node);
            return Ok(());
        }
        self.check_same_id(now, out, &registration, &token)?;
        let predecessor = self.check_name(now, out, &registration, &token)?;
        if predecessor.is_none() && self.nodes.len() >= self.settings.nodes_max {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                "TooManyNodes",
                format!("the cluster has {} nodes, and takes no more", self.nodes.len()),
            )
            .help("piccolo node remove those that are gone"));
        }
        self.audit(now, out, by, Call::RegisterNode, registration.node.as_str());
        self.use_token(out, token, &registration.node);
        let labels = predecessor.map(|old| self.replace(now, out, &old, &registration.node));
        // its own record too, where the name was another node's
        self.forget(out, &registration.node);
        self.admit(now, out, registration, hash, labels.unwrap_or_default(), request);
        Ok(())
    }

    /// The same key has joined with the same token: the answer was lost, or approval is awaited.
    fn is_repeated(&self, registration: &Registration, hash: &str) -> bool {
        self.nodes.get(&registration.node).is_some_and(|node| {
            node.record.joined_with == hash
                && node.record.key_fingerprint == registration.key_fingerprint
                && node.record.status != NodeStatus::Terminating
        })
    }

    /// It has proved that it holds the key that is registered: it lost its certificate, and joins with another token.
    fn is_known_by_key(&self, registration: &Registration) -> bool {
        self.nodes.get(&registration.node).map(|node| &node.record).is_some_and(|record| {
            record.key_fingerprint == registration.key_fingerprint
                && record.role == registration.role
                && record.name.key() == registration.name.key()
                && record.status != NodeStatus::Terminating
        })
    }

    fn usable_token(
        &self,
        now: Now,
        hash: &str,
        registration: &Registration,
    ) -> Result<TokenRecord, Refusal> {
        let refuse = |reason, problem: String| {
            let field = "credentials.token";
            let message = format!("{field}: {problem}");
            let refusal = Refusal::new(Code::PermissionDenied, reason, message)
                .help("make a new one on the master: piccolo token create");
            Err(Refusal { field: Some(field.to_owned()), ..refusal })
        };
        let Some(token) = self.tokens.get(hash) else {
            return refuse("TokenUnknown", "this cluster does not know the token".to_owned());
        };
        if token.expires_at <= now.wall {
            return refuse("TokenExpired", "the token has expired".to_owned());
        }
        // it was removed or rejected since: people have decided, and a token is not to undo it
        let is_member = self
            .nodes
            .get(&registration.node)
            .map(|node| &node.record)
            .is_some_and(|r| r.status != NodeStatus::Terminating && r.joined_with == hash);
        if token.used_by.contains(&registration.node)
            && !is_member
            && !mutant!("a spent token readmits its node")
        {
            let message = "the node was removed or rejected since it used this token";
            return refuse("TokenSpent", message.to_owned());
        }
        if token.uses_left == 0 {
            return refuse("TokenUsedUp", "the token was used as often as it may be".to_owned());
        }
        if token.role != registration.role {
            let (is, wants) = (token.role, registration.role);
            return refuse("TokenWrongRole", format!("the token is for role {is}, not {wants}"));
        }
        match &token.node_name {
            Some(name) if name.key() != registration.name.key() => refuse(
                "TokenWrongName",
                format!("the token is bound to node {name}, not {}", registration.name),
            ),
            Some(_) | None => Ok(token.clone()),
        }
    }

    /// A known id with another key is a clone, or a board that lost its key.
    fn check_same_id(
        &mut self,
        now: Now,
        out: &mut Outbox,
        registration: &Registration,
        token: &TokenRecord,
    ) -> Result<(), Refusal> {
        let Some(node) = self.nodes.get(&registration.node) else { return Ok(()) };
        let may_replace = node.record.identity_reset || token.node_name.is_some();
        if may_replace && !node.detector.is_live(now.at, &node.timing) {
            return Ok(());
        }
        let name = node.record.name.clone();
        self.tell_duplicate(now, out, &registration.node.clone(), EventKind::DuplicateIdentity);
        Err(Refusal::new(
            Code::AlreadyExists,
            "DuplicateIdentity",
            format!("node_id: {} is registered already, as {name}, with another key", registration.node),
        )
        .help("a cloned disk: delete its state folder; a re-flashed board: piccolo node reset-identity"))
    }

    /// The node that has this name and is to be replaced; an error where it must not be.
    fn check_name(
        &mut self,
        now: Now,
        out: &mut Outbox,
        registration: &Registration,
        token: &TokenRecord,
    ) -> Result<Option<NodeId>, Refusal> {
        let Some(holder) = self.names.get(&registration.name.key()).cloned() else {
            // the id is known under another name
            return Ok(self
                .nodes
                .contains_key(&registration.node)
                .then(|| registration.node.clone()));
        };
        let Some(node) = self.nodes.get(&holder) else { return Ok(None) };
        let live = node.detector.is_live(now.at, &node.timing);
        if !live && (node.record.identity_reset || token.node_name.is_some()) {
            return Ok(Some(holder));
        }
        self.tell_duplicate(now, out, &holder, EventKind::DuplicateName);
        Err(name_is_taken(&registration.name, &holder, live))
    }

    fn use_token(&mut self, out: &mut Outbox, mut token: TokenRecord, node: &NodeId) {
        if !mutant!("uses are not counted") {
            token.uses_left -= 1;
        }
        token.used_by.insert(node.clone());
        out.put(keys::token(&token.hash), &token);
        self.tokens.insert(token.hash.clone(), token);
    }

    /// Takes the old identity out, and hands down its labels.
    pub(super) fn replace(
        &mut self,
        now: Now,
        out: &mut Outbox,
        old: &NodeId,
        new: &NodeId,
    ) -> Labels {
        let Some(node) = self.nodes.get(old) else { return Labels::new() };
        let labels = node.record.labels.clone();
        let draft = Draft::of(
            &node.record,
            Severity::Warning,
            EventKind::NodeReplaced,
            format!("node {} has a new identity, {new}", node.record.name),
        )
        .field("old_id", old.as_str())
        .field("new_id", new.as_str());
        self.happened(now, out, draft);
        self.forget(out, old);
        labels
    }

    fn admit(
        &mut self,
        now: Now,
        out: &mut Outbox,
        registration: Registration,
        hash: &str,
        mut labels: Labels,
        request: RequestId,
    ) {
        let approved = self.settings.approval == Approval::Auto;
        labels.extend(registration.labels);
        let until = now.wall.plus(self.settings.certificate_lifetime);
        let record = NodeRecord {
            id: registration.node.clone(),
            name: registration.name,
            ip: registration.ip,
            role: registration.role,
            kind: registration.kind,
            status: if approved { NodeStatus::Initializing } else { NodeStatus::Pending },
            status_since: now.wall,
            initialized: false,
            resources: registration.resources,
            system: registration.system,
            labels,
            conditions: Vec::new(),
            created_at: now.wall,
            key_fingerprint: registration.key_fingerprint,
            previous_key_fingerprints: Vec::new(),
            joined_with: hash.to_owned(),
            acknowledged_sequence: 0,
            events_dropped: 0,
            applied_generation: 0,
            certificate_expires_at: approved.then_some(until),
            speaks_sessions: false,
            identity_reset: false,
            recovery_paused_until: None,
            reboots_since: None,
            recovery: Default::default(),
        };
        let draft = Draft::of(
            &record,
            Severity::Info,
            EventKind::NodeRegistered,
            format!("node {} has joined as {} from {}", record.name, record.role, record.ip),
        );
        self.names.insert(record.name.key(), record.id.clone());
        let timing = self.timing();
        self.nodes.insert(registration.node.clone(), Node::new(record, timing, now.at));
        self.settle_identity(out, &registration.node, None);
        out.touch(&registration.node);
        self.happened(now, out, draft);
        self.settle(now, out, &registration.node);
        self.answer_registered(out, request, &registration.node);
    }

    fn answer_registered(&mut self, out: &mut Outbox, request: RequestId, id: &NodeId) {
        let interval = self.timing().heartbeat_interval;
        let Some(node) = self.nodes.get(id) else { return };
        let record = &node.record;
        let registered = Registered {
            node: id.clone(),
            name: record.name.clone(),
            role: record.role,
            cluster: self.topology.id.clone(),
            status: record.status,
            certificate_until: record
                .certificate_expires_at
                .filter(|_| record.status != NodeStatus::Pending),
            heartbeat_interval: interval,
        };
        out.reply(request, Ok(Answer::Registered(registered)));
    }

    /// An event, but not one for each attempt.
    pub(super) fn tell_duplicate(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        kind: EventKind,
    ) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let told = |at: Timestamp| now.at.0 - at.0 < DUPLICATE_TOLD_EVERY_US;
        if node.duplicate_told_at.is_some_and(told) {
            return;
        }
        node.duplicate_told_at = Some(now.at);
        let what = if kind == EventKind::DuplicateName { "name" } else { "identity" };
        let draft = Draft::of(
            &node.record,
            Severity::Warning,
            kind,
            format!(
                "somebody else claimed the {what} of node {} and was refused",
                node.record.name
            ),
        );
        self.happened(now, out, draft);
    }

    /// Removed nodes, revoked users and replaced keys may not call any more.
    pub(super) fn check_standing(&self, by: &Caller) -> Result<(), Refusal> {
        let revoked = |what: &str| {
            Err(Refusal::new(
                Code::Unauthenticated,
                "CertificateRevoked",
                format!("{} {what}: its certificate is worth nothing any more", by.who()),
            )
            .help("a node: join again with a token; a user: ask an admin for another context"))
        };
        if let Some(hash) = &by.credential {
            return self.check_credential(by, hash);
        }
        match by.role {
            Role::Anonymous => Ok(()),
            Role::Cluster => revoked("is not a cluster that is known here"),
            Role::Viewer | Role::Operator | Role::Admin => {
                let user = self.users.values().find(|user| user.name.as_str() == by.id);
                match user {
                    Some(user) if user.serial == by.serial && user.role == by.role => Ok(()),
                    Some(_) | None => revoked("was revoked"),
                }
            }
            Role::Master | Role::Sub => {
                let node = self.nodes.iter().find(|(id, _)| id.as_str() == by.id).map(|(_, n)| n);
                let believed = self.believes(by);
                let Some(node) = node else {
                    if believed {
                        return Ok(());
                    }
                    return revoked("was removed, or never joined").map_err(|refusal: Refusal| {
                        refusal.help("join again with a token: piccolo-nodeagent join")
                    });
                };
                let role = matches!(
                    (node.record.role, by.role),
                    (NodeRole::Master, Role::Master) | (NodeRole::Sub, Role::Sub)
                );
                let removed = node.record.status == NodeStatus::Terminating
                    && !mutant!("removal does not revoke");
                if removed || !role {
                    return revoked("is being removed");
                }
                let known = node.record.has_key(&by.key_fingerprint);
                if known || believed { Ok(()) } else { revoked("has another key now") }
            }
        }
    }
}

pub(super) fn name_is_taken(name: &NodeName, holder: &NodeId, live: bool) -> Refusal {
    let alive = if live { ", which is alive" } else { "" };
    let message = format!("hostname: {name} is the name of node {holder} already{alive}");
    Refusal::new(Code::AlreadyExists, "DuplicateName", message).help(
        "give the board another host name; for a re-flashed board: piccolo node reset-identity NAME",
    )
}

pub(super) fn awaiting_approval() -> Refusal {
    Refusal::new(Code::FailedPrecondition, "AwaitingApproval", "waits for approval")
        .help("piccolo node approve NODE")
}

pub(super) fn speaks_for_another(by: &Caller, id: &str) -> Refusal {
    Refusal {
        field: Some("node_id".to_owned()),
        ..Refusal::new(
            Code::PermissionDenied,
            "NotYourself",
            format!("node_id: {} may not speak for {id:?}", by.who()),
        )
    }
}
