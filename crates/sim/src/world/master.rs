//! The master's shell: one owner of the machine, a queue of effects that are performed in order, a store
//! that may be slow or refuse, and a process that may be suspended or die between any two effects.

use std::collections::{BTreeMap, VecDeque};

use piccolo_core::{
    api_server::{Caller, Refusal},
    model::{NodeId, NodeRole, SessionId},
    session::{Goodbye, ToAgent},
    state_manager::{
        Answer, Effect, Input, Request, RequestId, Settings, StateManager, Transaction,
    },
    time::WallTime,
};

use super::{
    Due, World,
    board::Certificate,
    network::{ConnId, Down, Up, as_input},
    set_back::Backup,
};
use crate::{
    clock::{Clock, SECOND, True},
    plan::Plan,
    rng::Rng,
    shell_mutants::ShellMutant,
    store::Store,
};

/// Calls of `handle_deadline` at one moment after which somebody is running in circles.
const DEADLINE_ROUNDS_MAX: u32 = 2_000;

/// What reaches the master's process.
#[derive(Debug)]
pub(crate) enum Arrival {
    Stream(ConnId, Up),
    Call {
        call: u64,
        caller: Caller,
        request: Request,
    },
    People {
        request: RequestId,
        by: Caller,
        what: Request,
    },
    /// What the shell has to say by itself.
    Shell(Input),
}

/// Who waits for a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    Call(u64),
    People,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) machine: StateManager,
    inbox: VecDeque<Arrival>,
    pub(crate) suspended_until: Option<True>,
    resumed_at: True,
    todo: VecDeque<Effect>,
    /// The commit that the store has not answered yet.
    in_flight: Option<Transaction>,
    /// Effects that are still performed before the process dies.
    pub(crate) dies_after: Option<u64>,
    sessions: BTreeMap<SessionId, ConnId>,
    askers: BTreeMap<RequestId, Asker>,
    wake: Option<True>,
}

#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    pub(crate) store: Store,
    pub(crate) backup: Option<Backup>,
    pub(crate) settings: Settings,
    pub(crate) boot: u32,
    pub(crate) powered: bool,
    /// The store answers nothing until then.
    pub(crate) store_stalls_until: True,
    /// Commits that fail before one is taken again.
    pub(crate) commits_to_fail: u32,
    /// When effects were last all performed.
    pub(crate) caught_up_at: True,
}

impl Master {
    pub(crate) fn new(plan: &Plan, clocks: &mut Rng) -> Self {
        let rate = 1_000_000 - plan.drift + clocks.below(plan.drift * 2 + 1);
        Self {
            clock: Clock::new(rate, clocks.below(1 << 40)),
            process: None,
            store: Store::default(),
            backup: None,
            settings: Settings {
                timing: plan.timing,
                approval: plan.approval,
                readiness: plan.readiness,
                certificate_lifetime: plan.certificate_lifetime,
                events_max: plan.events_max,
                audit_max: plan.audit_max,
                masters: vec!["10.0.0.100:47098".to_owned()],
                ..Settings::default()
            },
            boot: 0,
            powered: false,
            store_stalls_until: 0,
            commits_to_fail: 0,
            caught_up_at: 0,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.powered
    }

    /// Running, awake for a while, and nothing waits to be performed.
    pub(crate) fn is_attentive(&self) -> bool {
        self.process.as_ref().is_some_and(|p| {
            p.suspended_until.is_none() && p.todo.is_empty() && p.in_flight.is_none()
        })
    }

    /// All that was decided is performed, and nothing waits to be looked at.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_attentive() && self.process.as_ref().is_some_and(|p| p.inbox.is_empty())
    }
}

impl World {
    pub(crate) fn master_boots(&mut self) {
        if self.master.process.is_some() {
            return;
        }
        self.master.boot += 1;
        self.master.powered = true;
        let start = self.randoms.shell.below(1 << 40);
        self.master.clock.boot(self.now, start);
        let now = self.master.clock.now(self.now);
        let snapshot = match self.master.store.snapshot() {
            Ok(snapshot) => snapshot,
            Err(why) => return self.judge.fail("what_is_stored_can_be_read", why),
        };
        let mut machine = StateManager::restore(snapshot, self.master.settings.clone(), now);
        let boot = self.master.boot;
        self.tell(|| format!("master: starts, for the {boot}. time"));
        self.judge.master_started(self.now, now, &self.master.store, &machine);
        // what agents see is not stored
        self.containers_shown.clear();
        let effects = machine.start(now);
        self.judge.decided(self.now, now, &effects, None, &machine);
        self.master.process = Some(Process {
            machine,
            inbox: VecDeque::new(),
            suspended_until: None,
            resumed_at: self.now,
            todo: effects.into(),
            in_flight: None,
            dies_after: None,
            sessions: BTreeMap::new(),
            askers: BTreeMap::new(),
            wake: None,
        });
        self.master.caught_up_at = self.now;
        self.perform();
        self.wake_master();
    }

