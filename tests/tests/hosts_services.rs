//! Real hosts on which a service fails: what systemd does, what the master shows, and what runs on
//! (HLD §4.2, §8.1.2, §10.1).

use std::error::Error;

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, MASTER, MASTER_UNIT},
        host::Host,
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

fn one_node() -> Result<(HostCluster, Witness), Box<dyn Error>> {
    let cluster = HostCluster::start(1)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    Ok((cluster, witness))
}

#[test]
fn a_killed_agent_is_started_again_by_systemd() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host("node-1")?;
    host.kill(AGENT_UNIT)?;
    cluster.wait_for_count("node-1", "NodeNotReady", 1)?;
    cluster.wait_until_in_session("node-1")?;
    assert_eq!(host.unit(AGENT_UNIT, "NRestarts")?, "1");
    assert_eq!(cluster.count("node-1", "NodeRegistered")?, 1);
    // it may have been killed between the picture of its containers and the event, which is in its journal
    cluster.wait_for_count("node-1", "ContainerStarted", 1)?;
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_frozen_agent_is_started_again_by_the_watchdog() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host("node-1")?;
    watchdog_is_soon(host)?;
    cluster.wait_until_in_session("node-1")?;
    let not_ready = cluster.count("node-1", "NodeNotReady")?;
    host.freeze(AGENT_UNIT)?;
    cluster.wait_for_count("node-1", "NodeNotReady", not_ready + 1)?;
    cluster.wait("systemd has started the agent again", |_| {
        Ok(host.unit(AGENT_UNIT, "NRestarts")? == "1")
    })?;
    cluster.wait_until_in_session("node-1")?;
    Ok(witness.conclude(cluster)?)
}

#[test]
fn an_agent_whose_loop_hangs_at_its_disk_is_started_again_by_the_watchdog() -> Story {
    let (cluster, witness) = one_node()?;
    let host = cluster.host("node-1")?;
    watchdog_is_soon(host)?;
    cluster.wait_until_in_session("node-1")?;
    let not_ready = cluster.count("node-1", "NodeNotReady")?;
    // opening a FIFO that nobody reads takes for ever: the loop hangs there, the process lives on
    host.shell("mkfifo /var/lib/piccolo/nodeagent/ledger.new")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("topology.json");
    let mut topology = cluster.json(&["topology", "get", "-o", "json"])?;
    topology["config"]["story"] = "the ledger is to be written".into();
    std::fs::write(&file, topology.to_string())?;
    cluster.done(&["topology", "apply", "-f", &file.display().to_string()])?;
    cluster.wait_for_count("node-1", "NodeNotReady", not_ready + 1)?;
    host.shell("rm /var/lib/piccolo/nodeagent/ledger.new")?;
    cluster.wait("systemd has started the agent again", |_| {
        // twice, where it was faster than the hand that took the FIFO away
        Ok(host.unit(AGENT_UNIT, "NRestarts")? != "0")
    })?;
    cluster.wait_until_in_session("node-1")?;
    // the loop may have hung before the event was sent, which is in its journal
    cluster.wait_for_count("node-1", "ContainerStarted", 1)?;
    Ok(witness.conclude(cluster)?)
}

/// Its 30 s and the 10 s for a core dump, shortened.
fn watchdog_is_soon(host: &Host) -> Story {
    host.write(
        "/etc/systemd/system/piccolo-nodeagent.service.d/soon.conf",
        "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n",
    )?;
    host.shell("systemctl daemon-reload; systemctl restart piccolo-nodeagent")?;
    Ok(())
}

#[test]
fn podman_that_is_stopped_is_a_condition_until_it_is_back() -> Story {
    let (cluster, witness) = one_node()?;
    cluster.run_container("node-1", "job", &[])?;
    let host = cluster.host("node-1")?;
    host.run(&["systemctl", "stop", "podman.socket", "podman.service"])?;
    // The agent lets Podman sleep, so it asks for it only now: a process of a container has ended.
    host.run(&["podman", "kill", "job"])?;
    cluster.wait_for_condition("node-1", "PodmanUnavailable")?;
    host.run(&["systemctl", "start", "podman.socket"])?;
    cluster.wait_until_without_conditions("node-1")?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    cluster.wait_for_container("node-1", "web", "running")?;
    assert_eq!(cluster.count("node-1", "NodeNotReady")?, 0);
    Ok(witness.conclude(cluster)?)
}

