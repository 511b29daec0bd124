//! Links and streams. A stream is TCP: in order and whole, or not at all. So loss is a stall, a cut holds
//! back what was sent, and the end of a stream may be seen by one side only.

use std::collections::VecDeque;

use piccolo_core::{
    api_server::{Caller, Refusal, Role},
    model::NodeRole,
    node_agent,
    session::{Hello, ToAgent, ToMaster},
    state_manager::{Answer, Input, Request},
    time::WallTime,
};

use super::{Due, World, master::Arrival};
use crate::clock::{SECOND, True};

/// Microseconds until a shell gives up a connection attempt or a call.
const CONNECT_TIMEOUT: u64 = 5 * SECOND;
const CALL_TIMEOUT: u64 = 10 * SECOND;
/// The authority lets a certificate begin to hold so long before it was issued.
pub(crate) const BACKDATED_MS: i64 = 5 * 60 * 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most of what is on its way is a message")]
pub(crate) enum Up {
    Open,
    Hello(Box<Hello>),
    Message(ToMaster),
    Fin,
}

#[derive(Debug)]
pub(crate) enum Down {
    Accepted,
    Message(ToAgent),
    Fin,
}

#[derive(Debug)]
pub(crate) struct Pipe<T> {
    queue: VecDeque<(True, T)>,
    last: True,
    /// An entry of the heap will look at the front.
    awaited: bool,
}

impl<T> Pipe<T> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), last: 0, awaited: false }
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) board: usize,
    /// Of the agent's process.
    pub(crate) boot: u32,
    pub(crate) caller: Caller,
    pub(crate) session: Option<piccolo_core::model::SessionId>,
    pub(crate) node: Option<piccolo_core::model::NodeId>,
    up: Pipe<Up>,
    down: Pipe<Down>,
    pub(crate) agent_open: bool,
    pub(crate) accepted: bool,
    pub(crate) master_open: bool,
    /// Nothing reaches the agent any more.
    down_dead: bool,
}

/// A unary call of an agent on its way there or back.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) board: usize,
    pub(crate) boot: u32,
    pub(crate) caller: Caller,
    pub(crate) request: Request,
    pub(crate) key: String,
    pub(crate) answer: Option<Result<Answer, Refusal>>,
    /// By the master's clock.
    pub(crate) answered_at: WallTime,
}

/// What of a board's link is cut now, silently.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
    /// Microseconds that every message takes more.
    pub(crate) slow: u64,
    pub(crate) heals_at: True,
}

impl World {
    fn transit(&mut self, board: usize) -> u64 {
        let (low, high) = self.plan.delay;
        let mut transit = self.randoms.network.between(low, high) + self.boards[board].link.slow;
        if self.plan.loss > 0 && !self.calm && self.randoms.network.below(1000) < self.plan.loss {
            transit += self.randoms.network.scale(200_000, 4 * SECOND);
        }
        transit
    }

    pub(crate) fn send_up(&mut self, id: ConnId, message: Up) {
        let Some(board) = self.conns.get(&id).map(|c| c.board) else { return };
        let transit = self.transit(board);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.up.last = (self.now + transit).max(conn.up.last);
        conn.up.queue.push_back((conn.up.last, message));
        if !std::mem::replace(&mut conn.up.awaited, true) {
            let at = conn.up.last;
            self.push(at, Due::Up(id));
        }
    }

