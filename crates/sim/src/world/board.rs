//! A board: its containers, its link, and the agent's process with the shell around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use piccolo_core::{
    action_controller::recovery::{Failure, Policy, Step},
    api_server::{Code, Registration},
    model::{
        CheckLevel, ContainerReport, EventKind, Finding, JournalEntry, Labels, NodeId, NodeKind,
        NodeName, NodeRole, ProbePart, Resources, RestartPolicy, SystemCheck, SystemInfo,
    },
    node_agent::{
        Effect, Host, Input, NodeAgent, Observation, Runtime, Sample, Settings, Snapshot, Standing,
        check::CheckPace, hardware::Limits, local_alerts::Local, pressure::Thresholds,
    },
    session::{AgentCommand, ToMaster},
    state_manager::{Answer, Registered, Request},
    time::WallTime,
};

use super::{
    Due, World,
    disk::{Disk, StateFolder},
    network::{Call, ConnId, Link, Up},
};
use crate::{
    clock::{Clock, SECOND, True},
    plan::Plan,
    rng::Rng,
};

const DEADLINE_ROUNDS_MAX: u32 = 200;
const SAMPLE_EVERY: u64 = 10 * SECOND;
/// Podman's answer after the kernel's word. Odd: what was late at an even moment is there at the next look.
const CODE_IS_LATE_BY: u64 = SECOND / 2 + 1;
/// What is mended is seen while somebody waits for it; what is well is not looked at again in most lives.
const CHECK_PACE: CheckPace = CheckPace {
    every: std::time::Duration::from_secs(3600),
    again: std::time::Duration::from_secs(10),
};
/// A board without a clock of its own starts here, in milliseconds before the true time.
const CLOCKLESS: i64 = -1_793_491_200_000;

/// What a certificate says; the key stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) node: NodeId,
    pub(crate) role: NodeRole,
    pub(crate) key: String,
    pub(crate) serial: u64,
    pub(crate) not_before: WallTime,
    pub(crate) not_after: WallTime,
}

impl Certificate {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { node, role, key, serial, not_before, not_after } = self;
        format!("{node}|{role}|{key}|{serial}|{}|{}", not_before.0, not_after.0).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split('|');
        Some(Self {
            node: NodeId::parse("node", parts.next()?).ok()?,
            role: match parts.next()? {
                "master" => NodeRole::Master,
                _ => NodeRole::Sub,
            },
            key: parts.next()?.to_owned(),
            serial: parts.next()?.parse().ok()?,
            not_before: WallTime(parts.next()?.parse().ok()?),
            not_after: WallTime(parts.next()?.parse().ok()?),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) machine: NodeAgent,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) suspended_until: Option<True>,
    pub(crate) dies_after: Option<u64>,
    conn: Option<ConnId>,
    call: Option<u64>,
    /// Of the certificate request that is under way.
    new_key: Option<String>,
    wake: Option<True>,
}

#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) index: usize,
    pub(crate) hostname: String,
    pub(crate) disk: Disk,
    pub(super) folder: StateFolder,
    pub(crate) clock: Clock,
    pub(crate) link: Link,
    pub(crate) agent: Option<Agent>,
    /// Of the agent's process.
    pub(crate) boot: u32,
    pub(crate) powered: bool,
    pub(crate) clockless: bool,
    pub(crate) podman_down: bool,
    /// What the agent was told of Podman last.
    pub(crate) observed_down: bool,
    /// Containers that have ended since Podman answered last.
    pub(crate) fresh_ends: BTreeSet<String>,
    pub(crate) containers: Vec<ContainerReport>,
    /// What the system says of the memory, percent.
    pub(crate) memory_percent: f32,
    pub(crate) trembles: bool,
    /// Its system check has an error.
    pub(crate) unfit: bool,
    /// What is done about its failures does not help.
    pub(crate) stubborn: bool,
    may_reboot: bool,
    /// Steps of recovery that are under way, by number.
    pub(super) steps: BTreeMap<u64, (Failure, Step)>,
    /// The last two samples.
    pub(super) sampled: [f32; 2],
    pub(super) sampling: bool,
    /// Looks at the hardware in a row that found it well.
    pub(crate) well_looks: u8,
    /// One is being taken in: what is recorded now is new.
    pub(crate) looking: bool,
    /// Restarts that the agent was told to do, by the command's id.
    pub(crate) ran: Vec<String>,
    /// The board from which this one was cloned.
    pub(crate) clone_of: Option<usize>,
    /// The node has said goodbye for good, or was thrown out; people may take it in again.
    pub(crate) retired: bool,
    settings_journal: usize,
    lives: u64,
}

