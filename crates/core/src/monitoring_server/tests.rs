//! What is remembered of figures, and what is answered.

use std::time::Duration;

use super::{
    history::{Bucket, LEVELS, SLOT_BYTES, Series},
    query::{Aggregate, Query},
    record::Recalled,
    *,
};
use crate::{api_server::Selector, state_manager::fixtures::node_record};

const DAY: i64 = 86_400;

fn s(seconds: i64) -> WallTime {
    WallTime::from_secs(seconds)
}

/// A node as its report of that second shows it.
fn seen(name: &str, second: i64, cpu: f32) -> NodeView {
    let mut record = node_record(name, name);
    record.labels.insert("board".to_owned(), if name < "n2" { "left" } else { "right" }.to_owned());
    let web = ContainerReport {
        name: "web".to_owned(),
        state: "running".to_owned(),
        started_at: Some(s(second - 60)),
        memory_bytes: 1 << 20,
        cpu_basis_points: 150,
        ..ContainerReport::default()
    };
    NodeView {
        record,
        last_heartbeat: None,
        connected: true,
        containers: vec![web],
        containers_at: None,
        metrics: BTreeMap::from([
            ("cpu_percent".to_owned(), cpu.to_string()),
            ("state".to_owned(), "fine".to_owned()),
            ("odd".to_owned(), "NaN".to_owned()),
        ]),
        sampled_at: Some(s(second)),
        system_check: None,
        hardware: None,
        recovery: crate::model::RecoveryReport::default(),
        probe: None,
        revision: 1,
    }
}

fn cpu(from: i64, until: i64, step: u64) -> Query {
    Query {
        figure: "cpu_percent".to_owned(),
        nodes: Selector::default(),
        container: None,
        from: s(from),
        until: s(until),
        step: Duration::from_secs(step),
        by: vec!["node".to_owned()],
        across: Aggregate::Mean,
    }
}

fn rows(server: &MonitoringServer, now: i64, query: &Query) -> Vec<(String, Vec<Option<f32>>)> {
    let answer = server.query(s(now), query).unwrap();
    let text = |row: &query::Row| row.labels.values().cloned().collect::<Vec<_>>().join(" ");
    answer.rows.iter().map(|row| (text(row), row.points.clone())).collect()
}

#[test]
fn a_report_counts_once_however_often_its_node_is_seen() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    for _ in 0..3 {
        server.seen(s(1000), &seen("n1", 1000, 10.0));
    }
    server.seen(s(1005), &seen("n1", 1005, 40.0));
    server.seen(s(1020), &seen("n1", 1020, 7.0));
    let expected = vec![Some(25.0), None, Some(7.0)];
    assert_eq!(rows(&server, 1020, &cpu(1000, 1030, 10)), [("n1".to_owned(), expected)]);
    assert_eq!(server.figures(false), ["cpu_percent"], "a text and no number are not remembered");
}

#[test]
fn many_nodes_are_one_row_or_one_for_each_label() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    for (name, value) in [("n1", 10.0), ("n2", 20.0), ("n3", 60.0)] {
        server.seen(s(1000), &seen(name, 1000, value));
    }
    let ask = |by: &[&str], across| {
        let by = by.iter().map(|label| (*label).to_owned()).collect();
        rows(&server, 1000, &Query { by, across, ..cpu(1000, 1010, 10) })
    };
    let row = |label: &str, value| (label.to_owned(), vec![Some(value)]);
    assert_eq!(ask(&[], Aggregate::Mean), [row("", 30.0)]);
    assert_eq!(ask(&[], Aggregate::Sum), [row("", 90.0)]);
    assert_eq!(ask(&["board"], Aggregate::Max), [row("left", 10.0), row("right", 60.0)]);
    assert_eq!(ask(&["board"], Aggregate::Min), [row("left", 10.0), row("right", 20.0)]);
    assert_eq!(ask(&["nothing"], Aggregate::Min), [row("", 10.0)]);
}

