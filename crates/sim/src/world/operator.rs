//! The people: they make tokens, approve, look after boards that cannot help themselves, and at bad
//! moments ask for things that they may or may not do.

use std::{collections::BTreeMap, time::Duration};

use piccolo_core::{
    api_server::{Call, Caller, Refusal, Role},
    model::{NodeId, NodeName, NodeRole, NodeStatus, UserName, UserRecord},
    monitoring_server::alerts::alert::Id,
    state_manager::{Answer, Approval, Input, Request, RequestId, TokenRequest},
    time::WallTime,
    topology::{TopologyType, TopologyUpdate},
};

use super::{Due, World, master::Arrival};
use crate::{clock::SECOND, rng::Rng};

/// Messages that wait in one direction of a stream at most.
const QUEUE_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Admin,
    Operator,
    Viewer,
}

/// What somebody wants to know the answer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    SetUp,
    Token {
        board: Option<usize>,
        hash: String,
    },
    Reset {
        board: usize,
    },
    /// Must be refused.
    Intrusion,
    /// To see what could not be delivered.
    Letters,
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) role: Role,
    pub(crate) call: Call,
    pub(crate) purpose: Purpose,
}

#[derive(Debug, Default)]
pub(crate) struct Operator {
    asked: BTreeMap<RequestId, Asked>,
    /// The token that all boards share.
    shared: Option<String>,
    /// Boards whose name was set free, and the node that held it.
    reset: BTreeMap<usize, NodeId>,
    users_made: u32,
    /// What could not be delivered, as they saw it last.
    pub(super) letters: Vec<Id>,
    /// Hashes of all tokens that were ever asked for.
    tokens: Vec<String>,
}

impl Operator {
    pub(crate) fn master_died(&mut self) {
        self.asked.clear();
    }

    /// Who was made after the backup is not known any more, and no name is free.
    pub(crate) fn set_back(&mut self, users: usize) {
        // beside the first administrator
        self.users_made = u32::try_from(users.saturating_sub(1)).unwrap_or(u32::MAX);
        self.reset.clear();
    }

    fn waits_for(&self, board: usize) -> bool {
        self.asked.values().any(|asked| match &asked.purpose {
            Purpose::Token { board: Some(b), .. } | Purpose::Reset { board: b } => *b == board,
            Purpose::Token { board: None, .. } => true,
            Purpose::SetUp | Purpose::Intrusion | Purpose::Letters | Purpose::Other => false,
        })
    }

    pub(crate) fn any_token(&self, rng: &mut Rng) -> Option<String> {
        rng.pick(&self.tokens).cloned()
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.asked.len()
    }
}

impl Who {
    pub(crate) fn caller(self) -> Caller {
        let (role, id, serial) = match self {
            Self::Admin => (Role::Admin, "admin", "1"),
            Self::Operator => (Role::Operator, "operator", "2"),
            Self::Viewer => (Role::Viewer, "viewer", "3"),
        };
        Caller {
            role,
            id: id.to_owned(),
            serial: serial.to_owned(),
            ..Caller::anonymous("10.0.1.1")
        }
    }
}

impl World {
    pub(crate) fn set_up_people(&mut self) {
        let user = UserRecord {
            name: UserName::parse("name", "admin").expect("a word"),
            role: Role::Admin,
            created_at: WallTime(0),
            expires_at: WallTime(i64::MAX),
            serial: "1".to_owned(),
            created_by: "the master".to_owned(),
        };
        self.master_input(Input::AdminIssued { user });
    }

    pub(crate) fn people_ask(&mut self, who: Who, what: Request, purpose: Purpose) {
        self.ask_as(who.caller(), what, purpose);
    }

    pub(crate) fn ask_as(&mut self, by: Caller, what: Request, purpose: Purpose) {
        if !self.master.is_running() {
            return;
        }
        let request = RequestId(self.name_next());
        let asked = Asked { role: by.role, call: what.call(), purpose };
        self.tell(|| format!("people: {:?} ask {:?}", by.who(), asked.call));
        self.operator.asked.insert(request, asked);
        self.master_arrival(Arrival::People { request, by, what });
    }