impl Board {
    pub(crate) fn new(index: usize, plan: &Plan, clocks: &mut Rng) -> Self {
        let rate = 1_000_000 - plan.drift + clocks.below(plan.drift * 2 + 1);
        let clockless = clocks.chance(plan.clockless);
        let containers = (0..clocks.below(4)).map(|i| container(index, i)).collect();
        Self {
            index,
            hostname: format!("node-{}", index + 1),
            disk: Disk::new(&format!("id-{}-0", index + 1), format!("key-{index}-0")),
            folder: StateFolder::default(),
            clock: Clock::new(rate, clocks.below(1 << 40)),
            link: Link::default(),
            agent: None,
            boot: 0,
            powered: true,
            clockless,
            podman_down: false,
            observed_down: false,
            fresh_ends: BTreeSet::new(),
            containers,
            memory_percent: 40.0,
            trembles: false,
            unfit: false,
            stubborn: clocks.chance(30),
            may_reboot: clocks.chance(30),
            steps: BTreeMap::new(),
            sampled: [40.0; 2],
            sampling: false,
            well_looks: 0,
            looking: false,
            ran: Vec::new(),
            clone_of: None,
            retired: false,
            settings_journal: plan.journal_entries_max,
            lives: 0,
        }
    }

    /// The same disk in another board.
    pub(crate) fn cloned(&self, index: usize, clock: Clock) -> Self {
        let mut disk = self.found_by_a_restart().clone();
        disk.journal_life += 1_000_000;
        Self {
            index,
            hostname: self.hostname.clone(),
            disk,
            folder: StateFolder::default(),
            clock,
            link: Link::default(),
            agent: None,
            boot: 0,
            powered: true,
            clockless: false,
            podman_down: false,
            observed_down: false,
            fresh_ends: BTreeSet::new(),
            containers: self.containers.clone(),
            memory_percent: 40.0,
            trembles: false,
            unfit: self.unfit,
            stubborn: self.stubborn,
            may_reboot: self.may_reboot,
            steps: BTreeMap::new(),
            sampled: [40.0; 2],
            sampling: false,
            well_looks: 0,
            looking: false,
            ran: Vec::new(),
            clone_of: Some(self.index),
            retired: false,
            settings_journal: self.settings_journal,
            lives: 0,
        }
    }

    /// A new identity on an empty disk.
    pub(crate) fn reflash(&mut self) {
        self.lives += 1;
        let (board, life) = (self.index, self.lives);
        let journal_life = self.disk.journal_life + 1;
        self.disk = Disk::new(&format!("id-{}-{life}", board + 1), format!("key-{board}-{life}"));
        self.disk.journal_life = journal_life;
        self.folder = StateFolder::default();
    }

    pub(crate) fn left(&mut self, conn: ConnId) {
        if let Some(agent) = &mut self.agent
            && agent.conn == Some(conn)
        {
            agent.conn = None;
        }
    }

    fn standing(&self, renew_percent: u64) -> Standing {
        match &self.disk.certificate {
            None => Standing::None { token: self.disk.token.is_some() },
            Some(certificate) => {
                let life = certificate.not_after.since(certificate.not_before);
                let at = u32::try_from(renew_percent).unwrap_or(50);
                Standing::Certified {
                    renew_at: certificate.not_before.plus(life * at / 100),
                    expires_at: certificate.not_after,
                }
            }
        }
    }

