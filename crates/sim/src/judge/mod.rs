//! The judge: what must hold after every step, one named function each.
//!
//! It sees what the machines decide, what the shells perform and what the store holds, keeps its own short
//! account of each node, and compares. It shares no code with what it judges.
//!
//! - `nodes`: status, sessions, silence
//! - `check`: whom the system check keeps out
//! - `events`: journals and the log, exactly once and in order
//! - `reveal`: nothing is shown that is not stored
//! - `recovery`: what it may do on a board, and what it owes to people
//! - `alerts`: of boards that are alone, each under one key
//! - `firing`: the master's alerts, each in its time, by what `subjects` has seen; `notices`: what channels are owed of
//!   them; `silences`: what nobody is to be told, and what nobody has acknowledged; `letters`: what cannot be delivered
//! - `access`: who may, and who is not let in any more
//! - `set_back`: what a restored master may have forgotten, and what not

mod access;
mod alerts;
mod check;
mod events;
mod firing;
mod letters;
mod nodes;
mod notices;
mod recovery;
mod reveal;
mod set_back;
mod silences;
mod subjects;

use std::collections::{BTreeMap, BTreeSet};

use piccolo_core::{
    api_server::{Call, Caller, Role},
    failure_detector::Timing,
    model::{AuditEntry, NodeId, NodeStatus, SessionId},
    node_agent,
    session::Hello,
    state_manager::{Effect, Input, StateManager, Transaction, keys},
    time::{Now, Timestamp, WallTime},
    topology::{NodeConfig, Readiness, TopologyRecord},
};

use self::{check::Told, events::Journal, nodes::Account, recovery::Recoveries};
pub(crate) use self::{
    firing::RULE_KEY,
    notices::{DUTY, EVERYBODY},
    set_back::Mark,
    subjects::{DOWN, GONE, NO_PODMAN},
};
use crate::{
    clock::True,
    plan::Plan,
    store::{Appended, Store},
    world::Disk,
};

/// Writes of one transaction at most: etcd takes 128.
const WRITES_MAX: usize = 120;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

/// What an input asked for, as far as somebody will ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) call: Option<Call>,
    pub(crate) role: Role,
    pub(crate) expired: bool,
    pub(crate) known_user: bool,
    /// The session that a Hello says its process held before.
    previous: Option<SessionId>,
    /// Said on a session that is over.
    stale: bool,
}

#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) violation: Option<Violation>,
    accounts: BTreeMap<NodeId, Account>,
    journals: BTreeMap<NodeId, Journal>,
    /// Ids that two boards have, or had.
    cloned: BTreeSet<NodeId>,
    /// Nodes that were taken out, with the token they had.
    removed: BTreeSet<(NodeId, String)>,
    joined_with: BTreeMap<NodeId, String>,
    /// Nodes that each token was made for.
    token_uses: BTreeMap<String, usize>,
    sessions: BTreeMap<SessionId, (NodeId, Caller)>,
    configs: BTreeMap<u64, NodeConfig>,
    /// Pace of the slowest and of the fastest topology so far.
    loosest: Timing,
    tightest: Timing,
    base: Timing,
    generation: u64,
    revision: u64,
    last_event: u64,
    last_audit: Option<AuditEntry>,
    journal_max: usize,
    attentive_since: Option<True>,
    /// Until then nobody can have been silent for too long, as far as the accounts say.
    well_until: True,
    /// When the master last went on after it stood still.
    forgiven_at: Option<True>,
    /// Local time of the master's start, and true.
    started: (Timestamp, True),
    commands_run: BTreeSet<String>,
    /// The session that the same process held before, of each.
    befores: BTreeMap<SessionId, SessionId>,
    /// What the Hello of each session said of the system check.
    greeted: BTreeMap<SessionId, Told>,
    base_readiness: Readiness,
    readiness: Readiness,
    /// Sessions that were welcomed and are not over.
    open: BTreeMap<NodeId, SessionId>,
    /// By board.
    recoveries: BTreeMap<usize, Recoveries>,
    local_alerts: alerts::Firing,
    firing: firing::Firing,
    notices: notices::Notices,
    silenced: silences::Silenced,
    letters: letters::Letters,
    drift: u64,
    /// When the backup was made that the master was last restored from.
    set_back_to: Option<WallTime>,
    /// The first event after a restore has an id beyond all.
    first_event_leaps: bool,
    /// Nodes that were said to be gone, and are not back by a token.
    gone: BTreeSet<NodeId>,
}

