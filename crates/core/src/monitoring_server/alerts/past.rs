//! Alerts of the past: what a node that was alone has judged by itself, and what was over before anybody heard of it.
//!
//! It is shown among those that are resolved, and told once, as over. What the master's own rules saw of it they have
//! told already; what its administrator has switched off stays so. An agent may say what it likes: its words are
//! bounded, and so are its alerts.

use std::time::Duration;

use super::{
    Alert, AlertState, Alerts, Member, Out, Subject, channel::NoticeKind, evaluate::labels_of,
};
use crate::{
    model::{EventKind, JournalEntry, NodeView, Severity},
    node_agent::local_alerts::{CONTAINER_STOPPED, CONTAINER_UNHEALTHY, OVER},
    time::{Now, WallTime},
};

/// Writes of a commit with a batch of events in it; a store takes 128.
const BATCH_WRITES_MAX: usize = 108;
/// Of one node that are kept.
const OF_A_NODE_MAX: usize = 20;
/// Rules that an agent judges by itself. That it was alone is told by the rule for nodes that are not ready.
const RULES: [&str; 7] = [
    "ResourcePressure",
    "PodmanUnavailable",
    "HardwareDegraded",
    "Throttled",
    "PowerLow",
    CONTAINER_STOPPED,
    CONTAINER_UNHEALTHY,
];
/// What such an alert says of its end.
const WHILE_ALONE: &str = "it began while the node was alone";
/// Two that are nearer to each other than this are the same: clocks differ.
const NEAR: Duration = Duration::from_secs(60);

/// As the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Past<'e> {
    rule: &'static str,
    container: &'e str,
    severity: Severity,
    message: &'e str,
    since: WallTime,
    fired_at: WallTime,
    over_at: WallTime,
}

impl<'e> Past<'e> {
    /// `None`: it fired under a master's eyes, or is nothing that an agent judges.
    fn read(entry: &'e JournalEntry, now: WallTime) -> Option<Self> {
        let field = |name: &str| entry.fields.get(name).map(String::as_str);
        let time = |name: &str| field(name)?.parse().ok().map(WallTime);
        if entry.kind != EventKind::LocalAlertResolved || field("alone") != Some("yes") {
            return None;
        }
        let over_at = entry.at.min(now);
        let fired_at = time("fired_at")?.min(over_at);
        Some(Self {
            rule: RULES.into_iter().find(|rule| field("rule") == Some(*rule))?,
            container: field("container")?,
            severity: match field("severity") {
                Some("critical") => Severity::Critical,
                Some("warning") => Severity::Warning,
                Some(_) | None => Severity::Info,
            },
            message: entry.message.strip_prefix(OVER).unwrap_or(&entry.message),
            since: time("since")?.min(fired_at),
            fired_at,
            over_at,
        })
    }
}

impl Alerts {
    /// Events of a node's journal, which are appended in the same commit.
    pub fn journaled(&mut self, now: Now, node: &NodeView, over: &[JournalEntry], out: &mut Out) {
        for past in over.iter().filter_map(|entry| Past::read(entry, now.wall)) {
            // a batch of events and what they retire leave little; what finds no room stays an event
            if out.writes.len() + 1 + self.channels.len() > BATCH_WRITES_MAX {
                break;
            }
            if self.is_news(node, &past) {
                self.was_over(now, node, &past, out);
            }
        }
        self.dispatch(now, out);
    }

    fn was_over(&mut self, now: Now, node: &NodeView, past: &Past<'_>, out: &mut Out) {
        let (node_id, name) = (node.record.id.clone(), node.record.name.clone());
        let subject = match past.container {
            "" => Subject::Node(node_id),
            container => Subject::Container(node_id, container.to_owned()),
        };
        let member = Member {
            subject,
            node: Some(name.clone()),
            since: past.since,
            cleared_at: Some(past.over_at),
        };
        let id = self.take_id();
        let message = format!("node {name}, while it was alone: {}", past.message);
        let as_what = (past.severity, AlertState::Resolved);
        let alert = Alert {
            labels: labels_of(self.rules.get(past.rule), Some(node)),
            members: vec![member],
            since: past.since,
            resolved_at: Some(past.over_at),
            resolved_why: WHILE_ALONE.to_owned(),
            // nobody was told of its beginning, and everybody is of its end
            notified: true,
            ..Alert::begun(id, past.rule, as_what, message, past.fired_at)
        };
        self.alerts.insert(id, alert);
        self.notify(now, id, NoticeKind::Resolved, out);
        self.changed(id, out);
    }

