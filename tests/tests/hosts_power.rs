//! Real hosts whose power fails, and that come back with the network or without it (HLD §4.2, §10.1).
//!
//! Which containers a boot brings back, Podman's own unit decides by their restart policy; the agent
//! tells what it finds.

use std::error::Error;

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster},
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

/// One that a boot brings back, and one that it does not; and another node, which notices nothing.
fn with_containers() -> Result<(HostCluster, Witness), Box<dyn Error>> {
    let cluster = HostCluster::start(2)?;
    cluster.run_container("node-1", "web", &["--restart", "always"])?;
    cluster.run_container("node-1", "job", &[])?;
    cluster.run_container("node-2", "web", &[])?;
    let witness = Witness::of(&cluster)?.except("node-1", "web").except("node-1", "job");
    Ok((cluster, witness))
}

#[test]
fn a_host_without_power_is_not_ready_and_ready_after_its_boot() -> Story {
    let (mut cluster, witness) = with_containers()?;
    let id = cluster.node("node-1")?["id"].clone();
    let of_all = Witness::of(&cluster)?;
    cluster.testbed.host_mut("node-1")?.power_off()?;
    cluster.wait_for_status("node-1", "NotReady")?;
    cluster.testbed.host_mut("node-1")?.boot()?;
    cluster.wait_until_in_session("node-1")?;
    cluster.wait_for_container("node-1", "web", "running")?;
    assert_eq!(cluster.node("node-1")?["id"], id, "it is the node that it was");
    assert_eq!(cluster.count("node-1", "NodeRegistered")?, 1);
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, 1);
    assert_eq!(cluster.count("node-2", "NodeNotReady")?, 0);
    assert!(of_all.confirm(&cluster).is_err(), "a container that was started anew is noticed");
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_host_that_boots_without_a_network_works_and_tells_it_later() -> Story {
    let (mut cluster, witness) = with_containers()?;
    cluster.testbed.host_mut("node-1")?.power_off()?;
    cluster.wait_for_status("node-1", "NotReady")?;
    cluster.testbed.host_mut("node-1")?.boot_without_network()?;
    let host = cluster.host("node-1")?;
    cluster.wait("the agent is up without a master", |_| {
        Ok(host.unit(AGENT_UNIT, "ActiveState")? == "active")
    })?;
    cluster.wait("Podman has brought the container back", |_| {
        Ok(host.run(&["podman", "inspect", "--format", "{{.State.Running}}", "web"])? == "true")
    })?;
    // One that ends at once, with code 1.
    host.run(&["podman", "run", "--detach", "--name", "new", IMAGE, "false"])?;
    cluster.wait("the journal holds what happened", |_| {
        Ok(host.agent_status()?["events_waiting"].as_u64().unwrap_or(0) >= 1)
    })?;
    assert_eq!(cluster.node("node-1")?["status"], "NotReady");
    host.heal_link()?;
    cluster.wait_until_in_session("node-1")?;
    cluster.wait_for_container("node-1", "web", "running")?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    let events = cluster.events()?;
    let died = events.iter().find(|event| event["kind"] == "ContainerDied").ok_or("no event")?;
    assert_eq!(died["delivered_late"], true, "{died}");
    Ok(witness.conclude(cluster)?)
}
