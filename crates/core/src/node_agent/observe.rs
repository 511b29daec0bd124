//! What Podman and the system say, turned into a picture for the master and into events.

use std::collections::BTreeMap;

use super::{Effect, NodeAgent, Observation, Phase, Runtime, Sample};
use crate::{
    model::{
        Condition, ConditionKind, ContainerReport, EventKind, JournalEntry, Severity, SystemInfo,
        has_failed,
    },
    mutant::mutant,
    session::{CONTAINERS_MAX, METRICS_MAX, Picture, StatusReport, TEXT_BYTES_MAX, ToMaster},
    time::Now,
};

/// Bytes of any text that is told at most: a name and a sentence around it stay below the wire's limit.
const TEXT_BYTES_TOLD_MAX: usize = TEXT_BYTES_MAX / 2;

/// Sequences of the journal that are reserved in the ledger at a time.
const SEQUENCES_RESERVED: u64 = 1000;

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) runtime: Option<Runtime>,
    /// `None` until the runtime has answered once.
    pub(super) containers: Option<Vec<ContainerReport>>,
    pub(super) metrics: BTreeMap<String, String>,
}

impl NodeAgent {
    pub(super) fn sampled(&mut self, now: Now, out: &mut Vec<Effect>, sample: Sample) {
        let changed = self.pressure.sampled(&sample);
        let metrics = sample.metrics.into_iter().take(METRICS_MAX);
        self.observed.metrics = metrics.map(|(k, v)| (printable(&k), printable(&v))).collect();
        if !changed {
            return;
        }
        let (severity, kind, message) = match self.pressure.raised() {
            Some(what) => {
                (Severity::Warning, EventKind::PressureRaised, format!("over the limit: {what}"))
            }
            None => (
                Severity::Info,
                EventKind::PressureCleared,
                "everything is within its limits again".to_owned(),
            ),
        };
        self.record(now, out, severity, kind, message, &[]);
        self.report(now, out);
    }

    pub(super) fn take_observation(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        observation: Observation,
    ) {
        self.runtime_changed(now, out, &observation.runtime);
        let before = self.observed.runtime.replace(observation.runtime.clone());
        let mut worth_telling = before.as_ref() != Some(&observation.runtime);
        if let Runtime::Up { version } = &observation.runtime {
            self.system.runtime_version.clone_from(version);
        }
        if !matches!(observation.runtime, Runtime::Down { .. }) {
            let containers = observation.containers.into_iter().take(CONTAINERS_MAX);
            let seen: Vec<_> = containers.map(presentable).collect();
            let known = self.observed.containers.replace(seen.clone());
            worth_telling |= known.as_deref().map(steady) != Some(steady(&seen));
            // what was there before we looked for the first time is no news
            if let Some(known) = known {
                self.tell_container_changes(now, out, &known, &seen);
            }
        }
        if worth_telling {
            self.report(now, out);
        }
    }

    fn runtime_changed(&mut self, now: Now, out: &mut Vec<Effect>, runtime: &Runtime) {
        let was_up = match &self.observed.runtime {
            None | Some(Runtime::Absent) => None,
            Some(Runtime::Up { .. }) => Some(true),
            Some(Runtime::Down { .. }) => Some(false),
        };
        match (was_up, runtime) {
            (Some(true), Runtime::Down { why }) => {
                let message = format!("Podman does not answer: {why}");
                self.record(now, out, Severity::Warning, EventKind::RuntimeDown, message, &[]);
            }
            (Some(false), Runtime::Up { .. }) => {
                let message = "Podman answers again".to_owned();
                self.record(now, out, Severity::Info, EventKind::RuntimeUp, message, &[]);
            }
            (Some(true), Runtime::Up { .. })
            | (Some(false), Runtime::Down { .. })
            | (None, Runtime::Up { .. } | Runtime::Down { .. })
            | (_, Runtime::Absent) => {}
        }
    }

    fn tell_container_changes(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        known: &[ContainerReport],
        seen: &[ContainerReport],
    ) {
        for container in seen {
            let before = known.iter().find(|c| c.id == container.id);
            for (severity, kind, what) in changes(before, container) {
                let message = format!("container {} {what}", container.name);
                self.record_container(now, out, severity, kind, message, container);
            }
        }
        for gone in known.iter().filter(|c| !seen.iter().any(|s| s.id == c.id)) {
            let message = format!("container {} was removed", gone.name);
            let kind = EventKind::ContainerRemoved;
            self.record_container(now, out, Severity::Info, kind, message, gone);
        }
    }

    fn record_container(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        severity: Severity,
        kind: EventKind,
        message: String,
        container: &ContainerReport,
    ) {
        let code = container.exit_code.map(|code| code.to_string()).unwrap_or_default();
        let mut fields = vec![
            ("container", container.name.as_str()),
            ("id", container.id.as_str()),
            ("image", container.image.as_str()),
        ];
        if !code.is_empty() {
            fields.push(("exit_code", &code));
        }
        self.record(now, out, severity, kind, message, &fields);
    }