    fn system_check(&self) -> SystemCheck {
        let (level, value) =
            if self.unfit { (CheckLevel::Error, "200 MiB") } else { (CheckLevel::Ok, "2000 MiB") };
        let finding = Finding {
            name: "memory".to_owned(),
            level,
            value: value.to_owned(),
            limit: ">= 400".to_owned(),
            remedy: String::new(),
        };
        SystemCheck { findings: vec![finding], ..SystemCheck::default() }
    }

    /// What the kernel says of containers that have ended goes before what Podman says: where that is late, or
    /// is down, their codes are not known.
    fn observation(&self, late: bool) -> Observation {
        let runtime = if self.podman_down {
            Runtime::Down { why: "connection refused".to_owned() }
        } else {
            Runtime::Up { version: "4.3.1".to_owned() }
        };
        let mut containers = self.containers.clone();
        for ended in &mut containers {
            if (late || self.podman_down) && self.fresh_ends.contains(&ended.id) {
                ended.exit_code = None;
            }
        }
        Observation { runtime, containers }
    }
}

pub(crate) fn container(board: usize, number: u64) -> ContainerReport {
    ContainerReport {
        id: format!("c{board}-{number}"),
        name: format!("app-{number}"),
        image: "localhost/app:1".to_owned(),
        state: "running".to_owned(),
        started_at: Some(WallTime(1)),
        restart: match number % 3 {
            0 => RestartPolicy::OnFailure,
            1 => RestartPolicy::Always,
            _ => RestartPolicy::No,
        },
        ..ContainerReport::default()
    }
}

impl World {
    pub(crate) fn agent_boots(&mut self, b: usize) {
        let now = self.now;
        let board = &mut self.boards[b];
        if board.agent.is_some() || board.retired {
            return;
        }
        if !board.powered {
            board.powered = true;
            board.clock.boot(now, 0);
            board.clock.wall_offset = if board.clockless { CLOCKLESS } else { 0 };
        }
        board.boot += 1;
        let renew_at = self.randoms.shell.between(50, 80);
        let snapshot = Snapshot {
            ledger: board.disk.ledger.clone(),
            journal: board.disk.journal.values().cloned().collect(),
            next_sequence: board.disk.next_sequence,
        };
        let settings = Settings {
            node: board.disk.node.clone(),
            masters: vec!["10.0.0.100:47098".to_owned()],
            reconnect_max: std::time::Duration::from_secs(3),
            thresholds: Thresholds::default(),
            hardware: Limits::default(),
            journal_entries_max: board.settings_journal,
            journal_bytes_max: 1 << 20,
            system_check: Some(CHECK_PACE),
            recovery: Policy { reboot: board.may_reboot, ..Policy::default() },
            alerts: Local { channel: true, ..Local::default() },
        };
        let host = Host {
            hostname: board.hostname.clone(),
            boot: board.clock.booted_at.to_string(),
            system: SystemInfo { agent_version: "0.1.0".to_owned(), ..SystemInfo::default() },
            resources: Resources { cpu: 4, memory: 1024, disk: 16 },
        };
        let seed = self.randoms.shell.next();
        let local = board.clock.now(now);
        let standing = board.standing(renew_at);
        let machine = NodeAgent::restore(settings, host, snapshot, standing, seed, local);
        board.agent = Some(Agent {
            machine,
            inbox: VecDeque::new(),
            suspended_until: None,
            dies_after: None,
            conn: None,
            call: None,
            new_key: None,
            wake: None,
        });
        let boot = board.boot;
        self.tell(|| format!("board-{b}: agent starts"));
        let phase = self.randoms.shell.below(SAMPLE_EVERY);
        let answers = match self.plan.podman_answers {
            0 => 0,
            most => self.randoms.shell.scale(1_000, most),
        };
        self.push(now + answers, Due::Observe { board: b, boot });
        self.push(now + phase, Due::Sample { board: b, boot });
        self.wake_agent(b);
    }

