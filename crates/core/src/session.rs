//! What an agent and the master say to each other on a session, free of its encoding (HLD §7.1.2).
//! `piccolo_rpc` converts; docs/protocol.md tells the rules.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    action_controller::recovery::Step,
    failure_detector::Timing,
    model::{
        AlertReport, Condition, ContainerReport, FieldError, JournalEntry, NodeId, ProbePart,
        RecoveryReport, Resources, SessionId, SystemCheck, SystemInfo, check_text,
    },
    monitoring_server::{SeriesName, history::Bucket},
    time::WallTime,
    topology::NodeConfig,
};

/// Entries of one batch of events at most: with the node's record and what retention deletes, a
/// transaction stays below the 128 operations that etcd takes by default.
pub const EVENTS_PER_BATCH_MAX: usize = 48;
/// Bytes of one batch of events at most, as [`JournalEntry::size_bytes`] counts. Stored as JSON, where a
/// quotation mark takes two bytes, it stays well below the 1 MiB that a store takes in one transaction.
pub const EVENT_BATCH_BYTES_MAX: usize = 256 * 1024;
/// No journal counts that far: a greater sequence was made up, and nothing could follow it.
pub const SEQUENCE_MAX: u64 = u64::MAX / 2;
/// Containers of one node at most.
pub const CONTAINERS_MAX: usize = 512;
/// Metrics of one report at most.
pub const METRICS_MAX: usize = 256;
/// Bytes of any text inside a report at most.
pub const TEXT_BYTES_MAX: usize = 1024;

/// A slot of [`MissedFigures`].
pub const MISSED_STEP: Duration = Duration::from_secs(60);
/// Slots of them at most: a day.
pub const MISSED_SLOTS_MAX: usize = 1440;
/// Series of them at most.
pub const MISSED_SERIES_MAX: usize = 256;
/// Slots of all their series at most: they are one message.
pub const MISSED_BUCKETS_MAX: usize = 16 * 1024;
/// Somebody who looks at a node has to say so again after this time at most.
pub const WATCHED_FOR_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub node: NodeId,
    /// The last session that this very process held: tells a reconnect from a cloned board.
    pub previous_session: Option<SessionId>,
    pub applied_generation: u64,
    pub next_sequence: u64,
    pub events_dropped: u64,
    pub system: SystemInfo,
    pub hostname: String,
    pub ip: String,
    pub resources: Resources,
    pub clock: WallTime,
    /// The newest, where there is one.
    pub system_check: Option<SystemCheck>,
    /// The first of this process is under way. Without either, the node has no system check.
    pub system_check_pending: bool,
    /// It takes orders about its recovery, and can be probed.
    pub recovers: bool,
    /// It takes [`ToAgent::Watched`].
    pub can_be_watched: bool,
    /// It can be asked for lines of logs.
    pub reads_logs: bool,
    /// It tells important lines by itself, once it is allowed to.
    pub keeps_logs: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    pub session: SessionId,
    pub cluster: String,
    pub timing: Timing,
    pub acknowledged_sequence: u64,
    pub clock: WallTime,
    pub masters: Vec<String>,
    pub recovery: RecoveryOrders,
    /// It takes [`ToMaster::Missed`].
    pub takes_missed: bool,
}

/// What operators want of a node's recovery. The newest holds, also when the master is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryOrders {
    /// From now on; no time at all is no pause. A span, because clocks differ.
    pub paused_for: Duration,
    pub maintenance: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusReport {
    pub metrics: BTreeMap<String, String>,
    /// `None`: as before.
    pub picture: Option<Picture>,
    /// Only where it changed.
    pub system: Option<SystemInfo>,
    /// What the node's wall clock shows, where it was told.
    pub clock: Option<WallTime>,
    /// Only where there is a newer one.
    pub system_check: Option<SystemCheck>,
    /// What was read of the hardware, only where it is new.
    pub hardware: Option<Arc<SystemCheck>>,
}

/// The whole of what an agent sees, not a difference: the newest wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// `None`: the runtime has not answered yet since the agent started; as before.
    pub containers: Option<Vec<ContainerReport>>,
    pub conditions: Vec<Condition>,
    pub alerts: Vec<AlertReport>,
    pub recovery: RecoveryReport,
}

