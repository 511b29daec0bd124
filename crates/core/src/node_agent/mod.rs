//! The agent's machine: one session at a time, and everything goes on without one (HLD §1.2.3, §5.1).
//!
//! - `uplink`: finding a master, the session, beats both ways, configuration, certificates
//! - `observe`: what Podman and the system say, turned into a picture and into events
//! - `recover`: what is done about what fails here; the plan is `action_controller::recovery`'s
//! - [`check`]: when the system is checked, and who is told
//! - [`hardware`]: what a look at the board's hardware means
//! - [`local_alerts`]: what a node that is alone tells of by itself
//! - `missed`: figures that no master heard, for the next one
//! - [`offline_journal`]: events that no master has acknowledged yet, bounded
//! - [`pressure`]: thresholds with hysteresis
//! - `round_trip`: how long a beat's way to the master and back takes
//!
//! Losing the master is normal: nothing here waits for it.

mod backoff;
pub mod check;
pub mod hardware;
pub mod local_alerts;
mod missed;
mod observe;
pub mod offline_journal;
pub mod pressure;
pub mod recover;
mod round_trip;
#[cfg(test)]
mod tests;
mod uplink;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use self::{
    backoff::Backoff,
    check::{CheckPace, Checks},
    hardware::Hardware,
    local_alerts::{Kept, Local, LocalAlerts, LocalNotice},
    missed::Missed,
    observe::Observed,
    offline_journal::OfflineJournal,
    pressure::{Pressure, Thresholds},
    round_trip::RoundTrip,
};
use crate::{
    action_controller::recovery::{Failure, Hold, Memory, Outcome, Policy, Step},
    failure_detector::Timing,
    model::{
        Condition, ContainerReport, JournalEntry, NodeId, ProbePart, Resources, SessionId,
        SystemCheck, SystemInfo,
    },
    mutant::mutant,
    session::{AgentCommand, Hello, ToAgent, ToMaster},
    time::{Deadline, Now, Timestamp, WallTime, earliest},
    topology::NodeConfig,
};

/// The agent's own configuration, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub node: NodeId,
    /// `host:port`, in the order in which they are tried.
    pub masters: Vec<String>,
    /// Between two attempts to connect at most.
    pub reconnect_max: Duration,
    pub thresholds: Thresholds,
    pub hardware: hardware::Limits,
    pub journal_entries_max: usize,
    pub journal_bytes_max: usize,
    /// `None`: this node has no system check.
    pub system_check: Option<CheckPace>,
    pub recovery: Policy,
    pub alerts: Local,
}

/// What the agent keeps on disk beside its journal: small, rewritten whole, seldom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Of the desired configuration that was applied last; 0 before the first.
    pub generation: u64,
    pub config: Option<NodeConfig>,
    /// No clock is right that is earlier than this.
    pub clock_floor: WallTime,
    /// Events that the full journal had no room for.
    pub events_dropped: u64,
    /// No master can have heard of the entry of this sequence, nor of those above: none was met since. What it has
    /// acknowledged under these numbers are others, which the journal lost or could not take.
    #[serde(default)]
    pub unsent_from: Option<u64>,
    #[serde(default)]
    pub recovery: Memory,
    /// Until it is known what became of it.
    #[serde(default)]
    pub reboot: Option<Reboot>,
    /// The master's newest word on it.
    #[serde(default)]
    pub recovery_paused_until: WallTime,
    #[serde(default)]
    pub maintenance: bool,
    #[serde(default)]
    pub alerts: Kept,
}

/// A reboot of the node that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    pub failure: Failure,
    /// The boot that it was to end, as [`Host::boot`].
    pub boot: String,
}

/// How the node can prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No certificate. With a token the agent can join.
    None { token: bool },
    /// A certificate that is to be renewed from `renew_at` on.
    Certified { renew_at: WallTime, expires_at: WallTime },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Registration was answered. `certified`: the shell has saved the certificate.
    Registered {
        standing: Standing,
        pending: bool,
    },
    RegisterFailed {
        why: String,
        fatal: bool,
    },
    /// The stream is open: time for Hello.
    Connected {
        ip: String,
    },
    ConnectFailed {
        why: String,
    },
    Disconnected {
        why: String,
    },
    /// The master has answered a heartbeat beside the session.
    ProbeAnswered,
    FromMaster(ToAgent),
    Sampled(Sample),
    Observed(Observation),
    /// A check that [`Effect::CheckSystem`] asked for; there is always one, whatever came between.
    Checked(SystemCheck),
    /// What [`Effect::LookAtHardware`] asked for; there is always one, unless the hardware never answers.
    HardwareSeen(Vec<hardware::Reading>),
    CommandDone {
        id: String,
        success: bool,
        message: String,
    },
    /// What became of an [`Effect::Recover`].
    Recovered {
        failure: Failure,
        outcome: Outcome,
    },
    /// What became of an [`Effect::TellLocally`].
    ToldLocally(Result<(), String>),
    /// What [`AgentCommand::Probe`] has found.
    Probed {
        id: String,
        parts: Vec<ProbePart>,
    },
    /// Why the state folder cannot be written; `None`: it can, again.
    StateFolder {
        problem: Option<String>,
    },
    CertificateRequestMade {
        csr: Vec<u8>,
    },
    CertificateInstalled {
        standing: Standing,
    },
    CertificateRefused {
        why: String,
    },
    /// The process stops, or the node leaves the cluster for good.
    Stop {
        leave: bool,
    },
}

