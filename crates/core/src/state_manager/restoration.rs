//! A master that was set back: restored from a backup, or rebuilt from its certificate authority alone.
//!
//! Between the backup and the restore the lost master went on, and others remember what it told them. Three rules
//! make up for what is not known here:
//!
//! 1. *Numbers never come again.* The number of starts (and with it every revision), the generation and the ids of
//!    events go on from the time of the restore, which is more than the lost master can have come to. So each node
//!    takes our configuration for the newest, and no watcher goes on from a place that means something else now.
//! 2. *A certificate that our authority issued after the backup is believed, once for each node.* The node has renewed
//!    its key since, or has joined since. Whoever was removed before the backup has no such certificate. Where the
//!    backup is of a master that was itself restored, and a node had not come to that one yet, it is believed as by that.
//!    One that the lost master issued later still is believed too: a node may come with the one before while its disk is
//!    busy with the newest.
//! 3. *What people decided since is forgotten, and that is said*: as an event, in the audit log, and in the status.
//!    Join tokens are not restored at all, for nobody knows how often they were used.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Approval, Snapshot, StateManager, join::name_is_taken, keys, log::Draft, node::Node,
    outbox::Outbox,
};
use crate::{
    api_server::{Caller, Code, Refusal, Registration, Role},
    model::{
        EventKind, Labels, NodeId, NodeKind, NodeName, NodeRecord, NodeRole, NodeStatus, Resources,
        Severity, SystemInfo, check_address,
    },
    mutant::mutant,
    session::Hello,
    time::{Now, WallTime},
};

/// A certificate begins to hold so long before it was issued at most: clocks differ, and it counts whole seconds.
const BACKDATED_MAX: Duration = Duration::from_secs(5 * 60 + 1);

/// Restores that are told apart in one line of masters; of older ones more is believed than need be.
const EARLIER_MAX: usize = 32;

/// Written by a restore beside what it has restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// What happened after it is not known here. The beginning of time where there was no backup.
    pub backup_at: WallTime,
    pub restored_at: WallTime,
    /// Whether a master has started since, and taken the rules of this file into account.
    pub begun: bool,
    /// Those that the backup's own master had been through, the oldest first.
    #[serde(default)]
    pub earlier: Vec<Earlier>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    pub backup_at: WallTime,
    pub restored_at: WallTime,
}

impl Restoration {
    /// What is restored was true then; `last` is what the backup has below [`keys::RESTORATION`].
    pub fn from_backup(backup_at: WallTime, restored_at: WallTime, last: Option<Self>) -> Self {
        let mut restored_at = restored_at.max(backup_at);
        let mut earlier = Vec::new();
        if let Some(last) =
            last.filter(|_| !mutant!("whom an earlier restore believed is forgotten"))
        {
            // tells it from every earlier one
            restored_at = restored_at.max(WallTime(last.restored_at.0.saturating_add(1)));
            earlier = last.earlier;
            earlier.push(Earlier { backup_at: last.backup_at, restored_at: last.restored_at });
        }
        while earlier.len() > EARLIER_MAX {
            let oldest = earlier.remove(0);
            earlier[0].backup_at = earlier[0].backup_at.min(oldest.backup_at);
        }
        Self { backup_at, restored_at, begun: false, earlier }
    }

    /// Nothing is known but the certificate authority.
    pub fn from_authority(restored_at: WallTime) -> Self {
        Self::from_backup(WallTime::default(), restored_at, None)
    }

    pub fn is_rebuilt(&self) -> bool {
        self.backup_at == WallTime::default()
    }

    /// Whether a lost master can have issued it unknown to us, to a node that came to the one that was restored `met`.
    fn may_have_issued(&self, valid_from: WallTime, met: Option<WallTime>) -> bool {
        let unmet =
            self.earlier.iter().filter(|earlier| met.is_none_or(|met| earlier.restored_at > met));
        let known_until =
            unmet.map(|earlier| earlier.backup_at).fold(self.backup_at, WallTime::min);
        let since = valid_from.plus(BACKDATED_MAX) >= known_until
            || mutant!("who was removed before the backup is believed");
        since && valid_from <= self.restored_at
    }
}

/// What is to be taken from a backup: everything but what must not be true twice.
pub fn is_restored(key: &str) -> bool {
    (!(key.starts_with(keys::TOKENS) || key.starts_with(keys::CREDENTIALS))
        || mutant!("a restore brings tokens back"))
        && key != keys::RESTORATION
        && key.starts_with(keys::ROOT)
}