    pub(crate) fn people_hear(&mut self, request: RequestId, result: Result<Answer, Refusal>) {
        let Some(asked) = self.operator.asked.remove(&request) else {
            let what = format!("{request:?} by people");
            return self.judge.fail("every_request_is_answered_once", what);
        };
        self.judge.answered(&asked, &result);
        if let Err(refusal) = &result {
            self.tell(|| format!("people: refused: {}", refusal.message));
        }
        match (asked.purpose, result) {
            (Purpose::Token { board, hash }, Ok(_)) => match board {
                None => self.operator.shared = Some(hash),
                Some(board) => self.put_token(board, hash),
            },
            (Purpose::Reset { board }, Ok(_)) => {
                if let Some(holder) = self.holder_of_name(board) {
                    self.operator.reset.insert(board, holder);
                }
            }
            (Purpose::SetUp, Ok(_)) => self.operator.users_made += 1,
            (Purpose::Intrusion, Ok(answer)) => {
                self.judge.fail("nobody_joins_without_a_good_token", format!("{answer:?}"));
            }
            (Purpose::Letters, Ok(answer)) => self.operator.sees_letters(answer),
            (Purpose::Other, Ok(_)) | (_, Err(_)) => {}
        }
    }

    /// `piccolo-nodeagent join TOKEN`.
    fn put_token(&mut self, b: usize, hash: String) {
        self.boards[b].disk.token = Some(hash);
        self.agent_dies(b, false);
        self.push(self.now + SECOND / 2, Due::AgentBoots(b));
    }

    fn holder_of_name(&self, b: usize) -> Option<NodeId> {
        let board = &self.boards[b];
        let nodes = self.master.store.nodes.values();
        nodes
            .filter(|n| n.id != board.disk.node && n.status != NodeStatus::Terminating)
            .find(|n| n.name.as_str() == board.hostname)
            .map(|n| n.id.clone())
    }

    /// Once a second: users, tokens, approvals, boards that need a hand.
    pub(crate) fn errands(&mut self) {
        self.push(self.now + SECOND, Due::Errands);
        self.queues_within_bound();
        if self.master.is_attentive() {
            let now = self.master.clock.now(self.now);
            self.judge.look_at_alerts(self.now, now, &self.master.store);
        }
        if self.operator.users_made < 2 && self.operator.asked.is_empty() {
            self.make_users();
        }
        self.see_to_alerts();
        for b in 0..self.boards.len() {
            if self.boards[b].powered
                && self.boards[b].clone_of.is_none()
                && !self.boards[b].retired
            {
                self.help_board(b);
            }
        }
        // in a script people do what it says, and no more
        if self.plan.chaos > 0
            && self.plan.approval == Approval::Manual
            && (self.calm || self.randoms.people.chance(10))
        {
            self.approve_one();
        }
    }

    /// Flow control is by acknowledgement and beat: nobody floods a stream that is not read.
    fn queues_within_bound(&mut self) {
        let longest = self.longest_queue();
        if longest > QUEUE_MAX {
            self.judge.fail("queues_within_bound", format!("{longest} messages wait in a stream"));
        }
    }

    fn make_users(&mut self) {
        for (name, role, serial) in
            [("operator", Role::Operator, "2"), ("viewer", Role::Viewer, "3")]
        {
            let request = Request::CreateUser {
                name: UserName::parse("name", name).expect("a word"),
                role,
                ttl: Duration::ZERO,
                serial: serial.to_owned(),
            };
            self.people_ask(Who::Admin, request, Purpose::SetUp);
        }
    }

    fn approve_one(&mut self) {
        let pending = self.master.store.nodes.values().find(|n| n.status == NodeStatus::Pending);
        if let Some(id) = pending.map(|n| n.id.to_string()) {
            self.people_ask(Who::Operator, Request::ApproveNode(id), Purpose::Other);
        }
    }

