//! The session handler: nodes that say anything at any time. No panic; every commit is one that the store
//! takes; and what was committed can be read back by the next master.
//!
//! The input is a list of steps: one byte says what, two how long its bytes are.
#![no_main]

use std::{collections::BTreeMap, time::Duration};

use libfuzzer_sys::fuzz_target;
use piccolo_core::{
    api_server::{Caller, Registration, Role, Selector},
    model::{
        Labels, NodeId, NodeKind, NodeName, NodeRole, Resources, SessionId, SystemInfo, UserName,
        UserRecord,
    },
    state_manager::{
        Effect, Input, Request, RequestId, Settings, Snapshot, StateManager, TokenRequest,
    },
    time::{Now, Timestamp, WallTime},
};
use piccolo_rpc::{
    convert::{AgentFrame, ConfigPoll, RegistrationText, ReportFrom},
    v1,
};
use prost::Message;

const NODES: [&str; 2] = ["n1", "n2"];

fuzz_target!(|bytes: &[u8]| {
    let mut cluster = Cluster::begin();
    let mut rest = bytes;
    while let [what, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (bytes, more) = after.split_at(length);
        cluster.step(*what, bytes);
        rest = more;
    }
    cluster.begin_again();
});

struct Cluster {
    manager: StateManager,
    now: Now,
    stored: BTreeMap<String, Vec<u8>>,
    sessions: u64,
    requests: u64,
}

impl Cluster {
    fn begin() -> Self {
        let now = Now { at: Timestamp::from_millis(1_000), wall: WallTime(1_800_000_000_000) };
        let manager = StateManager::restore(empty(), settings(), now);
        let mut cluster = Self { manager, now, stored: BTreeMap::new(), sessions: 0, requests: 0 };
        let effects = cluster.manager.start(now);
        cluster.perform(effects);
        let user = UserRecord {
            name: UserName::parse("name", "admin").expect("a name"),
            role: Role::Admin,
            created_at: now.wall,
            expires_at: now.wall.plus(Duration::from_secs(86_400)),
            serial: "01".to_owned(),
            created_by: "fuzz".to_owned(),
        };
        cluster.handle(Input::AdminIssued { user });
        let token = TokenRequest {
            hash: "ab".repeat(32),
            role: NodeRole::Sub,
            ttl: Duration::from_secs(3_600),
            uses: 100,
            node_name: None,
        };
        cluster.ask(admin(), Request::CreateToken(token));
        for id in NODES {
            cluster.ask(Caller::anonymous("127.0.0.1"), Request::Register(Box::new(joins(id))));
        }
        cluster
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        let node = NodeId::parse("node_id", NODES[usize::from(what >> 7)]).expect("an id");
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match what & 0x0f {
            0 => self.open(&node, bytes),
            1..=4 => self.frame(&node, bytes),
            5 => self.handle(Input::SessionClosed { node, session: self.session() }),
            6 => self.advance(bytes),
            7 => {
                let Ok(wire) = v1::StatusReport::decode(bytes) else { return };
                let Ok(from) = ReportFrom::try_from(wire) else { return };
                let request =
                    Request::ReportStatus { node: from.node, report: Box::new(from.report) };
                self.ask(of_node(&node), request);
            }
            8 => {
                let Ok(wire) = v1::NodeRegistrationRequest::decode(bytes) else { return };
                let Ok(text) = RegistrationText::try_from(wire) else { return };
                let registration = text.into_registration(Some("ab".repeat(32)), "k".to_owned());
                self.ask(Caller::anonymous("10.0.0.1"), Request::Register(Box::new(registration)));
            }
            9 => {
                let Ok(wire) = v1::ConfigRequest::decode(bytes) else { return };
                let ConfigPoll { node: id, applied, rejected, wait } = wire.into();
                let request = Request::ReceiveConfig { node: id, applied, rejected, wait };
                self.ask(of_node(&node), request);
            }
            10 => self.ask(of_node(&node), Request::Heartbeat { node: text() }),
            11 => self.handle(Input::RenewalRequested {
                session: self.session(),
                node,
                csr: bytes.to_vec(),
                key_fingerprint: "f".repeat(64),
            }),
            12 => {
                let Ok(wire) = v1::UpdateTopologyRequest::decode(bytes) else { return };
                let Some(Ok(update)) = wire.topology.map(TryInto::try_into) else { return };
                self.ask(admin(), Request::UpdateTopology(update));
            }
            13 => {
                let Ok(wire) = v1::LabelNodeRequest::decode(bytes) else { return };
                let set: Labels = wire.set.into_iter().collect();
                let request = Request::LabelNode { node: wire.node_id, set, remove: wire.remove };
                self.ask(admin(), request);
            }
            14 => self.operate(bytes),
            _ => self.ask(Caller::anonymous("10.0.0.2"), Request::GetNode(text())),
        }
    }

