//! Status and silence: who is what, since when, and was it right?

use std::time::Duration;

use piccolo_core::{
    api_server::{Call, Caller},
    model::{ConditionKind, EventKind, NodeId, NodeRecord, NodeStatus, NodeView, SessionId},
    session::{GoodbyeReason, ToAgent},
    state_manager::{Effect, StateManager},
    time::{Now, Timestamp},
};

use super::{About, Judge, check::Told, rules};
use crate::{clock::True, store::Store};

/// Microseconds that a check may be late: the master's loop wakes at whole microseconds of its own clock.
const SLACK: u64 = 50_000;
/// HLD §4.2, with the default timing.
const SEEN_WITHIN: u64 = 5_000_000;

/// What the judge knows of one node.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) status: NodeStatus,
    /// As watchers saw it last.
    shown: Option<NodeStatus>,
    pub(crate) session: Option<SessionId>,
    /// A message of its session reached the master's process.
    arrived_at: Option<True>,
    /// Its session ended.
    closed_at: Option<True>,
    /// The master began to watch it, knowing nothing.
    watched_from: True,
    restored: bool,
    conditions: Vec<ConditionKind>,
    pub(super) told: Told,
}

impl Account {
    pub(crate) fn restored(record: &NodeRecord, at: True) -> Self {
        Self {
            status: record.status,
            shown: Some(record.status),
            session: None,
            arrived_at: None,
            closed_at: None,
            watched_from: at,
            restored: true,
            conditions: record.conditions.iter().map(|c| c.kind).collect(),
            told: Told::stored(record),
        }
    }

    pub(super) fn new(status: NodeStatus, at: True) -> Self {
        Self {
            status,
            shown: None,
            session: None,
            arrived_at: None,
            closed_at: None,
            watched_from: at,
            restored: false,
            conditions: Vec::new(),
            told: Told::default(),
        }
    }
}

/// HLD §6.2, written down a second time.
fn may_follow(before: NodeStatus, after: NodeStatus) -> bool {
    use NodeStatus::{Initializing, Maintenance, NotReady, Pending, Ready, Terminating};
    match before {
        Pending => matches!(after, Initializing | Terminating),
        Initializing => matches!(after, Ready | NotReady | Maintenance | Terminating),
        Ready => matches!(after, NotReady | Maintenance | Terminating),
        NotReady => matches!(after, Initializing | Ready | Maintenance | Terminating),
        Maintenance => matches!(after, NotReady | Terminating),
        Terminating => false,
    }
}

fn status_told(kind: EventKind) -> Option<NodeStatus> {
    match kind {
        EventKind::NodeInitializing | EventKind::NodeApproved => Some(NodeStatus::Initializing),
        EventKind::NodeReady => Some(NodeStatus::Ready),
        EventKind::NodeNotReady | EventKind::NodeMaintenanceEnded => Some(NodeStatus::NotReady),
        EventKind::NodeMaintenance => Some(NodeStatus::Maintenance),
        EventKind::NodeRemoved => Some(NodeStatus::Terminating),
        _ => None,
    }
}

impl Judge {
    /// Walks through one input's effects and asks of every status that is entered.
    pub(super) fn statuses(
        &mut self,
        at: True,
        now: Now,
        effects: &[Effect],
        about: Option<&About>,
        machine: &StateManager,
    ) -> Result<(), String> {
        self.well_until = 0;
        // of one input, what happened comes after how things look then
        for effect in effects {
            if let Effect::Happened(event) = effect
                && let Some(node) = &event.node
                && event.node_sequence == 0
            {
                if event.kind == EventKind::NodeRegistered {
                    let status =
                        effects.iter().find_map(|e| seen(e, node)).map(|v| v.record.status);
                    let status = status.unwrap_or(NodeStatus::Pending);
                    self.accounts.insert(node.clone(), Account::new(status, at));
                }
                if let Some(status) = status_told(event.kind) {
                    let reason = event.fields.get("reason").map(String::as_str);
                    let view = effects.iter().find_map(|e| seen(e, node));
                    rules!(
                        self,
                        transitions_follow_the_table(node, status),
                        maintenance_only_by_operator(node, status, about),
                        not_ready_only_after_silence_or_reason(at, node, event.kind, reason),
                        ready_implies_initialized_and_configured(node, status, view),
                        ready_implies_fit_where_that_is_enforced(node, status),
                    );
                    if let Some(account) = self.accounts.get_mut(node) {
                        account.status = status;
                        if event.kind == EventKind::NodeApproved {
                            account.watched_from = at;
                        }
                    }
                }
            }
        }
        for effect in effects {
            rules!(self, a_live_session_is_not_replaced_by_a_stranger(at, effect, about));
            self.note_decided(at, effect);
        }
        for effect in effects {
            if let Effect::Changed(view) = effect {
                rules!(
                    self,
                    every_status_was_told(view),
                    conditions_do_not_change_by_a_restart(view),
                );
            }
        }
        let _ = (now, machine);
        Ok(())
    }

