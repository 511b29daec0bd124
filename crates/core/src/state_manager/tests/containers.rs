//! What nodes run, and what of it is known after a restart of the master.

use super::*;
use crate::{model::ContainerReport, session::Picture};

fn container(name: &str, state: &str, memory_bytes: u64) -> ContainerReport {
    let (name, state) = (name.to_owned(), state.to_owned());
    ContainerReport { name, state, memory_bytes, ..ContainerReport::default() }
}

fn tell(cluster: &mut Cluster, ms: u64, containers: Vec<ContainerReport>) {
    let picture = Some(Picture { containers: Some(containers), ..Picture::default() });
    let report = StatusReport { picture, ..StatusReport::default() };
    let _ = cluster.say(ms, "n1", "s1", ToMaster::Status(Box::new(report)));
}

/// Names and states, and when they were so, in milliseconds.
fn known(cluster: &Cluster) -> (Vec<(String, String)>, Option<i64>) {
    let view = cluster.machine.nodes().next().unwrap();
    let of = |container: ContainerReport| (container.name, container.state);
    (view.containers.into_iter().map(of).collect(), view.containers_at.map(|at| at.0))
}

fn stored(cluster: &Cluster) -> usize {
    cluster.store.keys().filter(|key| key.starts_with(keys::CONTAINERS)).count()
}

/// How often containers are written while deadlines are served, each second.
fn writes(cluster: &mut Cluster, between: std::ops::RangeInclusive<u64>) -> usize {
    let mut count = 0;
    for ms in between.step_by(1_000) {
        let effects = cluster.machine.handle_deadline(at(ms));
        cluster.perform(&effects);
        let of_containers = |effect: &&Effect| {
            matches!(effect, Effect::Commit(t)
                if t.writes.keys().any(|key| key.starts_with(keys::CONTAINERS)))
        };
        count += effects.iter().filter(of_containers).count();
    }
    count
}

fn session() -> Cluster {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    cluster
}

fn web(state: &str) -> (String, String) {
    ("web".to_owned(), state.to_owned())
}

#[test]
fn what_a_lost_node_ran_is_known_after_a_restart_and_gone_with_the_node() {
    let mut cluster = session();
    tell(&mut cluster, 40, vec![container("web", "running", 7)]);
    assert_eq!((known(&cluster), stored(&cluster)), ((vec![web("running")], Some(40)), 0));
    let closed = Input::SessionClosed {
        node: NodeId::parse("node", "n1").unwrap(),
        session: SessionId::new("s1"),
    };
    let _ = cluster.input(50, closed);
    assert_eq!(writes(&mut cluster, 1_000..=40_000), 1, "once, as it is lost");
    assert_eq!(cluster.status("n1"), Some(NodeStatus::NotReady));
    cluster.restart(Settings::default(), 41_000);
    assert_eq!(known(&cluster), (vec![web("running")], Some(40)));
    let view = cluster.machine.nodes().next().unwrap();
    assert_eq!(view.containers[0].memory_bytes, 0, "figures are of then");
    cluster.ask(42_000, admin(), Request::RemoveNode("n1".to_owned())).unwrap();
    let _ = writes(&mut cluster, 43_000..=60_000);
    assert_eq!((cluster.status("n1"), stored(&cluster)), (None, 0));
}

#[test]
fn containers_are_written_with_the_heartbeats_and_only_where_their_states_change() {
    let mut cluster = session();
    let beat = |cluster: &mut Cluster, from: u64, state: &str| {
        let mut written = 0;
        for ms in (from..from + 120_000).step_by(1_000) {
            tell(cluster, ms, vec![container("web", state, ms)]);
            written += writes(cluster, ms..=ms);
        }
        written
    };
    assert_eq!(beat(&mut cluster, 1_000, "running"), 1);
    assert_eq!(beat(&mut cluster, 121_000, "running"), 0, "its memory moves, and that is all");
    assert_eq!(beat(&mut cluster, 241_000, "exited"), 1);
    // the master and the node end at once
    cluster.restart(Settings::default(), 400_000);
    let (containers, at) = known(&cluster);
    assert_eq!(containers, [web("exited")]);
    assert!(at > Some(241_000), "as of its last heartbeat that was stored: {at:?}");
    assert_eq!(beat_again(&mut cluster), 0, "what is stored is the same");
}

fn beat_again(cluster: &mut Cluster) -> usize {
    let _ = cluster.open(400_100, "n1", "s1", None);
    tell(cluster, 400_200, vec![container("web", "exited", 1)]);
    writes(cluster, 401_000..=470_000)
}

#[test]
fn what_is_kept_of_a_node_and_written_at_once_is_bounded() {
    use crate::model::LastContainers;
    let many: Vec<_> = (0..512).map(|i| container(&"x".repeat(200), &i.to_string(), 1)).collect();
    let last = LastContainers::of(WallTime(1), &many);
    let bytes = keys::encode(&last).len();
    assert!(last.containers.len() > 50 && bytes < 40 * 1024, "{bytes}");
    let mut cluster = Cluster::new(Settings::default());
    let nodes: Vec<_> = (0..20).map(|i| format!("n{i}")).collect();
    for node in &nodes {
        let hash = cluster.token(10, 1, None);
        cluster.join(20, node, &hash).unwrap();
        let _ = cluster.open(30, node, "s1", None);
        let picture = Some(Picture { containers: Some(many.clone()), ..Picture::default() });
        let report = StatusReport { picture, ..StatusReport::default() };
        let _ = cluster.say(40, node, "s1", ToMaster::Status(Box::new(report)));
    }
    let mut largest = 0;
    for minute in 1..=4 {
        for _ in 0..50 {
            let effects = cluster.machine.handle_deadline(at(minute * 61_000));
            cluster.perform(&effects);
            largest = largest.max(largest_value(&effects).1);
        }
    }
    assert_eq!(stored(&cluster), nodes.len(), "what has no room goes with the next");
    assert!(largest < 512 * 1024, "{largest}");
}