impl Snapshot {
    /// Numbers that others may remember go on from the time of the restore.
    pub(super) fn leap(&mut self, now: WallTime) {
        let Some(restoration) = self.restoration.as_ref().filter(|r| !r.begun) else { return };
        // a machine without a clock thinks that it is 1970
        let ms = u64::try_from(now.max(restoration.restored_at).0).unwrap_or(0);
        if !mutant!("revisions of a restored master begin again") {
            self.epoch = self.epoch.max((ms / 1000).min(keys::EPOCH_LEAP_MAX));
        }
        if !mutant!("generations of a restored master begin again") {
            self.topology.generation = (self.topology.generation + 1).max(ms / 1000);
        }
        if !mutant!("ids of a restored master's events begin again") {
            self.log.events_from = ms;
        }
    }
}

impl StateManager {
    /// Of the last restore, if there was one.
    pub fn restoration(&self) -> Option<&Restoration> {
        self.restoration.as_ref()
    }

    /// The first start after a restore.
    pub(super) fn tell_of_restoration(&mut self, now: Now, out: &mut Outbox) {
        let Some(restoration) = self.restoration.as_mut().filter(|r| !r.begun) else { return };
        restoration.begun = true;
        let restoration = restoration.clone();
        out.put(keys::RESTORATION, &restoration);
        out.put(keys::TOPOLOGY, &self.topology.without_secrets());
        let message = if restoration.is_rebuilt() {
            "the cluster was rebuilt from its certificate authority; nodes are taken in as they come"
        } else {
            "the master was restored from a backup; what happened since it was made is not known here"
        };
        let draft = Draft::cluster(Severity::Warning, EventKind::ClusterRestored, message)
            .field("backup_at_ms", restoration.backup_at.0.to_string());
        self.happened(now, out, draft);
        self.audit_restore(now, out, message);
    }

    /// Whether the certificate alone is enough: the lost master may have issued it after the backup.
    pub(super) fn believes(&self, by: &Caller) -> bool {
        let Some(restoration) = &self.restoration else { return false };
        if !by.role.is_node() || by.expired || mutant!("who joined since the backup is turned away")
        {
            return false;
        }
        let settled = self.settled.iter().find(|(id, _)| id.as_str() == by.id).map(|(_, met)| *met);
        let again = settled.filter(|met| {
            met.restored_at == restoration.restored_at
                && !mutant!("who was removed since the restore is believed")
        });
        if let Some(met) = again {
            let is_newer = met.came_with.is_some_and(|valid_from| by.valid_from > valid_from);
            let is_here = self.nodes.keys().any(|id| id.as_str() == by.id);
            return is_newer && is_here && by.valid_from <= restoration.restored_at;
        }
        restoration.may_have_issued(by.valid_from, settled.map(|met| met.restored_at))
    }

    /// A node that comes for the first time since the restore: takes its key in, or the whole node.
    pub(super) fn meet(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        newcomer: Newcomer<'_>,
    ) -> Result<(), Refusal> {
        if by.id != newcomer.node.as_str() || !self.believes(by) {
            return Ok(());
        }
        if !self.nodes.contains_key(newcomer.node) {
            self.adopt(now, out, by, newcomer)?;
            self.settle_identity(out, newcomer.node, Some(by.valid_from));
            return Ok(());
        }
        self.take_key_in(out, by, newcomer.node);
        Ok(())
    }

    /// The key of a node that is known, where its certificate is believed: it was renewed since the backup.
    pub(super) fn take_key_in(&mut self, out: &mut Outbox, by: &Caller, id: &NodeId) {
        if !self.believes(by) {
            return;
        }
        match self.nodes.get_mut(id) {
            None => return,
            // it is leaving, or is another's: that is for others to say
            Some(node) if node.record.status == NodeStatus::Terminating => return,
            Some(node) if !node.record.has_key(&by.key_fingerprint) => {
                node.record.key_requested(by.key_fingerprint.clone());
                out.touch(id);
            }
            Some(_) => {}
        }
        self.settle_identity(out, id, Some(by.valid_from));
    }

    /// From now on the record counts, and no certificate beside it that is not newer than the one that it came with.
    pub(super) fn settle_identity(
        &mut self,
        out: &mut Outbox,
        id: &NodeId,
        came_with: Option<WallTime>,
    ) {
        let Some(restoration) = &self.restoration else { return };
        let met = Met { restored_at: restoration.restored_at, came_with };
        if self.settled.insert(id.clone(), met) != Some(met) {
            out.put(keys::settled(id), &met);
        }
    }

