//! Faults: when one comes due it happens to somebody, and the next of its kind is planned.

#![expect(clippy::wildcard_enum_match_arm, reason = "a fault of another group never gets here")]

use std::{collections::BTreeMap, time::Duration};

use piccolo_core::{
    action_controller::recovery::Step,
    api_server::{Caller, Registration, Role},
    model::{
        ContainerReport, Labels, NodeId, NodeKind, NodeName, NodeRole, NodeStatus, Resources,
        SystemInfo,
    },
    node_agent,
    session::AgentCommand,
    state_manager::Request,
    time::WallTime,
};

use super::{
    Due, World,
    board::container,
    network::Link,
    operator::{Purpose, Who},
};
use crate::{
    clock::{Clock, MINUTE, SECOND},
    plan::Fault,
};

/// Clones that are about at a time.
const CLONES_MAX: usize = 2;

impl World {
    pub(crate) fn unleash(&mut self) {
        self.calm = false;
        for (fault, often) in self.plan.faults.clone() {
            let at = self.now + self.randoms.faults.below(often * 2);
            self.push(at, Due::Fault(fault));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        if let Some(often) = self.plan.faults.get(&fault) {
            let at = self.now + self.randoms.faults.below(often * 2) + 1;
            self.push(at, Due::Fault(fault));
        }
        let b = self.randoms.faults.index(self.boards.len());
        self.tell(|| format!("fault: {fault:?}, board-{b} if one"));
        self.disturb_by(fault, b);
        match fault {
            Fault::CutUp | Fault::CutDown | Fault::CutBoth | Fault::CutAll | Fault::SlowLink => {
                self.link_fault(fault, b);
            }
            Fault::Reset | Fault::HalfClose => self.stream_fault(fault, b),
            Fault::AgentCrash
            | Fault::ColdBoot
            | Fault::Reflash
            | Fault::Clone
            | Fault::JournalLost
            | Fault::AgentSuspend
            | Fault::WallJump
            | Fault::Leave => self.board_fault(fault, b),
            Fault::MasterCrash
            | Fault::MasterPowerCut
            | Fault::MasterSuspend
            | Fault::StoreStall
            | Fault::StoreFailure => self.master_fault(fault),
            Fault::SetBack => self.set_back_fault(),
            Fault::Container
            | Fault::PodmanDown
            | Fault::Pressure
            | Fault::Burst
            | Fault::Unfit
            | Fault::StateFolder => self.work_fault(fault, b),
            Fault::Maintenance
            | Fault::Label
            | Fault::Topology
            | Fault::TokenRevoked
            | Fault::Remove
            | Fault::Reject
            | Fault::Trespass
            | Fault::Command => self.people_fault(fault, b),
        }
    }

    fn disturb_by(&mut self, fault: Fault, b: usize) {
        match fault {
            Fault::CutAll | Fault::MasterCrash | Fault::MasterPowerCut | Fault::MasterSuspend => {
                self.disturb_all()
            }
            Fault::StoreStall | Fault::StoreFailure => self.disturb_those_without_a_session(),
            // these cost nobody a session
            Fault::Container
            | Fault::PodmanDown
            | Fault::Pressure
            | Fault::Burst
            | Fault::Unfit
            | Fault::Label
            | Fault::Topology
            | Fault::TokenRevoked
            | Fault::Trespass
            | Fault::WallJump
            | Fault::StateFolder
            | Fault::SetBack => {}
            _ => self.disturb(b),
        }
    }

    fn link_fault(&mut self, fault: Fault, b: usize) {
        let how_long = self.randoms.faults.scale(500_000, 2 * MINUTE);
        match fault {
            Fault::CutUp => self.cut(b, true, false, how_long),
            Fault::CutDown => self.cut(b, false, true, how_long),
            Fault::CutBoth => self.cut(b, true, true, how_long),
            Fault::CutAll => {
                for b in 0..self.boards.len() {
                    self.cut(b, true, true, how_long);
                }
            }
            _ => {
                self.boards[b].link = Link {
                    slow: self.randoms.faults.scale(50_000, 3 * SECOND),
                    heals_at: self.now + how_long,
                    ..self.boards[b].link
                };
                self.push(self.now + how_long, Due::LinkHeals(b));
            }
        }
    }

    /// Both sides lose the stream, or only one notices.
    pub(crate) fn stream_fault(&mut self, fault: Fault, b: usize) {
        let sides = if fault == Fault::Reset { 3 } else { self.randoms.faults.between(1, 2) };
        for id in self.conns_of(b) {
            let Some(conn) = self.conn(id) else { continue };
            let boot = conn.boot;
            if sides & 1 != 0 && conn.agent_open && boot == self.boards[b].boot {
                let accepted = conn.accepted;
                if sides == 3 {
                    self.close_agent_end(id);
                } else {
                    self.boards[b].left(id);
                    if let Some(conn) = self.conn_mut(id) {
                        conn.agent_open = false;
                    }
                }
                let why = "the stream broke".to_owned();
                let input = if accepted {
                    node_agent::Input::Disconnected { why }
                } else {
                    node_agent::Input::ConnectFailed { why }
                };
                self.agent_input(b, input);
            }
            if sides == 2 {
                self.master_sees_end(id);
            }
        }
    }

    fn board_fault(&mut self, fault: Fault, b: usize) {
        let down_for = self.randoms.faults.scale(100_000, MINUTE);
        match fault {
            Fault::AgentCrash => {
                let after = self.randoms.faults.below(12);
                if let Some(agent) = &mut self.boards[b].agent {
                    agent.dies_after = Some(after);
                }
            }
            Fault::ColdBoot => {
                self.agent_dies(b, true);
                self.push(self.now + down_for, Due::AgentBoots(b));
            }
            Fault::Reflash if self.boards[b].clone_of.is_none() => {
                self.agent_dies(b, true);
                self.boards[b].reflash();
                self.push(self.now + down_for, Due::AgentBoots(b));
            }
            Fault::Clone => self.clone_board(b),
            Fault::JournalLost => {
                self.agent_dies(b, true);
                let disk = &mut self.boards[b].disk;
                disk.journal.clear();
                disk.next_sequence = 1;
                disk.journal_life += 1;
                self.judge.journal_lost(&self.boards[b].disk);
                self.push(self.now + down_for, Due::AgentBoots(b));
            }
            Fault::AgentSuspend => self.suspend_agent(b, down_for),
            Fault::WallJump => {
                let by = self.randoms.faults.scale(1_000, 400 * 86_400_000);
                let by = i64::try_from(by).unwrap_or(0);
                let back = self.randoms.faults.chance(50);
                self.boards[b].clock.wall_offset = if back { -by } else { by };
            }
            Fault::Leave if self.boards[b].clone_of.is_none() && self.randoms.faults.chance(30) => {
                self.agent_input(b, node_agent::Input::Stop { leave: true });
            }
            _ => {}
        }
    }

    pub(crate) fn clone_board(&mut self, b: usize) {
        let clones = self.boards.iter().filter(|b| b.clone_of.is_some() && b.powered).count();
        let original = &self.boards[b];
        if clones >= CLONES_MAX
            || original.clone_of.is_some()
            || original.disk.certificate.is_none()
        {
            return;
        }
        let index = self.boards.len();
        let clock = Clock::new(1_000_000, self.randoms.faults.below(1 << 40));
        let clone = original.cloned(index, clock);
        self.judge.cloned(&clone.disk.node);
        self.boards.push(clone);
        let stays = self.randoms.faults.scale(5 * SECOND, 4 * MINUTE);
        self.push(self.now + 1, Due::AgentBoots(index));
        self.push(self.now + stays, Due::CloneLeaves(index));
    }

    pub(crate) fn clone_leaves(&mut self, index: usize) {
        self.agent_dies(index, true);
        self.boards[index].retired = true;
    }

    fn master_fault(&mut self, fault: Fault) {
        let how_long = self.randoms.faults.scale(100_000, 40 * SECOND);
        match fault {
            Fault::MasterCrash => {
                let after = self.randoms.faults.below(10);
                if let Some(process) = &mut self.master.process {
                    process.dies_after = Some(after);
                }
            }
            Fault::MasterPowerCut => self.master_dies(true, how_long),
            Fault::MasterSuspend => self.suspend_master(how_long),
            Fault::StoreStall => {
                self.master.store_stalls_until = self.now + how_long;
            }
            _ => {
                let count = self.randoms.faults.between(1, 6);
                self.master.commits_to_fail += u32::try_from(count).unwrap_or(1);
            }
        }
        // a setting may change over a restart
        if self.randoms.faults.chance(20) {
            let events = [60, 300, 10_000][self.randoms.faults.index(3)];
            self.master.settings.events_max = events;
        }
    }

    fn work_fault(&mut self, fault: Fault, b: usize) {
        match fault {
            Fault::PodmanDown => {
                self.boards[b].podman_down = true;
                let how_long = self.randoms.faults.scale(SECOND, MINUTE);
                self.push(self.now + how_long, Due::PodmanReturns(b));
            }
            Fault::Pressure => {
                let board = &mut self.boards[b];
                let pressed = board.memory_percent > 90.0;
                board.memory_percent = if pressed { 50.0 } else { 99.0 };
                // a figure that trembles around its limit, or one that stays there
                board.trembles = self.randoms.faults.chance(50);
            }
            Fault::Unfit => {
                self.boards[b].unfit ^= true;
                // somebody has a look at once, or nobody does
                if self.randoms.faults.chance(50) {
                    let node = self.boards[b].disk.node.to_string();
                    let request = Request::Command { node, command: AgentCommand::CheckSystem };
                    self.people_ask(Who::Operator, request, Purpose::Other);
                }
            }
            Fault::StateFolder => {
                self.boards[b].folder.refuses = true;
                let how_long = self.randoms.faults.scale(SECOND, 4 * MINUTE);
                self.push(self.now + how_long, Due::StateFolderHeals(b));
            }
            Fault::Burst => {
                for _ in 0..self.randoms.faults.between(5, 80) {
                    self.container_changes(b);
                    let boot = self.boards[b].boot;
                    self.observe(b, boot);
                }
            }
            _ => self.container_changes(b),
        }
        self.podman_stirs(b);
    }

    /// For scripts.
    pub(crate) fn change_container(&mut self, b: usize, change: &str) -> Result<(), String> {
        let at = self.boards[b].clock.now(self.now).wall;
        if self.boards[b].containers.is_empty() {
            self.boards[b].containers.push(container(b, 0));
        }
        let containers = &mut self.boards[b].containers;
        match change {
            "die" => end(&mut containers[0], 137, at),
            "start" => start(&mut containers[0], at),
            "remove" => drop(containers.remove(0)),
            _ => return Err("expected die, start or remove".to_owned()),
        }
        self.podman_stirs(b);
        Ok(())
    }

    fn container_changes(&mut self, b: usize) {
        let containers = self.boards[b].containers.len();
        let what = self.randoms.faults.below(6);
        let at = self.boards[b].clock.now(self.now).wall;
        if containers == 0 || (what == 0 && containers < 8) {
            let number = self.name_next();
            let mut new = container(b, number);
            new.started_at = Some(at);
            if self.randoms.faults.chance(20) {
                // what a runtime may really say
                new.name = format!("이름이-아주-긴-컨테이너-{}", "가".repeat(480));
                new.image = format!("registry/\u{7}{}", "x".repeat(2_000));
            }
            return self.boards[b].containers.push(new);
        }
        let i = self.randoms.faults.index(containers);
        let failed = self.randoms.faults.chance(50);
        let container = &mut self.boards[b].containers[i];
        match what {
            1 => drop(self.boards[b].containers.remove(i)),
            2 | 3 => {
                end(container, i32::from(failed), at);
                let id = container.id.clone();
                self.boards[b].fresh_ends.insert(id);
            }
            4 => {
                let health = if container.health == "unhealthy" { "healthy" } else { "unhealthy" };
                health.clone_into(&mut container.health);
            }
            _ => start(container, at),
        }
    }

    fn people_fault(&mut self, fault: Fault, b: usize) {
        let id = self.boards[b].disk.node.to_string();
        match fault {
            Fault::Maintenance => {
                let status = self.master.store.nodes.get(&self.boards[b].disk.node);
                let on = status.is_none_or(|n| n.status != NodeStatus::Maintenance);
                let request = Request::SetMaintenance { node: id, on, reason: "test".to_owned() };
                self.people_ask(Who::Operator, request, Purpose::Other);
            }
            Fault::Label => {
                let value = self.randoms.people.below(3).to_string();
                let set = Labels::from([("site".to_owned(), value)]);
                let request = Request::LabelNode { node: id, set, remove: Vec::new() };
                self.people_ask(Who::Operator, request, Purpose::Other);
            }
            Fault::Topology => self.topology_fault(),
            Fault::TokenRevoked => {
                let tokens: Vec<_> = self.master.store.tokens.keys().cloned().collect();
                if let Some(hash) = self.randoms.people.pick(&tokens).cloned() {
                    self.people_ask(Who::Admin, Request::RevokeToken(hash), Purpose::Other);
                }
            }
            Fault::Remove if self.boards[b].clone_of.is_none() => {
                self.people_ask(Who::Admin, Request::RemoveNode(id), Purpose::Other);
            }
            Fault::Reject => {
                let request = Request::RejectNode { node: id, reason: "unknown".to_owned() };
                self.people_ask(Who::Operator, request, Purpose::Other);
            }
            Fault::Trespass => self.trespass(b),
            Fault::Command => {
                let container = "app-0".to_owned();
                let request = match self.randoms.people.below(5) {
                    0 => {
                        let span = Duration::from_secs(self.randoms.people.below(3) * 200);
                        Request::PauseRecovery { node: id, span }
                    }
                    1 => Request::Command { node: id, command: AgentCommand::Probe },
                    2 => {
                        let step = [Step::RestartContainer, Step::RestartPodman, Step::Reboot];
                        let step = step[self.randoms.people.index(3)];
                        let command = AgentCommand::Recover { step, container };
                        Request::Command { node: id, command }
                    }
                    _ => {
                        let command = AgentCommand::RestartContainer { container };
                        Request::Command { node: id, command }
                    }
                };
                self.people_ask(Who::Operator, request, Purpose::Other);
            }
            _ => {}
        }
    }

    fn topology_fault(&mut self) {
        let mut config = BTreeMap::new();
        config.insert("note".to_owned(), self.name_next().to_string());
        if self.randoms.people.chance(50) {
            let beat = [500, 1000, 2000, 8000][self.randoms.people.index(4)];
            let silence = beat * self.randoms.people.between(2, 4);
            config.insert("beat_interval_ms".to_owned(), beat.to_string());
            config.insert("beat_silence_ms".to_owned(), silence.to_string());
            let heartbeat = self.randoms.people.between(5, 30);
            config.insert("heartbeat_interval_seconds".to_owned(), heartbeat.to_string());
        }
        if self.randoms.people.chance(30) {
            let readiness = ["enforce", "warn"][self.randoms.people.index(2)];
            config.insert("readiness".to_owned(), readiness.to_owned());
        }
        self.topology_update(config);
    }

    /// Somebody found an old token, and tries to join with it.
    fn intrude(&mut self) {
        let Some(hash) = self.operator.any_token(&mut self.randoms.people) else { return };
        let wall = self.master.clock.now(self.now).wall;
        let good = self.master.store.tokens.get(&hash).is_some_and(|token| {
            token.uses_left > 0 && token.expires_at > wall && token.node_name.is_none()
        });
        if good || !self.master.is_settled() {
            return;
        }
        let name = format!("intruder-{}", self.name_next());
        let registration = Registration {
            node: NodeId::parse("node", &name).expect("a word"),
            name: NodeName::parse("name", &name).expect("a host name"),
            ip: "10.0.1.66".to_owned(),
            role: NodeRole::Sub,
            kind: NodeKind::Embedded,
            resources: Resources::default(),
            labels: Labels::new(),
            system: SystemInfo::default(),
            token_hash: Some(hash),
            key_fingerprint: name,
        };
        let what = Request::Register(Box::new(registration));
        self.ask_as(Caller::anonymous("10.0.1.66"), what, Purpose::Intrusion);
    }

    /// Somebody asks for what they may not have.
    fn trespass(&mut self, b: usize) {
        if self.randoms.people.chance(40) {
            return self.intrude();
        }
        let node = self.boards[b].disk.node.to_string();
        let mut by = match self.randoms.people.below(4) {
            0 => Who::Viewer.caller(),
            1 => Who::Operator.caller(),
            2 => Caller::anonymous("10.0.1.66"),
            _ => self.caller_of(b),
        };
        if self.randoms.people.chance(20) {
            by = Caller { role: Role::Admin, id: "ghost".to_owned(), ..by };
        }
        let what = match self.randoms.people.below(6) {
            0 => Request::RemoveNode(node),
            1 => Request::SetMaintenance { node, on: true, reason: String::new() },
            2 => Request::ResetNodeIdentity(node),
            3 => Request::ListUsers,
            4 => Request::GetNode(node),
            _ => Request::RevokeUser("admin".to_owned()),
        };
        self.ask_as(by, what, Purpose::Other);
    }
}

pub(super) fn start(container: &mut ContainerReport, at: WallTime) {
    "running".clone_into(&mut container.state);
    container.exit_code = None;
    container.started_at = Some(at);
}

fn end(container: &mut ContainerReport, code: i32, at: WallTime) {
    "exited".clone_into(&mut container.state);
    container.exit_code = Some(code);
    container.finished_at = Some(at);
}
