//! Rules meet facts: what holds for long enough fires, what holds no more is over, and what fails together is one.

use std::{collections::VecDeque, time::Duration};

use super::{
    Alert, AlertState, Alerts, FIRING_MAX, GROUPED_WITHIN, Id, LABELS_BYTES_MAX, MEMBERS_MAX,
    MERGED_MAX, Member, OFTEN_MAX, OFTEN_WITHIN, On, Out, RESOLVED_FOR, RESOLVED_MAX, Starts,
    Subject, TOLD_WITHIN, Track, UPDATED_EVERY, Watched, alert_key,
    channel::NoticeKind,
    facts::{ClusterNow, Facts},
    rule::Compiled,
    silence::silencing,
    silence_key,
};
use crate::{
    model::{ContainerReport, EventKind, Labels, NodeId, NodeStatus, NodeView},
    mutant::mutant,
    time::{Now, Timestamp},
};

/// Between two attempts of what there was no room for.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// One subject under one rule.
struct Look<'a> {
    subject: Subject,
    facts: Facts<'a>,
    /// All that can be known of it is known: what is not so, is over.
    known: bool,
}

impl Alerts {
    /// A node as it is seen now.
    pub fn seen(&mut self, now: Now, view: &NodeView, out: &mut Out) {
        let id = &view.record.id;
        self.remember(now.at, view);
        let known = view.sampled_at.is_some() || now.at.since(self.started) > TOLD_WITHIN;
        let often = self.watched.get(id).map_or(0, |watched| watched.losses.len());
        let facts = Facts {
            now: now.wall,
            node: Some(view),
            container: None,
            cluster: None,
            often,
            certificate_lifetime: self.certificate_lifetime,
        };
        let mut dirty = self.look(
            now,
            On::Node,
            &Look { subject: Subject::Node(id.clone()), facts, known },
            out,
        );
        for container in &view.containers {
            let starts =
                self.watched.get(id).and_then(|watched| watched.containers.get(&container.name));
            let often = starts.map_or(0, |starts| starts.at.len());
            let subject = Subject::Container(id.clone(), container.name.clone());
            if mutant!("one container's alert stands for all of its node")
                && dirty
                && !self.tracks.contains_key(&subject)
            {
                continue;
            }
            let facts = Facts { container: Some(container), often, ..facts };
            dirty |= self.look(now, On::Container, &Look { subject, facts, known }, out);
        }
        if known {
            dirty |= self.containers_gone(now, view, out);
        }
        if dirty {
            self.dispatch(now, out);
        }
    }

    /// It was removed: nothing is to be said of it any more.
    pub fn gone(&mut self, now: Now, node: &NodeId, out: &mut Out) {
        self.watched.remove(node);
        let subjects = self.tracks.keys().filter(|subject| subject.node() == Some(node));
        for subject in subjects.cloned().collect::<Vec<_>>() {
            self.drop_subject(now, &subject, "the node was removed", out);
        }
        self.dispatch(now, out);
    }

    /// Of a node that is gone there was more to end than one commit takes.
    pub fn end_gone(&mut self, now: Now, is_there: impl Fn(&NodeId) -> bool, out: &mut Out) {
        let nodes = self.tracks.keys().filter_map(Subject::node).filter(|node| !is_there(node));
        let nodes: std::collections::BTreeSet<_> = nodes.cloned().collect();
        for node in nodes {
            self.gone(now, &node, out);
        }
    }

    fn containers_gone(&mut self, now: Now, view: &NodeView, out: &mut Out) -> bool {
        let id = &view.record.id;
        let first = Subject::Container(id.clone(), String::new());
        let gone: Vec<_> = self
            .tracks
            .range(first..)
            .map(|(subject, _)| subject)
            .take_while(|subject| subject.node() == Some(id))
            .filter(|subject| match subject {
                Subject::Container(_, name) => !view.containers.iter().any(|c| c.name == *name),
                Subject::Node(_) | Subject::Cluster => false,
            })
            .cloned()
            .collect();
        for subject in &gone {
            self.drop_subject(now, subject, "the container was removed", out);
        }
        !gone.is_empty()
    }

