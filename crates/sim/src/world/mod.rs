//! The world: one master, boards with agents, links between them, and one heap of what happens next.
//!
//! Both machines are the real ones. What is made up is what their shells and the world do: disks, links,
//! processes, clocks, Podman, and the people who operate it all. Time only passes from one entry of the
//! heap to the next; the same seed gives the same story, byte by byte.

#![expect(clippy::wildcard_enum_match_arm, reason = "most of what happens is not asked about here")]

mod alerts;
mod board;
mod chaos;
mod disk;
mod hardware;
mod heal;
mod master;
mod network;
mod notices;
mod operator;
mod recovery;
mod set_back;
mod silences;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
};

pub(crate) use self::{
    board::Board,
    disk::Disk,
    network::BACKDATED_MS,
    operator::{Asked, Purpose, Who},
};
use piccolo_core::{
    model::{EventKind, NodeId, NodeName, NodeStatus},
    state_manager::Effect,
};

use self::{
    master::Master,
    network::{Call, Conn, ConnId},
    notices::Ended,
    operator::Operator,
};
use crate::{
    clock::{SECOND, True},
    judge::{Judge, Violation},
    plan::{Fault, Plan},
    rng::Rng,
    shell_mutants::ShellMutant,
};

/// What the heap holds; each is checked when it comes due, so that stale ones cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Messages on their way to the master, or to the board.
    Up(ConnId),
    Down(ConnId),
    AgentDeadline(usize),
    MasterDeadline,
    /// Something the store was asked for is done, or failed.
    StoreAnswers {
        boot: u32,
    },
    MasterResumes {
        boot: u32,
    },
    MasterBoots,
    AgentResumes {
        board: usize,
        boot: u32,
    },
    AgentBoots(usize),
    LinkHeals(usize),
    CallArrives(u64),
    CallAnswered(u64),
    CallTimesOut(u64),
    ConnectTimesOut {
        conn: ConnId,
    },
    Observe {
        board: usize,
        boot: u32,
    },
    Sample {
        board: usize,
        boot: u32,
    },
    PodmanReturns(usize),
    StateFolderHeals(usize),
    RecoveryEnds {
        board: usize,
        boot: u32,
        step: u64,
    },
    CheckEnds {
        board: usize,
        boot: u32,
    },
    CloneLeaves(usize),
    /// A channel has taken a notification, or has not.
    NoticeEnds {
        boot: u32,
        delivery: u64,
        ended: Ended,
    },
    Fault(Fault),
    /// People look after what waits for them.
    Errands,
}

