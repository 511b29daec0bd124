//! Alerts, as sentences over data: a machine, what it was told, and what it tells.

use super::{
    channel::{Body, PER_MINUTE_DEFAULT, Secret, TIMEOUT_S_DEFAULT, Way},
    matcher::Matcher,
    requests::{AlertAnswer, AlertRequest},
    *,
};
use crate::{
    api_server::Refusal,
    model::{ContainerReport, Labels, NodeView},
    state_manager::fixtures::node_record,
};

mod outbox;

/// Of nodes' certificates.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// A machine with its store.
pub(super) struct World {
    pub(super) alerts: Alerts,
    pub(super) store: BTreeMap<String, Vec<u8>>,
    pub(super) sent: Vec<(u64, Dispatch)>,
    events: Vec<Told>,
    requests: u64,
}

pub(super) fn at(seconds: u64) -> Now {
    let ms = i64::try_from(seconds).unwrap() * 1000;
    Now { at: Timestamp::from_millis(seconds * 1000), wall: WallTime(ms) }
}

pub(super) fn node(name: &str, status: NodeStatus) -> NodeView {
    let mut record = node_record(name, name);
    record.status = status;
    record.certificate_expires_at = Some(WallTime::from_secs(90 * 86_400));
    NodeView {
        record,
        last_heartbeat: None,
        connected: true,
        containers: Vec::new(),
        containers_at: None,
        metrics: BTreeMap::new(),
        sampled_at: Some(WallTime(1)),
        system_check: None,
        hardware: None,
        recovery: Default::default(),
        probe: None,
        revision: 0,
    }
}

fn in_site(mut view: NodeView, site: &str) -> NodeView {
    view.record.labels.insert("site".to_owned(), site.to_owned());
    view
}

fn hot(name: &str, degrees: &str) -> NodeView {
    let mut view = node(name, NodeStatus::Ready);
    view.metrics.insert("temperature_celsius".to_owned(), degrees.to_owned());
    view
}

fn channel(name: &str) -> Channel {
    Channel {
        name: name.to_owned(),
        way: Way::Webhook {
            url: Secret::new("https://chat.example/secret"),
            body: Body::Json,
            key: Secret::new("key"),
            ca: String::new(),
        },
        severity: Severity::Info,
        only: Matcher::default(),
        escalations: false,
        no_resolved: false,
        timeout_s: TIMEOUT_S_DEFAULT,
        per_minute: PER_MINUTE_DEFAULT,
        disabled: false,
        changed_at: WallTime(0),
    }
}

pub(super) fn rule(name: &str, when: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        on: On::Node,
        expression: when.to_owned(),
        clear: String::new(),
        for_s: 0,
        keep_s: 0,
        severity: Severity::Warning,
        labels: Labels::new(),
        message: "{{ node.name }}".to_owned(),
        group_min: 0,
        group_by: String::new(),
        escalate_s: 0,
        in_maintenance: false,
        disabled: false,
    }
}

impl World {
    pub(super) fn new() -> Self {
        let alerts = Alerts::restore(Stored::default(), "robot", LIFETIME, 1, at(0));
        let mut world = Self {
            alerts,
            store: BTreeMap::new(),
            sent: Vec::new(),
            events: Vec::new(),
            requests: 0,
        };
        world.ask(0, AlertRequest::ApplyChannels(vec![channel("chat")])).unwrap();
        world
    }