/// Figures of a time without a session, in slots of [`MISSED_STEP`].
#[derive(Debug, Clone, PartialEq)]
pub struct MissedFigures {
    /// Of the first slot's start, when this was said: clocks differ.
    pub age: Duration,
    pub series: Vec<MissedSeries>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MissedSeries {
    pub name: SeriesName,
    /// One for every slot.
    pub buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// One CamelCase word.
    pub reason: GoodbyeReason,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The process stops; it may come back.
    Stopping,
    /// The node leaves the cluster for good.
    Leaving,
    /// The node was removed, or is not known: its identity is worth nothing any more.
    Removed,
    /// Another live session has this node's id.
    Duplicate,
    /// The other side did not read what it was sent.
    Slow,
    /// The session broke a rule of the protocol.
    Protocol,
    /// The node has opened another session.
    Replaced,
    /// There is no room; try again later.
    Busy,
    /// The certificate's time is over, by the master's clock: have it issued again.
    Expired,
    /// Said by something newer than we are.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentCommand {
    SetLogLevel {
        filter: String,
        /// Then as it is configured.
        span: Option<Duration>,
    },
    RestartContainer {
        container: String,
    },
    /// What was found is told as a status, before the result.
    CheckSystem,
    /// A step of recovery, out of turn.
    Recover {
        step: Step,
        /// The container, where it is about one.
        container: String,
    },
    /// Prove that the loop, Podman and the disk work. Answered by [`ToMaster::Probed`].
    Probe,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ToMaster {
    Beat,
    Status(Box<StatusReport>),
    /// Ascending in sequence.
    Events(Vec<JournalEntry>),
    ConfigApplied {
        generation: u64,
        rejected: Option<String>,
    },
    CertificateRequest {
        csr: Vec<u8>,
    },
    CommandResult {
        id: String,
        success: bool,
        message: String,
    },
    Probed {
        id: String,
        parts: Vec<ProbePart>,
    },
    /// Once a session, at its beginning, where there is something.
    Missed(MissedFigures),
    Goodbye(Goodbye),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    Welcome(Welcome),
    Beat,
    Config {
        generation: u64,
        config: NodeConfig,
    },
    EventAck {
        sequence: u64,
    },
    Certificate {
        certificate: Vec<u8>,
        ca: Vec<u8>,
    },
    Command {
        id: String,
        command: AgentCommand,
    },
    Recovery(RecoveryOrders),
    /// Somebody looks: sample and report every second for so long.
    Watched(Duration),
    Goodbye(Goodbye),
}

impl StatusReport {
    /// Refuses what is too large or cannot be printed; nothing of such a report is taken.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.metrics.len() > METRICS_MAX {
            return Err(FieldError::new(
                "metrics",
                format!("has {} entries, more than {METRICS_MAX}", self.metrics.len()),
            ));
        }
        for (key, value) in &self.metrics {
            check_text("metrics", key, TEXT_BYTES_MAX)?;
            check_text(format_args!("metrics[{key}]"), value, TEXT_BYTES_MAX)?;
        }
        if let Some(system) = &self.system {
            system.check()?;
        }
        if let Some(check) = &self.system_check {
            check.check("system_check")?;
        }
        if let Some(hardware) = &self.hardware {
            hardware.check("hardware")?;
        }
        self.picture.as_ref().map_or(Ok(()), Picture::check)
    }
}

impl Picture {
    fn check(&self) -> Result<(), FieldError> {
        let containers = self.containers.as_deref().unwrap_or_default();
        if containers.len() > CONTAINERS_MAX {
            return Err(FieldError::new(
                "containers",
                format!("has {} entries, more than {CONTAINERS_MAX}", containers.len()),
            ));
        }
        for (i, container) in containers.iter().enumerate() {
            let ContainerReport { id, name, image, state, health, .. } = container;
            for (field, text) in
                [("id", id), ("name", name), ("image", image), ("state", state), ("health", health)]
            {
                check_text(format_args!("containers[{i}].{field}"), text, TEXT_BYTES_MAX)?;
            }
        }
        if self.conditions.len() > CONTAINERS_MAX || self.alerts.len() > CONTAINERS_MAX {
            return Err(FieldError::new("conditions", "has too many entries"));
        }
        for (i, condition) in self.conditions.iter().enumerate() {
            check_text(format_args!("conditions[{i}].reason"), &condition.reason, TEXT_BYTES_MAX)?;
            check_text(
                format_args!("conditions[{i}].message"),
                &condition.message,
                TEXT_BYTES_MAX,
            )?;
        }
        self.recovery.check()?;
        for (i, alert) in self.alerts.iter().enumerate() {
            check_text(format_args!("alerts[{i}].kind"), &alert.kind, TEXT_BYTES_MAX)?;
            check_text(format_args!("alerts[{i}].message"), &alert.message, TEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl MissedFigures {
    /// Refuses what is too much, lies in the future or is no number.
    pub fn check(&self) -> Result<(), FieldError> {
        let buckets: usize = self.series.iter().map(|series| series.buckets.len()).sum();
        if self.series.len() > MISSED_SERIES_MAX || buckets > MISSED_BUCKETS_MAX {
            return Err(FieldError::new("missed.series", "has too many entries"));
        }
        for (i, MissedSeries { name, buckets }) in self.series.iter().enumerate() {
            check_text(
                format_args!("missed.series[{i}].container"),
                &name.container,
                TEXT_BYTES_MAX,
            )?;
            check_text(format_args!("missed.series[{i}].figure"), &name.figure, TEXT_BYTES_MAX)?;
            let slots = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
            if MISSED_STEP.saturating_mul(slots) > self.age + MISSED_STEP {
                return Err(FieldError::new("missed.age_ms", "is less than the slots take"));
            }
            let is_sound = |b: &Bucket| [b.mean, b.min, b.max].into_iter().all(f32::is_finite);
            if !buckets.iter().all(is_sound) {
                let field = format!("missed.series[{i}].mean");
                return Err(FieldError::new(field, "has something that is no number"));
            }
        }
        Ok(())
    }
}

impl SystemInfo {
    pub fn check(&self) -> Result<(), FieldError> {
        let Self { agent_version, architecture, os, kernel, machine_id, runtime_version } = self;
        for (field, text) in [
            ("agent_version", agent_version),
            ("architecture", architecture),
            ("os", os),
            ("kernel", kernel),
            ("machine_id", machine_id),
            ("runtime_version", runtime_version),
        ] {
            check_text(format_args!("system.{field}"), text, TEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl GoodbyeReason {
    pub const ALL: [Self; 9] = [
        Self::Stopping,
        Self::Leaving,
        Self::Removed,
        Self::Duplicate,
        Self::Slow,
        Self::Protocol,
        Self::Replaced,
        Self::Busy,
        Self::Expired,
    ];

    pub fn name(self) -> String {
        format!("{self:?}")
    }

    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(Self::Other)
    }
}
