//! What happened: recorded once, delivered exactly once, kept in bounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeId, NodeName};
use crate::time::WallTime;

/// Bytes that a journal entry takes beside its texts.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// The kinds of events, as programs read them. docs/operations explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    ClusterCreated,
    MasterStarted,
    /// A restored or rebuilt master has started for the first time.
    ClusterRestored,
    NodeRegistered,
    NodeApproved,
    NodeRejected,
    NodeInitializing,
    NodeReady,
    NodeNotReady,
    NodeMaintenance,
    NodeMaintenanceEnded,
    NodeRemoved,
    NodeReplaced,
    /// A node that only the lost master knew was taken in by its certificate.
    NodeAdopted,
    NodeLabelled,
    NodeIdentityReset,
    DuplicateIdentity,
    DuplicateName,
    CertificateReissued,
    TopologyChanged,
    ConfigRejected,
    EventsDropped,
    TokenCreated,
    TokenRevoked,
    UserCreated,
    UserRevoked,
    BackupFailed,
    BackupMade,
    AgentStarted,
    MasterLost,
    MasterFound,
    ContainerStarted,
    ContainerDied,
    ContainerExited,
    ContainerRemoved,
    ContainerUnhealthy,
    RuntimeUp,
    RuntimeDown,
    PressureRaised,
    PressureCleared,
    HardwareProblem,
    HardwareProblemOver,
    Alert,
    AlertFiring,
    AlertAcknowledged,
    AlertEscalated,
    AlertResolved,
    /// What a node that was alone has judged by itself.
    LocalAlertFiring,
    LocalAlertResolved,
    /// A notification of an alert was given up.
    NotificationFailed,
    RecoveryAttempted,
    RecoveryEnded,
    PersonNeeded,
    RecoveryPaused,
    RecoveryResumed,
    /// Recorded by an agent that is newer than this master.
    Other,
}

impl EventKind {
    /// As it is written everywhere, e.g. `NodeReady`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The kind of that name; [`EventKind::Other`] where a newer agent knows more than we do.
    pub fn from_name(name: &str) -> Self {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).unwrap_or(Self::Other)
    }
}

/// An event in the master's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Cluster-wide, without gaps, from 1.
    pub id: u64,
    pub at: WallTime,
    pub severity: Severity,
    pub kind: EventKind,
    pub node: Option<NodeId>,
    pub node_name: Option<NodeName>,
    pub message: String,
    /// In the journal of the node that recorded it; 0 for the master's own.
    pub node_sequence: u64,
    pub fields: BTreeMap<String, String>,
    /// Recorded while the node was alone.
    pub delivered_late: bool,
}

/// An event in an agent's journal, on its way to the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Per node, ascending from 1; a gap means that the full journal dropped entries, or
    /// could not keep what was told.
    pub sequence: u64,
    pub at: WallTime,
    pub severity: Severity,
    pub kind: EventKind,
    pub message: String,
    pub fields: BTreeMap<String, String>,
    /// Recorded while no session was open.
    pub offline: bool,
}

impl JournalEntry {
    /// What it takes, in memory and on the wire, give or take what surrounds its texts.
    pub fn size_bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(k, v)| k.len() + v.len()).sum();
        ENTRY_OVERHEAD_BYTES + self.message.len() + fields
    }
}
