//! Finding a master, the session with it, and what both sides want from each other.
//!
//! A session ends for good at its first fault; the next one starts from nothing: Hello, Welcome, then one
//! sync (configuration down, whole status up, journal up). Beats are sent by the loop that does the work,
//! and the master's are watched in the same way.

use std::time::Duration;

use super::{Effect, NodeAgent, Phase, Standing, Validity};
use crate::{
    failure_detector::Timing,
    model::{EventKind, Severity},
    mutant::mutant,
    session::{AgentCommand, Goodbye, GoodbyeReason, Hello, ToAgent, ToMaster, Welcome},
    time::{Deadline, Now, Timestamp, WallTime, earliest},
    topology::NodeConfig,
};

/// Without a master for so long, the journal tells of it.
const ALONE_TOLD_AFTER: Duration = Duration::from_secs(5);
/// Between two attempts of a node that was removed, or that waits for a person.
const HOPELESS_RETRY: Duration = Duration::from_secs(60);
/// Between two attempts where the master said that it will be better soon.
const SOON_RETRY: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(3000));
/// Of that time, where it was refused again and again: until it is that of the hopeless.
const REFUSED_DOUBLINGS_MAX: u32 = 6;
/// Probes without a word on the session itself: then it is stuck for another reason than lost packets.
const PROBES_MAX: u32 = 8;
/// Masters that are tried in turn at most.
const MASTERS_MAX: usize = 16;
/// The clock floor is saved when it would rise by more than this: flash wears out.
const CLOCK_FLOOR_STEP: Duration = Duration::from_secs(3600);

impl NodeAgent {
    pub(super) fn registered(&mut self, now: Now, standing: Standing, pending: bool) {
        match self.phase {
            Phase::Registering | Phase::Waiting { .. } | Phase::Stranded => {}
            Phase::Connecting
            | Phase::Opening { .. }
            | Phase::InSession { .. }
            | Phase::Stopped => return,
        }
        self.standing = standing;
        self.validity = Validity::Issued;
        self.taken_in();
        if pending {
            self.last_problem = Some("the node waits for approval".to_owned());
            self.wait(now, SOON_RETRY);
        } else {
            self.last_problem = None;
            self.backoff.reset();
            self.phase = Phase::Waiting { until: now.at };
        }
    }

    pub(super) fn register_failed(&mut self, now: Now, why: String, fatal: bool) {
        self.last_problem = Some(why);
        if self.phase != Phase::Registering {
            return;
        }
        if fatal {
            self.wait_longer(now);
        } else {
            self.try_next_master(now);
        }
    }

