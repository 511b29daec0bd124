//! A real host of the master whose disk is full or slow, or that is away for long: what the boards are is not
//! changed by what the master is (HLD §4.2, §8.1, §9, §10.1; architecture invariant 6).

use std::{
    error::Error,
    time::{Duration, Instant},
};

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{
        cluster::{HostCluster, MASTER, MASTER_UNIT},
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

/// Where systemd keeps what a user of its own making may write.
const STATE: &str = "/var/lib/private/piccolo/master";

#[test]
fn a_master_whose_disk_is_full_changes_no_status_says_why_and_goes_on() -> Story {
    let cluster = HostCluster::start(2)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-1", "job", &[])?;
    let witness = Witness::of(&cluster)?.except("node-1", "job");
    let master = cluster.host(MASTER)?;
    master.shell(&format!(
        "systemctl stop {MASTER_UNIT}; cp -a {STATE} /root/state; \
         mount -t tmpfs -o size=4m,mode=0700 none {STATE}; cp -aT /root/state {STATE}; \
         systemctl start {MASTER_UNIT}"
    ))?;
    for node in cluster.nodes() {
        cluster.wait_until_in_session(node.name())?;
    }
    let process = master.unit(MASTER_UNIT, "MainPID")?;
    let not_ready = not_ready(&cluster)?;
    master.shell(&format!("dd if=/dev/zero of={STATE}/filler bs=4k 2>/dev/null || true"))?;
    // a change that cannot be kept is not claimed, and the reason is told
    let refused = cluster.piccolo(&["--timeout", "3s", "node", "label", "node-1", "site=seoul"])?;
    assert!(!refused.status.success(), "{refused:?}");
    cluster.wait("the status names the store's trouble", |c| {
        Ok(c.json(&["status", "-o", "json"])?["store_health"]
            .as_str()
            .is_some_and(|h| h.contains("full")))
    })?;
    // a death is kept where it happened, until it can be kept here
    cluster.host("node-1")?.run(&["podman", "kill", "job"])?;
    std::thread::sleep(Duration::from_secs(10));
    for node in cluster.nodes() {
        assert_eq!(cluster.node(node.name())?["status"], "Ready");
    }
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0, "what is shown has been stored");
    assert_eq!(master.unit(MASTER_UNIT, "MainPID")?, process, "the master ran on");
    // a new start finds no room either, and is tried until it does
    master.kill(MASTER_UNIT)?;
    cluster.wait("systemd has started it again", |_| {
        Ok(master.unit(MASTER_UNIT, "MainPID")? != process)
    })?;
    master.run(&["rm", &format!("{STATE}/filler")])?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    cluster.wait("the store is well", |c| {
        Ok(c.json(&["status", "-o", "json"])?["store_health"] == "ok")
    })?;
    cluster.done(&["node", "label", "node-1", "site=busan"])?;
    assert_eq!(cluster.node("node-1")?["labels"]["site"], "busan");
    assert_eq!(self::not_ready(&cluster)?, not_ready);
    Ok(witness.conclude(cluster)?)
}

/// A commit is two pages and more: two seconds.
const SLOW_BYTES_PER_SECOND: u32 = 4096;
const SLOW_COMMIT_MIN: Duration = Duration::from_millis(1500);

#[test]
fn a_master_whose_disk_takes_seconds_for_each_write_loses_no_node_and_no_event() -> Story {
    let cluster = HostCluster::start(3)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let master = cluster.host(MASTER)?;
    master.limit_writes(MASTER_UNIT, Some(SLOW_BYTES_PER_SECOND))?;
    for round in ["1", "2", "3"] {
        let begun = Instant::now();
        let label = format!("round={round}");
        cluster.done(&["--timeout", "30s", "node", "label", "node-2", &label])?;
        assert!(begun.elapsed() >= SLOW_COMMIT_MIN, "the disk is slow: {:?}", begun.elapsed());
        assert_eq!(cluster.node("node-2")?["labels"]["round"], round);
        let name = format!("job-{round}");
        cluster
            .host("node-1")?
            .run(&["podman", "run", "--detach", "--name", &name, IMAGE, "false"])?;
    }
    cluster.wait_for_count("node-1", "ContainerDied", 3)?;
    assert_eq!(not_ready(&cluster)?, 0);
    // and a real failure is told all the same
    cluster.host("node-3")?.cut_link()?;
    cluster.wait_for_status("node-3", "NotReady")?;
    cluster.host("node-3")?.heal_link()?;
    master.limit_writes(MASTER_UNIT, None)?;
    cluster.wait_until_in_session("node-3")?;
    assert_eq!(not_ready(&cluster)?, 1);
    Ok(witness.conclude(cluster)?)
}

const NODES: usize = 10;
/// For certificates to end in a moment. A busy machine is not to be taken for a failure.
const SHORT_LIVES: &str =
    "certificate_lifetime: 16s\ntiming:\n  beat_silence: 10s\n  session_grace: 5s\n";
/// Past the end of each.
const ABSENCE: Duration = Duration::from_secs(17);

#[test]
fn ten_nodes_whose_certificates_end_while_the_master_is_away_are_back_with_new_ones() -> Story {
    let cluster = HostCluster::start_with(NODES, SHORT_LIVES)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-10", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let reissued: Vec<usize> = cluster
        .nodes()
        .map(|node| cluster.count(node.name(), "CertificateReissued"))
        .collect::<Result<_, _>>()?;
    let not_ready = not_ready(&cluster)?;
    let master = cluster.host(MASTER)?;
    master.run(&["systemctl", "stop", MASTER_UNIT])?;
    let stopped_at = Instant::now();
    cluster
        .host("node-10")?
        .run(&["podman", "run", "--detach", "--name", "job", IMAGE, "false"])?;
    std::thread::sleep(ABSENCE.saturating_sub(stopped_at.elapsed()));
    master.run(&["systemctl", "start", MASTER_UNIT])?;
    for (node, before) in cluster.nodes().zip(reissued) {
        cluster.wait_until_in_session(node.name())?;
        assert!(cluster.count(node.name(), "CertificateReissued")? > before, "{}", node.name());
        assert_eq!(cluster.count(node.name(), "NodeRegistered")?, 1, "{}", node.name());
    }
    cluster.wait_for_count("node-10", "ContainerDied", 1)?;
    assert_eq!(self::not_ready(&cluster)?, not_ready, "an absence of the master is none of a node");
    Ok(witness.conclude(cluster)?)
}

fn not_ready(cluster: &HostCluster) -> Result<usize, Box<dyn Error>> {
    Ok(cluster.events()?.iter().filter(|event| event["kind"] == "NodeNotReady").count())
}