    pub(super) fn take(&mut self, seconds: u64, out: Out) {
        assert!(out.writes.len() <= 120, "a commit stays within a store's limit");
        for (key, value) in out.writes {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
        self.events.extend(out.events);
        self.sent.extend(out.dispatches.into_iter().map(|dispatch| (seconds, dispatch)));
    }

    fn with<T>(&mut self, seconds: u64, work: impl FnOnce(&mut Alerts, &mut Out) -> T) -> T {
        let mut out = Out::default();
        let result = work(&mut self.alerts, &mut out);
        self.take(seconds, out);
        result
    }

    pub(super) fn seen(&mut self, seconds: u64, view: &NodeView) {
        self.with(seconds, |alerts, out| alerts.seen(at(seconds), view, out));
    }

    pub(super) fn ask(
        &mut self,
        seconds: u64,
        request: AlertRequest,
    ) -> Result<Option<AlertAnswer>, Refusal> {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.with(seconds, |alerts, out| alerts.request(at(seconds), id, "admin:ann", request, out))
    }

    pub(super) fn apply(&mut self, rule: Rule) {
        let request = AlertRequest::ApplyRules { rules: vec![rule], generation: 0, dry_run: false };
        self.ask(0, request).unwrap();
    }

    pub(super) fn deadline(&mut self, seconds: u64) {
        self.with(seconds, |alerts, out| alerts.at_deadline(at(seconds), (1, 1), out));
    }

    /// The newest dispatch has ended.
    pub(super) fn delivered(&mut self, seconds: u64, result: Result<(), &str>) {
        let id = self.sent.last().unwrap().1.delivery;
        let result = result.map_err(|problem| DeliveryError {
            problem: problem.trim_end_matches('!').to_owned(),
            is_final: problem.ends_with('!'),
        });
        self.with(seconds, |alerts, out| alerts.delivered(at(seconds), id, result, out));
    }

    pub(super) fn restart(&mut self, seconds: u64) {
        let mut stored = Stored::default();
        for (key, value) in &self.store {
            assert!(Stored::is_ours(key), "{key}");
            stored.add(key, value).unwrap();
        }
        self.alerts = Alerts::restore(stored, "robot", LIFETIME, 2, at(seconds));
    }

    /// What was sent so far, with the time of each.
    pub(super) fn told(&mut self) -> Vec<String> {
        let line = |(seconds, dispatch): (u64, Dispatch)| {
            let notice = dispatch.notice;
            format!("{seconds} {} {}", notice.kind.name(), notice.alert.message)
        };
        self.sent.drain(..).map(line).collect()
    }

    fn states(&self) -> Vec<String> {
        let line = |alert: &Alert| format!("{} {}", alert.rule, alert.state.name());
        self.alerts.alerts().map(line).collect()
    }
}

const LOST: NodeStatus = NodeStatus::NotReady;
const WELL: NodeStatus = NodeStatus::Ready;

#[test]
fn what_holds_for_long_enough_is_told_once_and_its_end_too() {
    let mut world = World::new();
    world.seen(10, &node("b1", LOST));
    world.seen(39, &node("b1", LOST));
    assert_eq!(world.told(), Vec::<String>::new());
    assert_eq!(world.alerts.deadline().at, Timestamp::from_millis(15_000), "the tick");
    world.deadline(15);
    world.deadline(30);
    assert_eq!(world.alerts.deadline().at, Timestamp::from_millis(40_000), "its time is over");
    assert_eq!(world.alerts.due_nodes(at(40)).len(), 1);
    world.seen(40, &node("b1", LOST));
    world.seen(50, &node("b1", LOST));
    assert_eq!(world.told(), ["40 firing node b1 is NotReady: "]);
    world.sent.clear();
    world.seen(60, &node("b1", WELL));
    world.seen(70, &node("b1", WELL));
    assert_eq!(world.states(), ["NodeNotReady resolved"]);
    let kinds: Vec<_> = world.events.iter().map(|told| told.kind).collect();
    assert_eq!(kinds, [EventKind::AlertFiring, EventKind::AlertResolved]);
}

#[test]
fn what_holds_for_too_short_a_time_is_never_told() {
    let mut world = World::new();
    for seconds in (10..100).step_by(20) {
        world.seen(seconds, &node("b1", LOST));
        world.seen(seconds + 10, &node("b1", WELL));
    }
    let firing = |told: &String| told.contains("NotReady:");
    assert!(!world.told().iter().any(firing), "only that it comes and goes");
}

#[test]
fn between_the_limits_an_alert_neither_comes_nor_goes() {
    let mut world = World::new();
    for (seconds, degrees, states) in [
        (10, "84", [].as_slice()),
        (20, "86", &[]),
        (80, "86", &["TemperatureHigh firing"]),
        (90, "84", &["TemperatureHigh firing"]),
        (100, "80.5", &["TemperatureHigh firing"]),
        (110, "79", &["TemperatureHigh resolved"]),
        (120, "84", &["TemperatureHigh resolved"]),
    ] {
        world.seen(seconds, &hot("b1", degrees));
        assert_eq!(world.states(), states, "{seconds}: {degrees}");
    }
}

#[test]
fn an_alert_is_over_only_when_it_was_clear_for_as_long_as_its_rule_says() {
    let mut world = World::new();
    world.apply(Rule { keep_s: 60, ..rule("Lost", r#"node.status == "NotReady""#) });
    world.seen(10, &node("b1", LOST));
    world.seen(20, &node("b1", WELL));
    world.seen(50, &node("b1", LOST));
    world.seen(60, &node("b1", WELL));
    assert_eq!(world.states(), ["Lost firing"]);
    assert_eq!(world.alerts.due_nodes(at(120)).len(), 1);
    world.seen(120, &node("b1", WELL));
    assert_eq!(world.states(), ["Lost resolved"]);
}

#[test]
fn a_restart_tells_nothing_again_and_waits_for_what_nodes_tell() {
    let mut world = World::new();
    world.seen(10, &hot("b1", "90"));
    world.seen(70, &hot("b1", "90"));
    world.delivered(71, Ok(()));
    assert_eq!(world.told().len(), 1);
    world.restart(100);
    let mut silent = node("b1", WELL);
    silent.sampled_at = None;
    world.seen(110, &silent);
    world.seen(120, &hot("b1", "90"));
    world.deadline(130);
    assert_eq!(
        (world.told(), world.states()),
        (Vec::new(), vec!["TemperatureHigh firing".to_owned()])
    );
    world.seen(140, &hot("b1", "50"));
    assert_eq!(world.states(), ["TemperatureHigh resolved"]);
    assert_eq!(world.told().len(), 1, "its end is told");
}

#[test]
fn what_was_not_delivered_before_a_restart_is_delivered_after_it_with_the_same_key() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    let first = world.sent.pop().unwrap().1.notice;
    world.restart(20);
    world.deadline(35);
    assert_eq!(world.sent.pop().unwrap().1.notice, first);
}

#[test]
fn nodes_of_a_site_that_fail_together_are_one_alert() {
    let mut world = World::new();
    for (second, name) in [(10, "b1"), (11, "b2"), (13, "b3")] {
        world.seen(second, &in_site(node(name, LOST), "north"));
    }
    world.seen(14, &in_site(node("c1", LOST), "south"));
    world.seen(40, &in_site(node("b1", LOST), "north"));
    assert_eq!(world.told(), ["40 firing NodeNotReady, 3 at once in site=north: b1, b2, b3"]);
    world.seen(44, &in_site(node("c1", LOST), "south"));
    // one more of them comes later
    world.seen(50, &in_site(node("b4", LOST), "north"));
    world.seen(80, &in_site(node("b4", LOST), "north"));
    assert_eq!(world.states(), ["NodeNotReady firing"; 2]);
    let alert = world.alerts.alerts().next().unwrap();
    assert_eq!(alert.members.len(), 4);
    for (second, name) in [(90, "b1"), (91, "b2"), (92, "b3")] {
        world.seen(second, &in_site(node(name, WELL), "north"));
    }
    assert_eq!(world.states(), ["NodeNotReady firing"; 2], "one is still lost");
    world.seen(93, &in_site(node("b4", WELL), "north"));
    assert_eq!(world.states(), ["NodeNotReady resolved", "NodeNotReady firing"]);
}

#[test]
fn a_node_whose_site_changes_while_it_is_lost_is_one_of_its_new_site() {
    let mut world = World::new();
    world.seen(10, &in_site(node("a1", LOST), "south"));
    for name in ["b1", "b2", "b3"] {
        world.seen(20, &in_site(node(name, LOST), "north"));
    }
    world.seen(30, &in_site(node("a1", LOST), "north"));
    world.seen(40, &in_site(node("a1", LOST), "north"));
    assert_eq!(world.told(), ["40 firing NodeNotReady, 4 at once in site=north: a1, b1, b2, b3"]);
}

#[test]
fn what_fired_alone_becomes_a_part_of_the_group() {
    let mut world = World::new();
    let lost = r#"node.status == "NotReady""#;
    world.apply(Rule { group_min: 2, for_s: 5, ..rule("Lost", lost) });
    world.seen(10, &node("b1", LOST));
    world.seen(15, &node("b1", LOST));
    world.seen(20, &node("b2", LOST));
    world.seen(25, &node("b2", LOST));
    assert_eq!(world.states(), ["Lost resolved", "Lost firing"]);
    let alone = world.alerts.alerts().next().unwrap();
    assert_eq!(alone.resolved_why, "it is part of alert 1-3");
}

#[test]
fn a_node_in_maintenance_is_not_spoken_of() {
    let mut world = World::new();
    world.seen(10, &hot("b1", "90"));
    world.seen(70, &hot("b1", "90"));
    let mut maintained = hot("b1", "90");
    maintained.record.status = NodeStatus::Maintenance;
    world.seen(80, &maintained);
    assert_eq!(world.states(), ["TemperatureHigh resolved"]);
    world.seen(200, &maintained);
    world.seen(210, &hot("b1", "90"));
    assert_eq!(world.states(), ["TemperatureHigh resolved"], "its time begins anew");
    let mut other = World::new();
    other.apply(Rule {
        in_maintenance: true,
        ..rule("Hot", "node.metrics.temperature_celsius > 85")
    });
    other.seen(10, &maintained);
    assert_eq!(other.states(), ["Hot firing"]);
}

#[test]
fn a_silence_keeps_an_alert_from_being_told_until_it_ends() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    let matcher = Matcher::parse("only", "node=b1, label.site=north").unwrap();
    let span = Duration::from_secs(100);
    let request = AlertRequest::Silence { matcher, span, comment: "moved".to_owned() };
    world.ask(5, request).unwrap();
    world.seen(10, &in_site(node("b1", LOST), "north"));
    assert_eq!((world.told(), world.states()), (Vec::new(), vec!["Lost firing".to_owned()]));
    world.seen(11, &in_site(node("b2", LOST), "north"));
    world.delivered(12, Ok(()));
    assert_eq!(world.told(), ["11 firing b2"]);
    world.deadline(110);
    assert_eq!(world.told(), ["110 firing b1"], "it still fires");
}

#[test]
fn who_acknowledges_without_a_word_leaves_what_was_said_before() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    let ids = vec![world.alerts.alerts().next().unwrap().id];
    for (second, comment, said) in
        [(20, "first words", "first words"), (30, "", "first words"), (40, "more", "more")]
    {
        let request = AlertRequest::Acknowledge { ids: ids.clone(), comment: comment.to_owned() };
        world.ask(second, request).unwrap();
        let alert = world.alerts.alerts().next().unwrap();
        let kept = alert.acknowledged.as_ref().map(|ack| ack.comment.as_str());
        assert_eq!(kept, Some(said), "at {second}");
    }
}

#[test]
fn a_group_is_silenced_only_where_each_of_its_subjects_is() {
    let mut world = World::new();
    let silence = |world: &mut World, second, only: &str, seconds| {
        let matcher = Matcher::parse("only", only).unwrap();
        let span = Duration::from_secs(seconds);
        let request = AlertRequest::Silence { matcher, span, comment: String::new() };
        let Ok(Some(AlertAnswer::Silenced(silence))) = world.ask(second, request) else { panic!() };
        silence.id
    };
    let lost = r#"node.status == "NotReady""#;
    world.apply(Rule { group_min: 2, for_s: 5, ..rule("Lost", lost) });
    silence(&mut world, 1, "node=b2", 1000);
    for second in [10, 15] {
        world.seen(second, &node("b1", LOST));
        world.seen(second, &node("b2", LOST));
    }
    let told = ["15 firing Lost, 2 at once in the cluster: b1, b2"];
    assert_eq!(world.told(), told, "b1 is not silenced");

    // each has a silence of its own
    let mut world = World::new();
    world.apply(Rule { group_min: 2, for_s: 5, ..rule("Lost", lost) });
    silence(&mut world, 1, "node=b1", 500);
    let second = silence(&mut world, 1, "node=b2", 1000);
    for second in [10, 15] {
        world.seen(second, &node("b1", LOST));
        world.seen(second, &node("b2", LOST));
    }
    assert_eq!(world.told(), Vec::<String>::new());
    assert!(world.alerts.alerts().all(|alert| alert.silenced_by.is_some()));
    world.ask(20, AlertRequest::Unsilence(second)).unwrap();
    assert_eq!(world.told(), ["20 firing Lost, 2 at once in the cluster: b1, b2"]);
}

#[test]
fn who_joins_a_silenced_group_and_is_not_silenced_is_told_of_at_once() {
    let mut world = World::new();
    let matcher = Matcher::parse("only", "node~a").unwrap();
    let span = Duration::from_secs(1000);
    world.ask(1, AlertRequest::Silence { matcher, span, comment: String::new() }).unwrap();
    let lost = r#"node.status == "NotReady""#;
    world.apply(Rule { group_min: 2, ..rule("Lost", lost) });
    for name in ["a1", "a2", "a3", "b4"] {
        assert_eq!(world.told(), Vec::<String>::new(), "before {name}");
        world.seen(10, &node(name, LOST));
        world.deadline(10);
    }
    assert_eq!(world.told(), ["10 firing Lost, 4 at once in the cluster: a1, a2, a3, b4"]);
}

#[test]
fn what_nobody_acknowledges_escalates_and_what_somebody_does_does_not() {
    let mut world = World::new();
    let only = Channel { escalations: true, ..channel("pager") };
    world.ask(0, AlertRequest::DeleteChannel("chat".to_owned())).unwrap();
    world.ask(0, AlertRequest::ApplyChannels(vec![only])).unwrap();
    world.apply(Rule { escalate_s: 60, ..rule("Lost", r#"node.status == "NotReady""#) });
    for name in ["b1", "b2"] {
        world.seen(10, &node(name, LOST));
    }
    assert_eq!(world.told(), Vec::<String>::new());
    let id = world.alerts.alerts().next().unwrap().id;
    let acknowledge = |id| AlertRequest::Acknowledge { ids: vec![id], comment: String::new() };
    world.ask(20, acknowledge(id)).unwrap();
    world.deadline(75);
    assert_eq!(world.told(), ["75 escalated b2"]);
    assert_eq!(world.states(), ["Lost acknowledged", "Lost firing"]);
    world.seen(80, &node("b1", WELL));
    let refusal = world.ask(90, acknowledge(id)).unwrap_err();
    assert_eq!(refusal.reason, "AlertOver");
    assert_eq!(world.ask(90, acknowledge(Id(7))).unwrap_err().reason, "NoSuchAlert");
}

#[test]
fn a_channel_that_is_off_tells_nothing_and_on_again_it_has_what_it_had() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    let switch =
        |name: &str, disabled| AlertRequest::SwitchChannel { name: name.to_owned(), disabled };
    world.ask(5, switch("chat", true)).unwrap();
    world.seen(10, &node("b1", LOST));
    assert_eq!(world.told(), Vec::<String>::new());
    world.restart(15);
    world.ask(20, switch("chat", false)).unwrap();
    world.seen(30, &node("b2", LOST));
    let sent = &world.sent.last().unwrap().1.channel;
    assert_eq!(sent, &Channel { changed_at: at(20).wall, ..channel("chat") }, "with its secrets");
    assert_eq!(world.told(), ["30 firing b2"], "what nobody was to be told is not told later");
    assert_eq!(world.ask(40, switch("pager", true)).unwrap_err().reason, "NoSuchChannel");
}

#[test]
fn what_waits_for_a_channel_that_is_off_goes_once_it_is_on() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    world.delivered(11, Err("it is away"));
    assert_eq!(world.told(), ["10 firing b1"]);
    let switch = |disabled| AlertRequest::SwitchChannel { name: "chat".to_owned(), disabled };
    world.ask(11, switch(true)).unwrap();
    world.deadline(60);
    assert_eq!(world.told(), Vec::<String>::new());
    world.ask(70, switch(false)).unwrap();
    assert_eq!(world.told(), ["70 firing b1"]);
}

#[test]
fn what_is_wrong_with_a_channel_is_said_of_the_field_as_it_is_written() {
    for (channel, field) in [
        (Channel { name: "no name".to_owned(), ..channel("chat") }, "channels[0].name"),
        (Channel { timeout_s: 61, ..channel("chat") }, "channels[0].timeout"),
        (Channel { per_minute: 601, ..channel("chat") }, "channels[0].per_minute"),
    ] {
        let refused = World::new().ask(1, AlertRequest::ApplyChannels(vec![channel])).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field));
    }
}