    fn drop_subject(&mut self, now: Now, subject: &Subject, why: &str, out: &mut Out) {
        // the rest is for the next look
        while let Some(tracks) = self.tracks.get_mut(subject).filter(|_| !out.is_full()) {
            match tracks.pop_first() {
                Some((_, track)) => {
                    let stays = mutant!("an alert outlives what it is about");
                    if let Some(alert) = track.alert.filter(|_| !stays) {
                        self.cleared(now, alert, subject, why, out);
                    }
                }
                None => drop(self.tracks.remove(subject)),
            }
        }
    }

    pub(super) fn look_at_cluster(
        &mut self,
        now: Now,
        nodes: usize,
        nodes_ready: usize,
        out: &mut Out,
    ) {
        let Some(told) = self.facts.clone() else { return };
        let dead_letters = self.outbox.extent().dead;
        let cluster = Some(ClusterNow { facts: &told, nodes, nodes_ready, dead_letters });
        let facts = Facts {
            now: now.wall,
            node: None,
            container: None,
            cluster,
            often: 0,
            certificate_lifetime: self.certificate_lifetime,
        };
        let look = Look { subject: Subject::Cluster, facts, known: true };
        self.look(now, On::Cluster, &look, out);
    }

    /// Every rule on such a subject. Whether anything is under way of which time decides.
    fn look(&mut self, now: Now, on: On, look: &Look<'_>, out: &mut Out) -> bool {
        let rules = self.on(on);
        let in_maintenance = !mutant!("a node in Maintenance alerts its master")
            && look.facts.node.is_some_and(|n| n.record.status == NodeStatus::Maintenance);
        let inhibited = |rule: &Compiled| in_maintenance && !rule.rule.in_maintenance;
        // each rule adds and ends its own track alone: which are to be followed is known before the first is
        let tracks = self.tracks.get(&look.subject);
        let is_tracked =
            |rule: &Compiled| tracks.is_some_and(|tracks| tracks.contains_key(&rule.rule.name));
        let followed = rules
            .iter()
            .filter(|rule| is_tracked(rule) || (!inhibited(rule) && rule.holds(&look.facts)));
        let followed: Vec<_> = followed.collect();
        for rule in &followed {
            self.step(now, rule, look, inhibited(rule), out);
        }
        !followed.is_empty()
    }

    fn step(&mut self, now: Now, rule: &Compiled, look: &Look<'_>, inhibited: bool, out: &mut Out) {
        let name = &rule.rule.name;
        let tracks = self.tracks.entry(look.subject.clone()).or_default();
        let track = tracks.entry(name.clone()).or_insert_with(|| Track::new(now, rule, look));
        track.keep = rule.keep();
        // its labels may have changed since
        track.group = group_of(rule, look.facts.node);
        let Some(alert) = track.alert else {
            let holds = !inhibited && rule.holds(&look.facts);
            let early = mutant!("an alert does not wait for its time");
            if holds && (early || track.since + track.pending <= now.at) {
                if !out.is_full() {
                    self.fire(now, rule, look, out);
                }
            } else if !holds {
                self.forget_track(&look.subject, name);
            }
            return;
        };
        let goes_on = mutant!("an alert goes on when it is over");
        let ends = mutant!("an alert ends while its condition holds");
        if !inhibited && (goes_on || !(ends || rule.is_clear(&look.facts))) {
            track.clear_since = None;
            return;
        }
        // what was not told yet may come: the master has only just started
        if !look.known && !inhibited {
            return;
        }
        let since = *track.clear_since.get_or_insert(now.at);
        let early = mutant!("an alert is over before its time");
        if (inhibited || early || since + track.keep <= now.at) && !out.is_full() {
            let why = if inhibited { "the node is in Maintenance" } else { "" };
            self.forget_track(&look.subject, name);
            self.cleared(now, alert, &look.subject, why, out);
        }
    }

