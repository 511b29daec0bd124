//! A board's disk, and the agent's folder on it, which takes no writes for a while: full, read-only, or broken.

use std::collections::BTreeMap;

use piccolo_core::{
    model::{JournalEntry, NodeId},
    node_agent::{Effect, Input, Ledger},
};

use super::{
    World,
    board::{Board, Certificate},
};

/// What outlives a crash and a cold boot, but not a re-flash.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) node: NodeId,
    pub(crate) key: String,
    pub(crate) certificate: Option<Certificate>,
    /// Hash of the token that a person has put there.
    pub(crate) token: Option<String>,
    pub(crate) ledger: Ledger,
    pub(crate) journal: BTreeMap<u64, JournalEntry>,
    pub(crate) next_sequence: u64,
    /// Tells journals apart that were lost and begun again.
    pub(crate) journal_life: u64,
}

impl Disk {
    pub(super) fn new(node: &str, key: String) -> Self {
        Self {
            node: NodeId::parse("node", node).expect("simulated ids are words"),
            key,
            certificate: None,
            token: None,
            ledger: Ledger::default(),
            journal: BTreeMap::new(),
            next_sequence: 1,
            journal_life: 0,
        }
    }

    pub(super) fn has_under_another_number(&self, entry: &JournalEntry) -> bool {
        let mut alike = self.journal.values().filter(|old| old.at == entry.at);
        alike.any(|old| JournalEntry { sequence: entry.sequence, ..old.clone() } == *entry)
    }

    fn certified(&mut self, certificate: Certificate) {
        self.key.clone_from(&certificate.key);
        self.certificate = Some(certificate);
    }

    fn takes(&mut self, effect: Effect) {
        match effect {
            Effect::SaveLedger(ledger) => self.ledger = ledger,
            Effect::JournalAppend(entry) => {
                self.next_sequence = self.next_sequence.max(entry.sequence + 1);
                self.journal.insert(entry.sequence, entry);
            }
            Effect::JournalTrim { through } => {
                self.journal.retain(|sequence, _| *sequence > through);
            }
            Effect::JournalDrop { sequence } => drop(self.journal.remove(&sequence)),
            _ => {}
        }
    }
}

/// Where the agent keeps what a restart needs.
#[derive(Debug, Default)]
pub(crate) struct StateFolder {
    pub(super) refuses: bool,
    /// What a restart would find there, since this process could not write something.
    found: Option<Box<Disk>>,
    /// This process could not write, and has not been able to since; and what it has told its core of that.
    problem: bool,
    told: bool,
}

impl Board {
    pub(super) fn found_by_a_restart(&self) -> &Disk {
        self.folder.found.as_deref().unwrap_or(&self.disk)
    }

    /// As the shell does, which goes on after what could not be written.
    pub(super) fn writes(&mut self, effect: Effect) {
        if let Some(found) = self.found_beside() {
            found.takes(effect.clone());
        }
        self.disk.takes(effect);
    }

    /// A restart would find it, now or once the certificate is written.
    pub(super) fn keeps_the_key_of(&mut self, certificate: &Certificate) -> bool {
        let keeps = !self.folder.refuses || self.found_by_a_restart().key == certificate.key;
        self.folder.problem |= !keeps;
        keeps
    }

    /// In use from now on, and kept if that is possible.
    pub(super) fn certified(&mut self, certificate: Certificate) {
        if let Some(found) = self.found_beside() {
            found.certified(certificate.clone());
        }
        self.disk.certified(certificate);
    }

    /// What a restart would find, where that differs and can be written to.
    fn found_beside(&mut self) -> Option<&mut Disk> {
        if self.folder.refuses {
            self.folder.problem = true;
            self.folder.found.get_or_insert_with(|| Box::new(self.disk.clone()));
            return None;
        }
        self.folder.found.as_deref_mut()
    }
}

impl World {
    pub(super) fn state_folder_heals(&mut self, b: usize) {
        self.boards[b].folder.refuses = false;
    }

    /// After all that was to be done at once.
    pub(super) fn agent_hears_of_its_folder(&mut self, b: usize) {
        let board = &mut self.boards[b];
        let problem = board.folder.problem;
        if std::mem::replace(&mut board.folder.told, problem) != problem
            && let Some(agent) = &mut board.agent
        {
            let problem = problem.then(|| "read-only file system".to_owned());
            agent.inbox.push_back(Input::StateFolder { problem });
        }
    }

    /// What a restart needs most is written again as soon as that is possible.
    pub(super) fn try_state_folder_again(&mut self, b: usize) {
        let board = &mut self.boards[b];
        if board.folder.problem && !board.folder.refuses {
            board.folder.problem = false;
            if let Some(agent) = &board.agent {
                let ledger = agent.machine.ledger().clone();
                board.writes(Effect::SaveLedger(ledger));
            }
            self.agent_hears_of_its_folder(b);
        }
    }

    /// The process has ended, and with it what it alone knew.
    pub(super) fn forget_what_was_not_written(&mut self, b: usize) {
        let Board { disk, folder, .. } = &mut self.boards[b];
        let refuses = folder.refuses;
        let lived = std::mem::replace(folder, StateFolder { refuses, ..StateFolder::default() });
        if let Some(found) = lived.found {
            disk.ledger = found.ledger;
            disk.journal = found.journal;
            disk.next_sequence = found.next_sequence;
            disk.key = found.key;
            disk.certificate = found.certificate;
            disk.journal_life += 1;
            self.judge.journal_lost(disk);
            self.judge.forgets_what_it_told(b);
        }
    }
}
