//! Nodes: what is stored of them, and what is seen (HLD §6.1, §6.2).

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    ContainerReport, FieldError, Labels, NodeId, NodeName, ProbeReport, RecoveryReport, Severity,
    SystemCheck,
};
use crate::{action_controller::recovery::Memory, mutant::mutant, time::WallTime};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    Master,
    Sub,
}

impl NodeRole {
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Sub => "sub",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    #[default]
    Embedded,
    Cloud,
}

impl NodeKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cloud => "cloud",
        }
    }
}

/// HLD §6.2. `crate::node_lifecycle` has the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeStatus {
    Pending,
    Initializing,
    Ready,
    NotReady,
    Maintenance,
    Terminating,
}

impl NodeStatus {
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Initializing,
        Self::Ready,
        Self::NotReady,
        Self::Maintenance,
        Self::Terminating,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Initializing => "Initializing",
            Self::Ready => "Ready",
            Self::NotReady => "NotReady",
            Self::Maintenance => "Maintenance",
            Self::Terminating => "Terminating",
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a status is what it is. Present while it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The session broke; the grace for a new one runs.
    Suspect,
    SessionLost,
    HeartbeatTimeout,
    /// CPU, memory, disk or temperature over its limit, after hysteresis.
    ResourcePressure,
    PodmanUnavailable,
    ConfigRejected,
    AwaitingApproval,
    ClockSkew,
    /// The system check has errors, and the policy is to keep such a node out.
    SystemCheckFailed,
    /// The system check has errors, and the policy is to warn.
    SystemCheckTolerated,
    /// A part of the board is worn, fails or is too hot.
    HardwareDegraded,
    /// The processor is slower than it could be.
    Throttled,
    /// A supply is too low, or a battery nearly empty.
    PowerLow,
    /// It could not prove that its loop, its Podman or its disk work.
    ProbeFailed,
}

impl ConditionKind {
    /// Whether a node that is otherwise well is NotReady because of it (HLD §6.2).
    pub fn impairs(self) -> bool {
        match self {
            Self::SessionLost
            | Self::HeartbeatTimeout
            | Self::ResourcePressure
            | Self::ConfigRejected
            | Self::SystemCheckFailed => true,
            Self::Suspect
            | Self::PodmanUnavailable
            | Self::AwaitingApproval
            | Self::ClockSkew
            | Self::SystemCheckTolerated
            | Self::HardwareDegraded
            | Self::Throttled
            | Self::PowerLow => false,
            Self::ProbeFailed => false,
        }
    }

    /// Whether an agent may report it of itself; the rest the master alone decides.
    pub fn from_agent(self) -> bool {
        match self {
            Self::ResourcePressure
            | Self::PodmanUnavailable
            | Self::HardwareDegraded
            | Self::Throttled
            | Self::PowerLow => true,
            Self::Suspect
            | Self::SessionLost
            | Self::HeartbeatTimeout
            | Self::ConfigRejected
            | Self::AwaitingApproval
            | Self::ClockSkew
            | Self::SystemCheckFailed
            | Self::SystemCheckTolerated
            | Self::ProbeFailed => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "Suspect",
            Self::SessionLost => "SessionLost",
            Self::HeartbeatTimeout => "HeartbeatTimeout",
            Self::ResourcePressure => "ResourcePressure",
            Self::PodmanUnavailable => "PodmanUnavailable",
            Self::ConfigRejected => "ConfigRejected",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::ClockSkew => "ClockSkew",
            Self::SystemCheckFailed => "SystemCheckFailed",
            Self::SystemCheckTolerated => "SystemCheckTolerated",
            Self::HardwareDegraded => "HardwareDegraded",
            Self::Throttled => "Throttled",
            Self::PowerLow => "PowerLow",
            Self::ProbeFailed => "ProbeFailed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub kind: ConditionKind,
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    pub since: WallTime,
}

/// HLD §6.1: cores, MB, GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    pub cpu: u32,
    pub memory: u64,
    pub disk: u64,
}

impl Resources {
    pub const CPU_MAX: u32 = 4096;
    /// MB: 64 TB.
    pub const MEMORY_MAX: u64 = 64 << 20;
    /// GB: 1 EB.
    pub const DISK_MAX: u64 = 1 << 30;

