//! Sessions of agents, and the unary calls that lead into the same functions (HLD §7.1.2).

use std::time::Duration;

use super::{
    Answer, Effect, PARKED_MAX, Parked, RequestId, StateManager,
    join::speaks_for_another,
    log::{Draft, bounded},
    outbox::Outbox,
    restoration::Newcomer,
};
use crate::{
    api_server::{Call, Caller, Code, Refusal, Selector},
    model::{
        ConditionKind, Event, EventKind, JournalEntry, Labels, NodeId, NodeName, NodeStatus,
        ProbePart, SessionId, Severity, check_address, check_text,
    },
    mutant::mutant,
    session::{
        EVENT_BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX, Goodbye, GoodbyeReason, Hello, SEQUENCE_MAX,
        StatusReport, TEXT_BYTES_MAX, ToAgent, ToMaster, Welcome,
    },
    time::Now,
};

/// What a node is told of somebody who looks at it.
const WATCHED_FOR: Duration = Duration::from_secs(15);
/// Of a long poll at most.
const LONG_POLL_MAX: Duration = Duration::from_secs(60);

impl StateManager {
    pub(super) fn session_opened(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        session: SessionId,
        hello: Hello,
    ) {
        let id = hello.node.clone();
        let unlabelled = Labels::new();
        let newcomer = Newcomer::on_session(&hello, &unlabelled);
        let met = self.meet(now, out, by, newcomer).map_err(|r| (GoodbyeReason::Protocol, r));
        let checked = met.and_then(|()| self.check_session(now, out, by, &hello));
        if let Err((reason, refusal)) = checked {
            self.audit_refusal(now, out, by, Call::Session, id.as_str(), &refusal);
            let goodbye = Goodbye { reason, message: refusal.message };
            out.effects.push(Effect::Close { node: id, session, goodbye });
            return;
        }
        let generation = self.topology.generation;
        self.learn_from_hello(now, out, &hello);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.check_pending = hello.system_check_pending;
        node.hardware = None;
        node.recovers = hello.recovers;
        node.can_be_watched = hello.can_be_watched;
        node.watch_told_at = None;
        match hello.system_check {
            Some(check) if check.check("system_check").is_ok() => node.take_check(check),
            // it has none any more, and so nothing that could heal
            None if !hello.system_check_pending => {
                node.system_check = None;
                node.check_failed = None;
            }
            Some(_) | None => {}
        }
        node.session_before.clone_from(&hello.previous_session);
        if let Some(old) = node.session.replace(session.clone()) {
            let goodbye = goodbye(GoodbyeReason::Replaced, "the node opened another session");
            out.effects.push(Effect::Close { node: id.clone(), session: old, goodbye });
        }
        node.detector.session_opened(now.at);
        node.last_heartbeat = Some(now.wall);
        self.heard_since_saved = true;
        let first = !std::mem::replace(&mut node.record.speaks_sessions, true);
        if node.record.key_seen(&by.key_fingerprint) || first {
            out.touch(&id);
        }
        let acknowledged_sequence = node.record.acknowledged_sequence;
        out.change(&id);
        self.send_welcome(now, out, &id, &session, acknowledged_sequence);
        self.hold_to_timing(&id);
        self.begin_probing(now, &id);
        // ahead of us is a board that was in another cluster, or a master that was set back
        if hello.applied_generation != generation {
            self.send_config(out, &id);
        } else {
            self.config_applied(now, out, &id, hello.applied_generation, None);
        }
        self.settle(now, out, &id);
    }

    fn send_welcome(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
        acknowledged_sequence: u64,
    ) {
        let welcome = Welcome {
            session: session.clone(),
            cluster: self.topology.id.clone(),
            timing: self.timing(),
            acknowledged_sequence,
            clock: now.wall,
            masters: self.settings.masters.clone(),
            recovery: self.recovery_orders(now, id),
            takes_missed: true,
        };
        let message = ToAgent::Welcome(welcome);
        out.effects.push(Effect::Send { node: id.clone(), session: session.clone(), message });
    }