    /// The process is gone, with everything that was not performed.
    pub(crate) fn master_dies(&mut self, silently: bool, down_for: u64) {
        let Some(process) = self.master.process.take() else { return };
        let lost = process.todo.len() + process.inbox.len();
        self.tell(|| format!("master: dies; {lost} effects and inputs are lost with it"));
        if let Some(transaction) = process.in_flight {
            // whether the store still took it, nobody can know
            if self.randoms.shell.chance(50) {
                self.commit(&transaction);
            }
        }
        self.judge.master_died();
        self.master.powered = !silently;
        self.drop_master_ends(silently);
        self.operator.master_died();
        self.push(self.now + down_for, Due::MasterBoots);
    }

    pub(crate) fn master_arrival(&mut self, arrival: Arrival) {
        if self.master.process.is_none() {
            return;
        }
        self.note_arrival(&arrival);
        let Some(process) = &mut self.master.process else { return };
        if process.suspended_until.is_some() {
            process.inbox.push_back(arrival);
            return;
        }
        self.master_takes(arrival);
        self.wake_master();
    }

    fn note_arrival(&mut self, arrival: &Arrival) {
        let (id, message) = match arrival {
            Arrival::Stream(id, message) => (id, message),
            // one by a key that is no longer the node's is refused, and nobody is heard by it
            Arrival::Call { caller, request: Request::Heartbeat { .. }, .. } => {
                let process = self.master.process.as_ref();
                if process.is_some_and(|process| process.machine.standing(caller).is_ok()) {
                    self.judge.probed(self.now, caller);
                }
                return;
            }
            Arrival::Call { .. } | Arrival::People { .. } | Arrival::Shell(_) => return,
        };
        let Some(conn) = self.conns.get(id) else { return };
        let (Some(node), Some(session)) = (&conn.node, &conn.session) else { return };
        match message {
            Up::Message(_) => self.judge.arrived(self.now, node, session),
            Up::Fin => self.judge.closed(self.now, node, session),
            Up::Open | Up::Hello(_) => {}
        }
    }