    /// The process ends; `silently`: with the whole board.
    pub(crate) fn agent_dies(&mut self, b: usize, silently: bool) {
        if self.boards[b].agent.take().is_none() {
            return;
        }
        self.forget_what_was_not_written(b);
        self.tell(|| {
            format!("board-{b}: agent dies{}", if silently { " with its board" } else { "" })
        });
        if silently {
            self.boards[b].powered = false;
            self.vanish_agent_end(b);
        } else {
            for conn in self.conns_of(b) {
                self.close_agent_end(conn);
            }
        }
    }

    pub(crate) fn agent_input(&mut self, b: usize, input: Input) {
        let Some(agent) = &mut self.boards[b].agent else { return };
        agent.inbox.push_back(input);
        self.agent_works(b);
    }

    /// Inputs first, each with its effects in order; then the deadlines.
    fn agent_works(&mut self, b: usize) {
        loop {
            let now = self.boards[b].clock.now(self.now);
            let Some(agent) = &mut self.boards[b].agent else { return };
            if agent.suspended_until.is_some() {
                return;
            }
            let Some(input) = agent.inbox.pop_front() else { break };
            self.boards[b].looking = matches!(input, Input::HardwareSeen(_));
            if let Input::Observed(observation) = &input {
                self.boards[b].observed_down = matches!(observation.runtime, Runtime::Down { .. });
            }
            let Some(agent) = &mut self.boards[b].agent else { return };
            let effects = agent.machine.handle(now, input);
            if !self.agent_performs(b, effects) {
                return;
            }
        }
        self.wake_agent(b);
    }

    fn agent_performs(&mut self, b: usize, effects: Vec<Effect>) -> bool {
        for effect in effects {
            self.agent_performs_one(b, effect);
            let Some(agent) = &mut self.boards[b].agent else { return false };
            match &mut agent.dies_after {
                None => {}
                Some(0) => {
                    self.agent_dies(b, false);
                    let at = self.now + self.randoms.shell.scale(50_000, 10 * SECOND);
                    self.push(at, Due::AgentBoots(b));
                    return false;
                }
                Some(left) => *left -= 1,
            }
        }
        self.agent_hears_of_its_folder(b);
        true
    }

    /// A success has the code of one, and only where Podman is down is a code not waited for.
    fn ends_are_told_as_they_were(&mut self, b: usize, entry: &JournalEntry) {
        let code = entry.fields.get("exit_code").map(String::as_str);
        let is_true = match entry.kind {
            EventKind::ContainerExited => code == Some("0"),
            EventKind::ContainerDied => {
                code.is_some_and(|code| code != "0")
                    || (code.is_none() && self.boards[b].observed_down)
            }
            _ => true,
        };
        if !is_true {
            self.judge.fail("ends_are_told_as_they_were", format!("{entry:?}"));
        }
    }

