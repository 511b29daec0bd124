//! The world: one master, boards with agents, links between them, and one heap of what happens next.
//!
//! Both machines are the real ones. What is made up is what their shells and the world do: disks, links,
//! processes, clocks, Podman, and the people who operate it all. Time only passes from one entry of the
//! heap to the next; the same seed gives the same story, byte by byte.

mod board;
mod chaos;
mod heal;
mod master;
mod network;
mod operator;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
};

pub(crate) use self::{
    board::{Board, Disk},
    operator::Asked,
};
use self::{
    master::Master,
    network::{Call, Conn, ConnId},
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
    StoreAnswers { boot: u32 },
    MasterResumes { boot: u32 },
    MasterBoots,
    AgentResumes { board: usize, boot: u32 },
    AgentBoots(usize),
    LinkHeals(usize),
    CallArrives(u64),
    CallAnswered(u64),
    CallTimesOut(u64),
    ConnectTimesOut { conn: ConnId },
    Observe { board: usize, boot: u32 },
    Sample { board: usize, boot: u32 },
    PodmanReturns(usize),
    CloneLeaves(usize),
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
    story: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, mutant: Option<ShellMutant>, tell: bool) -> Self {
        let root = Rng::new(seed);
        let randoms = Randoms {
            network: root.fork("network"),
            faults: root.fork("faults"),
            people: root.fork("people"),
            shell: root.fork("shell"),
        };
        let mut clocks = root.fork("clocks");
        let master = Master::new(&plan, &mut clocks);
        let boards =
            (0..plan.nodes).map(|i| Board::new(i, &plan, &mut clocks)).collect::<Vec<_>>();
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
            story: tell.then(String::new),
            plan,
            randoms,
        };
        world.master_boots();
        world.set_up_people();
        for board in 0..world.boards.len() {
            let at = world.now + SECOND + world.randoms.shell.below(15 * SECOND);
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
            Due::CloneLeaves(board) => self.clone_leaves(board),
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

    pub(crate) fn tells(&self) -> bool {
        self.story.is_some()
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