#[test]
fn a_container_that_starts_again_and_again_is_told_of() {
    let mut world = World::new();
    for (index, seconds) in (10..80).step_by(10).enumerate() {
        let mut view = node("b1", WELL);
        view.containers.push(ContainerReport {
            name: "web".to_owned(),
            state: "running".to_owned(),
            started_at: Some(WallTime::from_secs(i64::try_from(index).unwrap() / 2)),
            restarts: u32::try_from(index).unwrap(),
            ..ContainerReport::default()
        });
        world.seen(seconds, &view);
    }
    assert_eq!(world.told(), ["50 firing container web on b1 started 4 times within 15 minutes"]);
    world.seen(90, &node("b1", WELL));
    let alert = world.alerts.alerts().next().unwrap();
    assert_eq!(
        (alert.state, alert.resolved_why.as_str()),
        (AlertState::Resolved, "the container was removed")
    );
}

#[test]
fn what_is_told_of_the_store_does_not_wait_for_it() {
    let mut world = World::new();
    let facts = |store: &str| ClusterFacts { store: store.to_owned(), ..Default::default() };
    for seconds in [10, 20, 30, 40] {
        world
            .with(seconds, |alerts, out| alerts.told(at(seconds), facts("disk full"), (3, 2), out));
    }
    let (_, sent) = world.sent.pop().unwrap();
    assert_eq!(
        (sent.notice.alert.message.as_str(), sent.at_once),
        ("the master's store: disk full", true)
    );
}

