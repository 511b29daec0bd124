//! Figures: while somebody looks at them, and while nobody hears them.

use super::*;
use crate::session::MissedFigures;

fn sample(cpu: &str) -> Input {
    let metrics = BTreeMap::from([("cpu_percent".to_owned(), cpu.to_owned())]);
    Input::Sampled(Sample { metrics, ..Sample::default() })
}

fn reports(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send(ToMaster::Status(_)))).count()
}

fn paces(effects: &[Effect]) -> Vec<bool> {
    let pace = |effect: &Effect| match effect {
        Effect::SampleOften(often) => Some(*often),
        _ => None,
    };
    effects.iter().filter_map(pace).collect()
}

fn missed(effects: &[Effect]) -> Option<MissedFigures> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(ToMaster::Missed(figures)) => Some(figures.clone()),
        _ => None,
    })
}

#[test]
fn while_somebody_looks_every_sample_is_told_and_then_the_pace_is_the_old_one() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let watched = |seconds| Input::FromMaster(ToAgent::Watched(Duration::from_secs(seconds)));
    assert_eq!(reports(&agent.handle(at(100), sample("1"))), 0);
    assert_eq!(paces(&agent.handle(at(200), watched(15))), [true]);
    assert_eq!(reports(&agent.handle(at(300), sample("2"))), 1);
    assert_eq!(paces(&agent.handle(at(5_200), watched(15))), [false; 0], "it goes on");
    assert_eq!(paces(&agent.handle_deadline(at(20_199))), [false; 0]);
    assert_eq!(paces(&agent.handle_deadline(at(20_200))), [false]);
    assert_eq!(reports(&agent.handle(at(20_300), sample("3"))), 0);
    // whatever it is told, it looks away again
    let _ = agent.handle(at(21_000), watched(100_000));
    assert_eq!(paces(&agent.handle_deadline(at(81_000))), [false]);
}

#[test]
fn what_nobody_heard_is_told_once_on_the_next_session() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    assert_eq!(missed(&in_session(&mut agent, 10)), None);
    let _ = agent.handle(at(20), sent_config(1, "c1"));
    let _ = agent.handle(at(30), sample("7"));
    let lost = || Input::Disconnected { why: "the cable is out".to_owned() };
    let _ = agent.handle(at(60_000), lost());
    let _ = agent.handle(at(60_010), observed(vec![container("web", "running")]));
    let _ = agent.handle(at(61_000), sample("10"));
    let _ = agent.handle(at(125_000), sample("30"));
    let told = missed(&in_session(&mut agent, 130_000)).unwrap();
    let names = told.series.iter().map(|s| s.name.container.as_str()).collect::<Vec<_>>();
    assert_eq!((told.age, names), (Duration::from_secs(70), vec!["", "web", "web"]));
    let means: Vec<_> = told.series[0].buckets.iter().map(|bucket| bucket.mean).collect();
    assert_eq!(means, [10.0, 30.0]);
    assert_eq!(told.check(), Ok(()));
    // that session ended before anything was sure
    let _ = agent.handle(at(131_000), lost());
    assert!(missed(&in_session(&mut agent, 140_000)).is_some());
    let _ = agent.handle(at(150_000), Input::FromMaster(ToAgent::Beat));
    let _ = agent.handle_deadline(at(150_000));
    let _ = agent.handle(at(151_000), lost());
    assert_eq!(missed(&in_session(&mut agent, 160_000)), None);
}

#[test]
fn the_round_trip_of_the_sessions_beats_is_a_figure_while_there_is_a_session() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), sample("7"));
    let round_trip = |agent: &NodeAgent| agent.view().metrics.get("round_trip_seconds").cloned();
    assert_eq!(round_trip(&agent), None, "no beat was sent yet");
    let beats = |effects: &[Effect]| effects.contains(&Effect::Send(ToMaster::Beat));
    assert!(beats(&agent.handle_deadline(at(1_010))));
    let _ = agent.handle(at(1_034), Input::FromMaster(ToAgent::Beat));
    assert_eq!(round_trip(&agent).as_deref(), Some("0.024000"));
    let _ = agent.handle(at(10_000), Input::FromMaster(ToAgent::Beat));
    let told = agent.handle_deadline(at(10_010)).into_iter().find_map(|effect| match effect {
        Effect::Send(ToMaster::Status(report)) => Some(report.metrics),
        _ => None,
    });
    let keys: Vec<_> = told.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    assert_eq!(keys, ["cpu_percent", "round_trip_seconds"]);
    let _ = agent.handle(at(10_020), Input::Disconnected { why: "the cable is out".to_owned() });
    assert_eq!(round_trip(&agent), None);
    let _ = in_session(&mut agent, 20_000);
    assert_eq!(round_trip(&agent), None, "of another session");
}