    fn agent_performs_one(&mut self, b: usize, effect: Effect) {
        let board = &self.boards[b];
        self.judge.agent_performs((self.now, b, board.boot), &board.disk, &effect);
        if let Effect::JournalAppend(entry) = &effect
            && !board.disk.has_under_another_number(entry)
        {
            self.pressure_is_raised_by_two_samples(b, entry);
            self.ends_are_told_as_they_were(b, entry);
        }
        self.judge_hardware(b, &effect);
        self.judge_local_alerts(b, &effect);
        let board = &mut self.boards[b];
        match effect {
            Effect::SaveLedger(_)
            | Effect::JournalAppend(_)
            | Effect::JournalTrim { .. }
            | Effect::JournalDrop { .. } => board.writes(effect),
            Effect::Register { .. } => self.registers(b),
            Effect::Connect { .. } => {
                let conn = self.dial(b);
                if let Some(agent) = &mut self.boards[b].agent {
                    agent.conn = Some(conn);
                }
            }
            Effect::Disconnect => {
                if let Some(conn) = board.agent.as_ref().and_then(|agent| agent.conn) {
                    self.close_agent_end(conn);
                }
            }
            Effect::SayHello(hello) => self.agent_says(b, Up::Hello(Box::new(hello))),
            Effect::Send(message) => self.agent_says(b, Up::Message(message)),
            Effect::Apply { .. } | Effect::SampleOften(_) => {}
            Effect::Probe { .. } => self.probes(b),
            Effect::Recover { failure, step, forced } => {
                self.recovery_begins(b, failure, step, forced);
            }
            Effect::CheckSystem => {
                let takes = match self.plan.check_takes {
                    0 => 0,
                    most => self.randoms.shell.scale(1_000, most),
                };
                let boot = board.boot;
                self.push(self.now + takes, Due::CheckEnds { board: b, boot });
            }
            Effect::LookAtHardware => self.looks(b),
            Effect::TellLocally(notice) => self.tells_locally(b, &notice),
            Effect::Run { id, command } => self.runs(b, id, command),
            Effect::MakeCertificateRequest { new_key } => {
                let key = if new_key {
                    format!("key-{b}-{}", self.name_next())
                } else {
                    self.boards[b].found_by_a_restart().key.clone()
                };
                if let Some(agent) = &mut self.boards[b].agent {
                    agent.new_key = Some(key.clone());
                    let csr = key.into_bytes();
                    agent.inbox.push_back(Input::CertificateRequestMade { csr });
                }
            }
            Effect::InstallCertificate { certificate, .. } => self.installs(b, &certificate),
            Effect::Stopped { left } => {
                board.retired |= left;
                if left {
                    board.disk.certificate = None;
                    board.disk.token = None;
                }
                self.agent_dies(b, false);
            }
        }
    }

    fn agent_says(&mut self, b: usize, message: Up) {
        // another client may say a thing twice
        if let (Up::Message(ToMaster::Events(entries)), Some(conn)) =
            (&message, self.boards[b].agent.as_ref().and_then(|agent| agent.conn))
            && self.randoms.shell.chance(self.plan.duplicates)
        {
            let again = Up::Message(ToMaster::Events(entries.clone()));
            self.send_up(conn, again);
        }
        if let Some(conn) = self.boards[b].agent.as_ref().and_then(|agent| agent.conn) {
            self.send_up(conn, message);
        }
    }

    fn installs(&mut self, b: usize, bytes: &[u8]) {
        let renew_at = self.randoms.shell.between(50, 80);
        let board = &mut self.boards[b];
        let Some(agent) = &mut board.agent else { return };
        let certificate = Certificate::decode(bytes);
        let is_its = certificate.as_ref().is_some_and(|c| agent.new_key.as_ref() == Some(&c.key));
        let input = match certificate.filter(|_| is_its) {
            Some(certificate) if board.keeps_the_key_of(&certificate) => {
                board.certified(certificate);
                Input::CertificateInstalled { standing: board.standing(renew_at) }
            }
            Some(_) => Input::CertificateRefused { why: "it cannot be kept".to_owned() },
            None => Input::CertificateRefused { why: "it is for another key".to_owned() },
        };
        if let Some(agent) = &mut board.agent {
            agent.inbox.push_back(input);
        }
    }

    fn runs(&mut self, b: usize, id: String, command: AgentCommand) {
        let board = &mut self.boards[b];
        let success = match command {
            AgentCommand::SetLogLevel { .. } => true,
            // the core answers these by itself
            AgentCommand::CheckSystem | AgentCommand::Recover { .. } => return,
            AgentCommand::Probe => {
                if let Some(agent) = &mut board.agent {
                    let part = ProbePart { ok: !board.podman_down, ..ProbePart::default() };
                    agent.inbox.push_back(Input::Probed { id, parts: vec![part] });
                }
                return;
            }
            AgentCommand::RestartContainer { container } => {
                board.ran.push(id.clone());
                let found = board.containers.iter_mut().find(|c| c.name == container);
                found.map(|c| c.restarts += 1).is_some()
            }
        };
        let ran = board.ran.clone();
        self.judge.ran(b, &ran);
        if let Some(agent) = &mut self.boards[b].agent {
            let message = String::new();
            agent.inbox.push_back(Input::CommandDone { id, success, message });
        }
    }

