//! Records, and a master with its store, for tests.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the effects that it is about")]

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    model::{
        AuditEntry, Labels, NodeId, NodeKind, NodeName, NodeRecord, NodeRole, NodeStatus,
        Resources, SystemInfo,
    },
    time::WallTime,
};

pub(crate) fn node_record(id: &str, name: &str) -> NodeRecord {
    NodeRecord {
        id: NodeId::parse("node_id", id).unwrap(),
        name: NodeName::parse("hostname", name).unwrap(),
        ip: "127.0.0.1".to_owned(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        status: NodeStatus::Ready,
        status_since: WallTime(0),
        initialized: true,
        resources: Resources { cpu: 4, memory: 1024, disk: 16 },
        system: SystemInfo::default(),
        labels: Labels::new(),
        conditions: vec![],
        created_at: WallTime(0),
        key_fingerprint: format!("key-{id}"),
        previous_key_fingerprints: Vec::new(),
        joined_with: "token".to_owned(),
        acknowledged_sequence: 0,
        events_dropped: 0,
        applied_generation: 1,
        certificate_expires_at: None,
        speaks_sessions: false,
        identity_reset: false,
        recovery_paused_until: None,
        reboots_since: None,
        recovery: Default::default(),
    }
}

pub(super) fn at(ms: u64) -> Now {
    Now { at: Timestamp::from_millis(ms), wall: WallTime(i64::try_from(ms).unwrap()) }
}

/// A master with its store, as a shell would have it.
pub(super) struct Cluster {
    pub(super) machine: StateManager,
    pub(super) store: BTreeMap<String, Vec<u8>>,
    requests: u64,
}

impl Cluster {
    pub(super) fn new(settings: Settings) -> Self {
        let name = NodeName::parse("name", "robot").unwrap();
        let machine = StateManager::restore(Snapshot::empty("c1", name), settings, at(0));
        let mut cluster = Self { machine, store: BTreeMap::new(), requests: 0 };
        let effects = cluster.machine.start(at(0));
        cluster.perform(&effects);
        let user = UserRecord {
            name: UserName::parse("name", "admin").unwrap(),
            role: Role::Admin,
            created_at: WallTime(0),
            expires_at: WallTime(i64::MAX),
            serial: "1".to_owned(),
            created_by: "test".to_owned(),
        };
        let _ = cluster.input(0, Input::AdminIssued { user });
        cluster
    }

    pub(super) fn perform(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Commit(transaction) = effect else { continue };
            for (key, value) in &transaction.writes {
                match value {
                    Some(value) => drop(self.store.insert(key.clone(), value.clone())),
                    None => drop(self.store.remove(key)),
                }
            }
        }
    }

    pub(super) fn input(&mut self, ms: u64, input: Input) -> Vec<Effect> {
        let effects = self.machine.handle(at(ms), input);
        self.perform(&effects);
        effects
    }

    pub(super) fn ask(&mut self, ms: u64, by: Caller, request: Request) -> Result<Answer, Refusal> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let effects = self.input(ms, Input::Request { id, by, request });
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { request, result } if request == id => Some(result),
            _ => None,
        });
        reply.unwrap()
    }

    pub(super) fn restart(&mut self, settings: Settings, ms: u64) {
        let name = NodeName::parse("name", "robot").unwrap();
        let mut snapshot = Snapshot::empty("c1", name);
        for (key, value) in &self.store {
            snapshot.add(key, value).unwrap();
        }
        self.machine = StateManager::restore(snapshot, settings, at(ms));
        let effects = self.machine.start(at(ms));
        self.perform(&effects);
    }

    pub(super) fn token(&mut self, ms: u64, uses: u32, name: Option<&str>) -> String {
        let hash = format!("{:064x}", self.requests + 1);
        let request = TokenRequest {
            hash: hash.clone(),
            role: NodeRole::Sub,
            ttl: Duration::ZERO,
            uses,
            node_name: name.map(|name| NodeName::parse("name", name).unwrap()),
        };
        self.ask(ms, admin(), Request::CreateToken(request)).unwrap();
        hash
    }

    pub(super) fn join(&mut self, ms: u64, node: &str, hash: &str) -> Result<Answer, Refusal> {
        let registration = registration(node, hash);
        let by = Caller::anonymous("10.0.0.1");
        self.ask(ms, by, Request::Register(Box::new(registration)))
    }

    pub(super) fn audit(&self) -> Vec<AuditEntry> {
        let stored = self.store.iter().filter(|(key, _)| key.starts_with(keys::AUDIT));
        stored.map(|(key, value)| keys::decode(key, value).unwrap()).collect()
    }

    pub(super) fn status(&self, node: &str) -> Option<NodeStatus> {
        let mut nodes = self.machine.nodes();
        nodes.find(|view| view.record.id.as_str() == node).map(|view| view.record.status)
    }

    pub(super) fn open(
        &mut self,
        ms: u64,
        node: &str,
        session: &str,
        previous: Option<&str>,
    ) -> Vec<Effect> {
        self.open_with(ms, node, (session, previous), |_| {})
    }

    /// What `change` makes of its Hello.
    pub(super) fn open_with(
        &mut self,
        ms: u64,
        node: &str,
        (session, previous): (&str, Option<&str>),
        change: impl Fn(&mut Hello),
    ) -> Vec<Effect> {
        let mut hello = Self::hello(node);
        hello.previous_session = previous.map(SessionId::new);
        change(&mut hello);
        let session = SessionId::new(session);
        self.input(ms, Input::SessionOpened { by: sub(node), session, hello: Box::new(hello) })
    }

    pub(super) fn hello(node: &str) -> Hello {
        Hello {
            node: NodeId::parse("node", node).unwrap(),
            previous_session: None,
            applied_generation: 1,
            next_sequence: 1,
            events_dropped: 0,
            system: SystemInfo::default(),
            hostname: node.to_owned(),
            ip: "10.0.0.1".to_owned(),
            resources: Resources::default(),
            clock: WallTime(0),
            system_check: None,
            system_check_pending: false,
            recovers: true,
            can_be_watched: true,
            reads_logs: true,
            keeps_logs: true,
        }
    }

    pub(super) fn say(
        &mut self,
        ms: u64,
        node: &str,
        session: &str,
        message: ToMaster,
    ) -> Vec<Effect> {
        let node = NodeId::parse("node", node).unwrap();
        let session = SessionId::new(session);
        self.input(ms, Input::FromAgent { node, session, message })
    }
}

pub(super) fn admin() -> Caller {
    let (role, id, serial) = (Role::Admin, "admin".to_owned(), "1".to_owned());
    Caller { role, id, serial, ..Caller::anonymous("10.0.9.9") }
}

pub(super) fn sub(node: &str) -> Caller {
    let (id, key_fingerprint) = (node.to_owned(), format!("key-{node}"));
    Caller { role: Role::Sub, id, key_fingerprint, ..Caller::anonymous("10.0.0.1") }
}

pub(super) fn registration(node: &str, hash: &str) -> Registration {
    Registration {
        node: NodeId::parse("node", node).unwrap(),
        name: NodeName::parse("name", node).unwrap(),
        ip: "10.0.0.1".to_owned(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        resources: Resources::default(),
        labels: Labels::new(),
        system: SystemInfo::default(),
        token_hash: Some(hash.to_owned()),
        key_fingerprint: format!("key-{node}"),
    }
}
