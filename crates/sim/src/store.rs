//! The store of a master: a map that applies transactions whole, and keeps decoded what the judge asks for.

use std::collections::BTreeMap;

use piccolo_core::{
    model::{AuditEntry, Event, NodeId, NodeName, NodeRecord, TokenRecord},
    monitoring_server::alerts::{
        ALERTS,
        alert::{Alert, Id},
    },
    state_manager::{Restoration, Snapshot, Transaction, is_restored, keys},
    time::WallTime,
    topology::TopologyRecord,
};

const NODES: &str = "/piccolo/v1/nodes/";
const TOKENS: &str = "/piccolo/v1/tokens/";

#[derive(Debug, Default)]
pub(crate) struct Store {
    values: BTreeMap<String, Vec<u8>>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(crate) tokens: BTreeMap<String, TokenRecord>,
    pub(crate) topology: Option<TopologyRecord>,
    pub(crate) commits: u64,
}

/// What a transaction appended to the two logs.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    pub(crate) events: Vec<Event>,
    pub(crate) audit: Vec<AuditEntry>,
}

/// Those whose keys begin so, in order.
pub(crate) fn under<'a, V>(
    entries: &'a BTreeMap<String, V>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    entries.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
}

impl Store {
    pub(crate) fn apply(&mut self, transaction: &Transaction) -> Result<Appended, String> {
        let mut appended = Appended::default();
        self.commits += 1;
        for (key, value) in &transaction.writes {
            match value {
                None => self.delete(key),
                Some(value) => self.put(key, value, &mut appended)?,
            }
        }
        Ok(appended)
    }

    fn put(&mut self, key: &str, value: &[u8], appended: &mut Appended) -> Result<(), String> {
        let failed = |e: piccolo_core::state_manager::CorruptRecord| e.to_string();
        if key.starts_with(NODES) {
            let record: NodeRecord = keys::decode(key, value).map_err(failed)?;
            self.nodes.insert(record.id.clone(), record);
        } else if key.starts_with(TOKENS) {
            let record: TokenRecord = keys::decode(key, value).map_err(failed)?;
            self.tokens.insert(record.hash.clone(), record);
        } else if key == keys::TOPOLOGY {
            self.topology = Some(keys::decode(key, value).map_err(failed)?);
        } else if key.starts_with(keys::EVENTS) {
            appended.events.push(keys::decode(key, value).map_err(failed)?);
        } else if key.starts_with(keys::AUDIT) {
            appended.audit.push(keys::decode(key, value).map_err(failed)?);
        }
        self.values.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        self.values.remove(key);
        if let Some(id) = key.strip_prefix(NODES) {
            self.nodes.retain(|node, _| node.as_str() != id);
        }
        if let Some(hash) = key.strip_prefix(TOKENS) {
            self.tokens.remove(hash);
        }
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.values
    }

    /// As `piccolo backup restore` fills one.
    pub(crate) fn set_back(
        &mut self,
        backup: &BTreeMap<String, Vec<u8>>,
        (backup_at, restored_at): (WallTime, WallTime),
    ) -> Result<(), String> {
        let last = backup.get(keys::RESTORATION);
        let last = last.map(|value| keys::decode(keys::RESTORATION, value)).transpose();
        let last: Option<Restoration> = last.map_err(|e| e.to_string())?;
        let restoration = Restoration::from_backup(backup_at, restored_at, last);
        *self = Self { commits: self.commits, ..Self::default() };
        let mut old = Appended::default();
        for (key, value) in backup.iter().filter(|(key, _)| is_restored(key)) {
            self.put(key, value, &mut old)?;
        }
        self.put(keys::RESTORATION, &keys::encode(&restoration), &mut old)
    }

    pub(crate) fn users(&self) -> usize {
        self.values.keys().filter(|key| key.starts_with(keys::USERS)).count()
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The alerts that are kept.
    pub(crate) fn alerts(&self) -> Result<BTreeMap<Id, Alert>, String> {
        let decode = |(key, value): (&String, &Vec<u8>)| {
            let alert: Alert = keys::decode(key, value).map_err(|e| e.to_string())?;
            Ok((alert.id, alert))
        };
        under(&self.values, ALERTS).map(decode).collect()
    }

    /// As a master reads it at its start: key by key, in order.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, String> {
        let name = NodeName::parse("name", "simulated").map_err(|e| e.to_string())?;
        let mut snapshot = Snapshot::empty("cluster-1", name);
        for (key, value) in &self.values {
            snapshot.add(key, value).map_err(|e| e.to_string())?;
        }
        Ok(snapshot)
    }
}