/// One look at the system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Percent, where it could be read.
    pub cpu_percent: Option<f32>,
    pub memory_percent: Option<f32>,
    /// Of the fullest of the watched file systems.
    pub disk_percent: Option<f32>,
    /// Of the hottest sensor, degrees Celsius.
    pub temperature: Option<f32>,
    pub metrics: BTreeMap<String, String>,
    /// What sensors, disks and the look at the hardware are asked for at the moment, and have not answered.
    pub waits: Vec<hardware::Wait>,
}

/// One look at the container runtime: the whole picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub runtime: Runtime,
    pub containers: Vec<ContainerReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    Up {
        version: String,
    },
    Down {
        why: String,
    },
    /// This node has none, and is to have none.
    Absent,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Durable before the next effect.
    SaveLedger(Ledger),
    JournalAppend(JournalEntry),
    /// Acknowledged through here.
    JournalTrim {
        through: u64,
    },
    /// There was no room for it.
    JournalDrop {
        sequence: u64,
    },
    /// Join with the token, or have an expired certificate issued again.
    Register {
        master: String,
    },
    Connect {
        master: String,
    },
    /// Say a heartbeat on a connection of its own: the session's may have lost packets and be waiting.
    Probe {
        master: String,
    },
    Disconnect,
    /// The first message of a session.
    SayHello(Hello),
    Send(ToMaster),
    Apply {
        generation: u64,
        config: NodeConfig,
    },
    Run {
        id: String,
        command: AgentCommand,
    },
    /// Sample every second, or, where it is over, at the configured pace again.
    SampleOften(bool),
    /// Beside the loop, and within a time limit.
    CheckSystem,
    /// Beside the loop: a disk that fails may hold up whoever asks it.
    LookAtHardware,
    /// A step of recovery, in the same way. There is always an [`Input::Recovered`], unless the node reboots.
    Recover {
        failure: Failure,
        step: Step,
        /// An operator wants it: nothing has to be looked at first.
        forced: bool,
    },
    /// Tell the node's own channel, beside the loop and within a time limit. There is always an answer.
    TellLocally(Box<LocalNotice>),
    /// For a new key, or else for the one in the state folder.
    MakeCertificateRequest {
        new_key: bool,
    },
    /// Keep it and use it. One for a new key that cannot be kept is refused.
    InstallCertificate {
        certificate: Vec<u8>,
        ca: Vec<u8>,
    },
    /// Everything that was to be said was said: the process may end.
    Stopped {
        left: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Until then: no attempt.
    Waiting {
        until: Timestamp,
    },
    Registering,
    Connecting,
    /// Hello was said; Welcome must come by then.
    Opening {
        until: Timestamp,
    },
    InSession {
        session: SessionId,
        heard_at: Timestamp,
        beat_at: Timestamp,
        report_at: Timestamp,
        /// When the master is asked on another way, and how often it was since its last word here.
        probe_at: Timestamp,
        probes: u32,
    },
    /// No certificate and no token: a person has to help.
    Stranded,
    Stopped,
}

/// What the master last said of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    /// It has just been issued.
    Issued,
    /// It was good, or nothing was said: the clock decides.
    ByClock,
    /// Its time is over.
    Over,
}

/// What the local status shows, also with the master gone.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    pub node: NodeId,
    pub phase: &'static str,
    pub master: Option<String>,
    pub last_problem: Option<String>,
    pub alone_since: Option<WallTime>,
    pub generation: u64,
    pub cluster: Option<String>,
    pub journal_entries: usize,
    pub events_dropped: u64,
    pub conditions: Vec<Condition>,
    pub containers: Vec<ContainerReport>,
    pub metrics: BTreeMap<String, String>,
    pub runtime: Option<Runtime>,
    pub system_check: Option<SystemCheck>,
    pub removed: bool,
}