    fn registers(&mut self, b: usize) {
        let caller = self.caller_of(b);
        let board = &self.boards[b];
        let disk = &board.disk;
        // with a certificate the board shows who it is; without one it shows the token
        let token_hash = if disk.certificate.is_some() { None } else { disk.token.clone() };
        let registration = Box::new(Registration {
            node: disk.node.clone(),
            name: NodeName::parse("hostname", &board.hostname).expect("simulated names are names"),
            ip: format!("10.0.0.{}", b + 1),
            role: NodeRole::Sub,
            kind: NodeKind::Embedded,
            resources: Resources { cpu: 4, memory: 1024, disk: 16 },
            labels: Labels::new(),
            system: SystemInfo::default(),
            token_hash,
            key_fingerprint: disk.key.clone(),
        });
        let (boot, key) = (board.boot, disk.key.clone());
        let request = Request::Register(registration);
        let call =
            Call { board: b, boot, caller, request, key, answer: None, answered_at: WallTime(0) };
        let call = self.call(call);
        if let Some(agent) = &mut self.boards[b].agent {
            agent.call = Some(call);
        }
    }

    /// A heartbeat on a connection of its own.
    fn probes(&mut self, b: usize) {
        let caller = self.caller_of(b);
        let board = &self.boards[b];
        let node = board.disk.node.to_string();
        let call = Call {
            board: b,
            boot: board.boot,
            caller,
            request: Request::Heartbeat { node },
            key: String::new(),
            answer: None,
            answered_at: WallTime(0),
        };
        self.call(call);
    }

    fn probe_answered(&mut self, call: &Call) {
        if self.boards[call.board].boot == call.boot && matches!(call.answer, Some(Ok(_))) {
            self.agent_input(call.board, Input::ProbeAnswered);
        }
    }

