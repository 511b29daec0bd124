//! Faults stop, everything that broke is mended, and then the cluster must come to rest by itself.

use std::collections::{BTreeMap, BTreeSet};

use piccolo_core::{
    model::{NodeId, NodeStatus, NodeView},
    state_manager::Request,
};

use super::{
    Due, World,
    operator::{Purpose, Who},
};

impl World {
    pub(crate) fn heal(&mut self) {
        self.calm = true;
        self.tell(|| "faults stop; everything is mended".to_owned());
        self.master.store_stalls_until = self.now;
        let boot = self.master.boot;
        // a commit that waits for the stall to end is answered now
        self.push(self.now, Due::StoreAnswers { boot });
        self.master.commits_to_fail = 0;
        if let Some(process) = &mut self.master.process {
            process.dies_after = None;
            if process.suspended_until.is_some() {
                process.suspended_until = Some(self.now);
                self.push(self.now, Due::MasterResumes { boot });
            }
        }
        for b in 0..self.boards.len() {
            self.mend_board(b);
        }
    }

    fn mend_board(&mut self, b: usize) {
        if self.boards[b].clone_of.is_some() {
            return self.clone_leaves(b);
        }
        let board = &mut self.boards[b];
        board.link.heals_at = self.now;
        board.memory_percent = 40.0;
        board.trembles = false;
        board.unfit = false;
        board.folder.refuses = false;
        board.clockless = false;
        board.clock.wall_offset = 0;
        let was_down = std::mem::replace(&mut board.podman_down, false);
        let boot = board.boot;
        if let Some(agent) = &mut board.agent {
            agent.dies_after = None;
            if agent.suspended_until.is_some() {
                agent.suspended_until = Some(self.now);
                self.push(self.now, Due::AgentResumes { board: b, boot });
            }
        } else if !board.retired {
            self.push(self.now, Due::AgentBoots(b));
        }
        self.link_heals(b);
        if was_down {
            self.podman_stirs(b);
        }
    }

    /// People bring order: nobody stays in Maintenance, nobody is in the registry who is not there.
    pub(crate) fn tidy(&mut self) {
        let present: BTreeSet<NodeId> = self
            .boards
            .iter()
            .filter(|b| b.clone_of.is_none() && !b.retired)
            .map(|b| b.disk.node.clone())
            .collect();
        let nodes: Vec<_> =
            self.master.store.nodes.values().map(|n| (n.id.clone(), n.status)).collect();
        for (id, status) in nodes {
            let node = id.to_string();
            if status == NodeStatus::Maintenance {
                let reason = String::new();
                let request = Request::SetMaintenance { node, on: false, reason };
                self.people_ask(Who::Operator, request, Purpose::Other);
            } else if !present.contains(&id) && status != NodeStatus::Terminating {
                // a name may still be handed over to the board's new identity
                let name = self.master.store.nodes.get(&id).map(|n| n.name.clone());
                let held = self
                    .boards
                    .iter()
                    .any(|b| !b.retired && name.as_ref().is_some_and(|n| n.as_str() == b.hostname));
                if !held {
                    self.people_ask(Who::Admin, Request::RemoveNode(node), Purpose::Other);
                }
            }
        }
    }

    /// Liveness: what must be true some time after the last fault. The first thing that is not.
    pub(crate) fn unrest(&self) -> Option<String> {
        let Some(process) = &self.master.process else {
            return Some("the master does not run".to_owned());
        };
        if self.operator.unanswered() > 0 {
            return Some(format!("{} requests were never answered", self.operator.unanswered()));
        }
        let Some(topology) = &self.master.store.topology else {
            return Some("the store has no topology".to_owned());
        };
        let shown: BTreeMap<NodeId, NodeView> =
            process.machine.nodes().map(|view| (view.record.id.clone(), view)).collect();
        let mut expected = BTreeSet::new();
        for board in self.boards.iter().filter(|b| b.clone_of.is_none() && !b.retired) {
            let b = board.index;
            let id = &board.disk.node;
            expected.insert(id.clone());
            let unrest = |what: String| Some(format!("board-{b} ({id}): {what}"));
            let Some(view) = shown.get(id) else {
                let phase = board.agent.as_ref().map(|a| a.machine.view());
                return unrest(format!("is not a member; its agent: {phase:?}"));
            };
            let record = &view.record;
            if record.status != NodeStatus::Ready || !view.connected {
                let phase = board.agent.as_ref().map(|a| a.machine.view());
                return unrest(format!("is not Ready and connected: {record:?}; agent: {phase:?}"));
            }
            if record.applied_generation != topology.generation
                || board.disk.ledger.generation != topology.generation
            {
                return unrest("does not have the newest generation".to_owned());
            }
            if !board.disk.journal.is_empty() {
                return unrest(format!("{} events wait in its journal", board.disk.journal.len()));
            }
            let mut conditions = record.conditions.clone();
            conditions.retain(|condition| !board.explains(condition.kind));
            if !conditions.is_empty() {
                return unrest(format!("conditions without a cause: {conditions:?}"));
            }
            let seen: Vec<_> = view.containers.iter().map(|c| (&c.id, &c.state)).collect();
            let real: Vec<_> = board.containers.iter().map(|c| (&c.id, &c.state)).collect();
            if seen != real {
                return unrest(format!("the master sees {seen:?}, but there are {real:?}"));
            }
            if record.events_dropped > board.disk.ledger.events_dropped {
                return unrest("more drops are told than were counted".to_owned());
            }
            if let Some(what) = self.judge.events_left_behind(id, record.events_dropped) {
                return unrest(what);
            }
        }
        if let Some(what) = self.judge.notification_owed() {
            return Some(what);
        }
        let ghost = shown.values().find(|view| !expected.contains(&view.record.id));
        ghost.map(|view| format!("nobody is {:?}", view.record))
    }
}