#[derive(Debug)]
pub struct NodeAgent {
    settings: Settings,
    timing: Timing,
    phase: Phase,
    standing: Standing,
    validity: Validity,
    /// As the last Welcome told it, and when.
    master_clock: Option<(WallTime, Timestamp)>,
    ledger: Ledger,
    journal: OfflineJournal,
    backoff: Backoff,
    /// Index into the masters.
    master: usize,
    previous_session: Option<SessionId>,
    /// The newest sequence of the batch that is under way.
    batch_until: Option<u64>,
    system: SystemInfo,
    /// What the master was told of it on this session.
    told_system: Option<SystemInfo>,
    hostname: String,
    boot: String,
    resources: Resources,
    observed: Observed,
    missed: Missed,
    round_trip: RoundTrip,
    /// Somebody looks at the figures until then.
    watched_until: Option<Timestamp>,
    pressure: Pressure,
    hardware: Hardware,
    checks: Checks,
    local_alerts: LocalAlerts,
    /// Since when, and whether the journal tells of it already.
    alone: Option<(Now, bool)>,
    last_problem: Option<String>,
    removed: bool,
    /// Refusals of a master in a row that it may take back, and no change of the agent's.
    refusals: u32,
    /// The last problem is that somebody else is in session as this node.
    is_duplicate: bool,
    certificate_requested: bool,
    /// The journal tells of the start of this process already.
    start_told: bool,
    hold: Option<Hold>,
    /// Why the state folder cannot be written.
    state_problem: Option<String>,
    /// When recovery wants to be looked at again.
    recover_at: Option<Timestamp>,
    /// What the master was told of it last.
    told_recovery: Vec<recover::Told>,
}

/// What does not change while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub hostname: String,
    /// Another one after each boot of the node; empty where that is not known.
    pub boot: String,
    pub system: SystemInfo,
    pub resources: Resources,
}

/// What was on disk.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub ledger: Ledger,
    /// Not acknowledged yet, ascending.
    pub journal: Vec<JournalEntry>,
    pub next_sequence: u64,
}

impl NodeAgent {
    /// `seed` is for jitter; two agents should not have the same.
    pub fn restore(
        settings: Settings,
        host: Host,
        snapshot: Snapshot,
        standing: Standing,
        seed: u64,
        now: Now,
    ) -> Self {
        let timing = snapshot.ledger.config.as_ref().map(|c| c.timing).unwrap_or_default();
        let mut ledger = restored(snapshot.ledger, &snapshot.journal, now);
        let local_alerts = LocalAlerts::restored(settings.alerts.clone(), &mut ledger.alerts, now);
        let journal = OfflineJournal::restored(
            snapshot.journal,
            snapshot.next_sequence,
            ledger
                .unsent_from
                .filter(|_| !mutant!("a new start knows nothing of what was never sent")),
            settings.journal_entries_max,
            settings.journal_bytes_max,
        );
        Self {
            timing,
            phase: Phase::Waiting { until: now.at },
            standing,
            validity: Validity::ByClock,
            master_clock: None,
            journal,
            backoff: Backoff::new(seed, settings.reconnect_max),
            master: 0,
            previous_session: None,
            batch_until: None,
            system: host.system,
            told_system: None,
            hostname: host.hostname,
            boot: host.boot,
            resources: host.resources,
            observed: Observed::default(),
            missed: Missed::default(),
            round_trip: RoundTrip::default(),
            watched_until: None,
            pressure: Pressure::new(settings.thresholds),
            hardware: Hardware::new(settings.hardware.clone(), now.at),
            checks: Checks::new(settings.system_check, now.at),
            local_alerts,
            alone: Some((now, false)),
            last_problem: None,
            removed: false,
            refusals: 0,
            is_duplicate: false,
            certificate_requested: false,
            start_told: false,
            hold: recover::hold_of(&ledger, now),
            state_problem: None,
            recover_at: None,
            told_recovery: Vec::new(),
            ledger,
            settings,
        }
    }