macro_rules! rules {
    ($judge:expr, $($rule:ident ( $($argument:expr),* $(,)? )),+ $(,)?) => {
        $(if let Err(what) = $judge.$rule($($argument),*) {
            $judge.fail(stringify!($rule), what);
        })+
    };
}
pub(crate) use rules;

impl Judge {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            violation: None,
            accounts: BTreeMap::new(),
            journals: BTreeMap::new(),
            cloned: BTreeSet::new(),
            removed: BTreeSet::new(),
            joined_with: BTreeMap::new(),
            token_uses: BTreeMap::new(),
            sessions: BTreeMap::new(),
            configs: BTreeMap::new(),
            loosest: plan.timing,
            tightest: plan.timing,
            base: plan.timing,
            generation: 0,
            revision: 0,
            last_event: 0,
            last_audit: None,
            journal_max: plan.journal_entries_max,
            attentive_since: None,
            well_until: 0,
            forgiven_at: None,
            started: (Timestamp(0), 0),
            commands_run: BTreeSet::new(),
            befores: BTreeMap::new(),
            greeted: BTreeMap::new(),
            base_readiness: plan.readiness,
            readiness: plan.readiness,
            open: BTreeMap::new(),
            local_alerts: alerts::Firing::new(),
            firing: firing::Firing::new(plan),
            notices: notices::Notices::default(),
            silenced: silences::Silenced::default(),
            letters: letters::Letters::default(),
            recoveries: BTreeMap::new(),
            drift: plan.drift,
            set_back_to: None,
            first_event_leaps: false,
            gone: BTreeSet::new(),
        }
    }

    /// The first one counts: what follows may be its consequence.
    pub(crate) fn fail(&mut self, invariant: &'static str, what: String) {
        self.violation.get_or_insert(Violation { invariant, what });
    }

    pub(crate) fn about(&self, input: &Input) -> Option<About> {
        let about = |call, by: &Caller| About {
            call,
            role: by.role,
            expired: by.expired,
            known_user: by.role.is_user() && by.id != "ghost",
            previous: None,
            stale: false,
        };
        match input {
            Input::Request { by, request, .. } => Some(about(Some(request.call()), by)),
            Input::SessionOpened { by, hello, .. } => {
                let previous = hello.previous_session.clone();
                Some(About { previous, ..about(Some(Call::Session), by) })
            }
            Input::FromAgent { node, session, .. } => {
                let current = self.accounts.get(node).and_then(|a| a.session.as_ref());
                current
                    .is_some_and(|current| current != session)
                    .then(|| About { stale: true, ..about(None, &Caller::anonymous("")) })
            }
            Input::Cancelled { .. }
            | Input::RenewalRequested { .. }
            | Input::SessionClosed { .. }
            | Input::Refused { .. }
            | Input::AdminIssued { .. }
            | Input::Watched { .. }
            | Input::ClusterFacts(_)
            | Input::Delivered { .. }
            | Input::BackupEnded { .. } => None,
        }
    }

    pub(crate) fn master_started(
        &mut self,
        at: True,
        now: Now,
        store: &Store,
        machine: &StateManager,
    ) {
        self.started = (now.at, at);
        self.attentive_since = None;
        self.sessions.clear();
        self.open.clear();
        rules!(
            self,
            a_restart_knows_what_was_stored(store, machine),
            revisions_never_go_back(machine),
        );
        self.well_until = 0;
        self.accounts = store
            .nodes
            .values()
            .map(|record| (record.id.clone(), Account::restored(record, at)))
            .collect();
        self.firing_after_a_restart(now, store, machine, self.first_event_leaps);
        self.revision = machine.revision();
        if let Some(topology) = &store.topology {
            self.readiness = topology.readiness(self.base_readiness);
        }
    }

    pub(crate) fn master_died(&mut self) {
        self.attentive_since = None;
    }

    /// What the master's machine has decided; not performed yet.
    pub(crate) fn decided(
        &mut self,
        at: True,
        now: Now,
        effects: &[Effect],
        about: Option<About>,
        machine: &StateManager,
    ) {
        self.note_adopted(at, effects);
        self.note_checks(effects);
        if let [effect] = effects
            && effect.may_overtake()
            && about.is_none()
        {
            return;
        }
        if effects.is_empty() && about.is_none() {
            return;
        }
        self.note_pace(effects);
        self.note_silences(now, effects);
        self.alerts_decided(now.at, effects);
        self.escalations_decided(now, effects);
        self.letters_decided(now.at, effects);
        rules!(
            self,
            one_commit_comes_first(effects),
            a_session_that_is_over_changes_nothing(effects, about.as_ref()),
            statuses(at, now, effects, about.as_ref(), machine),
            no_call_without_its_role(effects, about.as_ref()),
        );
    }

    pub(crate) fn committed(
        &mut self,
        store: &Store,
        transaction: &Transaction,
        appended: Appended,
    ) {
        rules!(
            self,
            generation_never_goes_back(store),
            names_are_unique(store, transaction),
            a_token_admits_no_more_than_it_was_made_for(store, transaction),
            audit_chain_intact(appended.audit),
            events_exactly_once_in_order(appended.events),
        );
        self.note_kept(transaction);
        self.note_what_gives_way(transaction);
    }

    /// What is shown to somebody from now on.
    pub(crate) fn performed(&mut self, at: True, effect: &Effect, store: &Store) {
        rules!(
            self,
            nothing_revealed_before_committed(effect, store),
            a_removed_node_is_refused(effect, store),
            a_member_is_not_turned_away(effect, store),
            at_most_one_session_per_node(effect),
            who_is_gone_stays_out(effect),
            who_joined_since_is_taken_in(effect, store),
            watchers_see_revisions_grow(effect),
            alerts_are_shown_as_they_are_stored(effect, store),
            what_is_answered_of_alerts_is_stored(effect, store),
            letters_are_as_people_were_answered(effect, store),
        );
        self.note_shown(at, effect);
        self.note_owed(effect, store);
    }

    pub(crate) fn within_store_limit(&mut self, transaction: &Transaction) {
        rules!(self, transaction_within_store_limit(transaction));
    }

    fn transaction_within_store_limit(&self, transaction: &Transaction) -> Result<(), String> {
        let writes = transaction.writes.len();
        if writes <= WRITES_MAX {
            return Ok(());
        }
        Err(format!("{writes} writes in one transaction"))
    }

    fn a_session_that_is_over_changes_nothing(
        &self,
        effects: &[Effect],
        about: Option<&About>,
    ) -> Result<(), String> {
        if effects.is_empty() || !about.is_some_and(|about| about.stale) {
            return Ok(());
        }
        Err(format!("{effects:?}"))
    }

    fn one_commit_comes_first(&self, effects: &[Effect]) -> Result<(), String> {
        let last = effects.iter().rposition(|e| matches!(e, Effect::Commit(_)));
        match last {
            None | Some(0) => Ok(()),
            Some(at) => Err(format!("a commit is effect {at} of its input")),
        }
    }

    pub(crate) fn agent_performs(
        &mut self,
        (at, board, boot): (True, usize, u32),
        disk: &Disk,
        effect: &node_agent::Effect,
    ) {
        rules!(
            self,
            agents_generation_never_goes_back(disk, effect),
            config_matches_generation(effect),
            journal_within_bound(disk, effect),
        );
        self.note_journal(board, disk, effect);
        self.note_recovery((at, board, boot), disk, effect);
    }

    fn agents_generation_never_goes_back(
        &self,
        disk: &Disk,
        effect: &node_agent::Effect,
    ) -> Result<(), String> {
        match effect {
            node_agent::Effect::SaveLedger(ledger)
                if ledger.generation < disk.ledger.generation =>
            {
                let (was, is) = (disk.ledger.generation, ledger.generation);
                Err(format!("{}: from {was} to {is}", disk.node))
            }
            _ => Ok(()),
        }
    }

    fn config_matches_generation(&self, effect: &node_agent::Effect) -> Result<(), String> {
        let node_agent::Effect::SaveLedger(ledger) = effect else { return Ok(()) };
        let Some(config) = &ledger.config else { return Ok(()) };
        match self.configs.get(&ledger.generation) {
            Some(made) if made == config => Ok(()),
            Some(_) => Err(format!("generation {} has another content", ledger.generation)),
            None => Err(format!("generation {} was never made", ledger.generation)),
        }
    }

    fn generation_never_goes_back(&mut self, store: &Store) -> Result<(), String> {
        let Some(topology) = &store.topology else { return Ok(()) };
        if topology.generation == self.generation {
            return Ok(());
        }
        if topology.generation < self.generation {
            return Err(format!("from {} to {}", self.generation, topology.generation));
        }
        self.generation = topology.generation;
        self.configs.insert(self.generation, topology.node_config(self.base));
        Ok(())
    }

    /// A new pace counts for the master once it is decided.
    fn note_pace(&mut self, effects: &[Effect]) {
        let Some(Effect::Commit(transaction)) = effects.first() else { return };
        let Some(Some(value)) = transaction.writes.get(keys::TOPOLOGY) else { return };
        let Ok(topology) = keys::decode::<TopologyRecord>(keys::TOPOLOGY, value) else { return };
        self.readiness = topology.readiness(self.base_readiness);
        let mut timing = topology.timing(self.base);
        for get in [
            (|t: &mut Timing| &mut t.beat_silence) as fn(&mut Timing) -> &mut std::time::Duration,
            |t| &mut t.session_grace,
            |t| &mut t.heartbeat_interval,
        ] {
            let pace = *get(&mut timing);
            *get(&mut self.tightest) = pace.min(*get(&mut self.tightest));
            *get(&mut self.loosest) = pace.max(*get(&mut self.loosest));
        }
    }

    fn watchers_see_revisions_grow(&mut self, effect: &Effect) -> Result<(), String> {
        let revision = match effect {
            Effect::Changed(view) => view.revision,
            Effect::Removed { revision, .. } => *revision,
            _ => return Ok(()),
        };
        if revision <= self.revision {
            return Err(format!("{revision} after {}", self.revision));
        }
        self.revision = revision;
        Ok(())
    }

    pub(crate) fn ran(&mut self, board: usize, ran: &[String]) {
        rules!(self, commands_run_at_most_once(board, ran));
    }

    fn commands_run_at_most_once(&mut self, board: usize, ran: &[String]) -> Result<(), String> {
        let Some(newest) = ran.last() else { return Ok(()) };
        if self.commands_run.insert(newest.clone()) {
            return Ok(());
        }
        Err(format!("command {newest} ran again, on board {board}"))
    }

    pub(crate) fn hello(&mut self, _at: True, session: &SessionId, by: &Caller, hello: &Hello) {
        self.sessions.insert(session.clone(), (hello.node.clone(), by.clone()));
        if let Some(previous) = &hello.previous_session {
            self.befores.insert(session.clone(), previous.clone());
        }
        self.greeted.insert(session.clone(), Told::by(hello));
    }

    pub(crate) fn status_of(&self, node: &NodeId) -> Option<NodeStatus> {
        self.accounts.get(node).map(|account| account.status)
    }
}