    pub(super) fn connected(&mut self, now: Now, out: &mut Vec<Effect>, ip: String) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Opening { until: now.at + self.timing.beat_silence };
        self.told_system = Some(self.system.clone());
        self.hardware.tell_again();
        out.push(Effect::SayHello(Hello {
            node: self.settings.node.clone(),
            previous_session: self.previous_session.clone(),
            applied_generation: self.ledger.generation,
            next_sequence: self.journal.next_sequence(),
            events_dropped: self.ledger.events_dropped,
            system: self.system.clone(),
            hostname: self.hostname.clone(),
            ip,
            resources: self.resources,
            clock: now.wall,
            system_check: self.checks.tell_all(),
            system_check_pending: self.checks.is_pending(),
            recovers: true,
            can_be_watched: true,
            reads_logs: true,
            keeps_logs: true,
        }));
    }

    /// The stream is over, whoever ended it.
    pub(super) fn disconnected(&mut self, now: Now, why: String) {
        match self.phase {
            Phase::Connecting | Phase::Opening { .. } | Phase::InSession { .. } => {
                self.lose(now, why);
            }
            Phase::Waiting { .. } | Phase::Registering | Phase::Stranded | Phase::Stopped => {}
        }
    }

    fn lose(&mut self, now: Now, why: String) {
        if self.in_session() {
            self.alone = Some((now, false));
            self.backoff.reset();
        }
        self.batch_until = None;
        self.missed.session_lost();
        self.certificate_requested = false;
        self.last_problem = Some(why);
        self.is_duplicate = false;
        self.try_next_master(now);
    }

    fn try_next_master(&mut self, now: Now) {
        self.master = (self.master + 1) % self.settings.masters.len().max(1);
        let delay = self.backoff.next();
        self.phase = Phase::Waiting { until: now.at + delay };
    }

    fn wait(&mut self, now: Now, (low, high): (Duration, Duration)) {
        let delay = self.backoff.between(low, high);
        self.phase = Phase::Waiting { until: now.at + delay };
    }

    /// A master has this node: what one refused before is over.
    fn taken_in(&mut self) {
        self.removed = false;
        self.refusals = 0;
        self.is_duplicate = false;
    }

    /// After a refusal: what it was for may be over soon, as a name that is just being removed, or never, as a cloned disk.
    fn wait_longer(&mut self, now: Now) {
        let times = 1 << self.refusals.saturating_sub(1).min(REFUSED_DOUBLINGS_MAX);
        self.refusals = self.refusals.saturating_add(1);
        let (low, high) = SOON_RETRY;
        self.wait(now, ((low * times).min(HOPELESS_RETRY), (high * times).min(HOPELESS_RETRY * 2)));
    }

    pub(super) fn take_from_master(&mut self, now: Now, out: &mut Vec<Effect>, message: ToAgent) {
        let quiet = self.quiet_before_probe();
        if let Phase::InSession { heard_at, probe_at, probes, .. } = &mut self.phase {
            *heard_at = now.at;
            *probe_at = now.at + quiet;
            *probes = 0;
        }
        match message {
            ToAgent::Welcome(welcome) => self.welcomed(now, out, welcome),
            ToAgent::Beat => self.round_trip.answered(now.at, self.timing.beat_silence),
            ToAgent::Config { generation, config } => self.configure(now, out, generation, config),
            ToAgent::EventAck { sequence } => self.events_acknowledged(out, sequence),
            ToAgent::Certificate { certificate, ca } => {
                if self.certificate_requested {
                    out.push(Effect::InstallCertificate { certificate, ca });
                }
            }
            ToAgent::Command { id, command } => {
                if self.in_session() {
                    match command {
                        AgentCommand::CheckSystem => self.check_asked(out, id),
                        AgentCommand::Recover { step, container } => {
                            self.recovery_forced(now, out, id, step, container);
                        }
                        AgentCommand::SetLogLevel { .. }
                        | AgentCommand::RestartContainer { .. }
                        | AgentCommand::Probe => {
                            out.push(Effect::Run { id, command });
                        }
                    }
                }
            }
            ToAgent::Recovery(orders) => self.take_orders(now, out, orders),
            ToAgent::Watched(span) => self.watched(now, out, span),
            ToAgent::Goodbye(goodbye) => self.dismissed(now, out, goodbye),
        }
    }

    fn welcomed(&mut self, now: Now, out: &mut Vec<Effect>, welcome: Welcome) {
        if !matches!(self.phase, Phase::Opening { .. }) {
            return;
        }
        self.timing = welcome.timing;
        self.previous_session = Some(welcome.session.clone());
        self.phase = Phase::InSession {
            session: welcome.session,
            heard_at: now.at,
            beat_at: now.at + self.timing.beat_interval,
            report_at: now.at,
            probe_at: now.at + self.quiet_before_probe(),
            probes: 0,
        };
        self.round_trip.begin();
        self.backoff.reset();
        self.last_problem = None;
        self.taken_in();
        self.batch_until = None;
        self.master_clock = Some((welcome.clock, now.at));
        self.validity = Validity::ByClock;
        if self.ledger.clock_floor.plus(CLOCK_FLOOR_STEP) < welcome.clock {
            self.ledger.clock_floor = welcome.clock;
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
        self.learn_masters(welcome.masters);
        self.take_orders(now, out, welcome.recovery);
        let through = welcome.acknowledged_sequence;
        let moved = self.journal.skip_to(through);
        if let Some(first) = moved.first() {
            let through = first.sequence - 1;
            out.extend(moved.into_iter().map(Effect::JournalAppend));
            out.push(Effect::JournalTrim { through });
        }
        if self.ledger.unsent_from.take().is_some() {
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
        self.events_acknowledged(out, through);
        self.report(now, out);
        if welcome.takes_missed
            && let Some(missed) = self.missed.tell(now.at)
        {
            out.push(Effect::Send(ToMaster::Missed(missed)));
        }
        if let Some((since, true)) = self.alone.take()
            && self.ledger.generation > 0
        {
            let alone = now.at.since(since.at).as_secs();
            let message = format!("the master is there again, after {alone} s alone");
            let kind = EventKind::MasterFound;
            self.record(now, out, Severity::Info, kind, message, &[]);
        }
        self.send_events(out);
    }

    /// Behind those of the configuration, which a person has chosen.
    fn learn_masters(&mut self, masters: Vec<String>) {
        let known = &mut self.settings.masters;
        for master in masters {
            if known.len() < MASTERS_MAX && !known.contains(&master) {
                known.push(master);
            }
        }
    }

    /// Only ever forward within a cluster: an older configuration changes nothing.
    fn configure(&mut self, now: Now, out: &mut Vec<Effect>, generation: u64, config: NodeConfig) {
        if !self.in_session() {
            return;
        }
        let current = self.ledger.generation;
        let other = self.ledger.config.as_ref().is_some_and(|c| c.cluster != config.cluster);
        let newer = generation > current || other || mutant!("an older generation is accepted");
        let rejected = if newer {
            self.keep_pace(now, config.timing);
            self.ledger.generation = generation;
            self.ledger.config = Some(config.clone());
            if !mutant!("a generation is not saved") {
                out.push(Effect::SaveLedger(self.ledger.clone()));
            }
            out.push(Effect::Apply { generation, config });
            None
        } else if generation < current {
            Some(format!("generation {generation} is older than {current}, which is applied"))
        } else if generation == self.ledger.generation
            && self.ledger.config.as_ref() != Some(&config)
        {
            Some(format!("generation {generation} was applied already, with another content"))
        } else {
            None
        };
        if let Some(why) = &rejected {
            let kind = EventKind::ConfigRejected;
            self.record(now, out, Severity::Warning, kind, why.clone(), &[]);
        }
        let generation = self.ledger.generation;
        self.say(out, ToMaster::ConfigApplied { generation, rejected });
    }

    /// A new pace holds at once, also for the beat that is due next.
    fn keep_pace(&mut self, now: Now, timing: Timing) {
        self.timing = timing;
        if mutant!("a new pace waits for the next beat") {
            return;
        }
        if let Phase::InSession { beat_at, report_at, .. } = &mut self.phase {
            *beat_at = (*beat_at).min(now.at + timing.beat_interval);
            *report_at = (*report_at).min(now.at + timing.heartbeat_interval);
        }
    }

    fn events_acknowledged(&mut self, out: &mut Vec<Effect>, through: u64) {
        // what was recalled from the journal at the start is nowhere else yet
        if self.journal.would_lose(EventKind::PersonNeeded, through) {
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
        if self.journal.acknowledged(through) {
            out.push(Effect::JournalTrim { through });
        }
        if self.batch_until.is_some_and(|until| until <= through) {
            self.batch_until = None;
            self.send_events(out);
        }
    }

    /// One batch is under way at a time.
    pub(super) fn send_events(&mut self, out: &mut Vec<Effect>) {
        if !self.in_session() || self.batch_until.is_some() {
            return;
        }
        let batch = self.journal.batch();
        if let Some(last) = batch.last() {
            self.batch_until = Some(last.sequence);
            if mutant!("the journal is cleared when it is sent") {
                out.push(Effect::JournalTrim { through: last.sequence });
                self.journal.acknowledged(last.sequence);
            }
            out.push(Effect::Send(ToMaster::Events(batch)));
        }
    }

    fn dismissed(&mut self, now: Now, out: &mut Vec<Effect>, goodbye: Goodbye) {
        out.push(Effect::Disconnect);
        let was_in_session = self.in_session();
        self.lose(now, format!("{}: {}", goodbye.reason.name(), goodbye.message));
        match goodbye.reason {
            GoodbyeReason::Removed => {
                self.removed = true;
                self.wait(now, (HOPELESS_RETRY, HOPELESS_RETRY * 2));
            }
            GoodbyeReason::Expired => {
                self.validity = Validity::Over;
                self.wait(now, SOON_RETRY);
            }
            GoodbyeReason::Duplicate => {
                self.is_duplicate = true;
                self.wait_longer(now);
            }
            GoodbyeReason::Busy | GoodbyeReason::Protocol => self.wait(now, SOON_RETRY),
            GoodbyeReason::Stopping
            | GoodbyeReason::Leaving
            | GoodbyeReason::Slow
            | GoodbyeReason::Replaced
            | GoodbyeReason::Other => {
                if !was_in_session {
                    self.wait(now, SOON_RETRY);
                }
            }
        }
    }

    pub(super) fn stop(&mut self, out: &mut Vec<Effect>, leave: bool) {
        let reason = if leave { GoodbyeReason::Leaving } else { GoodbyeReason::Stopping };
        let message = "the agent stops; containers go on".to_owned();
        self.say(out, ToMaster::Goodbye(Goodbye { reason, message }));
        out.push(Effect::Stopped { left: leave });
        self.phase = Phase::Stopped;
    }

    /// On the session, if one is open; what is said without one is lost, and made up for by the next sync.
    pub(super) fn say(&mut self, out: &mut Vec<Effect>, message: ToMaster) {
        if self.in_session() {
            out.push(Effect::Send(message));
        }
    }

    pub(super) fn uplink_deadline(&mut self, now: Now, out: &mut Vec<Effect>) {
        match self.phase.clone() {
            Phase::Waiting { until } if until <= now.at => self.attempt(now, out),
            Phase::Opening { until } if until <= now.at => {
                out.push(Effect::Disconnect);
                self.lose(now, "the master did not answer Hello in time".to_owned());
            }
            Phase::InSession { heard_at, .. }
                if heard_at + self.timing.beat_silence <= now.at
                    && !mutant!("a silent master is not noticed") =>
            {
                out.push(Effect::Disconnect);
                self.lose(now, "no beat of the master was heard for too long".to_owned());
            }
            Phase::InSession { beat_at, report_at, probe_at, .. } => {
                self.probe_if_due(now, out, probe_at);
                self.beat_and_report(now, out, beat_at, report_at);
            }
            Phase::Waiting { .. }
            | Phase::Opening { .. }
            | Phase::Registering
            | Phase::Connecting
            | Phase::Stranded
            | Phase::Stopped => {}
        }
    }

    fn beat_and_report(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        due: Timestamp,
        report: Timestamp,
    ) {
        if due <= now.at {
            out.push(Effect::Send(ToMaster::Beat));
            self.round_trip.sent(now.at);
            if let Phase::InSession { beat_at, .. } = &mut self.phase {
                // not one for each that was missed while the process was suspended
                *beat_at = now.at + self.timing.beat_interval;
            }
            self.renew_if_due(now, out);
        }
        if report <= now.at {
            self.missed.heard();
            self.report(now, out);
        }
    }

    /// TCP waits longer with every packet that is lost; a few losses in a row would look like a dead
    /// master. A fresh connection has no such memory, and a heartbeat there counts as well as a beat.
    fn probe_if_due(&mut self, now: Now, out: &mut Vec<Effect>, due: Timestamp) {
        let Some(master) = self.current_master() else { return };
        let again = self.quiet_before_probe() / 3;
        let Phase::InSession { probe_at, probes, .. } = &mut self.phase else { return };
        if due <= now.at && *probes < PROBES_MAX {
            *probes += 1;
            *probe_at = now.at + again;
            out.push(Effect::Probe { master });
        }
    }

    pub(super) fn probe_answered(&mut self, now: Now) {
        if let Phase::InSession { heard_at, .. } = &mut self.phase {
            *heard_at = now.at;
        }
    }

    /// Half of what makes a session broken; never so soon that a beat in time would be too late.
    fn quiet_before_probe(&self) -> Duration {
        let Timing { beat_interval, beat_silence, .. } = self.timing;
        if beat_silence / 2 > beat_interval {
            beat_silence / 2
        } else {
            beat_interval + beat_silence.saturating_sub(beat_interval) / 2
        }
    }

    /// With a new key only where it can be kept: a new start would come with the one before, which is worth nothing
    /// once the new one was used.
    fn renew_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Standing::Certified { renew_at, .. } = self.standing
            && renew_at <= self.time_of_certificates(now)
            && !self.certificate_requested
        {
            self.certificate_requested = true;
            let new_key =
                self.state_problem.is_none() || mutant!("a key that cannot be kept is made");
            out.push(Effect::MakeCertificateRequest { new_key });
        }
    }

    fn attempt(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(master) = self.current_master() else {
            self.last_problem = Some("no master is configured".to_owned());
            self.phase = Phase::Stranded;
            return;
        };
        match self.standing {
            Standing::None { token: false } => {
                self.last_problem =
                    Some("the node has neither a certificate nor a token".to_owned());
                self.phase = Phase::Stranded;
            }
            Standing::Certified { expires_at, .. } if self.may_be_valid(now, expires_at) => {
                self.phase = Phase::Connecting;
                out.push(Effect::Connect { master });
            }
            Standing::None { token: true } | Standing::Certified { .. } => {
                self.phase = Phase::Registering;
                out.push(Effect::Register { master });
            }
        }
    }

    /// The master issues certificates and judges them, so its clock counts where it is known. A board
    /// without a clock thinks that it is 1970.
    fn time_of_certificates(&self, now: Now) -> WallTime {
        match self.master_clock {
            Some((wall, at)) if !mutant!("an agent trusts its own clock") => {
                wall.plus(now.at.since(at))
            }
            Some(_) | None => now.wall.max(self.ledger.clock_floor),
        }
    }

    /// What the master said last of the certificate beats what our clock makes of it.
    fn may_be_valid(&self, now: Now, expires_at: WallTime) -> bool {
        match self.validity {
            Validity::Issued if !mutant!("an agent trusts its own clock") => true,
            Validity::Over => false,
            Validity::Issued | Validity::ByClock => self.time_of_certificates(now) < expires_at,
        }
    }

    pub(super) fn uplink_deadline_at(&self) -> Option<Deadline> {
        match &self.phase {
            Phase::Waiting { until } => Some(Deadline { at: *until, why: "next attempt" }),
            Phase::Opening { until } => Some(Deadline { at: *until, why: "Welcome overdue" }),
            Phase::InSession { heard_at, beat_at, report_at, probe_at, probes, .. } => {
                let quiet = (*probes < PROBES_MAX)
                    .then_some(Deadline { at: *probe_at, why: "master quiet" });
                let silent_at = *heard_at + self.timing.beat_silence;
                earliest(&[
                    quiet,
                    Some(Deadline { at: *beat_at, why: "beat" }),
                    Some(Deadline { at: *report_at, why: "status report" }),
                    Some(Deadline { at: silent_at, why: "master silent" }),
                ])
            }
            Phase::Registering | Phase::Connecting | Phase::Stranded | Phase::Stopped => None,
        }
    }

    pub(super) fn alone_told_at(&self) -> Option<Timestamp> {
        self.alone.filter(|(_, told)| !told).map(|(since, _)| since.at + ALONE_TOLD_AFTER)
    }

    /// A node that comes back was away because its agent ended, or for another reason: the journal says which.
    pub(super) fn tell_of_the_start(&mut self, now: Now, out: &mut Vec<Effect>) {
        let told = std::mem::replace(&mut self.start_told, true);
        // what has never been a member has nothing to come back to
        if told || self.ledger.generation == 0 {
            return;
        }
        let message = format!("the agent has started, version {}", self.system.agent_version);
        self.record(now, out, Severity::Info, EventKind::AgentStarted, message, &[]);
    }

    pub(super) fn tell_of_being_alone(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some((since, false)) = self.alone else { return };
        if now.at < since.at + ALONE_TOLD_AFTER {
            return;
        }
        self.alone = Some((since, true));
        // a node that never had a master has not lost it
        if self.ledger.generation > 0 {
            let at = Now { wall: since.wall, ..now };
            let message = "the master cannot be reached; the node works on alone".to_owned();
            self.record(at, out, Severity::Warning, EventKind::MasterLost, message, &[]);
        }
    }
}