    fn forget_track(&mut self, subject: &Subject, rule: &str) {
        if let Some(tracks) = self.tracks.get_mut(subject) {
            tracks.remove(rule);
            if tracks.is_empty() {
                self.tracks.remove(subject);
            }
        }
    }

    /// It has held for long enough: alone, with others that fail with it, or as one more of them.
    fn fire(&mut self, now: Now, rule: &Compiled, look: &Look<'_>, out: &mut Out) {
        let group = group_of(rule, look.facts.node);
        if rule.rule.group_min > 1 {
            if let Some(id) = self.open_group(rule, &group) {
                self.join(now, id, &look.subject, out);
                return;
            }
            let fellows = self.fellows(now, rule, &group);
            let least = usize::try_from(rule.rule.group_min).unwrap_or(usize::MAX);
            if fellows.len() >= least && self.firing() < FIRING_MAX {
                self.fire_together(now, rule, group, &fellows, out);
                return;
            }
        }
        let members = self.members_of(rule, std::slice::from_ref(&look.subject));
        let labels = labels_of(Some(rule), look.facts.node);
        let opened = self.open(now, rule, (None, labels, rule.message(&look.facts)), members, out);
        if opened.is_none()
            && let Some(tracks) = self.tracks.get_mut(&look.subject)
            && let Some(track) = tracks.get_mut(&rule.rule.name)
        {
            // there may be room for it later
            (track.since, track.pending) = (now.at, AGAIN_AFTER);
        }
    }

    fn open_group(&self, rule: &Compiled, group: &str) -> Option<Id> {
        let is_it = |alert: &&Alert| {
            !alert.is_over()
                && alert.rule == rule.rule.name
                && alert.group.as_deref() == Some(group)
                && alert.members.len() < MEMBERS_MAX
        };
        self.alerts.values().find(is_it).map(|alert| alert.id)
    }

    /// Subjects of which the same holds now, or fired just before.
    fn fellows(&self, now: Now, rule: &Compiled, group: &str) -> Vec<Subject> {
        let is_one = |track: &Track| {
            let recent = |id: &Id| {
                let alert = self.alerts.get(id);
                alert.is_some_and(|a| {
                    a.group.is_none() && now.wall.since(a.fired_at) <= GROUPED_WITHIN
                })
            };
            track.group == group
                && track.clear_since.is_none()
                && track.alert.as_ref().is_none_or(recent)
        };
        let mut fired = 0;
        let of_rule = self.tracks.iter().filter(|(_, tracks)| {
            let found = tracks.get(&rule.rule.name).filter(|track| is_one(track));
            fired += usize::from(found.is_some_and(|track| track.alert.is_some()));
            found.is_some_and(|track| track.alert.is_none() || fired <= MERGED_MAX)
        });
        of_rule.map(|(subject, _)| subject.clone()).take(MEMBERS_MAX).collect()
    }

    fn fire_together(
        &mut self,
        now: Now,
        rule: &Compiled,
        group: String,
        subjects: &[Subject],
        out: &mut Out,
    ) {
        let members = self.members_of(rule, subjects);
        let merged: Vec<Id> = subjects
            .iter()
            .filter_map(|subject| self.tracks.get(subject)?.get(&rule.rule.name)?.alert)
            .collect();
        let mut labels = rule.rule.labels.clone();
        if let Some((key, value)) = group.split_once('=') {
            labels.insert(key.to_owned(), value.to_owned());
        }
        let opened = self.open(now, rule, (Some(group), labels, String::new()), members, out);
        for old in merged {
            if let Some(id) = opened {
                self.merge(now, old, id, out);
            }
        }
    }

    fn members_of(&self, rule: &Compiled, subjects: &[Subject]) -> Vec<Member> {
        let member = |subject: &Subject| {
            Some(self.tracks.get(subject)?.get(&rule.rule.name)?.member.clone())
        };
        subjects.iter().filter_map(member).collect()
    }