    /// Only the process that held a session may open another in its place.
    fn a_live_session_is_not_replaced_by_a_stranger(
        &self,
        at: True,
        effect: &Effect,
        about: Option<&About>,
    ) -> Result<(), String> {
        let Effect::Close { node, session, goodbye } = effect else { return Ok(()) };
        let Some(account) = self.accounts.get(node) else { return Ok(()) };
        let live = goodbye.reason == GoodbyeReason::Replaced
            && at > self.deaf_until()
            && account.session.as_ref() == Some(session)
            && account.arrived_at.is_some_and(|heard| {
                let silence = micros(self.tightest.beat_silence);
                at + SLACK < heard + silence - silence * self.drift / 500_000
            });
        let previous = about.and_then(|about| about.previous.as_ref());
        let before = self.befores.get(session);
        let same = previous.is_some() && (previous == Some(session) || previous == before);
        if live && !same {
            return Err(format!("{node}: {session:?} by one that held {previous:?}"));
        }
        Ok(())
    }

    fn note_decided(&mut self, at: True, effect: &Effect) {
        match effect {
            Effect::Send { node, session, message: ToAgent::Welcome(_) } => {
                if let Some(account) = self.accounts.get_mut(node) {
                    account.session = Some(session.clone());
                    account.arrived_at = Some(at);
                    account.closed_at = None;
                }
            }
            Effect::Close { node, session, .. } => self.closed(at, node, session),
            Effect::Removed { node, .. } => drop(self.accounts.remove(node)),
            _ => {}
        }
    }

    pub(super) fn note_shown(&mut self, _at: True, effect: &Effect) {
        if let Effect::Changed(view) = effect
            && let Some(account) = self.accounts.get_mut(&view.record.id)
        {
            account.shown = Some(view.record.status);
            self.well_until = 0;
        }
    }

    pub(crate) fn arrived(&mut self, at: True, node: &NodeId, session: &SessionId) {
        if let Some(account) = self.accounts.get_mut(node)
            && account.session.as_ref() == Some(session)
            && account.arrived_at.replace(at).is_none()
        {
            self.well_until = 0;
        }
    }

    /// A heartbeat outside the session counts as well; one with a certificate that has expired is refused.
    pub(crate) fn probed(&mut self, at: True, by: &Caller) {
        if by.expired {
            return;
        }
        if let Some((_, account)) = self.accounts.iter_mut().find(|(id, _)| id.as_str() == by.id) {
            if account.session.is_some() {
                account.arrived_at = Some(at);
            } else if account.arrived_at.is_some() {
                account.closed_at = Some(at);
            }
            self.well_until = 0;
        }
    }

    pub(crate) fn closed(&mut self, at: True, node: &NodeId, session: &SessionId) {
        if let Some(account) = self.accounts.get_mut(node)
            && account.session.as_ref() == Some(session)
        {
            account.session = None;
            account.closed_at = Some(at);
            self.well_until = 0;
        }
        self.sessions.remove(session);
        if self.open.get(node) == Some(session) {
            self.open.remove(node);
        }
    }

    fn transitions_follow_the_table(&self, node: &NodeId, after: NodeStatus) -> Result<(), String> {
        let Some(account) = self.accounts.get(node) else {
            return Err(format!("{node} is {after}, but was never registered"));
        };
        if may_follow(account.status, after) {
            return Ok(());
        }
        Err(format!("{node}: {} -> {after}", account.status))
    }

    fn maintenance_only_by_operator(
        &self,
        node: &NodeId,
        after: NodeStatus,
        about: Option<&About>,
    ) -> Result<(), String> {
        let before = self.status_of(node);
        let concerned = after == NodeStatus::Maintenance
            || (before == Some(NodeStatus::Maintenance) && after != NodeStatus::Terminating);
        let asked = about.is_some_and(|a| a.call == Some(Call::SetMaintenance));
        if !concerned || asked {
            return Ok(());
        }
        Err(format!("{node}: {before:?} -> {after}, and nobody asked for it"))
    }