    fn check_session(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        hello: &Hello,
    ) -> Result<(), (GoodbyeReason, Refusal)> {
        let removed = |refusal| (GoodbyeReason::Removed, refusal);
        let reason = if by.expired && !mutant!("an expired agent is not told why") {
            GoodbyeReason::Expired
        } else {
            GoodbyeReason::Protocol
        };
        by.check(Call::Session).map_err(|r| (reason, r))?;
        self.check_standing(by).map_err(removed)?;
        if by.id != hello.node.as_str() {
            let refusal = speaks_for_another(by, hello.node.as_str());
            return Err((GoodbyeReason::Protocol, refusal));
        }
        let Some(node) = self.nodes.get(&hello.node) else { return Ok(()) };
        if node.record.status == NodeStatus::Pending {
            return Err((GoodbyeReason::Busy, super::join::awaiting_approval()));
        }
        // or it was welcomed since, and never heard of it
        let same_process = hello.previous_session.as_ref().is_some_and(|previous| {
            node.session.as_ref() == Some(previous)
                || node.session_before.as_ref() == Some(previous)
        });
        if node.detector.is_live(now.at, &node.timing) && !same_process {
            self.tell_duplicate(now, out, &hello.node, EventKind::DuplicateIdentity);
            let refusal = Refusal::new(
                Code::AlreadyExists,
                "DuplicateIdentity",
                format!("another live session has the id {}: is this a cloned disk?", hello.node),
            );
            return Err((GoodbyeReason::Duplicate, refusal));
        }
        Ok(())
    }

    /// Host name and address are attributes: they may change, but never into another node's name.
    fn learn_from_hello(&mut self, now: Now, out: &mut Outbox, hello: &Hello) {
        let id = &hello.node;
        let taken = |name: &NodeName| self.names.get(&name.key()).is_some_and(|other| other != id);
        let name = NodeName::parse("hostname", &hello.hostname).ok();
        let (free, clashes) = match name {
            Some(name) if taken(&name) => (None, true),
            Some(name) => (Some(name), false),
            None => (None, false),
        };
        let Some(node) = self.nodes.get_mut(id) else { return };
        let before = node.record.clone();
        let record = &mut node.record;
        if let Some(name) = free {
            record.name = name;
        }
        if check_address("ip_address", &hello.ip).is_ok() {
            record.ip.clone_from(&hello.ip);
        }
        if hello.resources.check("resources").is_ok() {
            record.resources = hello.resources;
        }
        if hello.system.check().is_ok() {
            let runtime = std::mem::take(&mut record.system.runtime_version);
            record.system.clone_from(&hello.system);
            // an agent that has just started has not met its Podman yet
            if record.system.runtime_version.is_empty() {
                record.system.runtime_version = runtime;
            }
        }
        if before != *record {
            out.touch(id);
        }
        if before.name != record.name {
            let name = record.name.key();
            self.names.remove(&before.name.key());
            self.names.insert(name, id.clone());
        }
        if clashes {
            self.tell_duplicate(now, out, id, EventKind::DuplicateName);
        }
        self.tell_dropped_events(now, out, hello);
    }

    fn tell_dropped_events(&mut self, now: Now, out: &mut Outbox, hello: &Hello) {
        let Some(node) = self.nodes.get_mut(&hello.node) else { return };
        let told = std::mem::replace(&mut node.record.events_dropped, hello.events_dropped);
        let count = hello.events_dropped.saturating_sub(told);
        if hello.events_dropped != told {
            out.touch(&hello.node);
        }
        if count == 0 || mutant!("dropped events are not told") {
            return;
        }
        let draft = Draft::of(
            &node.record,
            Severity::Warning,
            EventKind::EventsDropped,
            format!("node {} had to drop {count} events: its journal was full", node.record.name),
        )
        .field("count", count.to_string());
        self.happened(now, out, draft);
    }

