//! The master's alerts: what fires has held for its time, what is over does not hold, and nothing fires twice.
//!
//! The judge looks at the same nodes and containers with its own words for the rules. Those that count over a time of
//! the past it only asks about Maintenance.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use piccolo_core::{
    model::{NodeId, NodeStatus},
    monitoring_server::alerts::{
        ALERTS, RULES as RULES_STORED,
        alert::{Alert, Id, Subject},
    },
    state_manager::{Effect, StateManager},
    time::{Now, Timestamp},
};

use super::{
    Judge, rules,
    subjects::{DOWN, GONE, NO_PODMAN, Question, Seen},
};
use crate::{clock::True, plan::Plan, store::Store};

/// Once the store has it, the rules that people apply are in force.
pub(crate) static RULE_KEY: LazyLock<String> =
    LazyLock::new(|| format!("{RULES_STORED}{NO_PODMAN}"));
/// Beyond its time: the master looks at everything every 15 s.
pub(super) const LATE_MAX: Duration = Duration::from_secs(20);

/// It goes on as a part of another one.
pub(super) fn is_merged(alert: &Alert) -> bool {
    alert.resolved_why.starts_with("it is part of alert ")
}

/// An alert that is not over.
#[derive(Debug, Default)]
struct Known {
    rule: String,
    active: BTreeSet<Subject>,
}

#[derive(Debug, Default)]
pub(super) struct Firing {
    nodes: BTreeMap<NodeId, Seen>,
    alerts: BTreeMap<Id, Known>,
    /// The rules that people applied are in force, and one of them is on containers.
    applied: bool,
    with_containers: bool,
}

impl Firing {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { with_containers: plan.container_rule, ..Self::default() }
    }

    fn is_active(&self, rule: &str, subject: &Subject) -> bool {
        self.alerts.values().any(|known| known.rule == rule && known.active.contains(subject))
    }

    fn is_in_force(&self, rule: &str) -> bool {
        match rule {
            GONE | NO_PODMAN => self.applied,
            DOWN => self.applied && self.with_containers,
            _ => true,
        }
    }
}

fn active(alert: &Alert) -> BTreeSet<Subject> {
    let members = alert.active().filter(|_| !alert.is_over());
    members.map(|member| member.subject.clone()).collect()
}

impl Judge {
    pub(super) fn firing_after_a_restart(
        &mut self,
        now: Now,
        store: &Store,
        machine: &StateManager,
        set_back: bool,
    ) {
        let at = now.at;
        let stored = match store.alerts() {
            Ok(stored) => stored,
            Err(why) => return self.fail("what_is_stored_can_be_read", why),
        };
        rules!(self, a_restart_knows_what_fires(&stored, machine));
        let known = |alert: &Alert| Known { rule: alert.rule.clone(), active: active(alert) };
        self.firing.alerts = stored.iter().map(|(id, alert)| (*id, known(alert))).collect();
        self.firing.nodes =
            store.nodes.iter().map(|(id, record)| (id.clone(), Seen::new(at, record))).collect();
        for view in machine.nodes() {
            if let Some(seen) = self.firing.nodes.get_mut(&view.record.id) {
                seen.look_at_containers(at, &view.containers, false);
            }
        }
        for subject in self.firing.alerts.values().flat_map(|known| &known.active) {
            if let Subject::Container(node, name) = subject
                && let Some(seen) = self.firing.nodes.get_mut(node)
            {
                seen.remember(at, name);
            }
        }
        self.silences_after_a_restart(now.wall, store, &stored, set_back);
        self.notices_after_a_restart(&stored, store, set_back);
        self.letters_after_a_restart(store);
    }

    fn a_restart_knows_what_fires(
        &self,
        stored: &BTreeMap<Id, Alert>,
        machine: &StateManager,
    ) -> Result<(), String> {
        let known: BTreeMap<_, _> = machine.alerts().map(|alert| (alert.id, alert)).collect();
        // the revision is the new master's own
        let same =
            |one: &Alert, other: &Alert| *one == Alert { revision: one.revision, ..other.clone() };
        let lost =
            stored.iter().find(|(id, alert)| !known.get(id).is_some_and(|now| same(alert, now)));
        match lost {
            Some((_, alert)) => Err(format!("{alert:?}")),
            None => Ok(()),
        }
    }