#[test]
fn podman_that_accepts_and_never_answers_is_a_condition_and_holds_up_no_beat() -> Story {
    let cluster = HostCluster::start(2)?;
    for (node, name) in [("node-1", "web"), ("node-1", "job"), ("node-2", "web")] {
        cluster.run_container(node, name, &[])?;
    }
    let witness = Witness::of(&cluster)?.except("node-1", "job");
    let host = cluster.host("node-1")?;
    // the socket's connections go to a service in which nothing moves
    host.run(&["systemctl", "start", "podman.service"])?;
    host.freeze("podman.service")?;
    // a death is seen although nobody can be asked: the kernel tells it
    host.run(&["podman", "kill", "job"])?;
    cluster.wait_for_container("node-1", "job", "exited")?;
    cluster.wait_for_condition("node-1", "PodmanUnavailable")?;
    let node = cluster.node("node-1")?;
    assert_eq!((&node["status"], &node["connected"]), (&"Ready".into(), &true.into()), "{node}");
    assert!(cluster.node("node-2")?["conditions"].as_array().is_some_and(Vec::is_empty));
    // what needs no Podman works
    cluster.done(&["log-level", "node-1", "info"])?;
    host.thaw("podman.service")?;
    cluster.wait_until_without_conditions("node-1")?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    for (kind, count) in [("RuntimeDown", 1), ("RuntimeUp", 1), ("NodeNotReady", 0)] {
        cluster.wait_for_count("node-1", kind, count)?;
    }
    Ok(witness.conclude(cluster)?)
}

#[test]
fn podman_with_a_new_storage_shows_what_is_in_it_and_nothing_is_restarted_on_its_account() -> Story
{
    let cluster = HostCluster::start(1)?;
    for name in ["web", "job"] {
        cluster.run_container("node-1", name, &["--label", "piccolo.restart=always"])?;
    }
    let witness = Witness::of(&cluster)?.except("node-1", "web").except("node-1", "job");
    let host = cluster.host("node-1")?;
    // as an upgrade to another driver goes: images out, all away, the new storage, images in
    host.shell(&format!(
        "set -e
        podman save --quiet --output /root/images.tar {IMAGE}
        podman rm --force --time 0 web job
        systemctl stop podman.socket podman.service
        sed -i 's,/var/lib/containers/storage,/var/lib/containers/newer,; s,overlay,vfs,' \
            /etc/containers/storage.conf
        podman load --quiet --input /root/images.tar
        systemctl start podman.socket"
    ))?;
    cluster.run_container("node-1", "web", &[])?;
    assert_eq!(host.run(&["podman", "info", "--format", "{{.Store.GraphDriverName}}"])?, "vfs");
    cluster.wait_until_without_conditions("node-1")?;
    let node = cluster.node("node-1")?;
    let names = node["containers"].as_array().into_iter().flatten().map(|c| c["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["web"]);
    for (kind, count) in [("ContainerRemoved", 2), ("ContainerStarted", 3)] {
        cluster.wait_for_count("node-1", kind, count)?;
    }
    for kind in ["NodeNotReady", "RecoveryAttempted"] {
        assert_eq!(cluster.count("node-1", kind)?, 0, "{kind}");
    }
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_killed_master_is_back_before_any_node_is_missed() -> Story {
    let cluster = HostCluster::start(3)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let host = cluster.host(MASTER)?;
    host.kill(MASTER_UNIT)?;
    cluster.wait("systemd has started the master again", |_| {
        let state = host.unit(MASTER_UNIT, "ActiveState")?;
        Ok(host.unit(MASTER_UNIT, "NRestarts")? == "1" && state == "active")
    })?;
    for node in cluster.nodes() {
        cluster.wait_until_in_session(node.name())?;
    }
    // longer than the allowance after a restart: whoever is lost by mistake is lost by then
    std::thread::sleep(std::time::Duration::from_secs(9));
    for node in cluster.nodes() {
        assert_eq!(cluster.node(node.name())?["status"], "Ready");
        assert_eq!(cluster.count(node.name(), "NodeNotReady")?, 0);
    }
    Ok(witness.conclude(cluster)?)
}