    fn operate(&mut self, bytes: &[u8]) {
        let Some((what, text)) = bytes.split_first() else { return };
        let node = String::from_utf8_lossy(text).into_owned();
        let request = match what % 6 {
            0 => Request::ApproveNode(node),
            1 => Request::RejectNode { reason: node.clone(), node },
            2 => Request::SetMaintenance { on: what & 0x80 == 0, reason: node.clone(), node },
            3 => Request::RemoveNode(node),
            4 => Request::ResetNodeIdentity(node),
            _ => match Selector::parse(&node) {
                Ok(selector) => Request::GetNodes(selector),
                Err(_) => return,
            },
        };
        self.ask(admin(), request);
    }

    fn open(&mut self, node: &NodeId, bytes: &[u8]) {
        let Ok(wire) = v1::Hello::decode(bytes) else { return };
        let wire = v1::Hello { node_id: node.to_string(), ..wire };
        let Ok(AgentFrame::Hello(hello)) = AgentFrame::try_from(v1::AgentMessage {
            message: Some(v1::agent_message::Message::Hello(wire)),
        }) else {
            return;
        };
        self.sessions += 1;
        let session = self.session();
        self.handle(Input::SessionOpened { by: of_node(node), session, hello });
    }

    fn frame(&mut self, node: &NodeId, bytes: &[u8]) {
        let Ok(wire) = v1::AgentMessage::decode(bytes) else { return };
        let Ok(AgentFrame::Message(message)) = AgentFrame::try_from(wire) else { return };
        let (node, session) = (node.clone(), self.session());
        self.handle(Input::FromAgent { node, session, message });
    }

    fn advance(&mut self, bytes: &[u8]) {
        let ms = bytes.iter().take(4).fold(0, |ms, byte| ms << 8 | u64::from(*byte));
        self.now.at = self.now.at + Duration::from_millis(ms);
        self.now.wall = self.now.wall.plus(Duration::from_millis(ms));
        // what is due is served; a deadline that stays in the past would be a busy loop
        for _ in 0..100 {
            if self.manager.deadline().is_none_or(|deadline| deadline.at > self.now.at) {
                return;
            }
            let effects = self.manager.handle_deadline(self.now);
            self.perform(effects);
        }
        panic!("{:?} is never served", self.manager.deadline());
    }

    fn ask(&mut self, by: Caller, request: Request) {
        self.requests += 1;
        self.handle(Input::Request { id: RequestId(self.requests), by, request });
    }

    fn handle(&mut self, input: Input) {
        let effects = self.manager.handle(self.now, input);
        self.perform(effects);
    }

    fn session(&self) -> SessionId {
        SessionId::new(format!("s{}", self.sessions))
    }

    /// Does what the master's performer does, as far as the store goes.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Commit(commit) = effect else { continue };
            let mut transaction =
                piccolo_store::Transaction::new().when("/piccolo/v1/meta/writer", 1);
            for (key, value) in commit.writes {
                transaction = match value.clone() {
                    Some(value) => transaction.put(key.clone(), value),
                    None => transaction.delete(key.clone()),
                };
                match value {
                    Some(value) => drop(self.stored.insert(key, value)),
                    None => drop(self.stored.remove(&key)),
                }
            }
            transaction.validate().expect("a commit that the store takes");
        }
    }

    fn begin_again(self) {
        let mut snapshot = empty();
        for (key, value) in &self.stored {
            snapshot.add(key, value).expect("what was stored");
        }
        let again = StateManager::restore(snapshot, settings(), self.now);
        let names = |manager: &StateManager| -> Vec<_> {
            manager.nodes().map(|view| (view.record.id, view.record.name)).collect()
        };
        assert_eq!(names(&again), names(&self.manager));
    }
}

fn empty() -> Snapshot {
    Snapshot::empty("fuzz-cluster", NodeName::parse("name", "fuzz").expect("a name"))
}

/// Small bounds, so that they are reached.
fn settings() -> Settings {
    Settings { events_max: 50, audit_max: 20, nodes_max: 8, ..Settings::default() }
}

fn admin() -> Caller {
    Caller {
        role: Role::Admin,
        id: "admin".to_owned(),
        serial: "01".to_owned(),
        ..Caller::anonymous("127.0.0.1")
    }
}

fn of_node(node: &NodeId) -> Caller {
    Caller {
        role: Role::Sub,
        id: node.to_string(),
        key_fingerprint: format!("key-{node}"),
        ..Caller::anonymous("127.0.0.1")
    }
}

fn joins(id: &str) -> Registration {
    Registration {
        node: NodeId::parse("node_id", id).expect("an id"),
        name: NodeName::parse("hostname", &format!("host-{id}")).expect("a name"),
        ip: "127.0.0.1".to_owned(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        resources: Resources::default(),
        labels: Labels::new(),
        system: SystemInfo::default(),
        token_hash: Some("ab".repeat(32)),
        key_fingerprint: format!("key-{id}"),
    }
}