    /// Into the journal, and on its way if a session is open.
    pub(super) fn record(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        severity: Severity,
        kind: EventKind,
        message: String,
        fields: &[(&str, &str)],
    ) {
        let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), printable(v))).collect();
        let entry = JournalEntry {
            sequence: 0,
            at: now.wall.max(self.ledger.clock_floor),
            severity,
            kind,
            message: printable(&message),
            fields,
            offline: !self.in_session(),
        };
        self.reserve_sequences(out);
        let (entry, dropped) = self.journal.append(entry);
        if !dropped.is_empty() {
            // counted first, and room made first: a crash in between hides none, and the disk is bounded too
            self.ledger.events_dropped += dropped.len() as u64;
            if !mutant!("drops are not counted") {
                out.push(Effect::SaveLedger(self.ledger.clone()));
            }
            out.extend(dropped.into_iter().map(|sequence| Effect::JournalDrop { sequence }));
        }
        out.push(Effect::JournalAppend(entry));
        self.send_events(out);
    }

    /// In the ledger, many at a time: flash wears out.
    pub(super) fn reserve_sequences(&mut self, out: &mut Vec<Effect>) {
        let next = self.journal.next_sequence();
        if next >= self.ledger.sequences_reserved {
            self.ledger.sequences_reserved = next + SEQUENCES_RESERVED;
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
    }

    /// The whole picture, now.
    pub(super) fn report(&mut self, now: Now, out: &mut Vec<Effect>) {
        let interval = self.timing.heartbeat_interval;
        let Phase::InSession { report_at, .. } = &mut self.phase else { return };
        *report_at = now.at + interval;
        let mut containers = self.observed.containers.clone();
        if mutant!("what is not known yet is told as nothing") {
            containers.get_or_insert_default();
        }
        let picture = Picture { containers, conditions: self.conditions(), alerts: Vec::new() };
        let report = StatusReport {
            metrics: self.observed.metrics.clone(),
            picture: Some(picture),
            system: self.untold_system(),
            clock: Some(now.wall),
            system_check: self.checks.untold(),
        };
        out.push(Effect::Send(ToMaster::Status(Box::new(report))));
    }

    /// The host, where it is not what the master was told last: Podman answers after the first Hello.
    fn untold_system(&mut self) -> Option<SystemInfo> {
        let changed = self.told_system.as_ref() != Some(&self.system);
        self.told_system = Some(self.system.clone());
        changed.then(|| self.system.clone())
    }

    /// What the agent itself has found.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let mut add = |kind: ConditionKind, reason: &str, message: String| {
            conditions.push(Condition {
                kind,
                reason: reason.to_owned(),
                message: printable(&message),
                since: crate::time::WallTime::default(),
            });
        };
        if let Some(what) = self.pressure.raised() {
            add(ConditionKind::ResourcePressure, "OverLimit", format!("over the limit: {what}"));
        }
        if let Some(Runtime::Down { why }) = &self.observed.runtime {
            add(ConditionKind::PodmanUnavailable, "PodmanDown", why.clone());
        }
        conditions
    }
}

/// What happened to a container between two looks.
fn changes(
    before: Option<&ContainerReport>,
    now: &ContainerReport,
) -> Vec<(Severity, EventKind, String)> {
    let mut changes = Vec::new();
    let was_running = before.is_some_and(ContainerReport::is_running);
    let ended_now = now.has_ended() && !before.is_some_and(ContainerReport::has_ended);
    let restarted =
        before.is_some_and(|b| b.started_at != now.started_at) && was_running && now.is_running();
    if ended_now {
        let code = now.exit_code.map_or("an unknown code".to_owned(), |code| code.to_string());
        changes.push(if has_failed(now) {
            (Severity::Warning, EventKind::ContainerDied, format!("died with exit code {code}"))
        } else {
            (Severity::Info, EventKind::ContainerExited, "has ended".to_owned())
        });
    } else if now.is_running() && !was_running {
        changes.push((Severity::Info, EventKind::ContainerStarted, "is running".to_owned()));
    } else if restarted {
        changes.push((Severity::Info, EventKind::ContainerStarted, "was restarted".to_owned()));
    }
    let unhealthy = |c: &ContainerReport| c.health == "unhealthy";
    if unhealthy(now) && !before.is_some_and(unhealthy) {
        changes.push((Severity::Warning, EventKind::ContainerUnhealthy, "is unhealthy".to_owned()));
    }
    changes
}

/// Without the figures that move all the time.
fn steady(containers: &[ContainerReport]) -> Vec<ContainerReport> {
    containers
        .iter()
        .map(|c| ContainerReport { memory_bytes: 0, cpu_basis_points: 0, ..c.clone() })
        .collect()
}

/// The master refuses a report with a text that is too long or cannot be printed, and the session with it:
/// one odd container must not cut its node off.
fn presentable(container: ContainerReport) -> ContainerReport {
    if mutant!("texts are sent as they are") {
        return container;
    }
    ContainerReport {
        id: printable(&container.id),
        name: printable(&container.name),
        image: printable(&container.image),
        state: printable(&container.state),
        health: printable(&container.health),
        ..container
    }
}

/// What a runtime says goes into logs and terminals: no control characters, no novels.
pub(super) fn printable(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_TOLD_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