    #[must_use]
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        // one comes each second, and brings nothing that recovery or alerts look at
        let is_beat = matches!(input, Input::FromMaster(ToAgent::Beat));
        match input {
            Input::Registered { standing, pending } => self.registered(now, standing, pending),
            Input::RegisterFailed { why, fatal } => self.register_failed(now, why, fatal),
            Input::Connected { ip } => self.connected(now, &mut out, ip),
            Input::ConnectFailed { why } | Input::Disconnected { why } => {
                self.disconnected(now, why);
            }
            Input::ProbeAnswered => self.probe_answered(now),
            Input::FromMaster(message) => self.take_from_master(now, &mut out, message),
            Input::Sampled(sample) => self.sampled(now, &mut out, sample),
            Input::Observed(observation) => self.take_observation(now, &mut out, observation),
            Input::Checked(check) => self.checked(now, &mut out, check),
            Input::HardwareSeen(readings) => self.hardware_seen(now, &mut out, readings),
            Input::CommandDone { id, success, message } => {
                let message = observe::printable(&message);
                self.say(&mut out, ToMaster::CommandResult { id, success, message });
            }
            Input::CertificateRequestMade { csr } => {
                self.say(&mut out, ToMaster::CertificateRequest { csr });
            }
            Input::CertificateInstalled { standing } => {
                self.standing = standing;
                self.validity = Validity::ByClock;
                self.certificate_requested = false;
            }
            Input::CertificateRefused { why } => {
                self.last_problem = Some(why);
                self.certificate_requested = false;
            }
            Input::Recovered { failure, outcome } => {
                self.recovered(now, &mut out, &failure, outcome);
            }
            Input::ToldLocally(result) => self.told_locally(now, &mut out, result),
            Input::Probed { id, parts } => self.say(&mut out, ToMaster::Probed { id, parts }),
            Input::StateFolder { problem } => self.state_problem = problem,
            Input::Stop { leave } => self.stop(&mut out, leave),
        }
        if !is_beat {
            self.recover(now, &mut out);
            self.alert(now, &mut out);
        }
        out
    }

    #[must_use]
    pub fn handle_deadline(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.tell_of_the_start(now, &mut out);
        self.tell_of_the_reboot(now, &mut out);
        self.tell_of_being_alone(now, &mut out);
        self.check_if_due(now, &mut out);
        self.look_if_due(now, &mut out);
        self.look_away_if_due(now, &mut out);
        self.uplink_deadline(now, &mut out);
        self.recover(now, &mut out);
        self.alert(now, &mut out);
        out
    }

    pub fn deadline(&self) -> Option<Deadline> {
        let alone = self.alone_told_at().map(|at| Deadline { at, why: "alone for long" });
        let recovery = self.recover_at.map(|at| Deadline { at, why: "recovery" });
        let watched = self.watched_until.map(|at| Deadline { at, why: "nobody looks any more" });
        earliest(&[
            self.uplink_deadline_at(),
            alone,
            self.checks.deadline(),
            self.hardware.deadline(),
            recovery,
            watched,
            self.local_alerts_deadline(),
        ])
    }

    pub fn view(&self) -> AgentView {
        let connected = matches!(self.phase, Phase::InSession { .. });
        AgentView {
            node: self.settings.node.clone(),
            phase: match self.phase {
                Phase::Waiting { .. } => "waiting",
                Phase::Registering => "registering",
                Phase::Connecting | Phase::Opening { .. } => "connecting",
                Phase::InSession { .. } => "in session",
                Phase::Stranded => "needs a token",
                Phase::Stopped => "stopped",
            },
            master: connected.then(|| self.current_master()).flatten(),
            last_problem: self.last_problem.clone(),
            alone_since: self.alone.map(|(since, _)| since.wall),
            generation: self.ledger.generation,
            cluster: self.ledger.config.as_ref().map(|c| c.cluster_name.clone()),
            journal_entries: self.journal.len(),
            events_dropped: self.ledger.events_dropped,
            conditions: self.conditions(),
            containers: self.observed.containers.clone().unwrap_or_default(),
            metrics: self.metrics(),
            runtime: self.observed.runtime.clone(),
            system_check: self.checks.newest().cloned(),
            removed: self.removed,
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What went wrong last on the way to a master, until it went right.
    pub fn last_problem(&self) -> Option<&str> {
        self.last_problem.as_deref()
    }

    /// Whether the master said that the node was removed.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Whether a master would not have this node: trying again will not do, somebody has to.
    pub fn is_refused(&self) -> bool {
        self.removed || self.is_duplicate
    }

    /// Whether a session is open now.
    pub fn in_session(&self) -> bool {
        matches!(self.phase, Phase::InSession { .. })
    }

    fn current_master(&self) -> Option<String> {
        self.settings.masters.get(self.master).cloned()
    }
}

fn restored(mut ledger: Ledger, journal: &[JournalEntry], now: Now) -> Ledger {
    let wall = now.wall.max(ledger.clock_floor);
    recover::recall_told(&mut ledger.recovery, journal);
    ledger.recovery.restore(Now { wall, ..now });
    ledger
}