    /// From what it says of itself.
    fn adopt(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        newcomer: Newcomer<'_>,
    ) -> Result<(), Refusal> {
        let name = NodeName::parse("hostname", newcomer.hostname)?;
        check_address("ip_address", newcomer.ip)?;
        newcomer.resources.check("resources")?;
        newcomer.system.check()?;
        let mut labels = newcomer.labels.clone();
        if let Some(holder) = self.names.get(&name.key()).cloned() {
            labels.extend(self.take_name_over(now, out, &name, &holder, newcomer.node)?);
        } else if self.nodes.len() >= self.settings.nodes_max {
            let message = format!("the cluster has {} nodes, and takes no more", self.nodes.len());
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyNodes", message));
        }
        let approved = self.settings.approval == Approval::Auto;
        let record = NodeRecord {
            id: newcomer.node.clone(),
            name,
            ip: newcomer.ip.to_owned(),
            role: if by.role == Role::Master { NodeRole::Master } else { NodeRole::Sub },
            kind: newcomer.kind,
            status: if approved { NodeStatus::Initializing } else { NodeStatus::Pending },
            status_since: now.wall,
            initialized: false,
            resources: newcomer.resources,
            system: newcomer.system.clone(),
            labels,
            conditions: Vec::new(),
            created_at: now.wall,
            key_fingerprint: by.key_fingerprint.clone(),
            previous_key_fingerprints: Vec::new(),
            joined_with: String::new(),
            acknowledged_sequence: 0,
            events_dropped: 0,
            applied_generation: 0,
            certificate_expires_at: None,
            speaks_sessions: false,
            identity_reset: false,
            recovery_paused_until: None,
            reboots_since: None,
            recovery: Default::default(),
        };
        let message = format!(
            "node {} was taken in from {}: it has a certificate that was issued after the backup",
            record.name, record.ip
        );
        let draft = Draft::of(&record, Severity::Warning, EventKind::NodeAdopted, message);
        self.names.insert(record.name.key(), record.id.clone());
        let timing = self.timing();
        self.nodes.insert(newcomer.node.clone(), Node::new(record, timing, now.at));
        out.touch(newcomer.node);
        self.happened(now, out, draft);
        self.settle(now, out, newcomer.node);
        Ok(())
    }

    /// The old identity of a board that was re-flashed since the backup is known again, and has its name: people
    /// say so by `reset-identity`.
    fn take_name_over(
        &mut self,
        now: Now,
        out: &mut Outbox,
        name: &NodeName,
        holder: &NodeId,
        new: &NodeId,
    ) -> Result<Labels, Refusal> {
        let Some(node) = self.nodes.get(holder) else { return Ok(Labels::new()) };
        let live = node.detector.is_live(now.at, &node.timing);
        if live || !node.record.identity_reset {
            return Err(name_is_taken(name, holder, live));
        }
        Ok(self.replace(now, out, holder, new))
    }
}

/// What a node says of itself that is not known here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer<'a> {
    pub(super) node: &'a NodeId,
    hostname: &'a str,
    ip: &'a str,
    kind: NodeKind,
    resources: Resources,
    system: &'a SystemInfo,
    labels: &'a Labels,
}

impl<'a> Newcomer<'a> {
    /// An agent; its labels are lost.
    pub(super) fn on_session(hello: &'a Hello, none: &'a Labels) -> Self {
        Self {
            node: &hello.node,
            hostname: &hello.hostname,
            ip: &hello.ip,
            kind: NodeKind::Embedded,
            resources: hello.resources,
            system: &hello.system,
            labels: none,
        }
    }

    /// A client that holds no session registers again, with the certificate that it has.
    pub(super) fn registering(registration: &'a Registration) -> Self {
        Self {
            node: &registration.node,
            hostname: registration.name.as_str(),
            ip: &registration.ip,
            kind: registration.kind,
            resources: registration.resources,
            system: &registration.system,
            labels: &registration.labels,
        }
    }
}

/// Nodes that came, joined or were removed since a restore, and since which.
pub(super) type Settled = BTreeMap<NodeId, Met>;

/// How a node came to a restored master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredMet")]
pub(super) struct Met {
    /// Of that restore.
    restored_at: WallTime,
    /// From when the certificate holds that it was believed by; none where it joined, or was removed.
    came_with: Option<WallTime>,
}

/// An earlier version stored the first alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredMet {
    Restored(WallTime),
    Met { restored_at: WallTime, came_with: Option<WallTime> },
}

impl From<StoredMet> for Met {
    fn from(stored: StoredMet) -> Self {
        match stored {
            StoredMet::Restored(restored_at) => Self { restored_at, came_with: None },
            StoredMet::Met { restored_at, came_with } => Self { restored_at, came_with },
        }
    }
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test picks the effects that it is about")]
mod tests;
