//! Figures: who is told that somebody looks, and what becomes of those that were missed.

use super::*;
use crate::{
    api_server::Selector,
    monitoring_server::{SeriesName, history::Bucket},
    session::{MissedFigures, MissedSeries},
};

fn watched(effects: &[Effect]) -> Vec<String> {
    let told = |effect: &Effect| match effect {
        Effect::Send { node, message: ToAgent::Watched(_), .. } => Some(node.to_string()),
        _ => None,
    };
    effects.iter().filter_map(told).collect()
}

#[test]
fn only_nodes_that_somebody_looks_at_are_told_and_not_at_every_look() {
    let mut cluster = Cluster::new(Settings::default());
    for node in ["n1", "n2"] {
        let hash = cluster.token(10, 1, None);
        cluster.join(20, node, &hash).unwrap();
        let _ = cluster.open(30, node, node, None);
    }
    let mut look = |ms, filter| {
        watched(&cluster.input(ms, Input::Watched { nodes: Selector::parse(filter).unwrap() }))
    };
    assert_eq!(look(100, "name=n2"), ["n2"]);
    assert_eq!(look(2_000, ""), ["n1"], "n2 knows");
    assert_eq!(look(5_000, "name=n2"), [""; 0]);
    assert_eq!(look(5_200, ""), ["n2"], "it is told in time");
    let _ = cluster.open(6_000, "n1", "another", Some("n1"));
    assert_eq!(cluster_watched(&mut cluster, 6_100), ["n1"], "its new session knows of nothing");
}

fn cluster_watched(cluster: &mut Cluster, ms: u64) -> Vec<String> {
    watched(&cluster.input(ms, Input::Watched { nodes: Selector::default() }))
}

#[test]
fn figures_that_were_missed_are_remembered_and_odd_ones_end_the_session() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let series =
        |mean| MissedSeries { name: SeriesName::default(), buckets: vec![Bucket::of(mean)] };
    let say = |cluster: &mut Cluster, ms, age, mean| {
        let figures = MissedFigures { age: Duration::from_secs(age), series: vec![series(mean)] };
        cluster.say(ms, "n1", "s1", ToMaster::Missed(figures))
    };
    let is_missed = |effect: &Effect| matches!(effect, Effect::Missed { .. });
    let closes = |effect: &Effect| matches!(effect, Effect::Close { .. });
    assert!(say(&mut cluster, 100, 300, 1.0).iter().any(is_missed));
    assert!(say(&mut cluster, 200, 300, f32::NAN).iter().any(closes));
    let _ = cluster.open(300, "n1", "s2", Some("s1"));
    let many = (0..30).map(|_| Bucket::of(1.0)).collect();
    let series = vec![MissedSeries { name: SeriesName::default(), buckets: many }];
    let future = MissedFigures { age: Duration::from_secs(60), series };
    assert!(cluster.say(400, "n1", "s2", ToMaster::Missed(future)).iter().any(closes));
}