#[test]
fn containers_are_asked_for_by_name_or_all() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    let mut view = seen("n1", 1000, 10.0);
    view.containers.push(ContainerReport { name: "job".to_owned(), ..view.containers[0].clone() });
    let ended = ContainerReport {
        name: "old".to_owned(),
        state: "exited".to_owned(),
        ..view.containers[0].clone()
    };
    view.containers.push(ended);
    server.seen(s(1000), &view);
    let ask = |container: &str| {
        let by = vec!["container".to_owned()];
        let container = Some(container.to_owned());
        rows(&server, 1000, &Query { container, by, ..cpu(1000, 1010, 10) })
    };
    let row = |name: &str| (name.to_owned(), vec![Some(1.5)]);
    assert_eq!(ask("web"), [row("web")]);
    assert_eq!(ask(""), [row("job"), row("web")], "one that has ended uses nothing");
    assert_eq!(ask("none"), []);
}

#[test]
fn what_is_named_and_is_not_there_is_refused_with_what_is() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    let select = |filter: &str| Selector::parse(filter).unwrap();
    let refused =
        |server: &MonitoringServer, figure: &str, filter: &str, container: Option<&str>| {
            let (figure, nodes) = (figure.to_owned(), select(filter));
            let container = container.map(str::to_owned);
            let query = Query { figure, nodes, container, ..cpu(1000, 1010, 10) };
            let refusal = server.query(s(1000), &query).err()?;
            Some((refusal.reason, refusal.message))
        };
    assert_eq!(refused(&server, "cpu_percent", "", None), None, "every figure may come yet");
    server.seen(s(1000), &seen("n1", 1000, 10.0));
    let of_nodes = "figure: there is no figure \"nix\" of nodes; there is cpu_percent";
    assert_eq!(refused(&server, "nix", "", None), Some(("NoSuchFigure", of_nodes.to_owned())));
    let of_containers =
        "figure: there is no figure \"load1\" of containers; there is cpu_percent, memory_bytes";
    let found = refused(&server, "load1", "", Some(""));
    assert_eq!(found, Some(("NoSuchFigure", of_containers.to_owned())));
    let node = "filter: there is no node \"n2\"; there is n1";
    for filter in ["name=n2", "id=n2", "role=sub,name=n2"] {
        let found = refused(&server, "cpu_percent", filter, None);
        assert_eq!(found, Some(("NoSuchNode", node.to_owned())), "{filter}");
    }
    for filter in ["name=n1,role=master", "name!=n1", "name~n2", "label.site=north"] {
        assert_eq!(refused(&server, "cpu_percent", filter, None), None, "{filter}");
    }
}

#[test]
fn a_container_has_a_history_once_it_has_run_for_a_while_whatever_its_clock_says() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    let mut look = |second: i64, started: Option<i64>, state: &str| {
        let mut view = seen("n1", second, 1.0);
        view.containers[0].started_at = started.map(s);
        view.containers[0].state = state.to_owned();
        server.seen(s(second), &view);
        server.extent().series == 3
    };
    assert!(!look(1000, Some(999), "running"));
    assert!(!look(1010, None, "exited"), "that life was short");
    assert!(!look(1020, Some(90_000), "running"), "a clock that is ahead");
    assert!(!look(1040, Some(90_020), "running"), "started again");
    assert!(look(1050, Some(90_030), "running"), "and it has run for half a minute");
    assert_eq!(server.extent().series, 3);
}

#[test]
fn older_times_are_answered_in_coarser_steps() {
    let mut series = Series::default();
    for second in (0..3 * DAY).step_by(10) {
        let peak = if second == 100 { 50.0 } else { 0.0 };
        series.sampled(s(second), 10.0 + peak, 1000);
    }
    let now = 3 * DAY;
    let fine = series.within(0, s(now - 3600), s(now));
    assert_eq!((fine.mean, fine.count), (10.0, 360));
    assert!(series.within(0, s(0), s(now - 3700)).is_gap(), "10 s for an hour");
    assert!(series.within(1, s(0), s(now - DAY - 60)).is_gap(), "a minute for a day");
    let coarse = series.within(2, s(0), s(900));
    assert_eq!(
        (coarse.max, coarse.min, coarse.count),
        (60.0, 10.0, 90),
        "a peak is kept for a month"
    );
}

#[test]
fn a_slot_with_more_samples_than_it_can_count_keeps_their_mean_and_extremes() {
    let mut series = Series::default();
    series.fill(s(0), Duration::ZERO, Bucket { count: 100_000, ..Bucket::of(2.0) }, 1000);
    series.sampled(s(1), 4.0, 1000);
    let seen = series.within(2, s(0), s(900));
    assert_eq!((seen.min, seen.max, seen.count), (2.0, 4.0, u32::from(u16::MAX)));
    assert!((2.0..2.001).contains(&seen.mean), "{seen:?}");
}