    /// Absurd values are refused, zeros mean "not known".
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let over = |name: &str, value: u64, max: u64| {
            Err(FieldError::new(
                format!("{field}.{name}"),
                format!("{value} is more than any board has ({max})"),
            ))
        };
        if self.cpu > Self::CPU_MAX {
            return over("cpu", self.cpu.into(), Self::CPU_MAX.into());
        }
        if self.memory > Self::MEMORY_MAX {
            return over("memory", self.memory, Self::MEMORY_MAX);
        }
        if self.disk > Self::DISK_MAX {
            return over("disk", self.disk, Self::DISK_MAX);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SystemInfo {
    pub agent_version: String,
    pub architecture: String,
    pub os: String,
    pub kernel: String,
    pub machine_id: String,
    pub runtime_version: String,
}

/// What is stored of a node. Metrics, containers and heartbeats are not (design §7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: NodeName,
    pub ip: String,
    pub role: NodeRole,
    pub kind: NodeKind,
    pub status: NodeStatus,
    pub status_since: WallTime,
    /// Initialised once: only then may a lost node come back straight to Ready.
    pub initialized: bool,
    pub resources: Resources,
    pub system: SystemInfo,
    pub labels: Labels,
    #[serde(serialize_with = "without_suspicion")]
    pub conditions: Vec<Condition>,
    pub created_at: WallTime,
    /// SHA-256 of the public key that the node joined or was last re-issued with, hexadecimal.
    pub key_fingerprint: String,
    /// Those before, oldest first, until a newer one was seen: a crash may keep an agent from saving what it
    /// was sent, and a session may outlive several renewals.
    #[serde(default)]
    pub previous_key_fingerprints: Vec<String>,
    /// Hash of the token it joined with.
    pub joined_with: String,
    /// Newest event of its journal that is in the log.
    pub acknowledged_sequence: u64,
    /// Events that its journal had no room for, since it was made.
    pub events_dropped: u64,
    pub applied_generation: u64,
    pub certificate_expires_at: Option<WallTime>,
    /// It has opened a session: a heartbeat beside it is a probe, and no way to live.
    #[serde(default)]
    pub speaks_sessions: bool,
    /// The name may be taken over by a new identity (a re-flashed board).
    pub identity_reset: bool,
    /// An operator has paused its recovery until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_paused_until: Option<WallTime>,
    /// It told then that it reboots, and has told nothing else since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboots_since: Option<WallTime>,
    /// What the master itself tries about it.
    #[serde(default, skip_serializing_if = "Memory::is_empty")]
    pub recovery: Memory,
}

/// Suspicion is about this moment: it is not stored.
fn without_suspicion<S: Serializer>(conditions: &[Condition], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(conditions.iter().filter(|c| c.kind != ConditionKind::Suspect))
}

/// Keys of a node that are good beside its newest at most.
const PREVIOUS_KEYS_MAX: usize = 3;

impl NodeRecord {
    /// A newer key is to be certified. The one of the running session stays good, and so do those that the
    /// agent may have installed since: which one it has on its disk, it shows when it connects again.
    pub fn key_requested(&mut self, key: String) {
        if self.key_fingerprint == key {
            return;
        }
        let old = std::mem::replace(&mut self.key_fingerprint, key);
        if mutant!("only one older key is remembered") && !self.previous_key_fingerprints.is_empty()
        {
            return;
        }
        self.previous_key_fingerprints.retain(|known| *known != old);
        self.previous_key_fingerprints.push(old);
        if self.previous_key_fingerprints.len() > PREVIOUS_KEYS_MAX {
            // the first is the one that was seen to work
            self.previous_key_fingerprints.remove(1);
        }
    }

    /// A key has been seen to work: older ones are worth nothing any more. Whether that changed anything.
    pub fn key_seen(&mut self, key: &str) -> bool {
        let before = self.previous_key_fingerprints.len();
        let older = self.previous_key_fingerprints.iter().position(|known| known == key);
        // also one that was certified anew after those that nobody has seen
        if self.key_fingerprint == key {
            self.previous_key_fingerprints.clear();
        } else if let Some(at) = older {
            self.previous_key_fingerprints.drain(..at);
        }
        self.previous_key_fingerprints.len() != before
    }

    pub fn has_key(&self, key: &str) -> bool {
        self.key_fingerprint == key || self.previous_key_fingerprints.iter().any(|k| k == key)
    }
}

/// What an agent wants people to know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertReport {
    pub kind: String,
    pub severity: Severity,
    pub message: String,
    pub at: WallTime,
}

/// A node as readers see it: the record and what is only in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub record: NodeRecord,
    pub last_heartbeat: Option<WallTime>,
    pub connected: bool,
    pub containers: Vec<ContainerReport>,
    /// When they were as they are here, by the master's clock: of a node without a session, the last that is known.
    pub containers_at: Option<WallTime>,
    pub metrics: BTreeMap<String, String>,
    /// When the newest report came, by the master's clock; its metrics are as old.
    pub sampled_at: Option<WallTime>,
    /// The newest that the node has told since the master's start; shared, because it is large.
    pub system_check: Option<Arc<SystemCheck>>,
    /// What it has read of its hardware, likewise.
    pub hardware: Option<Arc<SystemCheck>>,
    pub recovery: RecoveryReport,
    pub probe: Option<ProbeReport>,
    /// Of the newest change of anything above.
    pub revision: u64,
}