    fn open(
        &mut self,
        now: Now,
        rule: &Compiled,
        (group, labels, message): (Option<String>, Labels, String),
        members: Vec<Member>,
        out: &mut Out,
    ) -> Option<Id> {
        if self.firing() >= FIRING_MAX {
            self.refused += 1;
            return None;
        }
        let id = self.take_id();
        for member in &members {
            let tracks = self.tracks.get_mut(&member.subject);
            if let Some(track) = tracks.and_then(|tracks| tracks.get_mut(&rule.rule.name)) {
                track.alert = Some(id);
            }
        }
        let as_what = (rule.rule.severity, AlertState::Firing);
        let mut alert = Alert {
            labels,
            group,
            since: members.iter().map(|member| member.since).min().unwrap_or(now.wall),
            members,
            ..Alert::begun(id, &rule.rule.name, as_what, message, now.wall)
        };
        alert.name_members();
        let message = format!("alert {id}: {}", alert.message);
        out.tell(alert.severity, EventKind::AlertFiring, Some(&alert), message);
        self.alerts.insert(id, alert);
        self.notify(now, id, NoticeKind::Firing, out);
        self.changed(id, out);
        Some(id)
    }

    /// One more of what fires already.
    fn join(&mut self, now: Now, id: Id, subject: &Subject, out: &mut Out) {
        let Some(alert) = self.alerts.get_mut(&id) else { return };
        let tracks = self.tracks.get_mut(subject);
        let Some(track) = tracks.and_then(|tracks| tracks.get_mut(&alert.rule)) else { return };
        track.alert = Some(id);
        match alert.member(subject) {
            Some(member) => member.cleared_at = None,
            None => alert.members.push(track.member.clone()),
        }
        if !mutant!("a group does not name who joins it") {
            alert.name_members();
        }
        // of whom nobody was told yet, as all were silenced, others may hear now
        let due = if alert.notified { now.at + UPDATED_EVERY } else { now.at };
        let told_at = self.grown.entry(id).or_insert(due);
        *told_at = due.min(*told_at);
        self.changed(id, out);
    }

    /// What was told alone is part of a group now: it ends without a word.
    fn merge(&mut self, now: Now, old: Id, into: Id, out: &mut Out) {
        if mutant!("what joins a group fires alone too") {
            return;
        }
        let Some(alert) = self.alerts.get_mut(&old) else { return };
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(now.wall);
        alert.resolved_why = format!("it is part of alert {into}");
        self.changed(old, out);
    }

    /// It is over for one subject, and altogether where that was the last.
    fn cleared(&mut self, now: Now, id: Id, subject: &Subject, why: &str, out: &mut Out) {
        let Some(alert) = self.alerts.get_mut(&id) else { return };
        if let Some(member) = alert.member(subject) {
            member.cleared_at = Some(now.wall);
        }
        if alert.active().next().is_none() {
            self.resolve(now, id, why, out);
        } else {
            self.changed(id, out);
        }
    }

    pub(super) fn resolve(&mut self, now: Now, id: Id, why: &str, out: &mut Out) {
        let Some(alert) = self.alerts.get_mut(&id) else { return };
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(now.wall);
        why.clone_into(&mut alert.resolved_why);
        let after = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let message = format!("alert {id} is over{after}: {}", alert.message);
        let alert = alert.clone();
        out.tell(crate::model::Severity::Info, EventKind::AlertResolved, Some(&alert), message);
        self.grown.remove(&id);
        if !mutant!("an end is told to nobody") {
            self.notify(now, id, NoticeKind::Resolved, out);
        }
        self.changed(id, out);
    }