    pub(crate) fn send_down(&mut self, id: ConnId, message: Down) {
        let Some(board) = self.conns.get(&id).map(|c| c.board) else { return };
        let transit = self.transit(board);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.down_dead) else { return };
        conn.down.last = (self.now + transit).max(conn.down.last);
        conn.down.queue.push_back((conn.down.last, message));
        if !std::mem::replace(&mut conn.down.awaited, true) {
            let at = conn.down.last;
            self.push(at, Due::Down(id));
        }
    }

    pub(crate) fn pump_up(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            conn.up.awaited = false;
            if self.boards[conn.board].link.up_cut {
                return;
            }
            match conn.up.queue.front() {
                None => break,
                Some((at, _)) if *at > self.now => {
                    let at = *at;
                    conn.up.awaited = true;
                    self.push(at, Due::Up(id));
                    break;
                }
                Some(_) => {}
            }
            let Some((_, message)) = conn.up.queue.pop_front() else { break };
            self.arrive_at_master(id, message);
        }
        self.forget_if_over(id);
    }

    pub(crate) fn pump_down(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            conn.down.awaited = false;
            if self.boards[conn.board].link.down_cut {
                return;
            }
            match conn.down.queue.front() {
                None => break,
                Some((at, _)) if *at > self.now => {
                    let at = *at;
                    conn.down.awaited = true;
                    self.push(at, Due::Down(id));
                    break;
                }
                Some(_) => {}
            }
            let Some((_, message)) = conn.down.queue.pop_front() else { break };
            self.arrive_at_board(id, message);
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: ConnId) {
        let over = self.conns.get(&id).is_some_and(|conn| {
            !conn.agent_open
                && !conn.master_open
                && conn.up.queue.is_empty()
                && conn.down.queue.is_empty()
        });
        if over {
            self.conns.remove(&id);
        }
    }

    fn arrive_at_master(&mut self, id: ConnId, message: Up) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if matches!(message, Up::Open) && self.master.is_running() {
            conn.master_open = true;
        }
        if !conn.master_open {
            // nobody listens there: the sender's kernel is told
            if !matches!(message, Up::Fin) && conn.agent_open && self.master.is_powered() {
                self.send_down(id, Down::Fin);
            }
            return;
        }
        self.master_arrival(Arrival::Stream(id, message));
    }

    fn arrive_at_board(&mut self, id: ConnId, message: Down) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let board = conn.board;
        if !conn.agent_open {
            let told = matches!(message, Down::Fin);
            if !told && conn.master_open && self.boards[board].powered {
                self.send_up(id, Up::Fin);
            }
            return;
        }
        match message {
            Down::Accepted => {
                conn.accepted = true;
                let ip = format!("10.0.0.{}", board + 1);
                self.agent_input(board, node_agent::Input::Connected { ip });
            }
            Down::Message(message) => {
                self.agent_input(board, node_agent::Input::FromMaster(message));
            }
            Down::Fin => {
                conn.agent_open = false;
                let accepted = conn.accepted;
                self.boards[board].left(id);
                let why = "the stream ended".to_owned();
                let input = if accepted {
                    node_agent::Input::Disconnected { why }
                } else {
                    node_agent::Input::ConnectFailed { why }
                };
                self.agent_input(board, input);
            }
        }
    }

    /// The agent's shell dials.
    pub(crate) fn dial(&mut self, board: usize) -> ConnId {
        let id = ConnId(self.name_next());
        let caller = self.caller_of(board);
        let conn = Conn {
            board,
            boot: self.boards[board].boot,
            caller,
            session: None,
            node: None,
            up: Pipe::new(),
            down: Pipe::new(),
            agent_open: true,
            accepted: false,
            master_open: false,
            down_dead: false,
        };
        self.conns.insert(id, conn);
        self.send_up(id, Up::Open);
        self.push(self.now + CONNECT_TIMEOUT, Due::ConnectTimesOut { conn: id });
        id
    }

    /// As the certificate says; whether it has expired, the acceptor judges by the master's clock.
    pub(crate) fn caller_of(&self, board: usize) -> Caller {
        let disk = &self.boards[board].disk;
        let from = format!("10.0.0.{}", board + 1);
        match &disk.certificate {
            None => Caller::anonymous(from),
            Some(certificate) => Caller {
                role: match certificate.role {
                    NodeRole::Master => Role::Master,
                    NodeRole::Sub => Role::Sub,
                },
                id: certificate.node.to_string(),
                key_fingerprint: certificate.key.clone(),
                serial: certificate.serial.to_string(),
                credential: None,
                valid_from: WallTime((certificate.not_before.0 - BACKDATED_MS) / 1_000 * 1_000),
                expires_at: Some(certificate.not_after),
                expired: certificate.not_after <= self.master.clock.now(self.now).wall,
                from,
            },
        }
    }

    pub(crate) fn connect_times_out(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.accepted || !conn.agent_open {
            return;
        }
        let board = conn.board;
        self.close_agent_end(id);
        let why = "no answer in time".to_owned();
        self.agent_input(board, node_agent::Input::ConnectFailed { why });
    }

    /// The agent's side is closed; the master is told as far as the link allows.
    pub(crate) fn close_agent_end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !std::mem::replace(&mut conn.agent_open, false) {
            return;
        }
        let board = conn.board;
        self.boards[board].left(id);
        self.send_up(id, Up::Fin);
    }

    /// The master alone learns that the stream is over.
    pub(crate) fn master_sees_end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.down_dead = true;
        conn.down.queue.clear();
        self.arrive_at_master(id, Up::Fin);
    }

    pub(crate) fn close_master_end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !std::mem::replace(&mut conn.master_open, false) {
            return;
        }
        self.send_down(id, Down::Fin);
    }

    /// The board is gone without a word.
    pub(crate) fn vanish_agent_end(&mut self, board: usize) {
        for conn in self.conns.values_mut().filter(|c| c.board == board) {
            conn.agent_open = false;
            conn.up.queue.clear();
        }
    }

    /// The master's process or power is gone; `silently`: nobody is told.
    pub(crate) fn drop_master_ends(&mut self, silently: bool) {
        let ids: Vec<_> =
            self.conns.iter().filter(|(_, c)| c.master_open).map(|(id, _)| *id).collect();
        for id in ids {
            if silently {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.master_open = false;
                    conn.down.queue.clear();
                }
            } else {
                self.close_master_end(id);
            }
        }
    }

    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(&id)
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    pub(crate) fn conns_of(&self, board: usize) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, c)| c.board == board).map(|(id, _)| *id).collect()
    }

    /// Messages that wait in one direction of a stream at most.
    pub(crate) fn longest_queue(&self) -> usize {
        self.conns.values().map(|c| c.up.queue.len().max(c.down.queue.len())).max().unwrap_or(0)
    }

    pub(crate) fn cut(&mut self, board: usize, up: bool, down: bool, how_long: u64) {
        let link = &mut self.boards[board].link;
        link.up_cut |= up;
        link.down_cut |= down;
        link.heals_at = link.heals_at.max(self.now + how_long);
        let at = link.heals_at;
        self.push(at, Due::LinkHeals(board));
    }

    pub(crate) fn link_heals(&mut self, board: usize) {
        if self.boards[board].link.heals_at > self.now {
            return;
        }
        self.boards[board].link = Link::default();
        self.tell(|| format!("board-{board}: link is whole"));
        for id in self.conns_of(board) {
            // what was held back is sent again by the kernels, after a while
            let again = self.now + self.randoms.network.between(1_000, 400_000);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.up.awaited = true;
                conn.down.awaited = true;
                conn.up.last = conn.up.last.max(again);
                conn.down.last = conn.down.last.max(again);
            }
            self.push(again, Due::Up(id));
            self.push(again, Due::Down(id));
        }
    }

    pub(crate) fn call(&mut self, call: Call) -> u64 {
        let id = self.name_next();
        let board = call.board;
        self.calls.insert(id, call);
        let transit = self.transit(board) * 3;
        self.push(self.now + transit, Due::CallArrives(id));
        self.push(self.now + CALL_TIMEOUT, Due::CallTimesOut(id));
        id
    }

    pub(crate) fn call_arrives(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if self.boards[call.board].link.up_cut || !self.master.is_running() {
            return;
        }
        let (caller, request) = (call.caller.clone(), call.request.clone());
        self.master_arrival(Arrival::Call { call: id, caller, request });
    }

    pub(crate) fn answer_call(&mut self, id: u64, answer: Result<Answer, Refusal>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.answer = Some(answer);
        call.answered_at = self.master.clock.now(self.now).wall;
        let board = call.board;
        let transit = self.transit(board);
        self.push(self.now + transit, Due::CallAnswered(id));
    }

    pub(crate) fn call_answered(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if self.boards[call.board].link.down_cut {
            return;
        }
        let Some(call) = self.calls.remove(&id) else { return };
        self.registration_answered(id, call);
    }

    pub(crate) fn call_times_out(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.registration_timed_out(id, call.board, call.boot);
    }
}

/// What a stream's message means to the master's machine.
pub(crate) fn as_input(conn: &Conn, message: ToMaster) -> Option<Input> {
    let (node, session) = (conn.node.clone()?, conn.session.clone()?);
    Some(match message {
        // the shell has looked at the request: it is for this key
        ToMaster::CertificateRequest { csr } => Input::RenewalRequested {
            node,
            session,
            key_fingerprint: String::from_utf8_lossy(&csr).into_owned(),
            csr,
        },
        ToMaster::Beat
        | ToMaster::Status(_)
        | ToMaster::Events(_)
        | ToMaster::ConfigApplied { .. }
        | ToMaster::CommandResult { .. }
        | ToMaster::Probed { .. }
        | ToMaster::Missed(_)
        | ToMaster::Goodbye(_) => Input::FromAgent { node, session, message },
    })
}