    pub(crate) fn registration_answered(&mut self, id: u64, call: Call) {
        if matches!(call.request, Request::Heartbeat { .. }) {
            return self.probe_answered(&call);
        }
        let renew_at = self.randoms.shell.between(50, 80);
        let board = &mut self.boards[call.board];
        let Some(agent) = &mut board.agent else { return };
        if agent.call.take_if(|waiting| *waiting == id).is_none() || board.boot != call.boot {
            return;
        }
        let input = match call.answer {
            None => return,
            Some(Err(refusal)) => Input::RegisterFailed {
                fatal: !matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted),
                why: refusal.message,
            },
            Some(Ok(Answer::Registered(Registered { certificate_until: None, .. }))) => {
                Input::Registered { standing: board.standing(renew_at), pending: true }
            }
            Some(Ok(Answer::Registered(Registered {
                node,
                role,
                certificate_until: Some(not_after),
                ..
            }))) => {
                board.certified(Certificate {
                    node,
                    role,
                    key: call.key,
                    serial: id,
                    not_before: call.answered_at,
                    not_after,
                });
                Input::Registered { standing: board.standing(renew_at), pending: false }
            }
            Some(Ok(other)) => {
                let what = format!("{other:?}");
                return self.judge.fail("answers_fit_their_requests", what);
            }
        };
        let b = call.board;
        self.agent_input(b, input);
    }

    pub(crate) fn registration_timed_out(&mut self, id: u64, b: usize, boot: u32) {
        let board = &mut self.boards[b];
        let Some(agent) = &mut board.agent else { return };
        if board.boot == boot && agent.call.take_if(|waiting| *waiting == id).is_some() {
            let why = "no answer in time".to_owned();
            self.agent_input(b, Input::RegisterFailed { why, fatal: false });
        }
    }

    fn wake_agent(&mut self, b: usize) {
        let now = self.now;
        let board = &mut self.boards[b];
        let Some(agent) = &mut board.agent else { return };
        let Some(deadline) = agent.machine.deadline() else { return };
        let at = board.clock.when(deadline.at).max(now);
        if agent.wake.is_none_or(|wake| at < wake || wake < now) {
            agent.wake = Some(at);
            self.push(at, Due::AgentDeadline(b));
        }
    }

    pub(crate) fn agent_deadline(&mut self, b: usize) {
        let now = self.now;
        let Some(agent) = &mut self.boards[b].agent else { return };
        if agent.wake.is_none_or(|wake| wake > now) || agent.suspended_until.is_some() {
            return;
        }
        agent.wake = None;
        self.agent_deadlines(b);
        self.agent_works(b);
    }

    fn agent_deadlines(&mut self, b: usize) {
        for _ in 0..DEADLINE_ROUNDS_MAX {
            let now = self.boards[b].clock.now(self.now);
            let Some(agent) = &mut self.boards[b].agent else { return };
            if agent.machine.deadline().is_none_or(|d| d.at > now.at) {
                return;
            }
            let effects = agent.machine.handle_deadline(now);
            if !self.agent_performs(b, effects) {
                return;
            }
        }
        let why = self.boards[b].agent.as_ref().and_then(|a| a.machine.deadline());
        self.judge.fail("deadline_makes_progress", format!("board-{b}'s {why:?} stays overdue"));
    }

    pub(crate) fn suspend_agent(&mut self, b: usize, how_long: u64) {
        let until = self.now + how_long;
        let board = &mut self.boards[b];
        let Some(agent) = &mut board.agent else { return };
        agent.suspended_until = Some(until.max(agent.suspended_until.unwrap_or(0)));
        let boot = board.boot;
        self.push(until, Due::AgentResumes { board: b, boot });
        self.tell(|| format!("board-{b}: agent is suspended"));
    }

    pub(crate) fn agent_resumes(&mut self, b: usize, boot: u32) {
        let now = self.now;
        let board = &mut self.boards[b];
        let Some(agent) = &mut board.agent else { return };
        if board.boot != boot || agent.suspended_until.is_none_or(|until| until > now) {
            return;
        }
        agent.suspended_until = None;
        agent.wake = None;
        self.agent_works(b);
        self.agent_deadlines(b);
        self.agent_works(b);
    }

    pub(crate) fn observe(&mut self, b: usize, boot: u32) {
        let board = &self.boards[b];
        if board.boot == boot && board.agent.is_some() {
            // of every other end; drawn from nothing, so that no other fault moves
            let late = !board.fresh_ends.is_empty() && self.now.is_multiple_of(2);
            let observation = board.observation(late);
            if late {
                let at = self.now + CODE_IS_LATE_BY;
                self.push(at, Due::Observe { board: b, boot });
            } else if !self.boards[b].podman_down {
                self.boards[b].fresh_ends.clear();
            }
            self.agent_input(b, Input::Observed(observation));
        }
    }

    pub(crate) fn sample(&mut self, b: usize, boot: u32) {
        let board = &self.boards[b];
        if board.boot != boot || board.agent.is_none() {
            return;
        }
        let board = &mut self.boards[b];
        let low = board.trembles && board.sampled[1] > 90.0;
        let percent = if low { 50.0 } else { board.memory_percent };
        board.sampled = [board.sampled[1], percent];
        let sample = Sample { memory_percent: Some(percent), ..Sample::default() };
        self.push(self.now + SAMPLE_EVERY, Due::Sample { board: b, boot });
        self.try_state_folder_again(b);
        self.boards[b].sampling = true;
        self.agent_input(b, Input::Sampled(sample));
        self.boards[b].sampling = false;
    }

    pub(crate) fn check_ends(&mut self, b: usize, boot: u32) {
        let board = &self.boards[b];
        if board.boot == boot && board.agent.is_some() {
            let check = board.system_check();
            self.agent_input(b, Input::Checked(check));
        }
    }
}