    fn help_board(&mut self, b: usize) {
        if self.operator.waits_for(b) {
            return;
        }
        let board = &self.boards[b];
        let member = self.master.store.nodes.contains_key(&board.disk.node);
        let worthless = |problem: &str| problem.contains("worth nothing");
        let removed = board.agent.as_ref().is_some_and(|agent| {
            agent.machine.is_removed() || agent.machine.last_problem().is_some_and(worthless)
        });
        if board.disk.certificate.is_some() && !removed && member {
            return;
        }
        // it is a member by one token, never heard so, and has another now that is good for nothing
        let joined_with = self.master.store.nodes.get(&board.disk.node).map(|n| &n.joined_with);
        let stuck = self.calm
            && board.disk.certificate.is_none()
            && joined_with.is_some()
            && board
                .disk
                .token
                .as_ref()
                .is_some_and(|hash| joined_with != Some(hash) && !self.is_usable(hash, b));
        if stuck {
            return self.new_life(b);
        }
        // it joined after the backup: its certificate will be believed, where nobody holds its name
        if board.disk.certificate.is_some() && !removed && self.judge.was_set_back() {
            let free = self.holder_of_name(b).is_none() || self.operator.reset.contains_key(&b);
            if !free && self.calm {
                let name = self.boards[b].hostname.clone();
                self.people_ask(
                    Who::Admin,
                    Request::ResetNodeIdentity(name),
                    Purpose::Reset { board: b },
                );
            }
            return;
        }
        // thrown out with a certificate, or refused with a token: it begins a new life
        let spent =
            board.disk.token.as_ref().is_some_and(|hash| !member && !self.is_usable(hash, b));
        if board.disk.certificate.is_some() && self.plan.chaos == 0 {
            return;
        }
        if board.disk.certificate.is_some() {
            if !self.calm && !self.randoms.people.chance(5) {
                return;
            }
            self.new_life(b);
        } else if spent {
            self.boards[b].disk.token = None;
        }
        if self.boards[b].disk.token.is_none() {
            self.see_to_token(b);
        } else if self.calm && (self.now / SECOND).is_multiple_of(40) {
            // "it says that the name is taken; but it is not any more"
            self.agent_dies(b, false);
            self.push(self.now, Due::AgentBoots(b));
        }
    }

    pub(crate) fn new_life(&mut self, b: usize) {
        self.agent_dies(b, false);
        self.boards[b].reflash();
        self.operator.reset.remove(&b);
        self.tell(|| format!("board-{b}: begins a new life"));
    }

    fn is_usable(&self, hash: &str, b: usize) -> bool {
        let now = self.master.clock.now(self.now).wall;
        let name_free = self.holder_of_name(b);
        self.master.store.tokens.get(hash).is_some_and(|token| {
            let bound = token.node_name.is_some();
            let reset = name_free.is_none() || self.operator.reset.get(&b) == name_free.as_ref();
            token.uses_left > 0
                && token.expires_at > now
                && !token.used_by.contains(&self.boards[b].disk.node)
                && (bound || reset)
        })
    }

    fn see_to_token(&mut self, b: usize) {
        let holder = self.holder_of_name(b);
        let free = holder.is_none() || self.operator.reset.get(&b) == holder.as_ref();
        // a name that is taken is set free by a bound token, or by reset-identity
        let bound = !free && b.is_multiple_of(2);
        if !free && !bound {
            let name = self.boards[b].hostname.clone();
            let request = Request::ResetNodeIdentity(name);
            return self.people_ask(Who::Admin, request, Purpose::Reset { board: b });
        }
        if self.plan.shared_token && !bound {
            if let Some(hash) = self.operator.shared.clone()
                && self.is_usable(&hash, b)
            {
                return self.put_token(b, hash);
            }
            return self.ask_token(None, None, 20);
        }
        let name = bound.then(|| self.boards[b].hostname.clone());
        let uses = self.randoms.people.between(1, 2);
        self.ask_token(Some(b), name, u32::try_from(uses).unwrap_or(1));
    }

    fn ask_token(&mut self, board: Option<usize>, name: Option<String>, uses: u32) {
        let hash = format!("{:064x}", self.name_next() | 1 << 60);
        self.operator.tokens.push(hash.clone());
        let request = TokenRequest {
            hash: hash.clone(),
            role: NodeRole::Sub,
            ttl: Duration::from_secs(600),
            uses,
            node_name: name.map(|n| NodeName::parse("name", &n).expect("a host name")),
        };
        self.people_ask(Who::Admin, Request::CreateToken(request), Purpose::Token { board, hash });
    }

    pub(crate) fn topology_update(&mut self, config: BTreeMap<String, String>) {
        let update = TopologyUpdate {
            id: String::new(),
            name: "simulated".to_owned(),
            kind: TopologyType::BasicEmbedded,
            parent_cluster: String::new(),
            config,
            generation: 0,
            members: Vec::new(),
        };
        self.people_ask(Who::Admin, Request::UpdateTopology(update), Purpose::Other);
    }
}