    /// What one input has decided of alerts, once the nodes are seen as it leaves them.
    pub(super) fn alerts_decided(&mut self, at: Timestamp, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Changed(view) => {
                    let seen = self.firing.nodes.entry(view.record.id.clone());
                    let seen = seen.or_insert_with(|| Seen::new(at, &view.record));
                    seen.look(at, &view.record, &view.containers);
                    seen.known = view.sampled_at.is_some();
                }
                Effect::Removed { node, .. } => drop(self.firing.nodes.remove(node)),
                _ => {}
            }
        }
        let mut told = false;
        for effect in effects {
            match effect {
                Effect::Alerted(alert) => {
                    told = true;
                    rules!(
                        self,
                        what_fires_has_held_for_its_time(at, alert),
                        what_is_over_does_not_hold(at, alert),
                        a_group_lists_what_it_says(alert),
                    );
                    let known = Known { rule: alert.rule.clone(), active: active(alert) };
                    self.firing.alerts.insert(alert.id, known);
                }
                Effect::AlertForgotten(id) => drop(self.firing.alerts.remove(id)),
                Effect::Dispatch(dispatch) => {
                    rules!(self, what_was_taken_is_not_told_again(dispatch));
                }
                _ => {}
            }
        }
        if told {
            rules!(self, nothing_fires_twice());
        }
    }

    fn new_members(&self, alert: &Alert) -> BTreeSet<Subject> {
        let known = self.firing.alerts.get(&alert.id);
        let is_new = |subject: &Subject| known.is_none_or(|known| !known.active.contains(subject));
        active(alert).into_iter().filter(is_new).collect()
    }

    /// And none in Maintenance. Of those that fire together one has held for as long.
    fn what_fires_has_held_for_its_time(&self, at: Timestamp, alert: &Alert) -> Result<(), String> {
        let first = !self.firing.alerts.contains_key(&alert.id);
        let (mut some, mut held_long) = (false, false);
        for subject in self.new_members(alert) {
            let Some(seen) = subject.node().and_then(|node| self.firing.nodes.get(node)) else {
                continue;
            };
            // it fires already, and becomes a part of this one
            if self.firing.is_active(&alert.rule, &subject) {
                held_long = true;
                continue;
            }
            if seen.status == NodeStatus::Maintenance {
                return Err(format!("{subject:?} is in Maintenance: {alert:?}"));
            }
            let Some(Question { so, pending, .. }) = seen.of(&alert.rule, &subject) else {
                continue;
            };
            if !so.holds.0 {
                return Err(format!("it does not hold for {subject:?}: {alert:?}"));
            }
            let held_for = at.since(so.holds.1);
            let long = held_for >= pending;
            some = true;
            held_long |= long;
            if !long && !first {
                return Err(format!("{held_for:?} of {subject:?}: {alert:?}"));
            }
        }
        if some && !held_long { Err(format!("at {at:?}: {alert:?}")) } else { Ok(()) }
    }

    /// For as long as it is to fire on, if the node is still a member and not in Maintenance.
    fn what_is_over_does_not_hold(&self, at: Timestamp, alert: &Alert) -> Result<(), String> {
        let Some(known) = self.firing.alerts.get(&alert.id) else { return Ok(()) };
        let still = active(alert);
        for subject in known.active.iter().filter(|subject| !still.contains(subject)) {
            let Some(seen) = subject.node().and_then(|node| self.firing.nodes.get(node)) else {
                continue;
            };
            if is_merged(alert) {
                if self.firing.is_active(&alert.rule, subject) {
                    continue;
                }
                return Err(format!("it goes on nowhere: {alert:?}"));
            }
            let Some(Question { so, keep, .. }) = seen.of(&alert.rule, subject) else { continue };
            let free = seen.status == NodeStatus::Maintenance;
            let clear_for = at.since(so.clear.1);
            if !free && (!so.clear.0 || clear_for < keep) {
                return Err(format!("{subject:?}, {clear_for:?} of {keep:?}: {alert:?}"));
            }
        }
        Ok(())
    }

    fn a_group_lists_what_it_says(&self, alert: &Alert) -> Result<(), String> {
        let Some(group) = &alert.group else {
            let many = alert.members.len() != 1;
            return if many { Err(format!("no group: {alert:?}")) } else { Ok(()) };
        };
        let count = alert.members.len();
        let says = format!("{}, {count} at once in {group}: ", alert.rule);
        let subjects: BTreeSet<_> = alert.members.iter().map(|member| &member.subject).collect();
        let names: Vec<_> = alert.members.iter().take(12).map(|member| member.name()).collect();
        let listed = alert.message.strip_prefix(&says).is_some_and(|list| {
            let list = list.split(" and ").next().unwrap_or_default();
            list.split(", ").eq(names.iter().map(String::as_str))
        });
        if listed && subjects.len() == count { Ok(()) } else { Err(format!("{alert:?}")) }
    }

    fn nothing_fires_twice(&self) -> Result<(), String> {
        let mut all = BTreeSet::new();
        for known in self.firing.alerts.values() {
            for subject in &known.active {
                if !all.insert((&known.rule, subject)) {
                    return Err(format!("{}: {subject:?}", known.rule));
                }
            }
        }
        Ok(())
    }

    /// Once a second, while the master is well: what holds fires in time, and what does not is over.
    pub(crate) fn look_at_alerts(&mut self, at: True, now: Now, store: &Store) {
        self.firing.applied = store.contains(&RULE_KEY);
        let well = Duration::from_micros(at - self.attentive_since.unwrap_or(at));
        self.look_at_silences(now, well);
        rules!(self, dead_letters_are_kept(store));
        if well > LATE_MAX * 2 {
            rules!(
                self,
                what_holds_fires_in_time(now.at, well),
                what_holds_no_more_is_over(now.at),
            );
        }
    }

    fn what_holds_fires_in_time(&self, at: Timestamp, well: Duration) -> Result<(), String> {
        let nodes = self.firing.nodes.iter();
        for (node, seen) in nodes.filter(|(_, seen)| seen.status != NodeStatus::Maintenance) {
            for (rule, subject) in seen.holding(node) {
                let Some(Question { so, pending, .. }) = seen.of(rule, &subject) else { continue };
                let due = pending + LATE_MAX;
                let held_for = at.since(so.holds.1);
                let late = held_for > due && well > due && self.firing.is_in_force(rule);
                if late && !self.firing.is_active(rule, &subject) {
                    return Err(format!("{rule} of {subject:?}, for {held_for:?}"));
                }
            }
        }
        Ok(())
    }

    fn what_holds_no_more_is_over(&self, at: Timestamp) -> Result<(), String> {
        for (id, known) in &self.firing.alerts {
            for subject in &known.active {
                let seen = subject.node().and_then(|node| self.firing.nodes.get(node));
                let Some(seen) = seen else { continue };
                let Some(Question { so, keep, .. }) = seen.of(&known.rule, subject) else {
                    continue;
                };
                let clear_for = at.since(so.clear.1);
                let over = so.clear.0 && seen.known && clear_for > keep + LATE_MAX;
                if over || seen.status == NodeStatus::Maintenance {
                    return Err(format!("{id}, {} of {subject:?}: {seen:?}", known.rule));
                }
            }
        }
        Ok(())
    }

    /// An alert that is shown, or is not shown any more.
    pub(super) fn alerts_are_shown_as_they_are_stored(
        &self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let key = |id: Id| format!("{ALERTS}{:020}", id.0);
        match effect {
            Effect::Alerted(alert) if !store.contains(&key(alert.id)) => {
                Err(format!("{} is shown, and is not stored", alert.id))
            }
            Effect::AlertForgotten(id) if store.contains(&key(*id)) => {
                Err(format!("{id} is said to be gone, and is stored"))
            }
            _ => Ok(()),
        }
    }
}