    pub(super) fn take_from_agent(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
        message: ToMaster,
    ) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.session.as_ref() != Some(session) && !mutant!("any session may speak") {
            return;
        }
        node.detector.heard(now.at);
        node.last_heartbeat = Some(now.wall);
        self.heard_since_saved = true;
        match message {
            ToMaster::Beat => {
                let (node, session) = (id.clone(), session.clone());
                out.effects.push(Effect::Send { node, session, message: ToAgent::Beat });
            }
            ToMaster::Status(report) => match report.check() {
                Ok(()) => self.take_report(now, out, id, *report),
                Err(error) => self.protocol_error(now, out, id, session, &error.to_string()),
            },
            ToMaster::Events(entries) => self.take_events(now, out, id, session, entries),
            ToMaster::ConfigApplied { generation, rejected } => {
                self.config_applied(now, out, id, generation, rejected);
            }
            // the shell turns it into an input of its own, once it has checked the signature
            ToMaster::CertificateRequest { .. } => {}
            ToMaster::CommandResult { id: command, success, message } => {
                self.command_answered(out, id, &command, success, message);
            }
            ToMaster::Probed { id: command, parts } => match ProbePart::check_all(&parts) {
                Ok(()) => self.probed(now, out, id, &command, parts),
                Err(error) => self.protocol_error(now, out, id, session, &error.to_string()),
            },
            ToMaster::Missed(figures) => match figures.check() {
                Ok(()) => out.effects.push(Effect::Missed { node: id.clone(), figures }),
                Err(error) => self.protocol_error(now, out, id, session, &error.to_string()),
            },
            ToMaster::Goodbye(goodbye) if goodbye.reason == GoodbyeReason::Leaving => {
                self.terminate(now, out, id);
            }
            ToMaster::Goodbye(_) => {}
        }
        self.settle(now, out, id);
    }

    /// Somebody looks at the figures of these nodes; said again and again for as long as they do.
    pub(super) fn watched(&mut self, now: Now, out: &mut Outbox, nodes: &Selector) {
        for (id, node) in &mut self.nodes {
            let Some(session) = node.session.clone().filter(|_| node.can_be_watched) else {
                continue;
            };
            let told = node.watch_told_at.is_some_and(|at| now.at.since(at) < WATCHED_FOR / 3);
            if !told && nodes.selects(&node.record) {
                node.watch_told_at = Some(now.at);
                let message = ToAgent::Watched(WATCHED_FOR);
                out.effects.push(Effect::Send { node: id.clone(), session, message });
            }
        }
    }

    pub(super) fn session_closed(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
    ) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.session.as_ref() != Some(session) {
            return;
        }
        node.session = None;
        node.probing.stop();
        node.detector.session_closed(now.at);
        out.change(id);
        self.settle(now, out, id);
    }

    /// It was silent for too long.
    pub(super) fn drop_silent_session(&mut self, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if let Some(session) = node.session.take() {
            node.probing.stop();
            node.detector.session_dropped(&node.timing);
            let goodbye = goodbye(GoodbyeReason::Slow, "no beat was heard for too long");
            out.change(id);
            out.effects.push(Effect::Close { node: id.clone(), session, goodbye });
        }
    }

    pub(super) fn renewal_requested(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
        csr: Vec<u8>,
        key_fingerprint: String,
    ) {
        let until = now.wall.plus(self.settings.certificate_lifetime);
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.session.as_ref() != Some(session) {
            return;
        }
        node.detector.heard(now.at);
        node.last_heartbeat = Some(now.wall);
        self.heard_since_saved = true;
        let record = &mut node.record;
        record.key_requested(key_fingerprint);
        record.certificate_expires_at = Some(until);
        out.touch(id);
        let (name, role) = (record.name.clone(), record.role);
        let (node, session) = (id.clone(), session.clone());
        out.effects.push(Effect::SendCertificate { node, name, role, session, csr, until });
        self.settle(now, out, id);
    }

    fn take_report(&mut self, now: Now, out: &mut Outbox, id: &NodeId, report: StatusReport) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.metrics = report.metrics;
        node.sampled_at = Some(now.wall);
        if let Some(clock) = report.clock {
            node.clock_seen(clock, now.wall);
        }
        out.change(id);
        if let Some(system) = report.system
            && system != node.record.system
        {
            node.record.system = system;
            out.touch(id);
        }
        if let Some(check) = report.system_check {
            node.take_check(check);
        }
        node.hardware = report.hardware.or(node.hardware.take());
        let Some(picture) = report.picture else { return };
        if node.take_recovery(picture.recovery, report.clock, now.wall) {
            out.touch(id);
        }
        if let Some(containers) = picture.containers {
            node.take_containers(containers, now.wall);
        }
        let own = picture.conditions.into_iter().filter(|c| c.kind.from_agent());
        node.own_conditions =
            own.map(|c| crate::model::Condition { since: now.wall, ..c }).collect();
        let drafts: Vec<_> = picture
            .alerts
            .iter()
            .map(|alert| {
                Draft::of(&node.record, alert.severity, EventKind::Alert, alert.message.clone())
                    .field("alert", alert.kind.clone())
            })
            .take(EVENTS_PER_BATCH_MAX)
            .collect();
        for draft in drafts {
            self.happened(now, out, draft);
        }
    }

    /// Appended once, acknowledged, in one commit with the sequence that was acknowledged.
    fn take_events(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
        entries: Vec<JournalEntry>,
    ) {
        let in_order = entries.windows(2).all(|w| w[0].sequence < w[1].sequence);
        let bytes: usize = entries.iter().map(JournalEntry::size_bytes).sum();
        let few = entries.len() <= EVENTS_PER_BATCH_MAX && bytes <= EVENT_BATCH_BYTES_MAX;
        if !few || !in_order || !entries.iter().all(is_sound) {
            self.protocol_error(now, out, id, session, "a batch of events is not as it must be");
            return;
        }
        let Some(node) = self.nodes.get_mut(id) else { return };
        let acknowledged = node.record.acknowledged_sequence;
        let name = node.record.name.clone();
        let newest = entries.last().map_or(acknowledged, |e| e.sequence.max(acknowledged));
        if newest > acknowledged && !mutant!("the acknowledged sequence is not stored") {
            node.record.acknowledged_sequence = newest;
            out.touched.insert(id.clone());
        }
        let is_new =
            |e: &JournalEntry| e.sequence > acknowledged || mutant!("events are appended again");
        let mut past = Vec::new();
        for entry in entries.into_iter().filter(is_new) {
            if entry.kind == EventKind::LocalAlertResolved {
                past.push(entry.clone());
            }
            let event = Event {
                id: 0,
                at: entry.at,
                severity: entry.severity,
                kind: entry.kind,
                node: Some(id.clone()),
                node_name: Some(name.clone()),
                message: entry.message,
                node_sequence: entry.sequence,
                fields: entry.fields,
                delivered_late: entry.offline,
            };
            self.log.append(event, out);
        }
        self.take_past_alerts(now, out, id, &past);
        let message = ToAgent::EventAck { sequence: newest };
        let (node, session) = (id.clone(), session.clone());
        out.effects.push(Effect::Send { node, session, message });
    }

    pub(super) fn config_applied(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        generation: u64,
        rejected: Option<String>,
    ) {
        let newest = self.topology.generation;
        let Some(node) = self.nodes.get_mut(id) else { return };
        // a generation that was never made is a board from another life: it was sent ours, and may refuse it
        if generation > newest && rejected.is_none() {
            return;
        }
        let why = rejected.map(|why| bounded(&why));
        if why.is_some() && why != node.config_rejected {
            let draft = Draft::of(
                &node.record,
                Severity::Warning,
                EventKind::ConfigRejected,
                format!("node {} could not apply generation {generation}", node.record.name),
            );
            self.happened(now, out, draft);
        }
        if generation == newest && why.is_none() {
            self.hold_to_timing(id);
        }
        let Some(node) = self.nodes.get_mut(id) else { return };
        if why.is_none() && generation > node.record.applied_generation {
            node.record.applied_generation = generation;
            out.touch(id);
        }
        node.config_rejected = why;
    }

    pub(super) fn send_config(&self, out: &mut Outbox, id: &NodeId) {
        let Some(session) = self.nodes.get(id).and_then(|node| node.session.clone()) else {
            return;
        };
        let message = ToAgent::Config {
            generation: self.topology.generation,
            config: self.topology.node_config(self.settings.timing),
        };
        out.effects.push(Effect::Send { node: id.clone(), session, message });
    }

    fn protocol_error(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
        problem: &str,
    ) {
        let (node, session) = (id.clone(), session.clone());
        let goodbye = goodbye(GoodbyeReason::Protocol, problem);
        self.session_closed(now, out, &node, &session);
        out.effects.push(Effect::Close { node, session, goodbye });
    }

    pub(super) fn unary_heartbeat(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        id: &NodeId,
    ) {
        self.heard_by_unary(now, out, id);
        // the answer tells the pace to who lives by it; a session has its Config
        let probes = self.nodes.get(id).is_some_and(|node| node.record.speaks_sessions);
        if !probes || mutant!("a probe changes the pace") {
            self.hold_to_timing(id);
        }
        let timing = self.timing();
        let Some(node) = self.nodes.get(id) else { return };
        // it would go on believing in a session that is over
        if node.record.speaks_sessions && node.session.is_none() {
            let message = "the session is over; open another";
            let refusal = Refusal::new(Code::FailedPrecondition, "NoSession", message);
            return out.reply(request, Err(refusal));
        }
        out.reply(
            request,
            Ok(Answer::Heartbeat {
                next: timing.heartbeat_interval,
                generation: self.topology.generation,
                status: node.record.status,
            }),
        );
    }

    pub(super) fn unary_report(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        id: &NodeId,
        report: StatusReport,
    ) -> Result<(), Refusal> {
        report.check()?;
        self.take_report(now, out, id, report);
        self.heard_by_unary(now, out, id);
        if let Some(node) = self.nodes.get(id) {
            out.reply(request, Ok(Answer::Status(node.record.status)));
        }
        Ok(())
    }

    pub(super) fn unary_config(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        id: &NodeId,
        (applied, rejected, wait): (u64, Option<String>, Duration),
    ) -> Result<(), Refusal> {
        self.config_applied(now, out, id, applied, rejected);
        self.heard_by_unary(now, out, id);
        if applied < self.topology.generation || wait.is_zero() {
            out.reply(request, Ok(self.config_answer(applied)));
            return Ok(());
        }
        if self.parked.len() >= PARKED_MAX {
            return Err(Refusal::new(Code::ResourceExhausted, "Busy", "too many requests wait"));
        }
        let until = now.at + wait.min(LONG_POLL_MAX);
        self.parked
            .insert(request, Parked { node: id.clone(), until, command: None, wants_node: false });
        Ok(())
    }

    pub(super) fn config_answer(&self, applied: u64) -> Answer {
        let newer = applied < self.topology.generation;
        Answer::Config {
            generation: self.topology.generation,
            config: newer.then(|| self.topology.node_config(self.settings.timing)),
        }
    }

    fn heard_by_unary(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.record.speaks_sessions && !mutant!("a probe is a way to live") {
            // once it was given up it must open a session again; by what was decided, not by the clock:
            // after a stall of ours, a probe that waited is as good as a beat that did
            if !node.is_given_up() {
                node.detector.probed(now.at);
            }
        } else {
            node.detector.heard_by_unary_call(now.at);
        }
        node.last_heartbeat = Some(now.wall);
        self.heard_since_saved = true;
        self.settle(now, out, id);
    }

    /// Long polls that have waited long enough, and commands that were not answered.
    pub(super) fn answer_overdue(&mut self, now: Now, out: &mut Outbox) {
        let overdue = self.parked.iter().filter(|(_, parked)| parked.until <= now.at);
        let overdue: Vec<_> = overdue.map(|(id, parked)| (*id, parked.clone())).collect();
        for (request, parked) in overdue {
            self.parked.remove(&request);
            let result = match parked.command {
                None => Ok(self.config_answer(self.topology.generation)),
                Some(_) => Err(Refusal::new(
                    Code::Unavailable,
                    "NoAnswer",
                    format!("node {} did not answer in time; it may still act on it", parked.node),
                )),
            };
            out.reply(request, result);
        }
    }

    pub(super) fn command_answered(
        &mut self,
        out: &mut Outbox,
        id: &NodeId,
        command: &str,
        success: bool,
        message: String,
    ) {
        let waits =
            |parked: &Parked| parked.node == *id && parked.command.as_deref() == Some(command);
        // several may wait for one probe
        while let Some((request, wants_node)) =
            self.parked.iter().find(|(_, p)| waits(p)).map(|(r, p)| (*r, p.wants_node))
        {
            self.parked.remove(&request);
            let result = self.command_result(id, success, wants_node, message.clone());
            out.reply(request, result);
        }
    }

    fn command_result(
        &self,
        id: &NodeId,
        success: bool,
        wants_node: bool,
        message: String,
    ) -> Result<Answer, Refusal> {
        if success && wants_node {
            Ok(Answer::Node(Box::new(self.node_view(id))))
        } else if success {
            Ok(Answer::Command(message))
        } else {
            Err(Refusal::new(Code::FailedPrecondition, "CommandFailed", message))
        }
    }

    /// Whether the node carries this condition now.
    pub fn has_condition(&self, id: &NodeId, kind: ConditionKind) -> bool {
        self.nodes.get(id).is_some_and(|node| node.record.conditions.iter().any(|c| c.kind == kind))
    }
}

pub(super) fn goodbye(reason: GoodbyeReason, message: &str) -> Goodbye {
    Goodbye { reason, message: message.to_owned() }
}

fn is_sound(entry: &JournalEntry) -> bool {
    let text = |text: &str| check_text("event", text, TEXT_BYTES_MAX).is_ok();
    (1..=SEQUENCE_MAX).contains(&entry.sequence)
        && text(&entry.message)
        && entry.fields.len() <= 16
        && entry.fields.iter().all(|(k, v)| text(k) && text(v))
}