#[test]
fn a_query_takes_the_finest_level_that_reaches_back_far_enough() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    let now = 40 * DAY;
    for back in [5 * DAY, 7200, 60, 0] {
        server.seen(s(now - back), &seen("n1", now - back, 10.0));
    }
    for (from, step, given) in [
        (600, 10, 10),
        (7200, 10, 60),
        (5 * DAY, 3600, 3600),
        (5 * DAY, 300, 900),
        (600, 15, 20),
        (600, 70, 120),
    ] {
        let answer = server.query(s(now), &cpu(now - from, now + 1, step)).unwrap();
        assert_eq!(answer.step.as_secs(), given, "from {from} s back in steps of {step} s");
        assert_eq!(answer.from.0 % (1000 * i64::try_from(given).unwrap()), 0);
        assert!(answer.rows[0].points.iter().flatten().all(|value| *value == 10.0));
    }
}

#[test]
fn what_was_missed_is_filled_in_later_and_a_gap_stays_one() {
    let mut series = Series::default();
    series.sampled(s(10_000), 1.0, 1000);
    series.sampled(s(20_000), 3.0, 1000);
    let minute = Duration::from_secs(60);
    series.fill(s(15_000), minute, Bucket::of(7.0), 1000);
    assert!(series.within(0, s(15_000), s(15_060)).is_gap(), "finer than what is known");
    assert_eq!(series.within(1, s(15_000), s(15_060)).mean, 7.0);
    assert_eq!(series.within(2, s(14_400), s(15_300)).mean, 7.0);
    assert!(series.within(1, s(12_000), s(14_000)).is_gap());
    // older than anything that is known, but within what is kept
    series.fill(s(5_000), minute, Bucket::of(9.0), 1000);
    assert_eq!(series.within(1, s(4_980), s(5_040)).mean, 9.0);
    assert_eq!(series.newest, Some((s(20_000), 3.0)));
}

#[test]
fn figures_that_a_node_kept_while_it_was_alone_fill_the_gap() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    server.seen(s(12_000), &seen("n1", 12_000, 10.0));
    server.seen(s(12_300), &seen("n1", 12_300, 10.0));
    let name = SeriesName { container: String::new(), figure: "cpu_percent".to_owned() };
    let buckets = vec![Bucket::of(50.0), Bucket::default(), Bucket::of(70.0)];
    let missed = MissedFigures {
        age: Duration::from_secs(240),
        series: vec![MissedSeries { name, buckets }],
    };
    let node = node_record("n1", "n1").id;
    server.missed(s(12_300), &node, &missed);
    let expected = [Some(10.0), Some(50.0), None, Some(70.0), None, Some(10.0)].to_vec();
    assert_eq!(rows(&server, 12_310, &cpu(12_000, 12_360, 60)), [("n1".to_owned(), expected)]);
    server.missed(s(12_300), &node_record("n9", "n9").id, &missed);
    assert_eq!(server.extent().nodes, 1, "of a node that is gone nothing is kept");
}

#[test]
fn a_clock_that_was_far_ahead_costs_the_history_and_not_the_future() {
    let mut series = Series::default();
    series.sampled(s(1000), 1.0, 1000);
    series.sampled(s(400 * DAY), 2.0, 1000);
    series.sampled(s(1010), 3.0, 1000);
    assert_eq!(series.within(0, s(1010), s(1020)).mean, 3.0);
    series.sampled(s(1000), 5.0, 1000);
    assert_eq!(series.within(0, s(1000), s(1010)).mean, 5.0, "a little behind is a little behind");
}