    fn not_ready_only_after_silence_or_reason(
        &self,
        at: True,
        node: &NodeId,
        kind: EventKind,
        reason: Option<&str>,
    ) -> Result<(), String> {
        if kind != EventKind::NodeNotReady {
            return Ok(());
        }
        let Some(account) = self.accounts.get(node) else { return Ok(()) };
        let silence = micros(self.tightest.beat_silence);
        let grace = micros(self.tightest.session_grace);
        let heartbeats = micros(self.tightest.heartbeat_timeout());
        let since_heard = |allowance: u64| match (account.arrived_at, account.closed_at) {
            // not heard since the master began to watch: double allowance
            (None, _) => self.has_passed(account.watched_from, at, allowance * 2),
            (Some(heard), _) => self.has_passed(heard, at, allowance),
        };
        let closed = account.closed_at.is_some_and(|closed| self.has_passed(closed, at, grace));
        let right = match reason {
            Some("SessionLost") => closed || since_heard(silence + grace),
            Some("HeartbeatTimeout") => since_heard(heartbeats),
            Some("OverLimit" | "ConfigRejected") => true,
            Some("SystemCheckFailed") => self.keeps_out(account),
            Some(_) | None => false,
        };
        if right {
            return Ok(());
        }
        Err(format!("{node}, reason {reason:?}: {account:?}"))
    }

    fn has_passed(&self, from: True, to: True, allowance: u64) -> bool {
        to - from + SLACK >= allowance - allowance * self.drift / 500_000
    }

    fn ready_implies_initialized_and_configured(
        &self,
        node: &NodeId,
        after: NodeStatus,
        view: Option<&NodeView>,
    ) -> Result<(), String> {
        if after != NodeStatus::Ready {
            return Ok(());
        }
        let Some(view) = view else { return Err(format!("{node} is Ready, and nobody is told")) };
        let record = &view.record;
        let first = self.status_of(node) == Some(NodeStatus::Initializing);
        if !record.initialized || record.applied_generation == 0 {
            return Err(format!("{node} was never initialized: {record:?}"));
        }
        if first && record.applied_generation < self.generation {
            return Err(format!(
                "{node} has generation {}, and {} is stored",
                record.applied_generation, self.generation
            ));
        }
        Ok(())
    }

    /// What watchers see of a status, the log of events tells too.
    fn every_status_was_told(&self, view: &NodeView) -> Result<(), String> {
        match self.status_of(&view.record.id) {
            Some(status) if status == view.record.status => Ok(()),
            told => {
                Err(format!("{} is {}, but {told:?} was told", view.record.id, view.record.status))
            }
        }
    }

    /// Not heard since the master's start, a node is what it was.
    fn conditions_do_not_change_by_a_restart(&mut self, view: &NodeView) -> Result<(), String> {
        let Some(account) = self.accounts.get_mut(&view.record.id) else { return Ok(()) };
        let kinds: Vec<_> = view.record.conditions.iter().map(|c| c.kind).collect();
        let before = std::mem::replace(&mut account.conditions, kinds);
        let unheard = account.restored && account.arrived_at.is_none();
        let gone = before.iter().find(|kind| {
            matches!(kind, ConditionKind::SessionLost | ConditionKind::HeartbeatTimeout)
                && !view.record.conditions.iter().any(|c| c.kind >= **kind && c.kind.impairs())
        });
        match gone {
            Some(kind) if unheard => Err(format!("{}: {kind:?} is gone", view.record.id)),
            Some(_) | None => Ok(()),
        }
    }

    /// After every step: is everybody who looks alive heard?
    pub(crate) fn look(&mut self, at: True, _local: Timestamp, attentive: bool) {
        if !attentive {
            self.attentive_since = None;
            return;
        }
        let since = *self.attentive_since.get_or_insert(at);
        if at <= self.well_until || at <= self.deaf_until() {
            return;
        }
        rules!(
            self,
            ready_means_heard_recently(at, since),
            lost_is_seen_within_five_seconds(at, since),
        );
        let ready = self.accounts.values().filter_map(|a| self.may_be_ready_until(a, since));
        let shown = self.accounts.values().filter_map(|a| self.may_be_shown_until(a, since));
        self.well_until = ready.chain(shown).min().unwrap_or(at);
    }