#[test]
fn a_rule_is_applied_whole_or_not_at_all_and_gives_back_what_it_replaced() {
    let mut world = World::new();
    let apply = |rules, generation| AlertRequest::ApplyRules { rules, generation, dry_run: false };
    let bad = Rule { expression: "node.statu == 1".to_owned(), ..rule("Bad", "") };
    let refusal = world.ask(0, apply(vec![rule("Good", "true"), bad], 0)).unwrap_err();
    assert!(
        refusal.message.starts_with("rules[1].when: line 1, column 1: there is no node.statu"),
        "{refusal}"
    );
    let open = Rule { message: "x {{ node.name".to_owned(), ..rule("Open", "true") };
    let refusal = world.ask(0, apply(vec![open], 0)).unwrap_err();
    assert!(
        refusal.message.starts_with("rules[0].message: line 1, column 3: {{ has no }}"),
        "{refusal}"
    );
    assert!(!world.store.keys().any(|key| key.starts_with(RULES)));
    world.apply(Rule { disabled: true, ..rule("NodeNotReady", "true") });
    assert_eq!(
        world.ask(0, apply(vec![rule("Good", "true")], 9)).unwrap_err().reason,
        "GenerationOutdated"
    );
    world.seen(10, &node("b1", LOST));
    world.seen(50, &node("b1", LOST));
    assert_eq!(world.states(), Vec::<String>::new());
    world.ask(60, AlertRequest::DeleteRule("NodeNotReady".to_owned())).unwrap();
    let refusal = world.ask(60, AlertRequest::DeleteRule("NodeNotReady".to_owned())).unwrap_err();
    assert_eq!(refusal.reason, "BuiltinRule");
    world.seen(70, &node("b1", LOST));
    world.seen(100, &node("b1", LOST));
    assert_eq!(world.states(), ["NodeNotReady firing"]);
    world.apply(Rule { disabled: true, ..rule("NodeNotReady", "true") });
    assert_eq!(world.states(), ["NodeNotReady resolved"], "nobody would end it any more");
}