#[test]
fn the_bytes_hold_whatever_is_told() {
    let bytes_max = 1 << 20;
    let mut server = MonitoringServer::new(bytes_max);
    for second in (0..7200).step_by(10) {
        for node in 0..20 {
            server.seen(s(second), &seen(&format!("n{node}"), second, 1.0));
        }
    }
    let extent = server.extent();
    assert_eq!((extent.nodes, extent.series, extent.refused), (20, 60, 0));
    assert!(extent.bytes < bytes_max * 11 / 10, "{extent:?}");
    assert!(extent.bytes > 60 * 360 * SLOT_BYTES / 2, "{extent:?}: something is kept of each");
    // more than there is room for even at the least
    for node in 20..2_000 {
        server.seen(s(7200), &seen(&format!("n{node}"), 7200, 1.0));
    }
    let extent = server.extent();
    assert!(extent.refused > 0 && extent.bytes < bytes_max * 11 / 10, "{extent:?}");
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    server.seen(s(1000), &seen("n1", 1000, 1.0));
    server.seen(s(1000), &seen("n2", 1000, 1.0));
    server.removed(&node_record("n1", "n1").id);
    assert_eq!(server.extent().series, 3);
    let mut view = seen("n2", 1000 + DAY, 1.0);
    view.containers.clear();
    server.seen(s(1000 + DAY), &view);
    assert_eq!(server.extent().series, 1, "its container is gone for a day");
}

#[test]
fn a_later_life_goes_on_with_what_was_written_and_a_slot_that_was_not_over_counts_once() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    for second in (9_000..10_000).step_by(10) {
        server.seen(s(second), &seen("n1", second, 10.0));
        server.seen(s(second), &seen("n2", second, 10.0));
    }
    let mut recalled = Recalled::default();
    for level in 0..LEVELS.len() {
        // twice, as when a slot is written before it is over, and again
        recalled.put(server.record(level, s(9_000), s(9_600)));
        recalled.put(server.record(level, s(9_000), s(10_000)));
    }
    let mut later = MonitoringServer::new(BYTES_MAX);
    later.seen(s(10_020), &seen("n1", 10_020, 40.0));
    later.absorb(recalled);
    let expected = vec![Some(10.0), None, None, Some(40.0)];
    let asked = cpu(9_990, 10_030, 10);
    assert_eq!(rows(&later, 10_030, &asked), [("n1".to_owned(), expected)], "n2 is gone since");
    let quarter = later.query(s(10_030), &cpu(9_900, 10_800, 900)).unwrap();
    let mean = quarter.rows[0].points[0].unwrap();
    assert!((mean - 140.0 / 11.0).abs() < 0.001, "{mean}: ten samples of 10 and one of 40");
    assert_eq!(later.extent().series, 3);
    // nobody hears of its container again
    let mut view = seen("n1", 9_990 + DAY, 1.0);
    view.containers.clear();
    later.seen(s(10_020 + DAY), &view);
    assert_eq!(later.extent().series, 1);
}

#[test]
fn a_node_that_makes_up_names_takes_the_room_of_nobody_else() {
    let mut server = MonitoringServer::new(BYTES_MAX);
    for second in 0..100 {
        let mut view = seen("n1", second, 1.0);
        let made_up = (0..200).map(|i| (format!("figure_{second}_{i}"), "1".to_owned()));
        view.metrics.extend(made_up);
        server.seen(s(second), &view);
    }
    assert!(server.extent().refused > 0);
    server.seen(s(200), &seen("n2", 200, 1.0));
    assert_eq!(rows(&server, 200, &cpu(190, 210, 10)).len(), 2, "{:?}", server.extent());
}

#[track_caller]
fn refused(change: impl Fn(&mut Query), field: &str) {
    let mut query = cpu(0, 600, 10);
    change(&mut query);
    let refusal = MonitoringServer::new(BYTES_MAX).query(s(600), &query).unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some(field), "{refusal:?}");
}

#[test]
fn questions_that_make_no_sense_are_refused_by_field() {
    refused(|q| q.figure.clear(), "figure");
    refused(|q| q.until = q.from, "until");
    refused(|q| q.step = Duration::from_secs(1), "step");
    refused(|q| q.until = WallTime(i64::MAX), "step");
    refused(|q| q.by = vec!["x".to_owned(); 9], "by");
    refused(|q| q.by = vec!["no label".to_owned()], "by");
    let mut server = MonitoringServer::new(BYTES_MAX);
    for node in 0..400 {
        server.seen(s(0), &seen(&format!("n{node}"), 0, 1.0));
    }
    let refusal = server.query(s(8_000), &cpu(0, 8_000, 10)).unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("step"), "too much work");
    assert_eq!(LEVELS[0].step, Duration::from_secs(10));
}
