//! What the master stores, and under which keys: JSON that a person can read.
//!
//! Not stored: metrics, beats. Heartbeats are one value, written once a minute at most, and with them the containers of
//! nodes that have others now, or others in other states.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::restoration::{Restoration, Settled};
use crate::{
    model::{
        AuditEnds, CredentialRecord, FieldError, LastContainers, NodeId, NodeName, NodeRecord,
        TokenRecord, UserName, UserRecord,
    },
    monitoring_server::alerts::Stored,
    session::SEQUENCE_MAX,
    time::WallTime,
    topology::TopologyRecord,
};

pub const ROOT: &str = "/piccolo/v1/";
pub const TOPOLOGY: &str = "/piccolo/v1/topology";
/// Values below are secret: the shell seals them before they reach the store, and opens them for
/// [`Snapshot::add`].
pub const SEALED: &str = "/piccolo/v1/sealed/";
pub const TOPOLOGY_SECRETS: &str = "/piccolo/v1/sealed/topology";
/// Where the audit log begins and ends.
pub const AUDIT_ENDS: &str = "/piccolo/v1/sealed/audit";
pub const HEARTBEATS: &str = "/piccolo/v1/heartbeats";
pub const EPOCH: &str = "/piccolo/v1/meta/epoch";
/// Of the last restore.
pub const RESTORATION: &str = "/piccolo/v1/meta/restoration";
/// Nodes whose record counts again since a restore, and since which: the time of that restore.
pub const SETTLED: &str = "/piccolo/v1/meta/settled/";
pub const EVENTS: &str = "/piccolo/v1/events/";
pub const AUDIT: &str = "/piccolo/v1/audit/";
/// Nodes in one of the values below [`HEARTBEATS`] at most: with ids of full length it takes 400 KB, and a
/// store takes 512 KiB.
pub const HEARTBEATS_PER_VALUE_MAX: usize = 5_000;
/// Revisions of one epoch: 2^20. A master begins an epoch when it starts, and another when it has used one up.
pub(crate) const EPOCH_BITS: u32 = 20;
/// Revisions stay below 2^53, which programs that read JSON numbers as floating point hold exactly.
pub(super) const EPOCH_MAX: u64 = (1 << (53 - EPOCH_BITS)) - 1;
/// A restored master begins at the seconds since 1970, but no later than this, in 2174: a clock that is far ahead
/// must not use up what is left for starts.
pub(super) const EPOCH_LEAP_MAX: u64 = EPOCH_MAX - (1 << 31);
/// What each node ran when it was heard last.
pub const CONTAINERS: &str = "/piccolo/v1/containers/";
pub const NODES: &str = "/piccolo/v1/nodes/";
pub const TOKENS: &str = "/piccolo/v1/tokens/";
pub const USERS: &str = "/piccolo/v1/users/";
/// API tokens, codes and sessions.
pub const CREDENTIALS: &str = "/piccolo/v1/credentials/";

pub fn node(id: &NodeId) -> String {
    format!("{NODES}{id}")
}

pub fn containers(id: &NodeId) -> String {
    format!("{CONTAINERS}{id}")
}

/// The values that heartbeats are divided among; the first is the only one of most clusters.
pub fn heartbeats(part: usize) -> String {
    if part == 0 { HEARTBEATS.to_owned() } else { format!("{HEARTBEATS}/{part}") }
}

pub fn settled(id: &NodeId) -> String {
    format!("{SETTLED}{id}")
}

pub fn token(hash: &str) -> String {
    format!("{TOKENS}{hash}")
}

pub fn user(name: &UserName) -> String {
    format!("{USERS}{name}")
}

pub fn credential(hash: &str) -> String {
    format!("{CREDENTIALS}{hash}")
}

/// Zero-padded, so that the order of keys is the order of events.
pub fn event(id: u64) -> String {
    format!("{EVENTS}{id:020}")
}

pub fn audit(id: u64) -> String {
    format!("{AUDIT}{id:020}")
}

/// As it is stored.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    // our records have string keys and no failing serializers; the decode test walks all of them
    serde_json::to_vec(value).unwrap_or_default()
}

pub fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, CorruptRecord> {
    let corrupt = |problem: String| CorruptRecord { key: key.to_owned(), problem };
    // whether it is UTF-8 is asked once, and not of each text in it
    let text = std::str::from_utf8(value).map_err(|error| corrupt(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))
}

/// Of a key that ends with one.
fn node_id(key: &str, id: &str) -> Result<NodeId, CorruptRecord> {
    let problem =
        |error: FieldError| CorruptRecord { key: key.to_owned(), problem: error.to_string() };
    NodeId::parse("node_id", id).map_err(problem)
}

/// What goes on counting from a stored number must not come to the end of numbers.
fn check_count(key: &str, count: u64, max: u64) -> Result<(), CorruptRecord> {
    if count <= max {
        return Ok(());
    }
    let problem = format!("{count} is more than was ever counted");
    Err(CorruptRecord { key: key.to_owned(), problem })
}

