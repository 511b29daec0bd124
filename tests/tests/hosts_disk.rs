//! Real hosts whose disk is full: the node stays a node, and says what happened once there is room again
//! (HLD §4.2, §10.1, §13.3).

use std::error::Error;

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster},
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

const STATE: &str = "/var/lib/piccolo/nodeagent";

/// The agent's state moves to a file system of one MiB, of which `dd` takes the rest.
fn fill(cluster: &HostCluster) -> Story {
    let host = cluster.host("node-1")?;
    host.shell(&format!(
        "systemctl stop {AGENT_UNIT}; cp -a {STATE} /root/state; \
         mount -t tmpfs -o size=1m,mode=0700 none {STATE}; cp -aT /root/state {STATE}; \
         dd if=/dev/zero of={STATE}/filler bs=4k 2>/dev/null || true; \
         systemctl start {AGENT_UNIT}"
    ))?;
    Ok(())
}

#[test]
fn a_full_state_folder_costs_a_node_neither_its_session_nor_its_containers() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    fill(&cluster)?;
    cluster.wait_until_in_session("node-1")?;
    let host = cluster.host("node-1")?;
    assert!(host.shell(&format!("df --output=avail {STATE} | tail -1"))?.trim() == "0");
    // what happens meanwhile is seen all the same
    host.run(&["podman", "run", "--detach", "--name", "job", IMAGE, "false"])?;
    cluster.wait_for_container("node-1", "job", "exited")?;
    // a new start finds no room either
    host.kill(AGENT_UNIT)?;
    cluster
        .wait("systemd has started it again", |_| Ok(host.unit(AGENT_UNIT, "NRestarts")? == "1"))?;
    cluster.wait_until_in_session("node-1")?;
    // room again: events are told once more
    host.run(&["rm", &format!("{STATE}/filler")])?;
    host.run(&["podman", "run", "--detach", "--name", "late", IMAGE, "false"])?;
    cluster.wait("an event of now is told", |c| {
        Ok(c.events()?.iter().any(|event| {
            event["kind"] == "ContainerDied"
                && event["message"].as_str().is_some_and(|m| m.contains("late"))
        }))
    })?;
    witness.confirm(&cluster)?;
    Ok(cluster.end()?)
}
