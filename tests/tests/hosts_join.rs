//! Real hosts, with systemd as PID 1: how they come to a cluster, and to a newer release (HLD §4.2, §12.1).

use std::error::Error;

use piccolo_testkit::{
    cluster::Programs,
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster},
        folder_beside_this_test,
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

#[test]
fn three_bare_hosts_join_and_are_ready_with_their_containers() -> Story {
    let programs = Programs::beside_this_test()?;
    let cluster = HostCluster::with_bare_nodes(&folder_beside_this_test()?, &programs, 3)?;
    for host in cluster.nodes() {
        host.run(&["podman", "run", "--detach", "--name", "web", IMAGE, "sleep", "100000"])?;
    }
    let witness = Witness::of(&cluster)?;
    cluster.install_agents()?;
    for host in cluster.nodes() {
        cluster.wait_for_container(host.name(), "web", "running")?;
        let node = cluster.node(host.name())?;
        assert_eq!(node["ip"], host.address(), "{node}");
        assert_eq!(cluster.count(host.name(), "NodeRegistered")?, 1);
        assert_eq!(cluster.count(host.name(), "NodeReady")?, 1);
        assert_eq!(cluster.count(host.name(), "NodeNotReady")?, 0);
    }
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_person_reaches_a_host_by_ssh_and_its_agent_by_its_own_status() -> Story {
    let cluster = HostCluster::start(1)?;
    let host = cluster.host("node-1")?;
    let said =
        host.ssh("hostname && systemctl is-active piccolo-nodeagent && piccolo-nodeagent status")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{said:?}");
    assert!(text.starts_with("node-1\nactive\n") && text.contains("in session"), "{text}");
    Ok(cluster.end()?)
}

#[test]
fn a_newer_release_takes_over_while_containers_run_on() -> Story {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let host = cluster.host("node-1")?;
    let pid = host.unit(AGENT_UNIT, "MainPID")?;
    let release = host.run(&["readlink", "/opt/piccolo/current"])?;
    cluster.upgrade("node-1")?;
    assert_ne!(host.run(&["readlink", "/opt/piccolo/current"])?, release);
    assert_ne!(host.unit(AGENT_UNIT, "MainPID")?, pid);
    cluster.wait_until_in_session("node-1")?;
    let runs =
        host.shell("readlink /proc/$(systemctl show --value -p MainPID piccolo-nodeagent)/exe")?;
    let current = host.run(&["readlink", "--canonicalize", "/opt/piccolo/current"])?;
    assert!(runs.starts_with(&current), "{runs} runs, and {current} is installed");
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0);
    Ok(witness.conclude(cluster)?)
}