    fn is_news(&self, node: &NodeView, past: &Past<'_>) -> bool {
        let node = &node.record.id;
        let of_node = || {
            let is_of =
                |alert: &&Alert| alert.members.iter().any(|m| m.subject.node() == Some(node));
            self.alerts.values().filter(is_of)
        };
        let is_same = |alert: &Alert| {
            let container = |member: &Member| match &member.subject {
                Subject::Container(of, name) => of == node && name == past.container,
                Subject::Node(of) => of == node && past.container.is_empty(),
                Subject::Cluster => false,
            };
            let begins_in_time = alert.since <= past.over_at.plus(NEAR);
            let ends_in_time = alert.resolved_at.is_none_or(|end| past.since <= end.plus(NEAR));
            alert.rule == past.rule
                && alert.resolved_why != WHILE_ALONE
                && alert.members.iter().any(container)
                && begins_in_time
                && ends_in_time
        };
        let is_off = self.rules.get(past.rule).is_some_and(|rule| rule.rule.disabled);
        let kept = of_node().filter(|alert| alert.resolved_why == WHILE_ALONE).count();
        !is_off && kept < OF_A_NODE_MAX && !of_node().any(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            requests::AlertRequest,
            tests::{World, at, node, rule},
        },
        *,
    };
    use crate::model::NodeStatus;

    /// An alert that a node tells of at second 1000.
    fn over(rule: &str, container: &str, alone: &str, (fired, end): (i64, i64)) -> JournalEntry {
        let fired = (fired * 1000).to_string();
        let fields = [
            ("rule", rule),
            ("container", container),
            ("severity", "warning"),
            ("since", &fired),
            ("fired_at", &fired),
            ("alone", alone),
        ];
        JournalEntry {
            sequence: 1,
            at: WallTime::from_secs(end),
            severity: Severity::Info,
            kind: EventKind::LocalAlertResolved,
            message: "over: it hurt".to_owned(),
            fields: fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            offline: true,
        }
    }

    fn told(world: &mut World, entries: &[JournalEntry]) {
        let mut out = Out::default();
        let board = node("board", NodeStatus::Ready);
        world.alerts.journaled(at(1000), &board, entries, &mut out);
        world.take(1000, out);
    }

    fn shown(world: &World) -> Vec<(String, String)> {
        let shown = |alert: &Alert| (alert.rule.clone(), alert.members[0].name());
        world.alerts.alerts().filter(|alert| alert.is_over()).map(shown).collect()
    }

    #[test]
    fn what_was_over_before_anybody_heard_of_it_is_shown_and_told_once() {
        let mut world = World::new();
        told(&mut world, &[over("ContainerStopped", "web", "yes", (100, 200))]);
        assert_eq!(shown(&world), [("ContainerStopped".to_owned(), "board/web".to_owned())]);
        let alert = world.alerts.alerts().next().unwrap();
        assert_eq!(
            (alert.fired_at, alert.resolved_at),
            (WallTime::from_secs(100), Some(WallTime::from_secs(200)),)
        );
        assert_eq!(alert.message, "node board, while it was alone: it hurt");
        let kinds: Vec<_> = world.sent.iter().map(|(_, sent)| sent.notice.kind).collect();
        assert_eq!(kinds, [NoticeKind::Resolved]);
        assert_eq!(world.alerts.firing(), 0);
    }

    #[test]
    fn what_a_master_saw_or_no_agent_judges_makes_no_alert() {
        let mut world = World::new();
        let mut future = over("Throttled", "", "yes", (5000, 6000));
        future.fields.remove("fired_at");
        let odd = over("NodeNotReady", "", "yes", (100, 200));
        let lost = over("MasterLost", "", "yes", (100, 200));
        told(&mut world, &[over("Throttled", "", "no", (100, 200)), odd, lost, future]);
        assert!(shown(&world).is_empty());
    }

    #[test]
    fn a_clock_that_is_ahead_ends_nothing_in_the_future() {
        let mut world = World::new();
        told(&mut world, &[over("Throttled", "", "yes", (5000, 6000))]);
        let alert = world.alerts.alerts().next().unwrap();
        assert_eq!((alert.fired_at, alert.resolved_at), (at(1000).wall, Some(at(1000).wall)));
    }

    #[test]
    fn what_the_masters_own_rule_has_told_is_not_told_again() {
        let mut world = World::new();
        let mut board = node("board", NodeStatus::Ready);
        board.metrics.insert("temperature_celsius".to_owned(), "99".to_owned());
        let rule = rule("Throttled", "node.metrics.temperature_celsius > 90");
        world
            .ask(0, AlertRequest::ApplyRules { rules: vec![rule], generation: 0, dry_run: false })
            .unwrap();
        let mut out = Out::default();
        world.alerts.seen(at(900), &board, &mut out);
        world.take(900, out);
        assert_eq!(world.alerts.firing(), 1);
        told(&mut world, &[over("Throttled", "", "yes", (100, 980))]);
        assert!(shown(&world).is_empty());
        told(&mut world, &[over("Throttled", "", "yes", (100, 300))]);
        assert_eq!(shown(&world).len(), 1, "that was long before");
    }

    #[test]
    fn a_node_that_tells_of_many_drives_out_no_others() {
        let mut world = World::new();
        for round in 0..10 {
            let many: Vec<_> = (0..48)
                .map(|n| over("Throttled", &format!("{round}-{n}"), "yes", (100, 200)))
                .collect();
            told(&mut world, &many);
        }
        assert_eq!(shown(&world).len(), OF_A_NODE_MAX);
    }
}