    fn master_takes(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Stream(id, message) => self.master_reads(id, message),
            Arrival::Call { call, caller, request } => {
                let id = RequestId(self.name_next());
                self.ask(id, Asker::Call(call), caller, request);
            }
            Arrival::People { request, by, what } => self.ask(request, Asker::People, by, what),
            Arrival::Shell(input) => self.master_input(input),
        }
    }

    fn ask(&mut self, id: RequestId, asker: Asker, by: Caller, request: Request) {
        let Some(process) = &mut self.master.process else { return };
        process.askers.insert(id, asker);
        self.master_input(Input::Request { id, by, request });
    }

    fn master_reads(&mut self, id: ConnId, message: Up) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match message {
            Up::Open => {
                if conn.agent_open {
                    self.send_down(id, Down::Accepted);
                } else {
                    self.close_master_end(id);
                }
            }
            Up::Hello(hello) => {
                let session = SessionId::new(format!("s{}", id.0));
                conn.session = Some(session.clone());
                conn.node = Some(hello.node.clone());
                let by = conn.caller.clone();
                let Some(process) = &mut self.master.process else { return };
                process.sessions.insert(session.clone(), id);
                self.judge.hello(self.now, &session, &by, &hello);
                self.master_input(Input::SessionOpened { by, session, hello });
            }
            Up::Message(message) => {
                if let Some(input) = as_input(conn, message) {
                    self.master_input(input);
                }
            }
            Up::Fin => {
                let (node, session) = (conn.node.clone(), conn.session.clone());
                self.close_master_end(id);
                if let (Some(node), Some(session)) = (node, session) {
                    self.judge.closed(self.now, &node, &session);
                    if let Some(process) = &mut self.master.process {
                        process.sessions.remove(&session);
                    }
                    self.master_input(Input::SessionClosed { node, session });
                }
            }
        }
    }

    pub(crate) fn master_input(&mut self, input: Input) {
        let now = self.master.clock.now(self.now);
        let Some(process) = &mut self.master.process else { return };
        let about = self.judge.about(&input);
        self.judge.takes_input(&input);
        let effects = process.machine.handle(now, input);
        self.judge.decided(self.now, now, &effects, about, &process.machine);
        self.nobody_is_lost_without_a_fault(&effects);
        self.queue(effects);
    }

    fn queue(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Some(process) = &mut self.master.process else { return };
            let behind = !process.todo.is_empty() || process.in_flight.is_some();
            let at_once = matches!(&effect, Effect::Dispatch(dispatch) if dispatch.at_once);
            if behind && (effect.may_overtake() || at_once) {
                self.perform_one(effect);
            } else {
                process.todo.push_back(effect);
            }
        }
        self.perform();
    }

    fn perform(&mut self) {
        loop {
            let Some(process) = &mut self.master.process else { return };
            if process.in_flight.is_some() {
                return;
            }
            if self.mutant == Some(ShellMutant::RevealBeforeCommit) {
                process.todo.make_contiguous().sort_by_key(|e| matches!(e, Effect::Commit(_)));
            }
            let Some(effect) = process.todo.pop_front() else {
                self.master.caught_up_at = self.now;
                return;
            };
            match effect {
                Effect::Commit(transaction) => self.start_commit(transaction),
                Effect::Send { .. }
                | Effect::SendCertificate { .. }
                | Effect::Close { .. }
                | Effect::Reply { .. }
                | Effect::Changed(_)
                | Effect::Removed { .. }
                | Effect::Alerted(_)
                | Effect::AlertForgotten(_)
                | Effect::Dispatch(_)
                | Effect::Missed { .. }
                | Effect::Happened(_) => self.perform_one(effect),
            }
            if self.count_down_to_death() {
                return;
            }
        }
    }

    fn count_down_to_death(&mut self) -> bool {
        let Some(process) = &mut self.master.process else { return true };
        match &mut process.dies_after {
            None => false,
            Some(0) => {
                let down_for = self.randoms.shell.scale(100_000, 20 * SECOND);
                self.master_dies(false, down_for);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn start_commit(&mut self, transaction: Transaction) {
        self.judge.within_store_limit(&transaction);
        let at = self.master.store_stalls_until.max(self.now) + self.plan.commit_takes;
        if at <= self.now && self.master.commits_to_fail == 0 {
            self.commit(&transaction);
            return;
        }
        let Some(process) = &mut self.master.process else { return };
        process.in_flight = Some(transaction);
        let boot = self.master.boot;
        self.push(at, Due::StoreAnswers { boot });
    }

    pub(crate) fn store_answers(&mut self, boot: u32) {
        if boot != self.master.boot {
            return;
        }
        let stalls = self.master.store_stalls_until;
        if stalls > self.now {
            return self.push(stalls, Due::StoreAnswers { boot });
        }
        let Some(process) = &mut self.master.process else { return };
        let Some(transaction) = process.in_flight.take() else { return };
        if self.master.commits_to_fail > 0 {
            self.master.commits_to_fail -= 1;
            self.tell(|| "store: a commit fails".to_owned());
            // it may have been taken all the same: only the answer is missing
            if self.randoms.shell.chance(30) {
                self.commit(&transaction);
            }
            if self.randoms.shell.chance(20) {
                return self.master_dies(false, SECOND);
            }
            if let Some(process) = &mut self.master.process {
                process.in_flight = Some(transaction);
            }
            return self.push(self.now + SECOND / 5, Due::StoreAnswers { boot });
        }
        self.commit(&transaction);
        if !self.count_down_to_death() {
            self.perform();
            self.wake_master();
        }
    }

    fn commit(&mut self, transaction: &Transaction) {
        match self.master.store.apply(transaction) {
            Ok(appended) => self.judge.committed(&self.master.store, transaction, appended),
            Err(why) => self.judge.fail("what_is_stored_can_be_read", why),
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        self.judge.performed(self.now, &effect, &self.master.store);
        self.note_seen(&effect);
        self.nothing_vanishes_that_is_there(&effect);
        match effect {
            // performed by `start_commit`
            Effect::Commit(_) => {}
            Effect::Send { session, message, .. } => {
                if let Some(conn) = self.conn_of(&session) {
                    self.send_down(conn, Down::Message(message));
                }
            }
            Effect::SendCertificate { node, role, session, csr, until, .. } => {
                let certificate = self.sign(node, role, &csr, until);
                let message = ToAgent::Certificate { certificate, ca: Vec::new() };
                if let Some(conn) = self.conn_of(&session) {
                    self.send_down(conn, Down::Message(message));
                }
            }
            Effect::Close { session, goodbye, .. } => self.close(&session, goodbye),
            Effect::Reply { request, result } => self.reply(request, result),
            Effect::Changed(view) => self.tell(|| {
                let record = &view.record;
                let kinds: Vec<_> = record.conditions.iter().map(|c| c.kind.name()).collect();
                format!("master: {} is {} [{}]", record.name, record.status, kinds.join(" "))
            }),
            Effect::Removed { node, .. } => self.tell(|| format!("master: {node} is gone")),
            Effect::Missed { node, .. } => {
                self.tell(|| format!("master: {node} tells old figures"))
            }
            Effect::Happened(event) => {
                self.tell(|| format!("event {}: {:?} {}", event.id, event.kind, event.message));
            }
            Effect::Dispatch(dispatch) => self.dispatches(&dispatch),
            // what fires is an event too
            Effect::Alerted(_) | Effect::AlertForgotten(_) => {}
        }
    }

    fn conn_of(&self, session: &SessionId) -> Option<ConnId> {
        self.master.process.as_ref()?.sessions.get(session).copied()
    }

    fn close(&mut self, session: &SessionId, goodbye: Goodbye) {
        let Some(conn) = self.conn_of(session) else { return };
        self.tell(|| {
            format!("master: closes {session:?}: {:?} {}", goodbye.reason, goodbye.message)
        });
        self.send_down(conn, Down::Message(ToAgent::Goodbye(goodbye)));
        self.close_master_end(conn);
        let Some(process) = &mut self.master.process else { return };
        process.sessions.remove(session);
        if let Some(node) = self.conns.get(&conn).and_then(|c| c.node.clone()) {
            self.judge.closed(self.now, &node, session);
        }
    }

    /// What the certificate authority does: it takes the key, and nothing else, from the request.
    pub(crate) fn sign(
        &mut self,
        node: NodeId,
        role: NodeRole,
        key: &[u8],
        not_after: WallTime,
    ) -> Vec<u8> {
        let certificate = Certificate {
            node,
            role,
            key: String::from_utf8_lossy(key).into_owned(),
            serial: self.name_next(),
            not_before: self.master.clock.now(self.now).wall,
            not_after,
        };
        certificate.encode()
    }

    fn reply(&mut self, request: RequestId, result: Result<Answer, Refusal>) {
        let Some(process) = &mut self.master.process else { return };
        match process.askers.remove(&request) {
            None => self.judge.fail("every_request_is_answered_once", format!("{request:?}")),
            Some(Asker::People) => self.people_hear(request, result),
            Some(Asker::Call(call)) => self.answer_call(call, result),
        }
    }

    fn wake_master(&mut self) {
        let Some(process) = &mut self.master.process else { return };
        let Some(deadline) = process.machine.deadline() else { return };
        let at = self.master.clock.when(deadline.at).max(self.now);
        let at = if self.mutant == Some(ShellMutant::LateDeadline) { at + 2 * SECOND } else { at };
        if process.wake.is_none_or(|wake| at < wake || wake <= self.now) {
            process.wake = Some(at);
            self.push(at, Due::MasterDeadline);
        }
    }

    pub(crate) fn master_deadline(&mut self) {
        let Some(process) = &mut self.master.process else { return };
        if process.wake.is_none_or(|wake| wake > self.now) || process.suspended_until.is_some() {
            return;
        }
        process.wake = None;
        self.master_deadlines();
        self.wake_master();
    }

    /// As a shell's loop does: again and again, until the next one lies ahead.
    fn master_deadlines(&mut self) {
        let now = self.master.clock.now(self.now);
        for _ in 0..DEADLINE_ROUNDS_MAX {
            let Some(process) = &mut self.master.process else { return };
            if process.machine.deadline().is_none_or(|d| d.at > now.at) {
                return;
            }
            let effects = process.machine.handle_deadline(now);
            self.judge.decided(self.now, now, &effects, None, &process.machine);
            self.nobody_is_lost_without_a_fault(&effects);
            self.queue(effects);
        }
        let why = self.master.process.as_ref().and_then(|p| p.machine.deadline());
        self.judge.fail("deadline_makes_progress", format!("the master's {why:?} stays overdue"));
    }

    pub(crate) fn suspend_master(&mut self, how_long: u64) {
        let boot = self.master.boot;
        let Some(process) = &mut self.master.process else { return };
        let until = (self.now + how_long).max(process.suspended_until.unwrap_or(0));
        process.suspended_until = Some(until);
        self.push(until, Due::MasterResumes { boot });
        self.tell(|| "master: is suspended".to_owned());
    }

    pub(crate) fn master_resumes(&mut self, boot: u32) {
        let now = self.now;
        let Some(process) = &mut self.master.process else { return };
        if boot != self.master.boot || process.suspended_until.is_none_or(|until| until > now) {
            return;
        }
        process.suspended_until = None;
        process.resumed_at = now;
        self.master.caught_up_at = now;
        self.judge.stood_still(now);
        self.tell(|| "master: resumes".to_owned());
        if self.mutant == Some(ShellMutant::InputsAfterDeadlines) {
            self.master_deadlines();
        }
        while let Some(arrival) = self.master.process.as_mut().and_then(|p| p.inbox.pop_front()) {
            self.master_takes(arrival);
        }
        self.master_deadlines();
        if let Some(process) = &mut self.master.process {
            process.wake = None;
        }
        self.wake_master();
    }
}