#[test]
fn the_rules_that_come_with_piccolo_are_understood() {
    for (name, compiled) in rule::builtin() {
        assert_eq!(compiled.rule.check(&name), Ok(()), "{name}");
        assert_eq!(compiled.problem(), None);
    }
}

#[test]
fn secrets_are_in_nothing_that_is_shown() {
    let shown = format!("{:?} {}", channel("chat"), channel("chat").way.target());
    assert!(!shown.contains("secret") && !shown.contains("key\""), "{shown}");
    assert_eq!(channel("chat").way.target(), "https://chat.example");
    for url in
        ["https://u:secret@chat.example:8443?key=secret", "https://chat.example:8443#/secret"]
    {
        let url = Secret::new(url);
        let way = Way::Webhook { url, body: Body::Json, key: Secret::default(), ca: String::new() };
        assert_eq!(way.target(), "https://chat.example:8443");
    }
}

#[test]
fn a_removed_node_leaves_no_alert() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    let id = node("b1", LOST).record.id;
    world.with(20, |alerts, out| alerts.gone(at(20), &id, out));
    assert_eq!(world.states(), ["Lost resolved"]);
}

#[test]
fn more_than_a_thousand_alerts_do_not_fire_and_the_clock_goes_on() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    for number in 0..1_010 {
        world.seen(10, &node(&format!("b{number}"), LOST));
    }
    assert_eq!((world.alerts.firing(), world.alerts.refused()), (1000, 10));
    assert_eq!(world.alerts.due_nodes(at(11)), [], "what did not fire waits");
}

#[test]
fn what_is_over_for_long_is_forgotten() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    for number in 0..230 {
        world.seen(10 + number, &node("b1", LOST));
        world.seen(10 + number, &node("b1", WELL));
    }
    world.deadline(300);
    world.deadline(320);
    let stored = world.store.keys().filter(|key| key.starts_with(ALERTS)).count();
    // and that it comes and goes, which fires
    assert_eq!((world.alerts.alerts().count(), stored, world.alerts.firing()), (201, 201, 1));
}
