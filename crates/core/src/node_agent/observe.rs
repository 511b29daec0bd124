//! What Podman and the system say, turned into a picture for the master and into events.

use std::{collections::BTreeMap, time::Duration};

use super::{Effect, NodeAgent, Observation, Phase, Runtime, Sample};
use crate::{
    model::{
        Condition, ConditionKind, ContainerReport, EventKind, JournalEntry, Severity, SystemInfo,
        has_controls,
    },
    monitoring_server::{SeriesName, figures, number},
    mutant::mutant,
    session::{
        CONTAINERS_MAX, METRICS_MAX, Picture, StatusReport, TEXT_BYTES_MAX, ToMaster,
        WATCHED_FOR_MAX,
    },
    time::Now,
};

/// Bytes of any text that is told at most: a name and a sentence around it stay below the wire's limit.
const TEXT_BYTES_TOLD_MAX: usize = TEXT_BYTES_MAX / 2;

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
        self.hardware_waits(now, out, &sample.waits);
        let changed = self.pressure.sampled(&sample);
        let metrics = sample.metrics.into_iter().take(METRICS_MAX - 1);
        self.observed.metrics = metrics.map(|(k, v)| (printable(&k), printable(&v))).collect();
        self.remember_unheard(now);
        if !changed {
            if self.watched_until.is_some() {
                self.report(now, out);
            }
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

    /// A member of a cluster that nobody hears keeps its figures, and its containers', for later.
    fn remember_unheard(&mut self, now: Now) {
        if self.in_session() || self.ledger.generation == 0 {
            return;
        }
        let name = |container: &str, figure: &str| SeriesName {
            container: container.to_owned(),
            figure: figure.to_owned(),
        };
        for (figure, text) in &self.observed.metrics {
            if let Some(value) = number(text) {
                self.missed.sampled(now.at, name("", figure), value);
            }
        }
        let running = self.observed.containers.iter().flatten().filter(|c| c.is_running());
        for container in running {
            for (figure, value) in figures(container) {
                self.missed.sampled(now.at, name(&container.name, figure), value);
            }
        }
    }

    /// Somebody looks at the figures, for so long.
    pub(super) fn watched(&mut self, now: Now, out: &mut Vec<Effect>, span: Duration) {
        let until = now.at + span.min(WATCHED_FOR_MAX);
        if self.watched_until.replace(until).is_none() {
            out.push(Effect::SampleOften(true));
        }
    }

    pub(super) fn look_away_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.watched_until.is_some_and(|until| until <= now.at) {
            self.watched_until = None;
            out.push(Effect::SampleOften(false));
        }
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
        let is_down = |runtime: &Runtime| matches!(runtime, Runtime::Down { .. });
        let down = is_down(&observation.runtime);
        if let Some(seen) = self.seen(observation.containers, down) {
            let known = self.observed.containers.replace(seen.clone());
            worth_telling |= !known.as_deref().is_some_and(|known| are_steady(known, &seen));
            // what was there before we looked for the first time is no news
            if let Some(known) = known {
                let was_down = before.as_ref().is_some_and(is_down);
                let (known, seen) = (looks(&known, was_down), looks(&seen, down));
                self.tell_container_changes(now, out, &known, &seen);
            }
        }
        if worth_telling {
            self.report(now, out);
        }
    }

    /// While Podman is down: those known last, of which some have ended, as the kernel says.
    fn seen(&self, containers: Vec<ContainerReport>, down: bool) -> Option<Vec<ContainerReport>> {
        if !down {
            return Some(containers.into_iter().take(CONTAINERS_MAX).map(presentable).collect());
        }
        let ended = |known: &ContainerReport| {
            let is_it = |c: &&ContainerReport| c.id == known.id && c.has_ended();
            containers.iter().find(is_it).filter(|_| known.is_running())
        };
        let known = self.observed.containers.as_ref()?;
        Some(known.iter().map(|c| ended(c).cloned().map_or(c.clone(), presentable)).collect())
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
        known: &[Look<'_>],
        seen: &[Look<'_>],
    ) {
        for look in seen {
            let container = look.container;
            let before = known.iter().find(|k| k.container.id == container.id);
            for (severity, kind, what) in changes(before, look) {
                let message = format!("container {} {what}", container.name);
                self.record_container(now, out, severity, kind, message, container);
            }
        }
        let known = known.iter().map(|look| look.container);
        for gone in known.filter(|c| !seen.iter().any(|s| s.container.id == c.id)) {
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
        self.note_unsent(out);
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

    /// For a start that comes before a master does. Noted before an entry is written: also where the one before could
    /// not be.
    fn note_unsent(&mut self, out: &mut Vec<Effect>) {
        if self.previous_session.is_some() {
            return;
        }
        let next = self.journal.next_sequence();
        let from = self.ledger.unsent_from.map_or(next, |from| from.min(next));
        if self.ledger.unsent_from.replace(from) != Some(from) || self.state_problem.is_some() {
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
        let picture = Picture {
            containers,
            conditions: self.conditions(),
            alerts: Vec::new(),
            recovery: self.recovery_report(now),
        };
        let report = StatusReport {
            metrics: self.metrics(),
            picture: Some(picture),
            system: self.untold_system(),
            clock: Some(now.wall),
            system_check: self.checks.untold(),
            hardware: self.hardware.untold(),
        };
        out.push(Effect::Send(ToMaster::Status(Box::new(report))));
    }

    /// As the last sample had them, and how the session's link is.
    pub(super) fn metrics(&self) -> BTreeMap<String, String> {
        let mut metrics = self.observed.metrics.clone();
        metrics.extend(self.round_trip.figure().filter(|_| self.in_session()));
        metrics
    }

    /// The host, where it is not what the master was told last: Podman answers after the first Hello.
    fn untold_system(&mut self) -> Option<SystemInfo> {
        let changed = self.told_system.as_ref() != Some(&self.system);
        changed.then(|| self.told_system.insert(self.system.clone()).clone())
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
        for (kind, what) in self.hardware.problems() {
            add(kind, "OverLimit", what);
        }
        conditions
    }
}

/// A container as it was seen, and whether its end can be told of: its exit code is known, or Podman is down
/// and cannot be asked. Until then, a moment, it counts as running: an end without a code says neither that it
/// failed nor that it did not.
struct Look<'c> {
    container: &'c ContainerReport,
    is_over: bool,
    is_running: bool,
}

fn looks(containers: &[ContainerReport], down: bool) -> Vec<Look<'_>> {
    let look = |container: &ContainerReport| {
        let can_be_told = down
            || container.exit_code.is_some()
            || mutant!("an end is told before its code is known");
        let is_over = container.has_ended() && can_be_told;
        (is_over, container.is_running() || (container.has_ended() && !is_over))
    };
    let looks = containers.iter().map(|container| (container, look(container)));
    looks
        .map(|(container, (is_over, is_running))| Look { container, is_over, is_running })
        .collect()
}

/// What happened to a container between two looks.
fn changes(before: Option<&Look<'_>>, look: &Look<'_>) -> Vec<(Severity, EventKind, String)> {
    let mut changes = Vec::new();
    let now = look.container;
    let was_running = before.is_some_and(|b| b.is_running);
    let restarted =
        before.is_some_and(|b| b.is_running && b.container.started_at != now.started_at);
    if look.is_over && !before.is_some_and(|b| b.is_over) {
        let code = match now.exit_code {
            None if mutant!("an end without its code passes for a success") => Some(0),
            code => code,
        };
        changes.push(match code {
            Some(0) => (Severity::Info, EventKind::ContainerExited, "has ended".to_owned()),
            Some(code) => {
                let what = format!("died with exit code {code}");
                (Severity::Warning, EventKind::ContainerDied, what)
            }
            None => {
                let what = "died; Podman does not say with which exit code".to_owned();
                (Severity::Warning, EventKind::ContainerDied, what)
            }
        });
    } else if now.is_running() && !was_running {
        changes.push((Severity::Info, EventKind::ContainerStarted, "is running".to_owned()));
    } else if now.is_running() && restarted {
        changes.push((Severity::Info, EventKind::ContainerStarted, "was restarted".to_owned()));
    }
    let unhealthy = |c: &ContainerReport| c.health == "unhealthy";
    if unhealthy(now) && !before.is_some_and(|b| unhealthy(b.container)) {
        changes.push((Severity::Warning, EventKind::ContainerUnhealthy, "is unhealthy".to_owned()));
    }
    changes
}

/// The same but for the figures that move all the time.
fn are_steady(known: &[ContainerReport], seen: &[ContainerReport]) -> bool {
    known.len() == seen.len() && known.iter().zip(seen).all(|(known, seen)| is_steady(known, seen))
}

fn is_steady(known: &ContainerReport, seen: &ContainerReport) -> bool {
    // all of them are named, so that a new field has to be thought of here
    let ContainerReport {
        id,
        name,
        image,
        state,
        exit_code,
        health,
        started_at,
        finished_at,
        memory_bytes: _,
        cpu_basis_points: _,
        restarts,
        restart,
    } = known;
    *id == seen.id
        && *name == seen.name
        && *image == seen.image
        && *state == seen.state
        && *exit_code == seen.exit_code
        && *health == seen.health
        && *started_at == seen.started_at
        && *finished_at == seen.finished_at
        && *restarts == seen.restarts
        && *restart == seen.restart
}

/// The master refuses a report with a text that is too long or cannot be printed, and the session with it:
/// one odd container must not cut its node off.
fn presentable(container: ContainerReport) -> ContainerReport {
    if mutant!("texts are sent as they are") {
        return container;
    }
    ContainerReport {
        id: presented(container.id),
        name: presented(container.name),
        image: presented(container.image),
        state: presented(container.state),
        health: presented(container.health),
        ..container
    }
}

/// The same text where there is nothing to replace, as in nearly all of every picture.
fn presented(text: String) -> String {
    if text.len() > TEXT_BYTES_TOLD_MAX || has_controls(&text) { printable(&text) } else { text }
}

/// What a runtime says goes into logs and terminals: no control characters, no novels.
pub(super) fn printable(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_TOLD_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if has_controls(text) { text.replace(char::is_control, " ") } else { text.to_owned() }
}