/// A stored value that cannot be read. The master does not start on it: it would lose what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored value of {key} cannot be read ({problem}); nothing was changed")]
pub struct CorruptRecord {
    pub key: String,
    pub problem: String,
}

/// Everything that is stored, read key by key.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) topology: TopologyRecord,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(super) tokens: BTreeMap<String, TokenRecord>,
    pub(super) users: BTreeMap<UserName, UserRecord>,
    pub(super) credentials: BTreeMap<String, CredentialRecord>,
    pub(super) heartbeats: BTreeMap<NodeId, WallTime>,
    pub(super) containers: BTreeMap<NodeId, LastContainers>,
    pub(super) log: LogSnapshot,
    pub(super) epoch: u64,
    pub(super) restoration: Option<Restoration>,
    pub(super) settled: Settled,
    pub(super) alerts: Stored,
}

/// What a start needs of an event; the rest is for whoever lists it.
#[derive(Debug, Deserialize)]
struct EventHead {
    id: u64,
    at: WallTime,
}

/// The same of an audit entry.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AuditHead {
    pub(super) id: u64,
    pub(super) hash: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct LogSnapshot {
    /// Id and time, oldest first.
    pub(super) events: VecDeque<(u64, WallTime)>,
    /// The next event has this id at least.
    pub(super) events_from: u64,
    /// What is there of the audit log: the oldest entry's id, 0 where there is none, and the newest entry.
    pub(super) audit_first: u64,
    pub(super) audit_last: Option<AuditHead>,
    /// What was there when it was last written.
    pub(super) audit_ends: Option<AuditEnds>,
}

impl Snapshot {
    /// Of a cluster that was never started.
    pub fn empty(cluster: &str, name: NodeName) -> Self {
        Self {
            topology: TopologyRecord::first(cluster, name),
            secrets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            users: BTreeMap::new(),
            credentials: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            containers: BTreeMap::new(),
            log: LogSnapshot::default(),
            epoch: 0,
            restoration: None,
            settled: Settled::new(),
            alerts: Stored::default(),
        }
    }

    /// Takes one stored value; keys must come in ascending order. Keys that are not ours are left alone.
    pub fn add(&mut self, key: &str, value: &[u8]) -> Result<(), CorruptRecord> {
        if key == TOPOLOGY {
            self.topology = decode(key, value)?;
        } else if key == TOPOLOGY_SECRETS {
            self.secrets = decode(key, value)?;
        } else if key.strip_prefix(HEARTBEATS).is_some_and(|p| p.is_empty() || p.starts_with('/')) {
            let part: BTreeMap<NodeId, WallTime> = decode(key, value)?;
            for (node, heard) in part {
                let known = self.heartbeats.entry(node).or_insert(heard);
                // a value of when there were more nodes may lie behind
                *known = heard.max(*known);
            }
        } else if key == AUDIT_ENDS {
            let ends: AuditEnds = decode(key, value)?;
            check_count(key, ends.last.max(ends.first), SEQUENCE_MAX)?;
            self.log.audit_ends = Some(ends);
        } else if key == EPOCH {
            self.epoch = decode(key, value)?;
            check_count(key, self.epoch, EPOCH_MAX)?;
        } else if key == RESTORATION {
            self.restoration = Some(decode(key, value)?);
        } else if let Some(id) = key.strip_prefix(SETTLED) {
            self.settled.insert(node_id(key, id)?, decode(key, value)?);
        } else if let Some(id) = key.strip_prefix(CONTAINERS) {
            self.containers.insert(node_id(key, id)?, decode(key, value)?);
        } else if key.starts_with(NODES) {
            let record: NodeRecord = decode(key, value)?;
            self.nodes.insert(record.id.clone(), record);
        } else if key.starts_with(TOKENS) {
            let record: TokenRecord = decode(key, value)?;
            self.tokens.insert(record.hash.clone(), record);
        } else if key.starts_with(USERS) {
            let record: UserRecord = decode(key, value)?;
            self.users.insert(record.name.clone(), record);
        } else if key.starts_with(CREDENTIALS) {
            let record: CredentialRecord = decode(key, value)?;
            self.credentials.insert(record.hash.clone(), record);
        } else if key.starts_with(EVENTS) {
            let event: EventHead = decode(key, value)?;
            check_count(key, event.id, SEQUENCE_MAX)?;
            self.log.events.push_back((event.id, event.at));
        } else if key.starts_with(AUDIT) {
            let entry: AuditHead = decode(key, value)?;
            check_count(key, entry.id, SEQUENCE_MAX)?;
            if self.log.audit_first == 0 {
                self.log.audit_first = entry.id;
            }
            self.log.audit_last = Some(entry);
        } else if Stored::is_ours(key) {
            self.alerts.add(key, value)?;
        }
        Ok(())
    }

    /// Whether anybody ever administered this cluster.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    pub fn cluster(&self) -> &str {
        &self.topology.id
    }
}