    /// What nobody acknowledged in time.
    pub(super) fn escalate(&mut self, now: Now, out: &mut Out) {
        let due = self.alerts.values().filter(|alert| self.is_left_alone(now, alert));
        for id in due.map(|alert| alert.id).collect::<Vec<_>>() {
            if out.is_full() {
                return;
            }
            let Some(alert) = self.alerts.get_mut(&id) else { continue };
            alert.escalated_at = Some(now.wall);
            let message = format!("alert {id} was not acknowledged: {}", alert.message);
            let alert = alert.clone();
            out.tell(alert.severity, EventKind::AlertEscalated, Some(&alert), message);
            if !mutant!("what nobody acknowledged is not told again") {
                self.notify(now, id, NoticeKind::Escalated, out);
            }
            self.changed(id, out);
        }
    }

    /// Somebody could have acknowledged it, had the time to, and nobody did.
    fn is_left_alone(&self, now: Now, alert: &Alert) -> bool {
        let Some(after) = self.rules.get(&alert.rule).and_then(Compiled::escalate) else {
            return false;
        };
        let alone = match alert.state {
            AlertState::Firing => true,
            AlertState::Acknowledged => mutant!("what was acknowledged escalates"),
            AlertState::Pending | AlertState::Resolved => false,
        };
        let told_at = alert.silenced_until.unwrap_or(alert.fired_at);
        let is_time = now.wall.since(told_at) >= after || mutant!("an alert escalates at once");
        let first = alert.escalated_at.is_none() || mutant!("an alert escalates again and again");
        alone && first && is_time && !self.is_silenced(now, alert)
    }

    /// Also where its silence has just ended, and that it fires is to be told first.
    fn is_silenced(&self, now: Now, alert: &Alert) -> bool {
        let by = alert.silenced_by.or_else(|| silencing(&self.silences, alert, now.wall));
        by.is_some() && !mutant!("what is silenced escalates")
    }

    pub(super) fn tell_of_growth(&mut self, now: Now, out: &mut Out) {
        let due = self.grown.iter().filter(|(_, at)| **at <= now.at).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            if out.is_full() {
                return;
            }
            self.grown.remove(&id);
            let told = self.alerts.get(&id).is_some_and(|alert| alert.notified);
            let kind = if told { NoticeKind::Updated } else { NoticeKind::Firing };
            self.notify(now, id, kind, out);
            self.changed(id, out);
        }
    }

    /// What was silenced and still fires is told of when the silence ends.
    pub(super) fn forget_silences(&mut self, now: Now, out: &mut Out) {
        let over = self.silences.values().filter(|silence| silence.is_over(now.wall));
        for id in over.map(|silence| silence.id).collect::<Vec<_>>() {
            if out.is_full() {
                break;
            }
            self.forget_silence(id, out);
        }
        self.see_to_silenced(now, out);
    }

    pub(super) fn forget_silence(&mut self, id: Id, out: &mut Out) {
        self.silences.remove(&id);
        if !mutant!("a silence that was ended is kept") {
            out.delete(silence_key(id));
        }
    }

    /// Silences come and go, and so do the subjects of groups: what none hides any more is told, where it still fires.
    /// Each look asks anew, so that a crash in between loses nothing.
    pub(super) fn see_to_silenced(&mut self, now: Now, out: &mut Out) {
        let changes = |alert: &Alert| {
            let by = silencing(&self.silences, alert, now.wall);
            (!alert.is_over() && by != alert.silenced_by).then_some((alert.id, by))
        };
        let changed: Vec<_> = self.alerts.values().filter_map(changes).collect();
        for (id, by) in changed {
            if out.is_full() {
                // the rest is for the next look
                self.tick_at = now.at;
                return;
            }
            let Some(alert) = self.alerts.get_mut(&id) else { continue };
            alert.set_silence(by, now.wall);
            let untold = alert.state == AlertState::Firing && !alert.notified;
            if by.is_none() && untold && !mutant!("what a silence hid is never told") {
                self.grown.remove(&id);
                self.notify(now, id, NoticeKind::Firing, out);
            }
            self.changed(id, out);
        }
    }

    /// What has been over for long, and what is too much.
    pub(super) fn retire(&mut self, now: Now, out: &mut Out) {
        let mut over: Vec<_> =
            self.alerts.values().filter_map(|alert| Some((alert.resolved_at?, alert.id))).collect();
        over.sort_unstable();
        let many = over.len().saturating_sub(RESOLVED_MAX);
        for (index, (at, id)) in over.into_iter().enumerate() {
            if out.is_full() || (index >= many && now.wall.since(at) < RESOLVED_FOR) {
                break;
            }
            self.alerts.remove(&id);
            out.delete(alert_key(id));
            out.removed.push(id);
        }
    }

    /// Counts losses and starts.
    fn remember(&mut self, now: Timestamp, view: &NodeView) {
        let status = view.record.status;
        let watched = self.watched.entry(view.record.id.clone()).or_insert_with(|| Watched {
            status,
            losses: VecDeque::new(),
            containers: std::collections::BTreeMap::new(),
        });
        if status == NodeStatus::NotReady && watched.status != status {
            watched.losses.push_back(now);
        }
        watched.status = status;
        forget_old(&mut watched.losses, now);
        for container in &view.containers {
            match watched.containers.get_mut(&container.name) {
                Some(starts) => starts.seen(now, container),
                None => {
                    let first = Starts {
                        started_at: container.started_at,
                        restarts: container.restarts,
                        at: VecDeque::new(),
                    };
                    watched.containers.insert(container.name.clone(), first);
                }
            }
        }
        if view.sampled_at.is_some() && watched.containers.len() > view.containers.len() {
            let there = |name: &String| view.containers.iter().any(|c| c.name == *name);
            watched.containers.retain(|name, _| there(name));
        }
    }
}

