//! Real hosts whose cables fail (HLD §4.2, §8.1, §10.1): what the master shows, what runs on, and that what
//! happened meanwhile is told once.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use piccolo_testkit::{
    cluster::{PATIENCE, Watch},
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, MASTER},
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

/// How long the cable is out.
const CUT: Duration = Duration::from_secs(10);

fn watch(cluster: &HostCluster) -> Result<Watch, Box<dyn Error>> {
    let mut watch = cluster.watch(&["node", "list", "--watch"])?;
    watch.expect("node-1 is Ready", PATIENCE, |l| l.contains("node-1") && l.contains("Ready"))?;
    Ok(watch)
}

fn expect(watch: &mut Watch, status: &str) -> Story {
    let what = format!("node-1 is {status}");
    watch.expect(&what, PATIENCE, |line| {
        line.contains("node-1") && line.split_whitespace().any(|word| word == status)
    })?;
    Ok(())
}

#[test]
fn a_cable_is_out_for_ten_seconds_and_what_happened_meanwhile_is_told_once() -> Story {
    let cluster = HostCluster::start(2)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-1", "job", &[])?;
    cluster.run_container("node-2", "web", &[])?;
    let witness = Witness::of(&cluster)?.except("node-1", "job");
    let mut watch = watch(&cluster)?;
    let host = cluster.host("node-1")?;
    let agent = host.unit(AGENT_UNIT, "MainPID")?;
    let cut_at = Instant::now();
    host.cut_link()?;
    expect(&mut watch, "NotReady")?;
    assert_eq!(cluster.node("node-1")?["conditions"][0]["kind"], "SessionLost");
    host.run(&["podman", "kill", "job"])?;
    std::thread::sleep(CUT.saturating_sub(cut_at.elapsed()));
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0);
    host.heal_link()?;
    expect(&mut watch, "Ready")?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    assert_eq!(cluster.node("node-2")?["status"], "Ready");
    assert_eq!(cluster.count("node-2", "NodeNotReady")?, 0);
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, 1);
    assert_eq!(host.unit(AGENT_UNIT, "MainPID")?, agent, "the agent ran on");
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_cable_that_loses_every_tenth_packet_delays_what_is_told_and_loses_nothing() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-1", "job", &[])?;
    let witness = Witness::of(&cluster)?.except("node-1", "job");
    cluster.host(MASTER)?.lose(0.1)?;
    cluster.host("node-1")?.lose(0.1)?;
    let command = ["--timeout", "30s", "log-level", "node-1", "debug"];
    let done = cluster.piccolo(&command)?;
    assert!(done.status.success(), "{done:?}");
    cluster.host("node-1")?.run(&["podman", "kill", "job"])?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_cable_that_carries_one_way_only_is_seen_whichever_way_it_is() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let mut watch = watch(&cluster)?;
    cluster.testbed.lose_what_it_sends("node-1")?;
    expect(&mut watch, "NotReady")?;
    cluster.testbed.pass_what_it_sends("node-1")?;
    expect(&mut watch, "Ready")?;
    let host = cluster.host("node-1")?;
    host.lose_what_it_is_sent()?;
    expect(&mut watch, "NotReady")?;
    host.pass_what_it_is_sent()?;
    expect(&mut watch, "Ready")?;
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, 2);
    Ok(witness.conclude(cluster)?)
}