#[derive(Debug)]
pub(crate) struct Randoms {
    pub(crate) network: Rng,
    pub(crate) faults: Rng,
    pub(crate) people: Rng,
    pub(crate) shell: Rng,
    pub(crate) channels: Rng,
    pub(crate) notices: Rng,
    pub(crate) alerts: Rng,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: True,
    heap: BinaryHeap<Reverse<(True, u64, Due)>>,
    pushed: u64,
    pub(crate) plan: Plan,
    pub(crate) randoms: Randoms,
    pub(crate) master: Master,
    pub(crate) boards: Vec<Board>,
    conns: BTreeMap<ConnId, Conn>,
    calls: BTreeMap<u64, Call>,
    named: u64,
    pub(crate) operator: Operator,
    pub(crate) judge: Judge,
    pub(crate) mutant: Option<ShellMutant>,
    /// Faults have stopped.
    pub(crate) calm: bool,
    pub(crate) steps: u64,
    /// For each board, when something that may cost it its session last happened or ended.
    disturbed_at: BTreeMap<usize, True>,
    story: Option<String>,
    /// What people saw, where a script wants to know.
    seen: Option<Vec<String>>,
    shown: BTreeMap<NodeId, (NodeName, NodeStatus)>,
    /// The ids of the containers that the master shows of each node.
    containers_shown: BTreeMap<NodeId, Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, mutant: Option<ShellMutant>, tell: bool) -> Self {
        let root = Rng::new(seed);
        let randoms = Randoms {
            network: root.fork("network"),
            faults: root.fork("faults"),
            people: root.fork("people"),
            shell: root.fork("shell"),
            channels: root.fork("channels"),
            notices: root.fork("notices"),
            alerts: root.fork("alerts"),
        };
        let mut clocks = root.fork("clocks");
        let master = Master::new(&plan, &mut clocks);
        let boards = (0..plan.nodes).map(|i| Board::new(i, &plan, &mut clocks)).collect::<Vec<_>>();
        let judge = Judge::new(&plan);
        let mut world = Self {
            now: 0,
            heap: BinaryHeap::new(),
            pushed: 0,
            master,
            boards,
            conns: BTreeMap::new(),
            calls: BTreeMap::new(),
            named: 0,
            operator: Operator::default(),
            judge,
            mutant,
            calm: true,
            steps: 0,
            disturbed_at: BTreeMap::new(),
            story: tell.then(String::new),
            seen: None,
            shown: BTreeMap::new(),
            containers_shown: BTreeMap::new(),
            plan,
            randoms,
        };
        world.master_boots();
        world.set_up_people();
        for board in 0..world.boards.len() {
            let at = if world.plan.chaos > 0 {
                SECOND + world.randoms.shell.below(15 * SECOND)
            } else {
                SECOND * (board as u64 + 1)
            };
            world.push(at, Due::AgentBoots(board));
        }
        world.push(SECOND, Due::Errands);
        world
    }

    pub(crate) fn push(&mut self, at: True, due: Due) {
        self.pushed += 1;
        self.heap.push(Reverse((at.max(self.now), self.pushed, due)));
    }

    pub(crate) fn name_next(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    /// Lets time pass until `until`, or until an invariant does not hold.
    pub(crate) fn run(&mut self, until: True) -> Result<(), Violation> {
        while let Some(Reverse((at, _, due))) = self.heap.peek().copied() {
            if at > until {
                break;
            }
            self.heap.pop();
            self.now = at;
            self.steps += 1;
            self.happen(due);
            self.look();
            if let Some(violation) = self.judge.violation.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::LinkHeals(board)
            | Due::AgentBoots(board)
            | Due::AgentResumes { board, .. }
            | Due::CloneLeaves(board) => self.disturb(board),
            Due::MasterBoots | Due::MasterResumes { .. } => self.disturb_all(),
            Due::StoreAnswers { .. } => self.disturb_those_without_a_session(),
            _ => {}
        }
        match due {
            Due::Up(conn) => self.pump_up(conn),
            Due::Down(conn) => self.pump_down(conn),
            Due::AgentDeadline(board) => self.agent_deadline(board),
            Due::MasterDeadline => self.master_deadline(),
            Due::StoreAnswers { boot } => self.store_answers(boot),
            Due::MasterResumes { boot } => self.master_resumes(boot),
            Due::MasterBoots => self.master_boots(),
            Due::AgentResumes { board, boot } => self.agent_resumes(board, boot),
            Due::AgentBoots(board) => self.agent_boots(board),
            Due::LinkHeals(board) => self.link_heals(board),
            Due::CallArrives(call) => self.call_arrives(call),
            Due::CallAnswered(call) => self.call_answered(call),
            Due::CallTimesOut(call) => self.call_times_out(call),
            Due::ConnectTimesOut { conn } => self.connect_times_out(conn),
            Due::Observe { board, boot } => self.observe(board, boot),
            Due::Sample { board, boot } => self.sample(board, boot),
            Due::PodmanReturns(board) => self.podman_returns(board),
            Due::StateFolderHeals(board) => self.state_folder_heals(board),
            Due::RecoveryEnds { board, boot, step } => self.recovery_ends(board, boot, step),
            Due::CheckEnds { board, boot } => self.check_ends(board, boot),
            Due::CloneLeaves(board) => self.clone_leaves(board),
            Due::NoticeEnds { boot, delivery, ended } => self.notice_ends(boot, delivery, ended),
            Due::Fault(fault) => self.fault(fault),
            Due::Errands => self.errands(),
        }
    }

    /// What is asked after every step, whatever it was.
    fn look(&mut self) {
        let watch = self.master.is_attentive();
        let local = self.master.clock.local(self.now);
        self.judge.look(self.now, local, watch);
    }

    /// From now on, what is shown is written down for a script.
    pub(crate) fn watch_for_people(&mut self) {
        self.seen = Some(Vec::new());
    }

    pub(crate) fn take_seen(&mut self) -> Vec<String> {
        self.seen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Changes of status, and the events that are about nodes.
    fn note_seen(&mut self, effect: &Effect) {
        let Some(seen) = &mut self.seen else { return };
        let time = format!("{:>6.1}s", (self.now / (SECOND / 10)) as f64 / 10.0);
        match effect {
            Effect::Changed(view) => {
                let record = &view.record;
                let now = (record.name.clone(), record.status);
                let before = self.shown.insert(record.id.clone(), now);
                if before.is_none_or(|(_, status)| status != record.status) {
                    let why: Vec<_> = record
                        .conditions
                        .iter()
                        .filter(|c| c.kind.impairs())
                        .map(|c| c.kind.name())
                        .collect();
                    let line =
                        format!("{time} {} {} {}", record.name, record.status, why.join(" "));
                    seen.push(line.trim_end().to_owned());
                }
            }
            Effect::Removed { node, .. } => {
                if let Some((name, _)) = self.shown.remove(node) {
                    seen.push(format!("{time} {name} is gone"));
                }
            }
            Effect::Happened(event) if event.kind == EventKind::NodeInitializing => {
                let shown = event.node.as_ref().and_then(|node| self.shown.get(node));
                if let Some((name, status)) = shown
                    && *status != NodeStatus::Initializing
                {
                    seen.push(format!("{time} {name} was Initializing in between"));
                }
            }
            Effect::Happened(event) if event.node_sequence > 0 || is_odd(event.kind) => {
                let late = if event.delivered_late { " (late)" } else { "" };
                seen.push(format!("{time} {:?}: {}{late}", event.kind, event.message));
            }
            _ => {}
        }
    }

    pub(crate) fn disturb(&mut self, board: usize) {
        self.disturbed_at.insert(board, self.now);
    }

    pub(crate) fn disturb_all(&mut self) {
        for board in 0..self.boards.len() {
            self.disturb(board);
        }
    }

    /// A slow store keeps nobody from beating who is in a session.
    pub(crate) fn disturb_those_without_a_session(&mut self) {
        for board in 0..self.boards.len() {
            let agent = self.boards[board].agent.as_ref();
            if agent.is_none_or(|agent| !agent.machine.in_session()) {
                self.disturb(board);
            }
        }
    }

    /// Nothing was wrong with the node, and still it is declared lost.
    fn nobody_is_lost_without_a_fault(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Happened(event) = effect else { continue };
            let lost = event.kind == EventKind::NodeNotReady
                && event.fields.get("reason").is_some_and(|reason| reason == "SessionLost");
            let Some(node) = event.node.as_ref().filter(|_| lost && self.plan.loss == 0) else {
                continue;
            };
            let Some(board) = self.boards.iter().find(|b| b.disk.node == *node) else { continue };
            let healthy = board.agent.as_ref().is_some_and(|a| a.suspended_until.is_none())
                && !board.link.up_cut
                && !board.link.down_cut
                && board.link.slow == 0;
            let since = self.disturbed_at.get(&board.index).copied().unwrap_or(0);
            // nobody is welcomed before it is stored who has joined, or comes back
            let waits = self.now < self.master.store_stalls_until
                && board.agent.as_ref().is_none_or(|agent| !agent.machine.in_session());
            if healthy
                && !waits
                && self.now > since + self.judge.recovery_takes()
                && !self.judge.is_cloned(node)
            {
                let what = format!("{node} (board-{})", board.index);
                self.judge.fail("nobody_is_lost_without_a_fault", what);
            }
        }
    }

    /// A container is shown as gone although it was there all the time: ids never come back.
    fn nothing_vanishes_that_is_there(&mut self, effect: &Effect) {
        let view = match effect {
            Effect::Changed(view) => view,
            // under the same id it may come back as a new node
            Effect::Removed { node, .. } => return drop(self.containers_shown.remove(node)),
            _ => return,
        };
        let node = &view.record.id;
        let known = self.containers_shown.get(node);
        if known.is_some_and(|known| known.iter().eq(view.containers.iter().map(|c| &c.id))) {
            return;
        }
        let shown = view.containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
        let before = self.containers_shown.insert(node.clone(), shown).unwrap_or_default();
        if before.is_empty() || self.judge.is_cloned(node) {
            return;
        }
        let Some(board) = self.boards.iter().find(|b| b.disk.node == *node) else { return };
        let there = |id: &String| board.containers.iter().any(|c| c.id == *id);
        let vanished = |id: &&String| !view.containers.iter().any(|c| c.id == **id) && there(id);
        if let Some(id) = before.iter().find(vanished) {
            let what = format!("{id} of {node} (board-{})", board.index);
            self.judge.fail("nothing_vanishes_that_is_there", what);
        }
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let (seconds, micros) = (self.now / SECOND, self.now % SECOND);
            let _ = writeln!(story, "{seconds:>5}.{micros:06} {}", line());
        }
    }

    pub(crate) fn take_story(&mut self) -> String {
        self.story.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Worth a line in a script, beside every change of status.
fn is_odd(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::DuplicateIdentity
            | EventKind::DuplicateName
            | EventKind::EventsDropped
            | EventKind::CertificateReissued
            | EventKind::NodeReplaced
            | EventKind::TopologyChanged
            | EventKind::MasterStarted
            | EventKind::NodeAdopted
            | EventKind::ClusterRestored
    )
}