impl Track {
    fn new(now: Now, rule: &Compiled, look: &Look<'_>) -> Self {
        let node = look.facts.node;
        Self {
            member: Member {
                subject: look.subject.clone(),
                node: node.map(|node| node.record.name.clone()),
                since: now.wall,
                cleared_at: None,
            },
            group: group_of(rule, node),
            since: now.at,
            pending: rule.pending(),
            keep: rule.keep(),
            alert: None,
            clear_since: None,
        }
    }
}

impl Starts {
    /// A container that was made anew under its name has started too.
    fn seen(&mut self, now: Timestamp, container: &ContainerReport) {
        let more = container.restarts.saturating_sub(self.restarts);
        let anew = container.started_at.is_some() && container.started_at != self.started_at;
        let starts = more.max(u32::from(anew && self.started_at.is_some()));
        for _ in 0..starts.min(u32::try_from(OFTEN_MAX).unwrap_or(0)) {
            self.at.push_back(now);
        }
        self.restarts = container.restarts;
        if container.started_at.is_some() {
            self.started_at = container.started_at;
        }
        forget_old(&mut self.at, now);
    }
}

fn forget_old(times: &mut VecDeque<Timestamp>, now: Timestamp) {
    let is_old = |at: &Timestamp| now.since(*at) > OFTEN_WITHIN;
    while times.front().is_some_and(is_old) || times.len() > OFTEN_MAX {
        times.pop_front();
    }
}

/// The rule's, and of the node's as many as there is room for.
pub(super) fn labels_of(rule: Option<&Compiled>, node: Option<&NodeView>) -> Labels {
    let mut labels = rule.map(|rule| rule.rule.labels.clone()).unwrap_or_default();
    let mut bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    for (key, value) in node.iter().flat_map(|node| &node.record.labels) {
        bytes += key.len() + value.len();
        if bytes <= LABELS_BYTES_MAX {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    labels
}

/// What a node has in common with others, by the rule: `site=seoul`, or that they are of the cluster.
fn group_of(rule: &Compiled, node: Option<&NodeView>) -> String {
    let key = &rule.rule.group_by;
    let value = node.and_then(|node| node.record.labels.get(key));
    value.map_or_else(|| "the cluster".to_owned(), |value| format!("{key}={value}"))
}