    fn ready_means_heard_recently(&self, at: True, since: True) -> Result<(), String> {
        for (node, account) in &self.accounts {
            if self.may_be_ready_until(account, since).is_some_and(|until| at > until) {
                return Err(format!("{node} is Ready, but: {account:?}"));
            }
        }
        Ok(())
    }

    /// `None` of one that is not. It gets later with everything that is heard of it; whatever else changes an account
    /// has everybody looked at again.
    fn may_be_ready_until(&self, account: &Account, since: True) -> Option<True> {
        if account.status != NodeStatus::Ready {
            return None;
        }
        let allowance = micros(self.loosest.beat_silence + self.loosest.session_grace);
        let (heard, allowance) = match account.arrived_at {
            Some(heard) => (heard, allowance),
            None => (account.watched_from, allowance * 2),
        };
        let heard = heard.max(account.closed_at.unwrap_or(0)).max(since);
        Some(heard + allowance + allowance * self.drift / 500_000 + SLACK)
    }

    /// HLD §4.2: a session that ended, or went silent, is shown as lost in time.
    fn lost_is_seen_within_five_seconds(&self, at: True, since: True) -> Result<(), String> {
        for (node, account) in &self.accounts {
            if self.may_be_shown_until(account, since).is_some_and(|until| at > until) {
                return Err(format!("{node} is shown as {:?}: {account:?}", account.shown));
            }
        }
        Ok(())
    }

    /// As Ready, in the same way.
    fn may_be_shown_until(&self, account: &Account, since: True) -> Option<True> {
        if account.shown != Some(NodeStatus::Ready) || account.status == NodeStatus::Terminating {
            return None;
        }
        let grace = micros(self.loosest.session_grace);
        let silence = micros(self.loosest.beat_silence);
        let within =
            if silence + grace <= 4_000_000 { SEEN_WITHIN } else { silence + grace + 1_000_000 };
        let heard = account.arrived_at?.max(since);
        Some(match account.closed_at {
            None => heard + within,
            Some(closed) => closed.max(heard) + grace + grace * self.drift / 500_000 + SLACK,
        })
    }

    /// What it takes from the end of any fault until everybody is back in a session.
    pub(crate) fn recovery_takes(&self) -> u64 {
        3 * micros(self.loosest.beat_silence + self.loosest.session_grace) + 20_000_000
    }

    /// A master that stood still gives double allowance from when it goes on.
    pub(crate) fn stood_still(&mut self, at: True) {
        self.forgiven_at = Some(at);
    }

    fn deaf_until(&self) -> True {
        let allowance = 2 * micros(self.loosest.beat_silence + self.loosest.session_grace);
        self.forgiven_at.map_or(0, |at| at + allowance + allowance * self.drift / 500_000 + SLACK)
    }

    pub(super) fn a_restart_knows_what_was_stored(
        &self,
        store: &Store,
        machine: &StateManager,
    ) -> Result<(), String> {
        let mut views = 0;
        for view in machine.nodes() {
            views += 1;
            if store.nodes.get(&view.record.id) != Some(&view.record) {
                return Err(format!("{:?}", view.record));
            }
        }
        if views == store.nodes.len() { Ok(()) } else { Err("some nodes are missing".to_owned()) }
    }
}

fn seen<'a>(effect: &'a Effect, node: &NodeId) -> Option<&'a NodeView> {
    match effect {
        Effect::Changed(view) if view.record.id == *node => Some(view),
        _ => None,
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000 + u64::from(duration.subsec_micros())
}

#[cfg(test)]
mod tests {
    use piccolo_core::api_server::Role;

    use super::*;
    use crate::plan::Plan;

    /// When a node that was heard at 10 counts as heard after a heartbeat beside its session at 20.
    #[track_caller]
    fn check_heard(expired: bool, heard: True) {
        let node = NodeId::parse("node_id", "n1").expect("an id");
        let mut judge = Judge::new(&Plan::quiet(1));
        let session = Some(SessionId::new("s1".to_owned()));
        let account = Account::new(NodeStatus::Ready, 0);
        let account = Account { session, arrived_at: Some(10), ..account };
        judge.accounts.insert(node.clone(), account);
        let by = Caller {
            role: Role::Sub,
            id: node.to_string(),
            expired,
            ..Caller::anonymous("10.0.0.1")
        };
        judge.probed(20, &by);
        assert_eq!(judge.accounts[&node].arrived_at, Some(heard));
    }

    #[test]
    fn a_heartbeat_beside_the_session_counts_unless_its_certificate_has_expired() {
        check_heard(false, 20);
        check_heard(true, 10);
    }
}
